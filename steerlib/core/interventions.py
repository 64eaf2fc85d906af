"""An Intervention is a value that says how activations change; `steer` applies it.

Chapter: hooks. It is a tuple of terms, each an edit at a site, with positions and perhaps a
condition. `a + b` is simultaneous: both see the same h. A nested `steer` is sequential. Values
are immutable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core import edits
from steerlib.core.edits import Edit, LowRank, Scaling
from steerlib.core.positions import Positions, as_positions, everywhere
from steerlib.core.readouts import Condition, Readout
from steerlib.core.sites import Site, as_site

if TYPE_CHECKING:
    from steerlib.core.model import Model
    from steerlib.core.prompts import Prompts


@dataclass(frozen=True)
class Origin:
    """Which model an intervention was made on, and how."""

    model: str
    revision: str
    method: str = ""
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Term:
    """One edit at one site, at some positions, perhaps under a condition."""

    site: Site
    edit: Edit
    positions: Positions = everywhere
    condition: Condition | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", as_site(self.site))
        if self.site.kind == "resid_mid":
            raise ValueError(
                f"{self.site} cannot be steered: only the MLP reads it, so an edit there would not "
                f"enter the residual stream; use st.attn_out({self.site.layer}), which does"
            )


@dataclass(frozen=True, eq=False)
class Intervention:
    """Terms that act together; supports +, -, * and / by a number, .at(...) and .when(...).

    Chapter: hooks.

    Example:
        >>> happy = st.Add(st.resid(2), direction)
        >>> with st.steer(model, (2 * happy - rude).at(st.last | st.generation)):
        ...     st.generate(model, "tell me about the dog .")
    """

    terms: tuple[Term, ...]
    origin: Origin | None = None

    # numpy scalars on the left would otherwise multiply elementwise and return an object array.
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("an intervention needs at least one term")

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that it changes, in the order of the forward pass."""
        return tuple(sorted({term.site for term in self.terms}, key=lambda site: site.depth))

    # --- algebra

    def __mul__(self, factor: Any) -> Intervention:
        number = _number(factor)
        return self._map(lambda term: replace(term, edit=term.edit.scaled(number)))

    __rmul__ = __mul__

    def __truediv__(self, factor: Any) -> Intervention:
        return self * (1 / _number(factor))

    def __neg__(self) -> Intervention:
        return self * -1.0

    def __add__(self, other: Intervention) -> Intervention:
        if not isinstance(other, Intervention):
            return NotImplemented
        return Intervention(_merge(self.terms + other.terms), _join(self.origin, other.origin))

    def __sub__(self, other: Intervention) -> Intervention:
        return self + -other if isinstance(other, Intervention) else NotImplemented

    def at(self, positions: Positions | str) -> Intervention:
        """The same edits at other positions."""
        chosen = as_positions(positions)
        return self._map(lambda term: replace(term, positions=chosen))

    def when(self, condition: Condition) -> Intervention:
        """The same edits, only on samples whose prompt meets the condition.

        Raises:
            TypeError: not a condition such as `readout > 0.3`.
            ValueError: the condition reads a site that comes after one that it gates.
        """
        if not isinstance(condition, Condition):
            raise TypeError(f"a condition is `readout > number`, got {condition!r}")
        read = condition.readout.site
        for term in self.terms:
            if term.condition is not None:
                raise ValueError(f"the edit at {term.site} has a condition already")
            if read.depth > term.site.depth:
                raise ValueError(
                    f"a condition on {read} comes too late to decide about {term.site}"
                )
        return self._map(lambda term: replace(term, condition=condition))

    # --- one constant direction

    @property
    def direction(self) -> Float[Tensor, " d"]:
        """The vector that is added; for interventions of one `Add` (or a sum of them)."""
        edit = self.terms[0].edit
        if len(self.terms) != 1 or not isinstance(edit, LowRank) or not edit.is_constant:
            raise ValueError(
                "only an intervention that adds one constant at one site has a direction"
            )
        return edit.constant

    @property
    def site(self) -> Site:
        """The site of an intervention with one site."""
        if len(self.sites) != 1:
            raise ValueError(f"this intervention has {len(self.sites)} sites; use .sites")
        return self.sites[0]

    @property
    def readout(self) -> Readout:
        """The score of a text along the unit direction, at its last token."""
        return Readout(self.site, self.unit().direction)

    def unit(self) -> Intervention:
        """The same direction with length 1, so that a strength is a distance."""
        norm = self.direction.norm().item()
        if norm < 1e-12:
            raise ValueError("the direction is zero: it has no unit vector")
        return self / norm

    def relative(self, model: Model, texts: Prompts) -> Intervention:
        """The same direction with the mean length of the activations of `texts` at its site.

        A strength then is a fraction of the usual ||h||. BOS is left out.
        """
        from steerlib.core.capture import capture
        from steerlib.core.positions import prompt

        h = capture(model, texts, sites=[self.site], at=prompt)[self.site]
        return self.unit() * h.norm(dim=-1).mean().item()

    # --- storage

    def save(self, path: str | Path) -> None:
        """Write it to a safetensors file; see `load_intervention`."""
        from steerlib.core.storage import save

        save(self, path)

    def __gt__(self, other: object) -> NoReturn:
        raise TypeError("an intervention has no score; write `intervention.readout > threshold`")

    __lt__ = __gt__

    def _map(self, change: Any) -> Intervention:
        return replace(self, terms=_merge(tuple(change(term) for term in self.terms)))


