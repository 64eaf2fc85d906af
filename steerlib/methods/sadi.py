r"""SADI: the elements that differ most between two answers are multiplied, at every prompt anew.

Chapter: scaling. Source: Wang et al. 2025, "Semantics-adaptive activation intervention for LLMs
via dynamic steering vectors" (2410.12299).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot

from steerlib.core.answers import TwoAnswers
from steerlib.core.capture import capture
from steerlib.core.edits import LowRank, Scaling
from steerlib.core.interventions import Intervention, Origin, Term
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, last
from steerlib.core.prompts import encode, render
from steerlib.core.responses import continuation, joined
from steerlib.core.sites import Site, Sites, as_sites, width

By = Literal["value", "size"]


def sadi(
    model: Model,
    pairs: Sequence[TwoAnswers],
    sites: Sites,
    k: int,
    *,
    at: Positions | str = last,
    by: By = "value",
    chat: bool | None = False,
    batch_size: int = 32,
) -> Intervention:
    r"""h <- h + delta (m * h), with m = 1 at the k elements that differ most between the answers.

    D is the mean over pairs of h(prompt + positive) - h(prompt + negative), read at the last token.
    An element is one coordinate of a site's vector, or a whole head `st.head(l, h)`; those of all
    sites are ranked together. The strength of `steer` is delta; delta > 0 moves an element away
    from 0, whichever sign it has.

    Args:
        pairs: prompts with two answers, of any number of tokens, such as `st.world.Choice`.
        sites: of one kind: heads (SADI-HEAD), `mlp_post` (SADI-NEURON), or vectors of the stream
            or of what enters it, such as `mlp_out` (SADI-HIDDEN).
        k: the number of elements.
        at: the tokens where they are multiplied; the authors take the last one of the prompt.
        by: what is large: "value", D of a coordinate and the mean of D over a head's coordinates,
            as in the authors' code; "size", |D| of a coordinate and ||D|| of a head.
        chat: how prompts are read whose pair leaves it open; False is raw text.
        batch_size: texts read at once.

    Returns:
        An edit at each site that has an element among the k.

    Raises:
        ValueError: no pairs; no sites, or of several kinds; k below 1 or above the number of
            elements; another `by`; an answer whose tokens run into those of its prompt.

    Source: SADI. The authors' code keeps what is not among the k at its value without steering;
    here a later layer sees what an earlier one changed. Chapter: scaling.

    Example:
        >>> st.sadi(model, conflicts, [st.head(2, h) for h in range(4)], k=1)
    """
    where = _checked(pairs, sites, by)
    sizes = [width(model, site) if site.index is None else 1 for site in where]
    if not 1 <= k <= sum(sizes):
        raise ValueError(f"k is from 1 to {sum(sizes)}, the number of elements, got {k}")
    gaps = _gaps(model, pairs, where, chat, batch_size)
    scores = torch.cat([_scores(gaps[site], site, by) for site in where])
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    # Stable: of equal elements the first one counts, on every machine.
    chosen[scores.sort(descending=True, stable=True).indices[:k]] = True
    masks, positions = zip(where, chosen.split(sizes), strict=True), as_positions(at)
    terms = (Term(site, _multiply(site, m), positions) for site, m in masks if m.any())
    return Intervention(tuple(terms), Origin(model.id, model.revision, "sadi"))


def _gaps(
    model: Model,
    pairs: Sequence[TwoAnswers],
    sites: Sequence[Site],
    chat: bool | None,
    batch_size: int,
) -> dict[Site, Float[Tensor, " d"]]:
    """D of each site, float64: the mean of h(prompt + positive) - h(prompt + negative)."""
    texts = [_text(model, pair, pair.positive, chat) for pair in pairs]
    texts += [_text(model, pair, pair.negative, chat) for pair in pairs]
    acts, n = capture(model, texts, sites, chat=False, batch_size=batch_size), len(pairs)
    return {site: (h[:n].double() - h[n:].double()).mean(0) for site, h in acts.items()}


def _text(model: Model, pair: TwoAnswers, answer: str, chat: bool | None) -> str:
    """The text of a prompt and one answer, which has tokens of its own."""
    text = render(model, pair.prompt, chat if pair.chat is None else pair.chat, pair.system)
    continuation(model, text, answer, encode(model, text, chat=False)[0])
    return joined(text, answer)


def _checked(pairs: Sequence[TwoAnswers], sites: Sites, by: str) -> list[Site]:
    where = list(dict.fromkeys(as_sites(sites)))
    kinds = {site.kind if site.index is None else f"one {site.kind}" for site in where}
    if not len(pairs):
        raise ValueError("SADI needs at least one prompt with two answers, got none")
    if len(kinds) != 1:
        found = ", ".join(sorted(kinds)) or "no sites"
        raise ValueError(f"SADI ranks elements of one kind, such as those of heads; got {found}")
    if by not in get_args(By):
        raise ValueError(f"by is one of {get_args(By)}, got {by!r}")
    return where


def _scores(gap: Float[Tensor, " d"], site: Site, by: By) -> Float[Tensor, " elements"]:
    """What the elements of one site are ranked by."""
    if site.index is not None:
        gap = (gap.mean() if by == "value" else gap.norm())[None]
    return gap if by == "value" else gap.abs()


def _multiply(site: Site, mask: Bool[Tensor, " elements"]) -> LowRank | Scaling:
    """delta(h) = mask * h."""
    if site.index is not None:
        return Scaling(torch.tensor(1.0))
    rows = one_hot(mask.nonzero()[:, 0], len(mask)).float()
    return LowRank(rows, torch.zeros(len(rows)), rows, torch.full((len(rows),), -torch.inf))
