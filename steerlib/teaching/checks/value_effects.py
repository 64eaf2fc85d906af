"""Checks for the exercises on effects: what follows from one value, and were they predicted?

Chapter: ``book/values.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlib.teaching.checks.common import close, noise, number, passed, require, tensor

Total = Callable[
    [Float[Tensor, "values values"], Float[Tensor, " values"]], Float[Tensor, "cause effect"]
]
PValue = Callable[
    [
        Float[Tensor, "values values"],
        Bool[Tensor, "values values"],
        Int[Tensor, "repeats values"],
    ],
    Any,
]


def test_total_effects(fn: Total) -> None:
    """``total_effects(b, sd)``: what do(cause) changes, in deviations, [cause, effect]."""
    b, sd = _coefficients(), torch.tensor([0.5, 2.0, 1.25, 3.0])
    before = b.clone(), sd.clone()
    found = tensor(fn, b, sd, shape=(4, 4))
    require(close(b, before[0]) and close(sd, before[1]), "b or sd was changed in place.")
    for message, wrong in _effects(b, sd).items():
        require(not close(found, wrong), message)
    require(close(found.diagonal(), torch.ones(4)), "the effect of a value on itself must be 1.")
    units = torch.tensor([10.0, 0.1, 3.0, 0.5])
    other = tensor(fn, b * units[:, None] / units, sd * units, shape=(4, 4))
    require(
        bool((other - found).abs().max() < 1e-4),
        "the same model in other units, with deviations in them, must have the same effects.",
    )
    for cause in range(4):
        require(
            bool((found[cause] - _done(b, sd, cause)).abs().max() < 1e-4),
            f"row {cause} is not what happens when value {cause} is set one deviation higher: its "
            "own equation is cut, all others go on.",
        )
    require(
        close(tensor(fn, torch.zeros(3, 3), sd[:3], shape=(3, 3)), torch.eye(3)),
        "where no value causes another the effects must be the identity.",
    )
    passed("total_effects")


def _coefficients() -> Float[Tensor, "effect cause"]:
    """2 -> 0 -> 3 -> 1, 2 -> 3 and 0 -> 1: causes need not come first."""
    b = torch.zeros(4, 4)
    for cause, effect, weight in ((2, 0, 0.8), (0, 3, -1.5), (3, 1, 0.5), (2, 3, 0.4), (0, 1, 0.7)):
        b[effect, cause] = weight
    return b


def _done(b: Tensor, sd: Tensor, cause: int) -> Float[Tensor, " values"]:
    """The change in deviations when the equation of a value is replaced by one deviation."""
    cut, u = b.clone(), torch.zeros(len(b))
    cut[cause], u[cause] = 0.0, sd[cause]
    return torch.linalg.solve(torch.eye(len(b)) - cut, u) / sd


def _effects(b: Tensor, sd: Tensor) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    one = torch.eye(len(b))
    total = torch.linalg.inv(one - b)  # [effect, cause], in raw units
    unit = sd / sd[:, None]  # [effect, cause]: deviations of the cause per one of the effect
    return {
        "this is [effect, cause]; transpose it.": total * unit,
        "this is [effect, cause] and in raw units.": total,
        "this is in raw units: count in deviations of the cause and of the effect.": total.T,
        "the deviations are upside down: times that of the cause, divided by that of the effect; "
        "rows of (I - B)^-1 are effects.": (total / unit).T,
        "this is [effect, cause], with the deviations upside down.": total / unit,
        "this is in units of the effect: an intervention of one deviation is sd[cause] high.": (
            (total / sd[:, None]).T
        ),
        "this is per raw unit of the effect: divide by the deviation of the effect as well.": (
            (total * sd).T
        ),
        "these are the direct effects only; an effect has effects.": (b * unit).T,
        "these are the direct effects and 1; an effect has effects.": ((b + one) * unit).T,
        "paths of three and more steps are missing.": ((one + b + b @ b) * unit).T,
        "the effect of a value on itself is 1: do not take I away.": ((total - one) * unit).T,
        "the sign of B is flipped: (I - B)^-1.": (torch.linalg.inv(one + b) * unit).T,
        "the inverse is missing: v = B v + u gives v = (I - B)^-1 u.": ((one - b) * unit).T,
        "the size of the effects was taken; keep their sign.": (total * unit).T.abs(),
        "these are entries divided, 1 / (I - B); take the inverse of the matrix.": (
            ((one - b).reciprocal() * unit).T
        ),
    }


def test_side_effect_p(fn: PValue) -> None:
    """``side_effect_p(changes, expected, orders)``: is the gap larger than with other names?"""
    changes, expected, orders = _side_effects()
    before = changes.clone(), expected.clone()
    found = number(fn, changes, expected, orders)
    require(
        bool((changes.nan_to_num() == before[0].nan_to_num()).all() and expected.equal(before[1])),
        "changes or expected was changed in place; work on new tensors.",
    )
    for message, wrong in _p_values(changes, expected, orders).items():
        require(abs(found - wrong) > 1e-6, message)
    _require_hub(fn, orders)
    same = torch.full_like(changes, 0.5)
    require(
        abs(number(fn, same, expected, orders) - 1) < 1e-6,
        "where all changes are the same p must be 1: each relabeling is as good.",
    )
    require(
        abs(number(fn, 2 * changes + 1, expected, orders) - found) < 1e-6,
        "changes in other units must give the same p.",
    )
    fits = torch.where(expected, 1.0, 0.0).fill_diagonal_(math.nan)
    require(
        abs(number(fn, fits, expected, orders) - 1 / 120) < 1e-6,
        "where no relabeling fits as well p must be 1 / (1 + the number of relabelings).",
    )
    require(
        abs(found - _p(_gap(changes, expected), _relabeled(changes, expected, orders))) < 1e-6,
        "this is not (1 + how many relabeled gaps are as large) / (1 + how many there are).",
    )
    passed("side_effect_p")


def _side_effects() -> tuple[Tensor, Tensor, Tensor]:
    """A graph over five values, changes that follow it somewhat, and all orders but the own one.

    With each order its inverse is there, so that it does not matter which table is relabeled. The
    changes are halves: equal gaps are equal to the last digit.
    """
    expected = torch.zeros(5, 5, dtype=torch.bool)
    for cause, effect in ((0, 1), (0, 2), (1, 2), (3, 2), (0, 4), (1, 4)):
        expected[cause, effect] = True
    changes = (2 * noise(5, 5, seed=22) + expected).round() / 2
    orders = torch.tensor(list(permutations(range(5))))[1:]
    return changes.fill_diagonal_(math.nan), expected, orders


def _gap(changes: Tensor, expected: Tensor) -> float:
    other = ~expected & ~torch.eye(len(expected), dtype=torch.bool)
    return float(changes[expected].mean() - changes[other].mean())


def _relabeled(changes: Tensor, expected: Tensor, orders: Tensor) -> Tensor:
    return torch.tensor([_gap(changes, expected[order][:, order]) for order in orders])


def _p(gap: float, null: Tensor) -> float:
    return (1 + int((null >= gap).sum())) / (1 + len(null))


def _p_values(changes: Tensor, expected: Tensor, orders: Tensor) -> dict[str, float]:
    """What the usual mistakes give."""
    gap, null, n = _gap(changes, expected), _relabeled(changes, expected, orders), len(orders)
    count, more = int((null >= gap).sum()), int((null > gap).sum())
    rows = torch.stack([_finite_gap(changes, expected[order]) for order in orders])
    columns = torch.stack([_finite_gap(changes, expected[:, order]) for order in orders])
    torn = [
        torch.tensor([float(_gap(changes, moved)) for moved in moves])
        for moves in ([expected[o] for o in orders], [expected[:, o] for o in orders])
    ]
    return {
        "p can never be 0: the graph as it is counts among the relabelings, above and below the "
        "line.": count / n,
        "the graph as it is counts below the line as well: 1 + the number of relabelings.": (
            (1 + count) / n
        ),
        "the graph as it is counts above the line as well: 1 + how many are as large.": count
        / (1 + n),
        "an equal gap counts as well: at least as large.": (1 + more) / (1 + n),
        "an equal gap counts as well, and the graph as it is, above and below the line.": more / n,
        "this is the share of smaller gaps; count those that are as large.": _p(-gap, -null),
        "this is 1 - p.": 1 - (1 + count) / (1 + n),
        "this is two-sided: a graph whose expected values change less predicts nothing.": _p(
            abs(gap), null.abs()
        ),
        "this is the gap; return its p value.": gap,
        "this is a count; return a share.": 1 + count,
        "both tables were relabeled, so that nothing changed; relabel one of them.": 1.0,
        "only the rows were relabeled; a value is a row and a column.": _p(gap, rows),
        "only the columns were relabeled; a value is a row and a column.": _p(gap, columns),
        "only the rows were relabeled, and the diagonal is NaN: a value is a row and a column.": _p(
            gap, torn[0]
        ),
        "only the columns were relabeled, and the diagonal is NaN: a value is both.": _p(
            gap, torn[1]
        ),
        "nothing was as large, because a gap is NaN: the diagonal is no side effect. Is it among "
        "the others?": 1 / (1 + n),
    }


def _finite_gap(changes: Tensor, expected: Tensor) -> Tensor:
    """A gap where the diagonal may be expected."""
    return changes[expected].nanmean() - changes[~expected].nanmean()


def _require_hub(fn: PValue, orders: Tensor) -> None:
    """One value changes with each other one, and the graph says so: one finding, not four."""
    changes, expected = torch.zeros(5, 5), torch.zeros(5, 5, dtype=torch.bool)
    changes[:, 2], expected[:, 2], expected[2, 2] = 1.0, True, False
    p = number(fn, changes.fill_diagonal_(math.nan), expected, orders)
    require(
        p > 0.1,
        f"a graph that names the one value that always changes got p = {p:.3f}; one relabeling in "
        "five is as good. Relabel whole values, not single cells, and count.",
    )
    require(abs(p - 0.2) < 1e-6, f"one relabeling in five is as good here, but p = {p:.3f}.")