def Add(site: Site | str, direction: Any) -> Intervention:  # noqa: N802
    """h <- h + strength * direction.

    Args:
        site: where.
        direction: what is added, in the model's raw basis (d,); or one vector per position of
            prompts that are aligned token by token (pos, d), 0 = BOS.

    Raises:
        ValueError: a direction of another shape, or not finite.

    Chapter: hooks.

    Example:
        >>> 4 * st.Add(st.resid(2), torch.randn(128))
    """
    shape = torch.as_tensor(direction).shape
    if len(shape) == 2 and shape[0] == 1:
        raise ValueError(
            f"a direction of shape {tuple(shape)} would act at position 0 only; give direction[0]"
        )
    if len(shape) == 2:
        return _single(site, edits.Vectors(direction))
    return _single(site, edits.constant(direction))


def Project(site: Site | str, direction: Any) -> Intervention:  # noqa: N802
    """h <- h - strength * (u . h) u: removes the part along a direction (directional ablation)."""
    return _single(site, edits.project(direction))


def HalfSpace(  # noqa: N802
    site: Site | str, w: Any, b: Any = 0.0, metric: Any = None
) -> Intervention:
    """h <- h - strength * relu(w . h + b) w / ||w||^2: the smallest move into {w . h + b <= 0}.

    Args:
        w, b: the half-space (d,) and its offset.
        metric: S, symmetric and positive definite (d, d), such as the covariance of h: the move
            has the least v . S^-1 v then, and goes along S w / (w . S w). None is the identity.

    Raises:
        ValueError: w is zero, or w . S w is not positive.

    Source: MERA (Hedstrom et al. 2025), the closed form of its constrained step. Chapter: mera.
    """
    return _single(site, edits.half_space(w, b, metric))


def Clamp(  # noqa: N802
    site: Site | str, read: Any, bias: Any, write: Any, target: float, threshold: float = 0.0
) -> Intervention:
    """h <- h + strength * (target - z(h)) write, z a (Jump)ReLU latent: sets a latent to a value.

    This is the SAE clamp that keeps the reconstruction error. Chapter: sae.
    """
    return _single(site, edits.clamp(read, bias, write, target, threshold))


def LoReFT(site: Site | str, rotation: Any, weight: Any, bias: Any) -> Intervention:  # noqa: N802
    """h <- h + strength * R^T (W h + b - R h), R (k, d) with orthonormal rows. Chapter: axbench."""
    return _single(site, edits.loreft(rotation, weight, bias))


def Scale(  # noqa: N802
    site: Site | str, alpha: Any, read: Any = None, bias: Any = None
) -> Intervention:
    """h <- (1 + strength * alpha(h)) h; 0 is the identity. Chapter: scaling.

    Args:
        alpha: a number, or one per position of aligned prompts (pos,), 0 = BOS.
        read, bias: if given, alpha(h) = alpha * tanh(read . h / ||h|| + bias) (DynScalar).
    """
    return _single(site, Scaling(alpha, read, bias))


def _single(site: Site | str, edit: Edit) -> Intervention:
    return Intervention((Term(as_site(site), edit),))


def _number(value: Any) -> float:
    if isinstance(value, Tensor) and value.ndim:
        raise TypeError("one strength per sample belongs to st.steer(..., strength=tensor)")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"an intervention is multiplied by a number, got {value!r}") from None


def _merge(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Constants at the same site, positions and condition become one, so sums have a direction."""
    merged: dict[Any, Term] = {}
    for number, term in enumerate(terms):
        is_constant = isinstance(term.edit, LowRank) and term.edit.is_constant
        key = (term.site, term.positions, id(term.condition)) if is_constant else number
        if key in merged:
            both = merged[key].edit.constant + term.edit.constant  # type: ignore[attr-defined]
            term = replace(term, edit=edits.constant(both))
        merged[key] = term
    return tuple(merged.values())


def _join(a: Origin | None, b: Origin | None) -> Origin | None:
    """The origin of a sum."""
    if a is None or b is None:
        return a or b
    if a.revision != b.revision:
        raise ValueError(
            f"these interventions were made on different models: {a.model} ({a.revision}) and "
            f"{b.model} ({b.revision})"
        )
    method = a.method if a.method == b.method else f"{a.method} + {b.method}"
    return replace(a, method=method, seed=a.seed if a.seed == b.seed else None)


def parameters(intervention: Intervention) -> list[Tensor]:
    """The tensors of all edits."""
    return [tensor for term in intervention.terms for tensor in term.edit.tensors.values()]


def needs_grad(intervention: Intervention) -> bool:
    """Whether some parameter is being learned."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in parameters(intervention))
