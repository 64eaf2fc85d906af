"""Check for the exercise on flips: the share in one direction flatters, that in both does not.

Chapter: ``book/scaling.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.teaching.checks.common import call, passed, refuse, require

Shares = Callable[[Float[Tensor, " n"], Float[Tensor, " n"]], Any]


def test_flip_shares(fn: Shares) -> None:
    """``flip_shares(delta_plus, delta_minus)``: one-way flips averaged, and two-way flips."""
    plus, minus = _margins()
    average, both = _pair(fn, plus, minus)
    up, down, n = plus > 0, minus < 0, len(plus)
    one_way = float(up.double().mean() + down.double().mean()) / 2
    two_way = float((up & down).double().mean())
    require(
        not _same((average, both), (two_way, one_way)),
        "the two numbers are swapped: first the average, then the two-way share.",
    )
    require(
        not math.isclose(both, one_way, abs_tol=1e-6),
        "the second number is the average of the one-way flips; count the prompts that flip "
        "both ways.",
    )
    refuse(
        average,
        {
            "the first number is a sum of two shares; halve it.": 2 * one_way,
            "the first number counts prompts; give shares.": n * one_way,
            "the first number has the direction +1 only; average both.": float(up.double().mean()),
            "the first number has the direction -1 only; average both.": float(
                down.double().mean()
            ),
        },
    )
    require(
        math.isclose(average, one_way, abs_tol=1e-6),
        "the first number is not the average of the two one-way shares; a margin of 0 is no flip.",
    )
    refuse(both, _mistaken_shares(plus, minus))
    require(
        _pair(fn, 5 + plus.abs(), 5 + plus.abs()) == (0.5, 0.0),
        "a model that always gives the same answer must get (0.5, 0).",
    )
    require(
        _same(_pair(fn, -minus, -plus), (average, both)),
        "the two answers in each other's place must give the same shares.",
    )
    require(
        math.isclose(both, two_way, abs_tol=1e-6),
        "the second number is not the share of prompts that flip both ways.",
    )
    passed("flip_shares")


def _margins() -> tuple[Tensor, Tensor]:
    """14 prompts; each mistake counts another number of them."""
    pairs = [(2.0, -1.0), (0.5, -3.0)]  # flip both ways
    pairs += [(1.0, 1.5)]  # always the positive answer
    pairs += [(-1.0, -2.0), (-0.5, -4.0), (-2.0, -2.5)]  # always the negative one, but moved
    pairs += [(-3.0, -1.0), (-1.5, -1.25)]  # always the negative one, moved the wrong way
    pairs += [(-2.0, 2.5)]  # flips against the sign
    pairs += [(0.0, -1.0), (0.0, -0.5)]
    pairs += [(1.0, 0.0), (0.75, 0.0), (3.0, 0.0)]
    plus, minus = torch.tensor(pairs).T
    return plus.contiguous(), minus.contiguous()


def _pair(fn: Shares, plus: Tensor, minus: Tensor) -> tuple[float, float]:
    result = call(fn, plus, minus)
    require(
        isinstance(result, tuple) and len(result) == 2,
        "return two numbers, (average, both).",
    )
    sizes = [x.numel() if isinstance(x, Tensor) else 1 for x in result]
    require(sizes == [1, 1], "these are values per prompt; return two shares.")
    return float(result[0]), float(result[1])


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(a, b, strict=True))


def _mistaken_shares(plus: Tensor, minus: Tensor) -> dict[str, float]:
    """What the usual mistakes give as the second number."""
    up, down = plus > 0, minus < 0
    share = {
        "one direction is enough here; a prompt must flip both ways.": up | down,
        "this is the direction +1 only.": up,
        "this is the direction -1 only, or the smaller of the two shares.": down,
        "the signs of the margins must differ in the right order: above 0 at +1, below 0 at -1.": (
            plus * minus < 0
        ),
        "the signs are flipped: above 0 at +1, below 0 at -1.": (plus < 0) & (minus > 0),
        "the margin moved the right way on these; it must change its sign.": plus > minus,
        "a margin of 0 is no flip, at +1 and at -1.": (plus >= 0) & (minus <= 0),
        "a margin of 0 at +1 is no flip.": (plus >= 0) & down,
        "a margin of 0 at -1 is no flip.": up & (minus <= 0),
    }
    p, q, both = (float(x.double().mean()) for x in (up, down, up & down))
    return {message: float(x.double().mean()) for message, x in share.items()} | {
        "the shares were multiplied, as if the two flips were independent; look at each prompt.": (
            p * q
        ),
        "this is the share of those that flip at all; take it of all prompts.": (
            both / float((up | down).double().mean())
        ),
        "this is a number of prompts; give the share.": len(plus) * both,
        "the means were compared; look at each prompt.": float(plus.mean() > 0 > minus.mean()),
    }
