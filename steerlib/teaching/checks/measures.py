"""Checks for the exercises that measure directions: AUROC, pooling, a strength, steerability.

Chapter: ``book/directions.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steerlib.teaching.checks.common import call, close, noise, passed, require, tensor

Scores = Mapping[float, Sequence[float]]


def _pairs(scores: Tensor, labels: Tensor, tie: float) -> float:
    gap = scores[labels][:, None] - scores[~labels]
    return float(((gap > 0).double() + tie * (gap == 0).double()).mean())


def test_auroc(fn: Callable[[Tensor, Tensor], Any]) -> None:
    """``auroc(scores, labels)``: the share of pairs in the right order, a tie counted one half."""
    labels = torch.tensor([True, True, True, True, False, False, False, True])
    scores = torch.tensor([3.0, 1.0, 1.0, 6.0, 0.0, 2.0, 1.0, -2.0])

    def area(s: Tensor, y: Tensor) -> float:
        result = call(fn, s, y)
        require(result is not None, "auroc returned None. Is a return missing?")
        return float(result)

    found, tie = area(scores, labels), _pairs(scores, labels, 0.5)
    expected = {
        1 - tie: "the order is reversed: a positive above a negative counts 1.",
        _pairs(scores, labels, 0.0): "a tie counts 0 here; it should count one half.",
        _pairs(scores, labels, 1.0): "a tie counts 1 here; it should count one half.",
        tie * 15: "this is the number of pairs; divide by how many there are.",
        tie * 15 / 64: "divide by the number of pairs (positive, negative), not of all pairs.",
        tie * 15 / 28: "pairs of the same class were counted; take one text of each class.",
    }
    for value, message in expected.items():
        require(not math.isclose(found, value, abs_tol=1e-6), message)
    require(
        math.isclose(area(scores.exp(), labels), found, abs_tol=1e-6),
        "a growing function of the scores changed the result; only their order may count.",
    )
    require(math.isclose(found, tie, abs_tol=1e-6), "this is not the share of ordered pairs.")
    require(
        math.isclose(area(torch.zeros(8), labels), 0.5, abs_tol=1e-6),
        "scores that are all equal must give one half.",
    )
    require(
        math.isclose(area(scores.flip(0), labels.flip(0)), tie, abs_tol=1e-6),
        "the order of the texts must not matter.",
    )
    require(
        math.isclose(area(-scores, labels), 1 - tie, abs_tol=1e-6),
        "a detector that is wrong more often than right is below one half; leave it there.",
    )
    passed("auroc")


def test_max_scores(fn: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """``max_scores(h, w, mask)``: the largest h . w of each text, without padding and BOS."""
    w = noise(4, seed=1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    first = torch.tensor([0, 2, 0])  # where BOS stands
    # Every score is negative; BOS and the padding score higher than all words.
    values = -5 + noise(3, 5, seed=2)
    values[~mask] = 50.0
    values[torch.arange(3), first] = 20.0
    h = values[:, :, None] * w / w.dot(w)
    words = mask.clone()
    words[torch.arange(3), first] = False
    before = mask.clone()
    require(
        not isinstance(call(fn, h, w, mask), torch.return_types.max),
        "x.max(dim=1) returns values and places; take `.values`, or use amax.",
    )
    found = tensor(fn, h, w, mask, shape=(3,))
    require(bool((mask == before).all()), "the mask was changed in place; work on a copy.")
    messages = {
        "padding won in a row: leave it out before the maximum.": values.amax(1),
        "BOS won in a row: it is the first token of the mask in each row.": _largest(values, mask),
        "BOS is not always at position 0: under left padding it comes later.": _largest(
            values, mask & (torch.arange(5) > 0)
        ),
        "what was left out got the score 0 and won: all scores are below 0 here.": torch.zeros(3),
        "this is the mean over the tokens; take the largest.": _mean(values, words),
        "the sign of the scores was dropped: the largest score, not the largest size.": _largest(
            values.abs(), words
        ),
        "w was brought to length 1; take the plain product.": _largest(values, words) / w.norm(),
    }
    for message, wrong in messages.items():
        require(not close(found, wrong), message)
    require(close(found, _largest(values, words)), "this is not the largest score of the words.")
    passed("max_scores")


def _largest(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, -torch.inf).amax(1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(1) / mask.sum(1)


def test_choose_strength(fn: Callable[[Scores, Scores], Any]) -> None:
    """``choose_strength(selection, test)``: the best strength of one split, its mean on another."""
    # Means 1.5 for four strengths; 5.0 has the largest score, median and sum, but not the mean.
    selection = {
        4.0: [0.0, 1.0],
        2.0: [2.0, 1.0],
        2.5: [1.0, 2.0],
        1.0: [1.0, 2.0, 1.5],
        3.0: [1.5, 1.5],
        5.0: [2.2, 2.2, 2.2, 0.0, 0.0],
        0.0: [0.0, 0.0],
    }
    held_out = {
        4.0: [2.0, 2.0],
        2.0: [1.0, 0.8],
        2.5: [1.2, 1.0],
        1.0: [0.2, 0.3, 1.0],
        3.0: [0.9, 0.9],
        5.0: [0.7, 0.7],
        0.0: [0.1, 0.3],
    }
    result = call(fn, selection, held_out)
    require(
        isinstance(result, tuple) and len(result) == 2,
        "return two numbers, (strength, score).",
    )
    strength, score = float(result[0]), float(result[1])
    require(
        strength != 4.0,
        "the strength was chosen on the test split: its score is then too good.",
    )
    require(
        strength != 5.0,
        "this strength has the largest score, sum or median, and not the highest mean.",
    )
    require(strength != 0.0, "this is the worst strength of the selection split; take the best.")
    require(
        strength != 2.5, "equal means were decided on the test split; take the smallest strength."
    )
    require(
        strength != 3.0,
        "of equal means the last or the largest was taken; take the smallest strength.",
    )
    require(
        strength != 2.0,
        "of equal means the first in the dictionary was taken; take the smallest strength.",
    )
    require(strength == 1.0, f"{strength} is not the best strength of the selection split.")
    require(
        not math.isclose(score, 1.5, abs_tol=1e-6),
        "this is the score on the selection split; report the one on the test split.",
    )
    require(
        not math.isclose(score, 1.0, abs_tol=1e-6), "both splits were averaged; report the test."
    )
    require(not math.isclose(score, 0.3, abs_tol=1e-6), "this is the median of the test split.")
    require(
        math.isclose(score, 0.5, abs_tol=1e-6),
        "the score is not the mean over the test split at the chosen strength.",
    )
    _require_one_use_of_the_test(fn, selection)
    passed("choose_strength")


def _require_one_use_of_the_test(fn: Callable[[Scores, Scores], Any], selection: Scores) -> None:
    for step in (-100.0, 100.0):
        changed = {strength: [step * strength, 0.0] for strength in selection}
        require(
            float(call(fn, selection, changed)[0]) == 1.0,
            "another test split changed the strength: it was used for the choice.",
        )


def test_steerability(fn: Callable[[Tensor, Tensor], Any]) -> None:
    """``steerability(strengths, propensities)``: the slope per prompt, the share below zero."""
    strengths = torch.tensor([-1.0, 0.0, 0.5, 1.0, 3.0])
    slopes = torch.tensor([2.0, -1.0, 0.5, 4.0, -0.25, 0.0])
    propensities = slopes[:, None] * strengths + 5 + noise(6, 5, seed=1) / 10
    propensities[-1] = 0.0  # a prompt that steering does not move: its slope is exactly 0
    result = call(fn, strengths, propensities)
    require(
        isinstance(result, tuple) and len(result) == 2,
        "return two values, (slopes, share of slopes below zero).",
    )
    found, share = torch.as_tensor(result[0]).float(), float(result[1])
    require(
        tuple(found.shape) == (6,),
        f"the slopes have shape {tuple(found.shape)}, expected (6,): one per prompt.",
    )
    x = strengths - strengths.mean()
    true = propensities @ x / (x @ x)
    ends = (propensities[:, -1] - propensities[:, 0]) / (strengths[-1] - strengths[0])
    raw = propensities @ strengths
    messages = {
        "the sign of the slopes is flipped.": -true,
        "these use the first and the last strength only; fit a line through all.": ends,
        "the line was forced through 0; subtract the mean of the strengths.": raw
        / (strengths @ strengths),
        "divide by the sum of squares of the centered strengths.": propensities @ x,
        "this is the correlation; a slope is in units of propensity per strength.": _correlation(
            x, propensities
        ),
        "the strengths were taken as evenly spaced.": _correlation_free(propensities),
    }
    for message, wrong in messages.items():
        require(not close(found, wrong), message)
    require(bool(torch.allclose(found, true, atol=1e-4)), "these are not the least-squares slopes.")
    require(
        not math.isclose(share, 4 / 6, abs_tol=1e-6) and not math.isclose(share, 0.5, abs_tol=1e-6),
        "this is not the share below 0: a slope of exactly 0 is neither way, and the share of "
        "prompts that moved the right way is another one.",
    )
    require(
        not math.isclose(share, 2.0, abs_tol=1e-6), "this is a number of prompts; give the share."
    )
    require(
        math.isclose(share, 2 / 6, abs_tol=1e-6),
        "the share is not that of the slopes below zero; the mean slope hides these prompts.",
    )
    passed("steerability")


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    centered = y - y.mean(1, keepdim=True)
    return centered @ x / (x.norm() * centered.norm(dim=1))


def _correlation_free(y: Tensor) -> Tensor:
    """Slopes over 0, 1, 2, ... instead of the strengths."""
    steps = torch.arange(y.shape[1], dtype=y.dtype)
    x = steps - steps.mean()
    return y @ x / (x @ x)
