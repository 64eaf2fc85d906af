"""Check for the exercise on a threshold: F1 on texts that did not choose it.

Chapter: ``book/axbench.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.teaching.checks.common import error, number, passed, refuse, require

Split = tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]
F1 = Callable[
    [Float[Tensor, " n"], Bool[Tensor, " n"], Float[Tensor, " m"], Bool[Tensor, " m"]], Any
]


def test_f1_elsewhere(fn: F1) -> None:
    """``f1_elsewhere(...)``: F1 of "score >= threshold", the threshold chosen on other texts."""
    choose, report = _choose(), _report()
    before = [x.clone() for x in (*choose, *report)]
    found = _f1_of(fn, choose, report)
    require(
        all(bool((x == y).all()) for x, y in zip((*choose, *report), before, strict=True)),
        "scores or labels were changed in place; work on new tensors.",
    )
    refuse(found, _mistakes(choose, report))
    require(
        math.isclose(found, _f1(report, 10.0), abs_tol=1e-6),
        "this is not F1 of the report split at the threshold that is best on the choose split.",
    )
    _require_equal_scores_together(fn)
    _require_zero_without_a_claim(fn)
    passed("f1_elsewhere")


def _choose() -> Split:
    """The F1 of 1/2 is best, at 10 and at 6, and exact however it is computed."""
    positive = torch.tensor([12.0, 10.0, 6.0, 1.0])
    scores = torch.tensor([7.0, 12, 3, 10, 1, 13, 5, 8, 6, 11, 2, 9, 4])
    return scores, torch.isin(scores, positive)


def _report() -> Split:
    """Each mistake gives another number on these."""
    negative = torch.tensor([1.5, 2.0, 4.0])
    scores = torch.tensor([10.0, 9.5, 2.5, 2, 9, 12, 4, 13, 11, 10.5, 5.5, 1.5])
    return scores, ~torch.isin(scores, negative)


def _f1_of(fn: F1, choose: Split, report: Split) -> float:
    try:
        return number(fn, *choose, *report)
    except ZeroDivisionError:
        raise error(
            "0 / 0: where nothing is hit F1 is 0. 2 TP / (2 TP + FP + FN) needs no exception."
        ) from None


def _f1(texts: Split, threshold: float, strict: bool = False) -> float:
    scores, labels = texts
    said = scores > threshold if strict else scores >= threshold
    return 2 * int((said & labels).sum()) / int(said.sum() + labels.sum())


def _best(texts: Split, of: Callable[[Split, float], float]) -> float:
    """The highest of the best thresholds."""
    return max(sorted(texts[0].tolist(), reverse=True), key=lambda t: of(texts, t))


def _accuracy(texts: Split, threshold: float) -> float:
    return float(((texts[0] >= threshold) == texts[1]).double().mean())


def _mistakes(choose: Split, report: Split) -> dict[str, float]:
    both = torch.cat([choose[0], report[0]]), torch.cat([choose[1], report[1]])
    scores, labels = report
    said = scores >= 10.0
    without = (-scores, ~labels)  # the texts without the concept, as if they were wanted
    return {
        "the threshold was chosen on the report split: its F1 is then too good.": _f1(
            report, _best(report, _f1)
        ),
        "the threshold was chosen on both splits; the report split must not choose.": _f1(
            report, _best(both, _f1)
        ),
        "this is F1 on the choose split; report on the other one.": _f1(choose, 10.0),
        "of equal F1 the lowest threshold was taken; take the highest.": _f1(report, 6.0),
        "a score equal to the threshold is a yes: use >=, not >.": _f1(report, 10.0, strict=True),
        "a score equal to the threshold is a yes: use >= in both splits, not >.": _f1(
            report, 9.0, strict=True
        ),
        "the threshold of the best accuracy was taken; choose by F1.": _f1(
            report, _best(choose, _accuracy)
        ),
        "this is the accuracy; report F1.": _accuracy(report, 10.0),
        "this is the precision; report F1.": float(labels[said].double().mean()),
        "this is the recall; report F1.": float(said[labels].double().mean()),
        "F1 is nan where nothing is hit, and nan won the argmax: there F1 is 0.": _f1(report, 13.0),
        "every text was claimed: the threshold is fixed, or it is the worst.": _f1(report, 1.0),
        "this is F1 of the texts without the concept; label True is what is looked for.": _f1(
            without, -10.0, strict=True
        ),
        "this is the threshold; report F1.": 10.0,
    }


def _require_equal_scores_together(fn: F1) -> None:
    """Of the three texts at 3 one is a positive: counted alone, it looks like a perfect start."""
    choose = torch.tensor([3.0, 3, 3, 2, 1]), torch.tensor([True, False, False, False, True])
    report = torch.tensor([4.0, 2.5, 2, 1, 0]), torch.tensor([False, True, True, True, False])
    require(
        math.isclose(_f1_of(fn, choose, report), _f1(report, 1.0), abs_tol=1e-6),
        "texts with equal scores are claimed together: count them all before F1 is taken.",
    )


def _require_zero_without_a_claim(fn: F1) -> None:
    choose = torch.tensor([9.0, 0.0]), torch.tensor([True, False])
    report = torch.tensor([1.0, 0.0]), torch.tensor([True, False])
    found = _f1_of(fn, choose, report)
    require(
        not math.isnan(found), "F1 is nan where no text of the report split is claimed: return 0."
    )
    require(found == 0, "no text of the report split reaches the threshold: F1 is 0.")
