"""Checks for the exercises on what is certain about a gain: a bound, and a choice that may abstain.

Chapter: ``book/mera.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Float

from steerlib.statistics import Flips
from steerlib.teaching.checks.common import call, number, passed, refuse, require

Bound = Callable[[float, int, int, float], Any]
Grid = Float[np.ndarray, "cases settings"]
Choice = Callable[[Sequence[Flips], float, float], int | None]


def test_gain_bound(fn: Bound) -> None:
    """``gain_bound(gain, n, settings, delta)``: Hoeffding's lower bound, shared by a grid."""
    for gain, n, settings, delta in ((0.3, 250, 10, 0.01), (-0.1, 60, 4, 0.2)):
        found = number(fn, gain, n, settings, delta)
        require(not math.isnan(found), "the bound is NaN: log(1 / delta) is positive.")
        refuse(found, _bounds(gain, n, settings, delta))
        require(
            math.isclose(found, gain - _width(n, delta / settings), abs_tol=1e-6),
            "this is not gain - r sqrt(log(K / delta) / (2 n)) with r the range of d.",
        )
    require(
        math.isclose(number(fn, 0.3, 250, 1, 0.01), 0.3 - _width(250, 0.01), abs_tol=1e-6),
        "with one setting there is nothing to share: delta is its own.",
    )
    passed("gain_bound")


def _width(n: float, delta: float, span: float = 2.0) -> float:
    return span * math.sqrt(math.log(1 / delta) / (2 * n))


def _bounds(gain: float, n: int, k: int, delta: float) -> dict[str, float]:
    """What the usual mistakes give."""
    return {
        "this is the printed bound: its range is 1, that of an accuracy, and it is two-sided. A "
        "difference of two accuracies lies between -1 and 1.": gain - _width(n, delta / (2 * k), 1),
        "the range is 1, that of an accuracy; d lies between -1 and 1.": gain
        - _width(n, delta / k, 1),
        "the range is 1 and delta is not shared.": gain - _width(n, delta, 1),
        "this is the half-width of a two-sided interval, with log(2 K / delta); only one side can "
        "do harm, so K is enough.": gain - _width(n, delta / (2 * k)),
        "this is two-sided, and delta is not shared by the settings.": gain - _width(n, delta / 2),
        "delta is not shared: each of K settings may err with probability delta / K.": gain
        - _width(n, delta),
        "the problems were shared by the settings; share delta. All settings see all problems.": (
            gain - _width(n / k, delta)
        ),
        "this is an upper bound.": gain + _width(n, delta / k),
        "this is the width; take it from the gain.": _width(n, delta / k),
        "this is the gain itself; the problems are a sample.": gain,
        "the root is missing.": gain - 2 * math.log(k / delta) / n,
        "the range 2 belongs in front of the root, or its square 4 below it: this is sqrt(log(K / "
        "delta) / n).": gain - _width(n, delta / k, math.sqrt(2)),
        "the range was squared in front of the root.": gain - _width(n, delta / k, 4),
        "n is missing below the root.": gain - _width(1, delta / k),
    }


# up and down of each setting out of 250 problems, and epsilon; why each is here
_CASES: tuple[tuple[str, tuple[tuple[int, int], ...], float], ...] = (
    ("one setting is safe", ((2, 9), (30, 3), (4, 4), (0, 0)), 0.0),
    ("the first setting is the one", ((30, 3), (2, 9), (4, 4), (0, 0)), 0.0),
    ("the largest gain comes with too many flips", ((70, 44), (24, 2), (6, 1), (3, 3)), 0.0),
    ("the safest setting gains less", ((26, 0), (48, 16), (2, 2), (1, 1)), 0.0),
    ("safe only with all of delta", ((15, 4), (1, 3), (2, 2), (1, 4)), 0.0),
    ("just safe", ((1, 3), (15, 3), (2, 2), (1, 4)), 0.0),
    ("nothing gains", ((3, 9), (10, 11), (0, 4), (2, 2)), 0.0),
    ("a gain too small for epsilon", ((40, 8), (30, 3), (1, 1), (0, 0)), 0.12),
    ("a gain above epsilon", ((30, 3), (95, 2), (1, 1), (0, 0)), 0.12),
    ("many flips both ways", ((60, 60), (109, 71), (1, 1), (0, 0)), 0.0),
    ("no answer becomes wrong", ((26, 2), (45, 0), (24, 2), (2, 3)), 0.0),
)
_N, _DELTA = 250, 0.05


