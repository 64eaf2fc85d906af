"""Checks for the exercises on AxBench's protocol: one score, one strength, wins.

Chapter: ``book/axbench.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.teaching.checks.common import (
    call,
    close,
    number,
    passed,
    refuse,
    require,
    tensor,
)

Report = Callable[[Float[Tensor, "strengths prompts"], Float[Tensor, " strengths"]], Any]
Rate = Callable[[Float[Tensor, " n"], Float[Tensor, " n"]], Any]


def test_harmonic(fn: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """``harmonic(concept, instruction, fluency)``: the harmonic mean of each answer's ratings."""
    whole = torch.tensor([[2, 2, 2], [1, 2, 2], [1, 1, 2], [2, 1, 1.5], [0.5, 2, 1]])
    zero = torch.tensor([[0.0, 2, 2], [2, 0, 1], [0, 0, 2], [0, 0, 0], [1, 2, 0]])
    missing = torch.tensor([[math.nan, 2, 2], [2, 1, math.nan], [0, math.nan, 2]])
    columns = torch.cat([whole, zero, missing]).T.clone()
    before = columns.clone()
    require(
        getattr(call(fn, *columns), "shape", None) != (10,),
        "answers with a missing rating were dropped: return NaN there, so that places are kept.",
    )
    found = tensor(fn, *columns, shape=(13,))
    require(
        bool(columns.nan_to_num(nan=-1).equal(before.nan_to_num(nan=-1))),
        "the ratings were changed in place; work on new tensors.",
    )
    inverse = (1 / whole).sum(1)
    wrong = {
        "this is the arithmetic mean; take the harmonic one.": whole.mean(1),
        "this is the geometric mean; take the harmonic one.": whole.prod(1) ** (1 / 3),
        "this is the smallest rating; take the harmonic mean.": whole.amin(1),
        "this is the product of the ratings.": whole.prod(1),
        "the 3 is missing: 3 divided by the sum of the inverses.": 1 / inverse,
        "the mean of the inverses must be inverted once more.": inverse / 3,
        "this is the sum of the inverses; 3 divided by it is the harmonic mean.": inverse,
        "the harmonic mean is of all three ratings.": 2 / (1 / whole[:, :2]).sum(1),
    }
    for message, value in wrong.items():
        require(not close(found[:5], value), message)
    require(close(found[:5], 3 / inverse), "this is not the harmonic mean of three ratings.")
    _require_zero(found[5:10])
    _require_missing(found[10:])
    passed("harmonic")


def _require_zero(found: Tensor) -> None:
    require(
        not bool(found.isnan().any()),
        "ratings of 0 gave NaN, as 0 / 0 does: where a rating is 0 the mean is 0.",
    )
    require(bool(found.isfinite().all()), "a rating of 0 gave infinity: there the mean is 0.")
    require(
        bool(found.abs().max() < 1e-3),
        "a rating of 0 was left out of the mean: where a rating is 0 the mean is 0.",
    )
    require(
        bool((found == 0).all()),
        "where a rating is 0 the mean is exactly 0; do not add a small number to the ratings.",
    )


def _require_missing(found: Tensor) -> None:
    """Two answers with a missing rating, and one with a missing rating beside a 0."""
    require(
        not bool((found[:2] == 0).any()),
        "a missing rating became a 0: a judge that gave no rating did not rate the answer badly.",
    )
    require(
        bool(found[:2].isnan().all()),
        "a missing rating was left out or replaced; the mean of three needs all three: NaN.",
    )
    require(bool(found[2].isnan()), "a missing rating beside a 0 is still missing: NaN.")


def test_report_score(fn: Report) -> None:
    """``report_score(scores, strengths)``: chosen on the first half, reported on the second."""
    # All choosing means are exact in binary, so that ties are ties.
    scores, strengths = _sweep()
    result = _pair(fn, scores, strengths)
    strength, score = result
    means = dict(zip(strengths.tolist(), scores[:, 3:].mean(1).tolist(), strict=True))
    require(
        strength in means,
        f"{strength} is no strength of the input; is it the place of the best one?",
    )
    require(
        strength == 0.75
        or math.isclose(score, means[strength], abs_tol=1e-6)
        or not any(math.isclose(score, mean, abs_tol=1e-6) for mean in means.values()),
        "strength and score belong to different rows: row i of scores has strengths[i]; sort "
        "both or none.",
    )
    wrong = {
        0.5: "the strength was chosen on the reporting half: its score is then too good.",
        1.25: "the strength was chosen on all prompts; choose on the first half only.",
        1.5: "this strength has the largest single score; take the highest mean over prompts.",
        3.5: "this strength has the highest median; take the highest mean over prompts.",
        0.25: "this is the worst strength of the choosing half; take the best.",
        2.5: "of equal means the first in the input was taken; take the smallest strength.",
        5.5: "of equal means the last or the largest was taken; take the smallest strength.",
    }
    require(strength not in wrong, wrong.get(strength, ""))
    refuse(
        score,
        {
            "this is the mean of the half that chose; report on the other half.": 1.0,
            "this is the mean over all prompts; report on the half that did not choose.": 4.5 / 6,
            "this is the best mean of the reporting half, which belongs to another strength.": 2.0,
            "this is a sum; report the mean.": 1.5,
            "this is the largest score of the reporting half; report the mean.": 1.25,
            "this is the median of the reporting half; report the mean.": 0.25,
        },
    )
    require(math.isclose(score, 0.5, abs_tol=1e-6), "the score is not the reporting half's mean.")
    _require_one_use_of_the_report(fn, scores, strengths)
    _require_odd_numbers(fn)
    passed("report_score")


