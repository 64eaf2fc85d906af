"""Checks for the exercises on choosing a feature: by labelled texts, and by what it writes.

Chapter: ``book/sae.md``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlib.teaching.checks.common import call, error, number, passed, refuse, require

Split = tuple[Float[Tensor, "texts n"], Bool[Tensor, " texts"]]
Best = Callable[
    [
        Float[Tensor, "texts n"],
        Bool[Tensor, " texts"],
        Float[Tensor, "texts n"],
        Bool[Tensor, " texts"],
    ],
    Any,
]
Score = Callable[[Float[Tensor, " vocab"], Int[Tensor, " m"]], Any]

# What each feature is: its number, and what chose it where it is not the best one.
RIGHT = 7
CHOSEN_BY = {
    0: "this feature never fires: ties were counted 1; a tie counts one half.",
    1: "this feature fires where the concept is absent: the largest AUROC is asked for, not the "
    "farthest from one half, and a positive above a negative counts 1.",
    2: "the feature was chosen on the report split: its AUROC is then too good.",
    3: "the feature was chosen on both splits; the report split must not choose.",
    4: "this feature has no ties: those of the others were counted 0, or were left to the order "
    "of the texts; a tie counts one half.",
    5: "the largest difference of the means was taken; one text with a large value makes that.",
    6: "this feature has its largest mean with the concept, and is as large without it: compare "
    "the two.",
    8: "of features with the same AUROC the last was taken; take the first.",
    9: "the feature with the largest value was taken; the labels must choose.",
}


def test_best_feature(fn: Best) -> None:
    """``best_feature(...)``: the feature of the largest AUROC, and its AUROC on other texts."""
    choose, report = _choose(), _report()
    before = [x.clone() for x in (*choose, *report)]
    feature, area = _pair(fn, choose, report)
    require(
        all(map(torch.equal, before, (*choose, *report))),
        "values or labels were changed in place; work on new tensors.",
    )
    for wrong, message in CHOSEN_BY.items():
        require(feature != wrong, f"feature {wrong}: {message}")
    require(feature == RIGHT, f"feature {feature} has not the largest AUROC on the choose split.")
    refuse(area, _wrong_areas(choose, report))
    require(
        math.isclose(area, float(_aurocs(*report)[RIGHT]), abs_tol=1e-6),
        "the second value is not the AUROC of this feature on the report split.",
    )
    _require_one_use_of_the_report(fn, choose, report, area)
    passed("best_feature")


def _choose() -> Split:
    """Four texts with the concept, four without it; one feature per row."""
    rows = [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 2, 1, 1],
        [1, 0, 1, 0, 0, 0, 1, 0],
        [2, 2, 1, 0, 1, 0, 0, 0],
        [5, 4, 3, 1, 2, 2, 2, 0.5],
        [15, 0, 0, 0, 0, 0, 0, 0],
        [6, 6, 6, 6, 7, 7, 6, 6],
        [2, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 3, 0, 3, 20, 0, 3, 0],
    ]
    return torch.tensor(rows).T.contiguous(), torch.arange(8) < 4


def _report() -> Split:
    """Three texts with the concept, five without it; the best feature is mediocre here."""
    rows = [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 2, 0, 1, 1],
        [2, 2, 1, 0, 0, 0, 0, 0],
        [2, 2, 1, 1, 0, 0, 0, 0],
        [3, 2, 1, 2.5, 0.5, 1.5, 0.25, 4],
        [0, 9, 0, 0, 0, 0, 0, 0],
        [6, 6, 7, 6, 6, 7, 6, 6],
        [1, 0, 2, 0, 0, 1, 0, 3],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [0, 3, 0, 9, 0, 0, 3, 0],
    ]
    return torch.tensor(rows).T.contiguous(), torch.arange(8) < 3


def _pair(fn: Best, choose: Split, report: Split) -> tuple[int, float]:
    result = call(fn, *choose, *report)
    require(isinstance(result, tuple) and len(result) == 2, "return two values, (feature, auroc).")
    sizes = [x.numel() if isinstance(x, Tensor) else 1 for x in result]
    require(sizes == [1, 1], "these are values per feature; return one feature and its AUROC.")
    try:
        return operator.index(result[0]), float(result[1])
    except TypeError:
        raise error(
            "the first value is the number of a feature, a whole number; the second its AUROC."
        ) from None


def _aurocs(z: Tensor, y: Tensor, tie: float = 0.5) -> Tensor:
    gap = z[y][:, None] - z[~y]
    return ((gap > 0).double() + tie * (gap == 0).double()).mean((0, 1))


def _wrong_areas(choose: Split, report: Split) -> dict[str, float]:
    """What the usual mistakes give as the second value."""
    chosen, own = _aurocs(*choose)[RIGHT], _aurocs(*report)[RIGHT]
    both = torch.cat([choose[0], report[0]]), torch.cat([choose[1], report[1]])
    wrong = {
        "this is the AUROC on the choose split, where the feature was the best of all: it flatters "
        "the feature. Report on the other split.": chosen,
        "this is the AUROC on both splits; report on the report split alone.": (
            _aurocs(*both)[RIGHT]
        ),
        "the two AUROCs were averaged; report that of the report split.": (chosen + own) / 2,
        "this is the largest AUROC of the report split, that of another feature.": (
            _aurocs(*report).max()
        ),
        "the order is reversed: a positive above a negative counts 1.": 1 - own,
        "a tie counts 0 here; it should count one half.": _aurocs(*report, tie=0)[RIGHT],
        "a tie counts 1 here; it should count one half.": _aurocs(*report, tie=1)[RIGHT],
    }
    return {message: float(value) for message, value in wrong.items()}


def _require_one_use_of_the_report(fn: Best, choose: Split, report: Split, area: float) -> None:
    """Labels turned round make every good feature of the report split a bad one."""
    feature, turned = _pair(fn, choose, (report[0], ~report[1]))
    require(
        feature == RIGHT, "another report split changed the feature: it was used for the choice."
    )
    require(
        math.isclose(turned, 1 - area, abs_tol=1e-6),
        "where the feature is worse than chance its AUROC is below one half; leave it there.",
    )


def test_output_score(fn: Score) -> None:
    """``output_score(p, tokens)``: (1 - smallest rank / |V|) * largest probability of tokens."""
    p, tokens = _probabilities(), torch.tensor([9, 2, 6])
    before = p.clone(), tokens.clone()
    found = number(fn, p, tokens)
    require(
        torch.equal(p, before[0]) and torch.equal(tokens, before[1]),
        "p or tokens was changed in place; work on new tensors.",
    )
    refuse(found, _score_mistakes(p, tokens))
    require(
        math.isclose(number(fn, p, tokens.flip(0)), found, abs_tol=1e-6),
        "the order of the tokens must not matter.",
    )
    for token, rank in enumerate(_ranks(p).tolist()):
        require(
            math.isclose(
                number(fn, p, torch.tensor([token])), (1 - rank / 12) * p[token], abs_tol=1e-6
            ),
            "with one token this is not (1 - rank / |V|) p, rank 0 for the likeliest of all.",
        )
    require(
        math.isclose(
            found, float((1 - _ranks(p)[tokens].min() / 12) * p[tokens].max()), abs_tol=1e-6
        ),
        "this is not (1 - the smallest rank / |V|) * the largest probability of the tokens.",
    )
    passed("output_score")


def _probabilities() -> Float[Tensor, " 12"]:
    """No two are equal; the tokens 9, 2 and 6 have the ranks 3, 5 and 10."""
    weights = torch.tensor([0.5, 9, 14, 25, 4, 7, 1, 2.0, 30, 17, 5, 22])
    return weights / weights.sum()


def _ranks(p: Tensor) -> Tensor:
    """How many tokens are likelier."""
    return (p > p[:, None]).sum(1)


def _score_mistakes(p: Tensor, tokens: Tensor) -> dict[str, float]:
    """What the usual mistakes give."""
    n, m, q, rank = len(p), len(tokens), p[tokens], _ranks(p)[tokens]
    best, first = q.max(), rank.min()
    order, rising = p.argsort(descending=True), (p < p[:, None]).sum(1)[tokens]
    wrong = {
        "this is the largest probability alone: the rank is missing, or it was taken among the "
        "tokens of the lens. Take it among all tokens.": best,
        "the probability is missing: this is the rank alone.": 1 - first / n,
        "1 minus is missing: a high rank number is bad.": first / n * best,
        "ranks start at 0, for the likeliest token.": (1 - (first + 1) / n) * best,
        "the ranks are counted from the least likely token.": (1 - rising.min() / n) * best,
        "the rank was divided by the number of tokens of the lens; divide by |V|.": (
            (1 - first / m) * best
        ),
        "the rank was divided by |V| - 1; divide by |V|.": (1 - first / (n - 1)) * best,
        "the largest rank was taken; take the smallest.": (1 - rank.max() / n) * best,
        "the ranks were averaged; take the smallest.": (1 - rank.double().mean() / n) * best,
        "the probabilities were averaged; take the largest.": (1 - first / n) * q.mean(),
        "the probabilities were added up; take the largest.": (1 - first / n) * q.sum(),
        "the smallest probability was taken; take the largest.": (1 - first / n) * q.min(),
        "the product was averaged over the tokens: one token that is brought about is enough.": (
            ((1 - rank / n) * q).mean()
        ),
        "this is the largest probability of any token; take it among those of the lens.": (
            (1 - first / n) * p.max()
        ),
        "the smallest rank of any token is always 0; take it among those of the lens.": p.max(),
        "argsort gives the token at each rank; asked is the rank of each token.": (
            (1 - order[tokens].min() / n) * best
        ),
        "this is the logarithm of the probability; take the probability.": (
            (1 - first / n) * best.log()
        ),
    }
    return {message: float(value) for message, value in wrong.items()}
