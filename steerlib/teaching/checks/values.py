"""Check for the exercise on the score of a value: from the probabilities of answers to a number.

Chapter: ``book/values.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.teaching.checks.common import call, close, noise, number, passed, refuse, require

Score = Callable[
    [Float[Tensor, "items answers"], Float[Tensor, " answers"], Int[Tensor, " items"]], Any
]


def test_value_score(fn: Score) -> None:
    """``value_score(probabilities, levels, agreement)``: how much one role holds to one value."""
    p, levels, agreement = _answers()
    before = p.clone(), levels.clone(), agreement.clone()
    require(
        getattr(call(fn, p, levels, agreement), "shape", None) != (5,),
        "this is one number per item; return their mean.",
    )
    found = number(fn, p, levels, agreement)
    require(
        all(close(a, b) for a, b in zip((p, levels, agreement), before, strict=True)),
        "an argument was changed in place; work on new tensors.",
    )
    refuse(found, _scores(p, levels, agreement))
    require(
        math.isclose(number(fn, p, levels, -agreement), -found, abs_tol=1e-5),
        "all items turned around must turn the sign of the score.",
    )
    rarer = p * torch.tensor([1.0, 0.1, 0.5, 0.01, 0.9])[:, None]
    require(
        math.isclose(number(fn, rarer, levels, agreement), found, abs_tol=1e-5),
        "where all answers of an item become rarer alike the score must stay: renormalize each "
        "item over its answers.",
    )
    order = torch.tensor([2, 0, 3, 1])
    require(
        math.isclose(number(fn, p[:, order], levels[order], agreement), found, abs_tol=1e-5),
        "another order of the answers, with their levels, changed the score.",
    )
    sure = torch.eye(4)[[3, 3, 0, 0, 3]] * 0.2
    require(
        math.isclose(
            number(fn, sure, levels, agreement),
            _mean_level(sure, levels, agreement),
            abs_tol=1e-5,
        ),
        "where one answer has all the probability its level must count, with the item's sign.",
    )
    require(
        math.isclose(found, _mean_level(p, levels, agreement), abs_tol=1e-5),
        "this is not the mean over items of agreement times the expected level.",
    )
    passed("value_score")


def _answers() -> tuple[Tensor, Tensor, Tensor]:
    """p of four answers to five items; other tokens have the rest. Two items are turned around."""
    p = noise(5, 6).mul(1.5).softmax(1)[:, :4]
    return p, torch.tensor([-2.0, -0.5, 1.0, 4.0]), torch.tensor([1, 1, -1, 1, -1])


def _mean_level(p: Tensor, levels: Tensor, agreement: Tensor) -> float:
    expected = (p / p.sum(1, keepdim=True)) @ levels
    return float((agreement * expected).mean())


def _scores(p: Tensor, levels: Tensor, agreement: Tensor) -> dict[str, float]:
    """What the usual mistakes give."""
    share = p / p.sum(1, keepdim=True)
    expected, raw = share @ levels, p @ levels
    turned = torch.where(agreement < 0, levels.flip(0)[:, None], levels[:, None]).T
    wrong: dict[str, Tensor] = {
        "agreement is not used: a turned item speaks against the value.": expected,
        "the probabilities were not renormalized: other tokens take a share of each item.": (
            agreement * raw
        ),
        "neither were the probabilities renormalized nor was agreement used.": raw,
        "the probabilities were divided by their sum over the items; divide by that over the "
        "answers.": agreement * ((p / p.sum(0)) @ levels),
        "the probabilities were divided by their sum over all items; each item has its own.": (
            agreement * raw / p.sum() * len(p)
        ),
        "softmax was taken of the probabilities; divide by their sum.": agreement
        * (p.softmax(1) @ levels),
        "only the likeliest answer was counted; take the expected level.": (
            agreement * levels[p.argmax(1)]
        ),
        "the answers were numbered 0, 1, 2, ...; use their levels.": agreement
        * (share @ torch.arange(4.0)),
        "this is the sum over the items; take the mean.": len(p) * agreement * expected,
        "the sign is flipped.": -agreement * expected,
        "turned items were left out; they count with the other sign.": expected[agreement > 0],
        "turned items were read on the reversed scale; they count with the other sign.": (
            share * turned
        ).sum(1),
        "the size of each item was taken; its sign says for or against.": (
            agreement * expected
        ).abs(),
        "the levels were averaged over the answers as well; sum over them.": (
            agreement * expected / len(levels)
        ),
    }
    return {message: float(value.double().mean()) for message, value in wrong.items()}