def _sweep() -> tuple[Tensor, Tensor]:
    """Scores of six prompts at eight strengths; each mistake picks another strength."""
    rows = {
        1.5: [2.0, 0.0, 0.0, 0.5, 1.0, 0.5],
        2.5: [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        0.75: [1.5, 1.0, 0.5, 0.25, 0.0, 1.25],
        0.5: [0.5, 0.0, 0.0, 2.0, 2.0, 2.0],
        1.25: [1.0, 0.5, 1.0, 2.0, 1.5, 1.5],
        5.5: [1.0, 1.0, 1.0, 1.0, 1.5, 1.0],
        0.25: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        3.5: [1.25, 1.25, 0.0, 1.0, 1.0, 0.5],
    }
    return torch.tensor(list(rows.values())), torch.tensor(list(rows))


def _pair(fn: Report, scores: Tensor, strengths: Tensor) -> tuple[float, float]:
    result = call(fn, scores, strengths)
    require(
        isinstance(result, tuple) and len(result) == 2,
        "return two numbers, (strength, score).",
    )
    return float(result[0]), float(result[1])


def _require_one_use_of_the_report(fn: Report, scores: Tensor, strengths: Tensor) -> None:
    for step in (-100.0, 100.0):
        changed = scores.clone()
        changed[:, 3:] = step * strengths[:, None]
        require(
            _pair(fn, changed, strengths)[0] == 0.75,
            "other scores in the reporting half changed the strength: they were used to choose.",
        )


def _require_odd_numbers(fn: Report) -> None:
    """Which strength leads changes with each prompt, so the place of the cut can be seen."""
    scores = torch.tensor([[1.0, 1, 0, 2, 0, 0, 0], [0.5, 0.5, 2, 0, 1, 0.5, 0]])
    for n, mean in ((5, 0.5), (7, 0.375)):
        strength, score = _pair(fn, scores[:, :n], torch.tensor([1.0, 2.0]))
        require(
            strength == 2.0 and math.isclose(score, mean, abs_tol=1e-6),
            f"with {n} prompts the first n - round(n / 2) = 3 choose, the other {n - 3} report.",
        )


def test_win_rate(fn: Rate) -> None:
    """``win_rate(a, b)``: the share of prompts on which a scores higher, a tie one half."""
    # Five wins, one of them by 1e-5; two losses; three ties, two of them up to rounding.
    a = [1.5, 1.2, 1.0, 0.75, 1.2 + 1e-5, 0.0, 0.0, 0.0, 1.2 + 4e-7, 1.5 + 4e-7]
    b = [1.2, 1.0, 0.75, 0.0, 1.2, 2.0, 2.0, 0.0, 1.2, 1.5]
    x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    require(
        getattr(call(fn, x, y), "shape", None) != (10,),
        "this is one number per prompt; return their mean.",
    )
    found = number(fn, x, y)
    pairs, ranked = x[:, None] - y, x.sort().values - y.sort().values
    refuse(
        found,
        {
            "the sign is flipped: a wins where its score is higher.": 0.35,
            "a tie counts 0 here; it should count one half.": 0.5,
            "a tie counts 1 here; it should count one half.": 0.8,
            "ties were left out; each counts one half.": 5 / 7,
            "wins minus losses; count wins, and each tie one half.": 0.3,
            "this is a number of prompts; give the share.": 6.5,
            "the means were compared; compare the two scores of each prompt.": float(
                x.mean() > y.mean()
            ),
            "every score was compared with every other; compare those of the same prompt.": _half(
                pairs
            ),
            "the scores were sorted first; compare those of the same prompt.": _half(ranked),
            "scores that differ by rounding (below 1e-6) are a tie.": 0.75,
            "scores that differ by rounding are a tie, and a tie counts one half.": 0.7,
            "a difference of 1e-5 is no tie: the tolerance is 1e-6, whatever the score.": 0.6,
        },
    )
    require(math.isclose(found, 0.65, abs_tol=1e-6), "this is not the share of prompts won.")
    require(
        math.isclose(number(fn, y, x), 1 - found, abs_tol=1e-6),
        "a against b and b against a must add up to 1.",
    )
    require(number(fn, x, x) == 0.5, "scores that are all equal must give one half.")
    passed("win_rate")


def _half(gap: Tensor) -> float:
    """The share of differences above 0, a tie counted one half."""
    tie = gap.abs() < 1e-6
    return float(((gap > 0) & ~tie).double().mean() + 0.5 * tie.double().mean())
