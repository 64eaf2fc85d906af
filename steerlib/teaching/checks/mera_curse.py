"""Check for the exercise on the winner's curse: what the best of useless settings seems to gain.

Chapter: ``book/mera.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from steerlib.teaching.checks.common import number, passed, require

Simulation = Callable[[int, int, float, int, torch.Generator], Any]


def test_best_useless_gain(fn: Simulation) -> None:
    """``best_useless_gain(settings, n, rate, repeats, random)``: the winner's curse, simulated."""
    repeats, n, rate = 1000, 100, 0.2

    def simulated(settings: int, n: int, rate: float, seed: int = 0) -> float:
        return number(fn, settings, n, rate, repeats, torch.Generator().manual_seed(seed))

    found = simulated(10, n, rate)
    require(found == simulated(10, n, rate), "draw with `random`, so that a seed repeats it.")
    require(
        {simulated(10, n, rate, seed) for seed in (1, 2)} != {found},
        "other random numbers gave the same result; simulate with `random`.",
    )
    near = 5 * math.sqrt(rate / n / repeats)  # five standard errors of one setting's mean gain
    for message, wrong in _curses(10, n, rate).items():
        require(abs(found - wrong) > max(near, 0.05 * abs(wrong)), message)
    require(
        abs(found - _best_of(10, _useless(n, rate))[0] / n) < near,
        "this is not the mean, over repeats, of the largest gain of settings that turn a share "
        "rate of the answers, half of them for better.",
    )
    require(
        abs(simulated(1, n, rate)) < near,
        "a single useless setting gains 0 on average. Is no steering counted as a setting?",
    )
    one, spread = _best_of(4, _useless(1, 0.1))
    require(
        abs(simulated(4, 1, 0.1) - one) < 5 * spread / math.sqrt(repeats),
        "with a single problem this is wrong: a normal number is near a gain only for large n, and "
        "so is a fixed share of flips. Draw for each answer whether it flips.",
    )
    passed("best_useless_gain")


def _sum(p: Sequence[float], n: int) -> Float[np.ndarray, " values"]:
    """The distribution of a sum of n numbers with the distribution p, by convolution."""
    total = np.ones(1)
    for _ in range(n):
        total = np.convolve(total, p)
    return total


def _useless(n: int, rate: float) -> Float[np.ndarray, " values"]:
    """P(n+ - n- = s) for s = -n, ..., n."""
    return _sum((rate / 2, 1 - rate, rate / 2), n)


def _best_of(
    settings: int, p: Float[np.ndarray, " values"], low: int | None = None
) -> tuple[float, float]:
    """Mean and deviation of the largest of several such sums; `low` is the smallest sum."""
    largest = np.diff(np.cumsum(p) ** settings, prepend=0.0)
    sums = np.arange(len(p)) - (len(p) // 2 if low is None else -low)
    mean = float(largest @ sums)
    return mean, math.sqrt(float(largest @ (sums - mean) ** 2))


def _curses(settings: int, n: int, rate: float) -> dict[str, float]:
    """What the usual mistakes give in the mean."""
    p, wide = _useless(n, rate), _useless(n, 2 * rate)
    size = np.concatenate([p[n : n + 1], 2 * p[n + 1 :]])
    right = _best_of(settings, p)[0] / n
    return {
        "this is the mean gain of useless settings, 0: take the largest over settings, each with "
        "flips of its own, before the mean over repeats.": 0.0,
        "this is the largest size of a gain, also of a loss; take the largest gain.": (
            _best_of(settings, size, 0)[0] / n
        ),
        "this turns a share rate for better and as many for worse; together they are rate.": (
            _best_of(settings, wide)[0] / n
        ),
        "only half of rate is turned, a quarter each way; together they are rate.": (
            _best_of(settings, _useless(n, rate / 2))[0] / n
        ),
        "these are counts; divide by n.": right * n,
        "only answers that become right were counted; take those away that become wrong.": (
            _best_of(settings, _sum((1 - rate / 2, rate / 2), n), 0)[0] / n
        ),
        "every flip is for better here; half of them are for worse.": (
            _best_of(settings, _sum((1 - rate, rate), n), 0)[0] / n
        ),
        "this is the smallest gain; take the largest.": -right,
        "this is a sum over the repeats; take the mean.": 1000 * right,
        "this is the gain as a share of the flips; divide by n.": right / rate,
    }
