"""What is learned where: sites times positions, a row of parameters for each pair.

Chapter: scaling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.answers import Asked
from steerlib.core.interventions import Intervention, Term
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions
from steerlib.core.sites import Site, as_site, resolve, width

Sites = Sequence[Site | str] | Site | str
At = Positions | str | Sequence[Positions | str] | None
# A site and its parameters, (pos, k) for aligned prompts or (k,) for one selection -> its edit.
Make = Callable[[Site, Tensor], Intervention]


@dataclass(frozen=True)
class Layout:
    """Some sites, and the positions at each of which something is learned.

    Args:
        selections: of positions, or None for every position of aligned prompts.
        slots: how many positions or selections there are.
    """

    sites: list[Site]
    selections: list[Positions] | None
    slots: int

    @property
    def at(self) -> str:
        """The positions in words."""
        if self.selections is None:
            return f"{self.slots} positions"
        return ", ".join(str(positions) for positions in self.selections)

    def zeros(
        self, model: Model, size: Callable[[int], int]
    ) -> dict[str, Float[Tensor, "slots k"]]:
        """Parameters for each site, as leaves with gradient: `size(width of the site)` a slot."""
        shapes = {site.name: (self.slots, size(width(model, site))) for site in self.sites}
        return {
            name: torch.zeros(shape, device=model.device, requires_grad=True)
            for name, shape in shapes.items()
        }

    def build(self, values: Mapping[str, Float[Tensor, "slots k"]], make: Make) -> Intervention:
        """The edits of all sites and slots as one intervention."""
        terms: list[Term] = []
        for site in self.sites:
            rows = values[site.name]
            if self.selections is None:
                terms += make(site, rows).terms
                continue
            for positions, row in zip(self.selections, rows, strict=True):
                terms += make(site, row).at(positions).terms
        return Intervention(tuple(terms))


def layout_of(model: Model, sites: Sites, at: At, asked: Sequence[Asked]) -> Layout:
    """The layout for some prompts.

    Raises:
        ValueError: no sites or one twice, a site that the model has not, no positions, prompts of
            different lengths where `at` is None.
    """
    places = [as_site(s) for s in ([sites] if isinstance(sites, Site | str) else sites)]
    if not places or len(set(places)) != len(places):
        raise ValueError(
            f"needed are different sites, at least one; got {[str(s) for s in places]}"
        )
    for place in places:
        resolve(model, place)
    if at is None:
        return Layout(places, None, _length(model, asked))
    chosen = [as_positions(p) for p in ([at] if isinstance(at, Positions | str) else at)]
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"needed are different positions, got {[str(p) for p in chosen]}")
    return Layout(places, chosen, len(chosen))


def _length(model: Model, asked: Sequence[Asked]) -> int:
    """The number of tokens that all prompts have."""
    lengths = Counter(len(item.ids) for item in asked)
    if len(lengths) > 1:
        counts = ", ".join(f"{n} of {length}" for length, n in sorted(lengths.items()))
        usual = lengths.most_common(1)[0][0]
        odd = next(item for item in asked if len(item.ids) != usual)
        raise ValueError(
            "one number per position needs prompts of the same number of tokens, these are "
            f"{counts} tokens; the first that differs: {model.tokenizer.decode(odd.ids)!r}. Line "
            "them up with st.align, or give positions such as at=st.last, or use st.dyn_scalar"
        )
    return next(iter(lengths))