def test_choose_or_abstain(fn: Choice) -> None:
    """``choose_or_abstain(flips, delta, epsilon)``: the setting to steer with, or None."""
    grids = [[Flips(_N, 125, up, down) for up, down in counts] for _, counts, _ in _CASES]
    levels = [epsilon for _, _, epsilon in _CASES]
    given = [[*grid] for grid in grids]
    found = [call(fn, grid, _DELTA, e) for grid, e in zip(grids, levels, strict=True)]
    require(given == grids, "the list of flips was changed; leave it as it is.")
    for k in found:
        require(
            k is None or (isinstance(k, Integral) and 0 <= int(k) < 4),
            f"return the number of a setting, 0, 1, 2 or 3, or None; got {k!r}.",
        )
    right = _choices(_lower())
    for message, wrong in _mistaken(right).items():
        require(found != wrong, message)
    for (name, counts, epsilon), got, expected in zip(_CASES, found, right, strict=True):
        require(
            got == expected,
            f"{name}: of (up, down) = {counts} with epsilon = {epsilon} this chooses {got}, but "
            f"{expected} is right.",
        )
    one = [Flips(_N, 125, 15, 4)]
    require(
        call(fn, one, _DELTA, 0.0) == 0,
        "a single setting has all of delta: share it by the number of settings that are given.",
    )
    passed("choose_or_abstain")


def _lower(level: float = _DELTA / 4, bound: str = "conditional") -> Grid:
    """The bounds of all settings of all cases at once."""
    up, down = np.array([counts for _, counts, _ in _CASES]).transpose(2, 0, 1)
    return np.asarray(Flips(_N, np.full_like(up, 125), up, down).lower_bound(level, bound))


def _choices(lower: Grid, by: Grid | None = None, epsilon: Grid | None = None) -> list[int | None]:
    """In each case the setting with the largest `by`, the gain, among the safe ones."""
    by = _lower(bound="none") if by is None else by
    least = np.array([[e] for *_, e in _CASES]) if epsilon is None else epsilon
    best = np.where(lower > least, by, -np.inf)
    return [None if np.isinf(row).all() else int(row.argmax()) for row in best]


def _mistaken(right: list[int | None]) -> dict[str, list[int | None]]:
    """What other rules choose."""
    lower, gain = _lower(), _lower(bound="none")
    every = np.full((len(_CASES), 1), -np.inf)
    favorites = np.where(gain == gain.max(1, keepdims=True), lower, -np.inf)
    return {
        "this is the largest gain, without a bound: some useless setting always looks best.": (
            _choices(gain, epsilon=every)
        ),
        "this is the largest gain above epsilon; its lower bound has to be above epsilon.": (
            _choices(gain)
        ),
        "this is the largest bound, also where it is below epsilon; abstain there.": (
            _choices(lower, lower, every)
        ),
        "this is the largest bound above epsilon. It is as safe, but among the safe settings take "
        "the largest gain.": _choices(lower, lower),
        "delta is not shared: each of K settings may err with probability delta / K.": (
            _choices(_lower(_DELTA))
        ),
        "delta is halved as well: delta / K is enough, and lower_bound halves it where it has "
        "to.": _choices(_lower(_DELTA / 8)),
        "epsilon is not used: the bound has to be above it.": (
            _choices(lower, epsilon=np.zeros_like(every))
        ),
        "only the setting with the largest gain was tried; if it is not safe, another may be.": (
            _choices(favorites)
        ),
        "this takes the first safe setting; take the one with the largest gain.": (
            _choices(lower, 0 * gain)
        ),
        "this takes the last safe setting; take the one with the largest gain.": (
            _choices(lower, 0 * gain + np.arange(gain.shape[1]))
        ),
        "0 is a setting, and None means that there is none: ask `is None`.": [
            k or None for k in right
        ],
        "where nothing is safe this returns a setting; return None.": [k or 0 for k in right],
        "this is Hoeffding's bound: valid, but it abstains from gains that the exact one sees.": (
            _choices(_lower(bound="hoeffding"))
        ),
        "this is the printed bound, which is none.": _choices(_lower(bound="as_printed")),
        "this is the binomial bound; take the conditional one.": _choices(_lower(bound="binomial")),
        "this is the empirical Bernstein bound; take the conditional one.": (
            _choices(_lower(bound="bernstein"))
        ),
    }
