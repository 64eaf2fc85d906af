r"""A sparse autoencoder of one site: what its latents are, and how they are steered.

Chapter: sae. With the encoder E, its bias b, the decoder D (rows of length 1) and its bias c,

    z(h) = act(h E + b),    h = z(h) D + c + error(h).

Everything is in the model's raw basis. With rows of D of length 1 a latent's value is a length, in
units of h; an SAE of others may have other rows, and then counts in units of ||D_f||.
`steerlib.methods.sae_training` learns one, `steerlib.methods.sae_files` reads those of others.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.edits import LowRank, clamp, vector
from steerlib.core.files import read_tensors, write_whole
from steerlib.core.interventions import Add, Intervention, Origin, Term
from steerlib.core.latents import Latents, sparse
from steerlib.core.shipped import shipped_file
from steerlib.core.sites import Site, as_site
from steerlib.core.sites import site as site_of

Activation = Literal["relu", "jumprelu", "topk"]
FORMAT = "steerlib-sae-1"
_TENSORS = ("encoder", "bias", "decoder", "offset", "threshold")


@dataclass(frozen=True, eq=False)
class SAE:
    """A sparse autoencoder.

    Args:
        site: whose activations it takes apart.
        encoder, bias: E (d, n) and b (n,).
        decoder, offset: D (n, d) and c (d,).
        activation: "relu", "jumprelu" or "topk".
        threshold: theta (n,), for "jumprelu".
        k: how many latents are kept, for "topk".
        origin: the model that it was made for; checked when it steers.

    Raises:
        ValueError: shapes that do not fit each other, a value that is not finite, an unknown
            activation, a threshold or k that is missing or makes no sense.

    Source: Bricken et al. 2023 (ReLU), Rajamanoharan et al. 2024 (JumpReLU), Gao et al. 2024
    (TopK). Chapter: sae.

    Example:
        >>> sae = st.load_sae("world-topk")
        >>> with st.steer(model, sae.clamp(17, 5.0)):
        ...     st.generate(model, "tell me about the dog .")
    """

    site: Site
    encoder: Float[Tensor, "d n"]
    bias: Float[Tensor, " n"]
    decoder: Float[Tensor, "n d"]
    offset: Float[Tensor, " d"]
    activation: Activation = "relu"
    threshold: Float[Tensor, " n"] | None = None
    k: int | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", as_site(self.site))
        for name, ndim in (("encoder", 2), ("bias", 1), ("decoder", 2), ("offset", 1)):
            value = vector(getattr(self, name), name, ndim)
            # As a file gives it back: the order in memory changes the last bits of a product.
            object.__setattr__(self, name, value.contiguous())
        d, n = self.encoder.shape
        if self.decoder.shape != (n, d) or self.bias.shape != (n,) or self.offset.shape != (d,):
            shapes = {m: tuple(getattr(self, m).shape) for m in _TENSORS[:4]}
            raise ValueError(
                f"needed are encoder (d, n), bias (n,), decoder (n, d), offset (d,); got {shapes}"
            )
        self._check_activation(n)

    def _check_activation(self, n: int) -> None:
        if self.activation not in ("relu", "jumprelu", "topk"):
            raise ValueError(f"activation is relu, jumprelu or topk, got {self.activation!r}")
        if (self.activation == "jumprelu") != (self.threshold is not None):
            raise ValueError(
                f"a threshold belongs to jumprelu and to nothing else, got {self.activation!r}"
            )
        if self.threshold is not None:
            theta = vector(self.threshold, "threshold", 1)
            if theta.shape != (n,) or bool((theta < 0).any()):
                raise ValueError(
                    f"threshold is ({n},) and at least 0, got the shape {tuple(theta.shape)} and "
                    f"the minimum {theta.min().item():g}"
                )
            object.__setattr__(self, "threshold", theta)
        fits = isinstance(self.k, int) and 1 <= self.k <= n
        if not (fits if self.activation == "topk" else self.k is None):
            raise ValueError(f"k is for topk, from 1 to {n}; got k={self.k}, {self.activation!r}")

    # --- reading

    @property
    def d(self) -> int:
        """The width of the activations."""
        return self.encoder.shape[0]

    @property
    def n(self) -> int:
        """The number of latents."""
        return self.encoder.shape[1]

    @cached_property
    def floor(self) -> Float[Tensor, " n"]:
        """What an input has to exceed: theta, or 0."""
        return torch.zeros_like(self.bias) if self.threshold is None else self.threshold

    def encode(self, h: Float[Tensor, "... d"]) -> Float[Tensor, "... n"]:
        """z(h), in units of h."""
        return sparse(h.float() @ self.encoder + self.bias, self.floor, self.k or 0)

    def decode(self, z: Float[Tensor, "... n"]) -> Float[Tensor, "... d"]:
        """z D + c."""
        return z @ self.decoder + self.offset

    # --- steering

    def add(self, feature: int) -> Intervention:
        """h <- h + strength * D_f: adds the feature's direction, whatever its value is.

        The strength is the length of the step where ||D_f|| = 1, else one in units of ||D_f||.
        """
        return self._made(Add(self.site, self.decoder[self._index(feature)]).terms)

    def clamp(self, feature: int | Sequence[int], target: float | Sequence[float]) -> Intervention:
        """h <- h + (target - z_f(h)) D_f: sets the feature to a value; the error is kept.

        Args:
            feature: one, or several, which are set together.
            target: the value, in units of h (of ||D_f||); one for all features or one each.

        Raises:
            ValueError: no such feature, one twice, targets of another number or not finite.
            TypeError: a feature that is no whole number, a target that is no number.
        """
        return self._set(feature, target, at_least=False)

    def min_clamp(
        self, feature: int | Sequence[int], target: float | Sequence[float]
    ) -> Intervention:
        """h <- h + max(target - z_f(h), 0) D_f: raises the feature to a value; the error is kept.

        Source: the min-clamp of AxBench. The arguments: see `clamp`.
        """
        return self._set(feature, target, at_least=True)

    def splice(
        self, feature: int | Sequence[int] = (), target: float | Sequence[float] = ()
    ) -> Intervention:
        """h <- z' D + c: the reconstruction takes the place of h, its error is lost.

        What this does with no feature set is the damage of the SAE itself.
        """
        features, targets = self._pairs(feature, target)
        return self._made((Term(self.site, self._latents(features, targets, False, True)),))

    def _set(self, feature: Any, target: Any, *, at_least: bool) -> Intervention:
        features, targets = self._pairs(feature, target)
        if not features:
            raise ValueError("no feature is named; give at least one")
        if self.activation == "topk":
            # Whether a latent is among the k largest depends on all of them.
            edits: list[Any] = [self._latents(features, targets, at_least, False)]
        else:
            edits = [self._row(f, t, at_least) for f, t in zip(features, targets, strict=True)]
        return self._made(tuple(Term(self.site, edit) for edit in edits))

    def _row(self, f: int, target: float, at_least: bool) -> LowRank:
        """A clamp that reads one latent: a row of numbers instead of the whole encoder."""
        read, bias, write = self.encoder[:, f], self.bias[f], self.decoder[f]
        theta = float(self.floor[f])
        if at_least:
            target = max(target, 0.0)  # no value is lower
        edit = clamp(read, bias, write, target, theta)
        if not at_least:
            return edit
        # (target - z) + (x - target) where z = x exceeds the target: nothing is changed there.
        last = max(theta - target, 0.0)
        return LowRank(
            torch.cat([edit.read, read[None]]),
            torch.cat([edit.bias, (bias - target)[None]]),
            torch.cat([edit.write, write[None]]),
            torch.cat([edit.floor, torch.tensor([last])]),
        )

    def _latents(
        self, features: list[int], targets: list[float], at_least: bool, drop_error: bool
    ) -> Latents:
        return Latents(
            self.encoder, self.bias, self.floor, torch.tensor(self.k or 0),
            self.decoder, self.offset, torch.tensor(features, dtype=torch.long),
            torch.tensor(targets), torch.full((len(features),), at_least),
            torch.tensor(drop_error), torch.tensor(1.0),
        )  # fmt: skip

    def _pairs(self, feature: Any, target: Any) -> tuple[list[int], list[float]]:
        """Features and one target each, checked."""
        is_one = getattr(feature, "ndim", None) == 0 or not hasattr(feature, "__iter__")
        features = [self._index(f) for f in ([feature] if is_one else feature)]
        try:
            values = torch.as_tensor(target, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"a target is a number, or one per feature, got {target!r}") from None
        targets = [values.item()] * len(features) if not values.ndim else values.tolist()
        if values.ndim > 1 or len(targets) != len(features) or len(set(features)) != len(features):
            raise ValueError(
                f"needed are different features and one target each, got {features} and {targets}"
            )
        if not torch.isfinite(values).all():
            raise ValueError(f"targets are finite, got {targets}")
        return features, targets

    def _index(self, feature: int) -> int:
        try:
            number = operator.index(feature)
        except TypeError:
            raise TypeError(f"features are whole numbers, got {feature!r}") from None
        if not 0 <= number < self.n:
            raise ValueError(f"there are the features 0 to {self.n - 1}, got {feature}")
        return number

    def _made(self, terms: tuple[Term, ...]) -> Intervention:
        return Intervention(terms, self.origin)

    # --- storage

    def save(self, path: str | Path, half: bool = False) -> None:
        """Write it to a safetensors file; see `load_sae`.

        Args:
            half: as float16, at half the size: values to three digits.
        """
        from safetensors.torch import save_file

        kind = torch.float16 if half else torch.float32
        tensors = {
            name: value.detach().cpu().to(kind).contiguous()
            for name in _TENSORS
            if (value := getattr(self, name)) is not None
        }
        about = {
            "site": self.site.name,
            "activation": self.activation,
            "k": self.k,
            "origin": None if self.origin is None else asdict(self.origin),
        }
        metadata = {"format": FORMAT, "sae": json.dumps(about)}
        write_whole(Path(path), lambda partial: save_file(tensors, partial, metadata))


def load_sae(path: str | Path) -> SAE:
    """Read an SAE that `SAE.save` wrote, or one that comes with steerlib.

    Args:
        path: a file, or one of those of the chapter: "world-topk", "world-jumprelu" and
            "world-b-topk" of the stream after block 2, "world-early" of that after block 0.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is damaged or no SAE of steerlib.

    Chapter: sae.

    Example:
        >>> st.load_sae("world-topk").n
        1024
    """
    path = shipped_file(f"sae/{path}.safetensors") or Path(path)
    names = "world-topk", "world-jumprelu", "world-early", "world-b-topk"
    tensors, metadata = read_tensors(path, f", and no SAE of that name comes with steerlib {names}")
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} holds no SAE of steerlib: its format is {metadata.get('format')!r}, needed "
            f"is {FORMAT!r}; SAEs of others are read by st.load_saelens and st.load_gemma_scope"
        )
    try:
        about = json.loads(metadata["sae"])
        origin = None if about["origin"] is None else Origin(**about["origin"])
        return SAE(
            site_of(about["site"]), **tensors, activation=about["activation"], k=about["k"],
            origin=origin,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a damaged steerlib file: {error}") from error
