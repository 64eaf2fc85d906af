r"""Sparse autoencoders of others: folders of SAELens and files of Gemma Scope, as an `SAE`.

Chapter: sae. Theirs rebuild s h from act((s h - a c) E + b), with a number s that scales the
activations and a = 1 where the decoder's bias is subtracted first. As an SAE of h itself that is

    E <- s E,  b <- b - a c E,  D <- D / s,  c <- c / s,

and with r_f = ||D_f|| the same function has rows of length 1 and values that are lengths:

    E_f <- r_f E_f,  b_f <- r_f b_f,  theta_f <- r_f theta_f,  D_f <- D_f / r_f.

Not so for a TopK that ranks its own values while the rows differ in length: other latents would be
kept. There D stays as it is, and a value counts in units of ||D_f||.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.interventions import Origin
from steerlib.core.sites import Site, as_site
from steerlib.methods.sae import SAE
from steerlib.methods.sae_settings import Settings, read_settings

# Where TransformerLens' `center_writing_weights` removes the mean.
_CENTRED = ("resid_pre", "resid_mid", "resid", "attn_out", "mlp_out")
_TINY, _SAME = 1e-12, 1e-3


def load_saelens(
    folder: str | Path,
    site: Site | str | None = None,
    origin: Origin | None = None,
    *,
    norm_scaling_factor: float | None = None,
    centred: bool | None = None,
) -> SAE:
    """Read a folder of SAELens, of any version: `cfg.json` and `sae_weights.safetensors`.

    Args:
        site: where it is used; default: the hook that the file names.
        origin: the model that steering is checked against. The files name a model, but not its
            revision, so that by default only the width is checked.
        norm_scaling_factor: s, where `normalize_activations` is "expected_average_only_in" and
            the weights are not folded; SAELens lists it in its `pretrained_saes.yaml`.
        centred: whether the activations that it learned from had lost their mean over the d
            numbers, which TransformerLens takes from models with LayerNorm
            (`center_writing_weights`); default: what the file says. Old files do not say it, and
            those of "gpt2-small-res-jb" need True.

    Returns:
        The same function of raw activations, as an `SAE`.

    Raises:
        FileNotFoundError: a file is missing. KeyError: its hook is no site of steerlib.
        ValueError: an architecture or a normalization that is no `SAE` (gated, transcoder,
            layer_norm), keys or tensors that are missing, shapes that do not fit.

    Source: SAELens (Bloom et al. 2024), `saes/sae.py`, `topk_sae.py`, `jumprelu_sae.py`.
    Chapter: sae.

    Example:
        >>> st.load_saelens("blocks.6.hook_resid_pre", centred=True)  # doctest: +SKIP
    """
    said = read_settings(Path(folder) / "cfg.json")
    where, s = said.site if site is None else as_site(site), said.factor(norm_scaling_factor)
    file = _safetensors(Path(folder) / "sae_weights.safetensors")
    E, b, D, c = file.weights(said.d, said.n)
    theta = _threshold(file, said, D) if said.activation == "jumprelu" else None
    if said.subtracts:
        b = b - c @ E
    E, D, c = s * E, D / s, c / s
    if (said.centred if centred is None else centred) and where.kind in _CENTRED:
        E = E - E.mean(0)
    # Theirs ranks x_f, an SAE whose rows have length 1 ranks x_f ||D_f||.
    ranks_values = said.activation == "topk" and not said.lengths
    r = _common_length(D) if ranks_values else D.norm(dim=1)
    theta = None if theta is None else r * theta
    E, b, D = _in_lengths(r, E, b, D)
    return SAE(where, E, b, D, c, said.activation, threshold=theta, k=said.k, origin=origin)


def load_gemma_scope(path: str | Path, site: Site | str, origin: Origin | None = None) -> SAE:
    """Read a `params.npz` of Gemma Scope.

    z_f = x where x > max(theta_f, 0), else 0, with x = h . E_f + b_f; nothing is subtracted first.

    Args:
        site: whose activations it was made for: `st.resid(20)` for "layer_20" of a "res" release.
        origin: see `load_saelens`.

    Returns:
        The same function as an `SAE` with rows of length 1.

    Raises:
        FileNotFoundError: there is no such file. ValueError: no npz file, one with pickled
            objects, arrays that are missing or do not fit each other.

    Source: Lieberum et al. 2024 (Gemma Scope); AxBench (Wu et al. 2025) reads them alike.
    Chapter: sae.

    Example:
        >>> st.load_gemma_scope("params.npz", st.resid(20))  # doctest: +SKIP
    """
    file = _npz(Path(path))
    n, d = file.named("b_enc").numel(), file.named("b_dec").numel()
    E, b, D, c = file.weights(d, n)
    r = D.norm(dim=1)
    theta = r * file.tensor("threshold", n).clamp_min(0)
    E, b, D = _in_lengths(r, E, b, D)
    return SAE(as_site(site), E, b, D, c, "jumprelu", threshold=theta, origin=origin)


def _in_lengths(
    r: Float[Tensor, " n"],
    E: Float[Tensor, "d n"],
    b: Float[Tensor, " n"],
    D: Float[Tensor, "n d"],
) -> tuple[Tensor, Tensor, Tensor]:
    """The same function with values times r and rows divided by it; a row of 0 stays one."""
    return r * E, r * b, D / r.clamp_min(_TINY)[:, None]


def _common_length(D: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The length that all rows have, which changes no ranking; 1 where they differ."""
    lengths = D.norm(dim=1)
    mean = lengths.mean()
    is_same = bool(((lengths - mean).abs() <= _SAME * mean).all())
    return mean.expand_as(lengths) if is_same else torch.ones_like(lengths)


def _threshold(file: _File, said: Settings, D: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """theta, to compare with x."""
    if said.one_threshold:
        theta = file.tensor("topk_threshold").expand(said.n)
        return theta / D.norm(dim=1).clamp_min(_TINY) if said.lengths else theta
    if "log_threshold" in file.tensors:  # as it was learned
        return file.tensor("log_threshold", said.n).exp()
    return file.tensor("threshold", said.n).clamp_min(0)


@dataclass(frozen=True)
class _File:
    """The tensors of a file, under the names that both kinds share."""

    path: Path
    tensors: dict[str, Tensor]

    def named(self, name: str) -> Tensor:
        """One of them, if it is there."""
        if name not in self.tensors:
            raise ValueError(f"{self.path} has no {name}; it has {', '.join(sorted(self.tensors))}")
        return self.tensors[name]

    def tensor(self, name: str, *shape: int) -> Tensor:
        """One of them in float32, if it has its shape."""
        found = self.named(name)
        if found.shape != shape:
            raise ValueError(f"{self.path}: {name} is {tuple(found.shape)}, needed is {shape}")
        return found.float()

    def weights(self, d: int, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """E (d, n), b (n,), D (n, d) and c (d,)."""
        return (
            self.tensor("W_enc", d, n),
            self.tensor("b_enc", n),
            self.tensor("W_dec", n, d),
            self.tensor("b_dec", d),
        )


def _safetensors(path: Path) -> _File:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no complete safetensors file ({error})") from error
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        if name in tensors and not torch.allclose(tensors[name].float(), torch.ones(())):
            raise ValueError(f"{path} has a {name} other than 1, which is not supported")
    return _File(path, tensors)


def _npz(path: Path) -> _File:
    import numpy

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with numpy.load(path, allow_pickle=False) as arrays:
            return _File(path, {name: torch.from_numpy(arrays[name]) for name in arrays.files})
    except (ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no npz file of plain arrays ({error})") from error
