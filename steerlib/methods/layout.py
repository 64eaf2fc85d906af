"""What is learned where: sites times positions, a row of parameters for each pair.

Chapter: scaling.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.answers import Asked
from steerlib.core.interventions import Intervention, Term
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, to_json
from steerlib.core.sites import Site, Sites, as_sites, resolve, width

At = Positions | str | Sequence[Positions | str] | None
# A site and its parameters, (pos, k) for aligned prompts or (k,) for one selection -> its edit.
Make = Callable[[Site, Tensor], Intervention]
# By size: sites of that size, slots, numbers.
Parameters = Mapping[str, Float[Tensor, "sites slots k"]]


@dataclass(frozen=True)
class Layout:
    """Some sites, and the positions at each of which something is learned.

    Args:
        sizes: how many numbers are learned at each slot of each site.
        selections: of positions, or None for every position of aligned prompts.
        slots: how many positions or selections there are.
    """

    sites: list[Site]
    sizes: list[int]
    selections: list[Positions] | None
    slots: int

    @property
    def has_names(self) -> bool:
        """Whether all positions can be told apart by what they are called: masks cannot."""
        try:
            return bool(self.key)
        except ValueError:
            return False

    @property
    def key(self) -> str:
        """What is learned where, as text; another layout has another one."""
        at = self.slots if self.selections is None else [to_json(p) for p in self.selections]
        return json.dumps([[site.name for site in self.sites], at])

    def zeros(self, device: torch.device) -> Parameters:
        """The parameters, as leaves with gradient; sites of one size share a tensor."""
        counts = Counter(self.sizes)
        return {
            str(size): torch.zeros(n, self.slots, size, device=device, requires_grad=True)
            for size, n in counts.items()
        }

    def rows(self, values: Parameters) -> Iterator[tuple[Site, Float[Tensor, "slots k"]]]:
        """Each site with its own part of the parameters."""
        parts = {name: iter(tensor) for name, tensor in values.items()}
        for site, size in zip(self.sites, self.sizes, strict=True):
            yield site, next(parts[str(size)])

    def build(self, values: Parameters, make: Make) -> Intervention:
        """The edits of all sites and slots as one intervention."""
        terms: list[Term] = []
        for site, rows in self.rows(values):
            if self.selections is None:
                terms += make(site, rows).terms
                continue
            for positions, row in zip(self.selections, rows, strict=True):
                terms += make(site, row).at(positions).terms
        return Intervention(tuple(terms))


def layout_of(
    model: Model, sites: Sites, at: At, asked: Sequence[Asked], size: Callable[[int], int]
) -> Layout:
    """The layout for some prompts, with `size(width of the site)` numbers at each place.

    Raises:
        ValueError: no sites or one twice, a site that the model has not, no positions, prompts of
            different lengths where `at` is None.
    """
    places = as_sites(sites)
    if not places or len(set(places)) != len(places):
        raise ValueError(
            f"needed are different sites, at least one; got {[str(s) for s in places]}"
        )
    for place in places:
        resolve(model, place)
    sizes = [size(width(model, place)) for place in places]
    if at is None:
        return Layout(places, sizes, None, _length(model, asked))
    chosen = [as_positions(p) for p in ([at] if isinstance(at, Positions | str) else at)]
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            "needed are different selections of positions, at least one, such as st.last; got "
            f"{[str(p) for p in chosen]}"
        )
    return Layout(places, sizes, chosen, len(chosen))


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
