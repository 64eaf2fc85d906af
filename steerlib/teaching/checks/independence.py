"""Check for the exercise on independence: Fisher's test of a partial correlation.

Chapter: ``book/values.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.teaching.checks.common import close, noise, number, passed, require

Independence = Callable[[Float[Tensor, "rows values"], int, int, Sequence[int]], Any]


def orthogonal(rows: int, columns: int, seed: int = 0) -> Float[Tensor, "rows columns"]:
    """Columns with mean 0 and variance 1 whose correlations are exactly 0, in float64."""
    x = noise(rows, columns, seed=seed).double()
    q = torch.linalg.qr(x - x.mean(0)).Q
    return q * math.sqrt(rows)


def test_fisher_z(fn: Independence) -> None:
    """``fisher_z(scores, i, j, given)``: p that the partial correlation of two columns is 0."""
    scores, given = _few_roles(), (1, 4)
    before = scores.clone()
    found = number(fn, scores, 0, 2, given)
    require(close(scores, before), "the scores were changed in place; work on a new tensor.")
    for message, wrong in _tests(scores, 0, 2, given).items():
        # Not `refuse`: an inverse in float32 has fewer digits.
        require(not math.isclose(found, wrong, abs_tol=1e-4), message)
    require(0 <= found <= 1, f"a p value lies between 0 and 1, this is {found:.3g}.")
    _require_invariances(fn, scores, found, given)
    _require_planted(fn)
    sets: tuple[tuple[int, ...], ...] = (given, (), (2,), (1, 2, 4))
    for held in sets:
        require(
            abs(number(fn, scores, 0, 3, held) - _p(scores, 0, 3, held)) < 1e-4,
            f"this is not 2 (1 - Phi(sqrt(n - |S| - 3) |artanh r|)) where |S| is {len(held)}.",
        )
    passed("fisher_z")


def _few_roles() -> Float[Tensor, "rows values"]:
    """Twelve rows of five columns that go together, with means far from 0.

    The partial correlation of 0 and 2 given 1 and 4 is below 0, so that its size matters.
    """
    mix = torch.eye(5) + 0.6 * noise(5, 5, seed=4)
    return noise(12, 5, seed=3) @ mix + torch.tensor([3.0, -2.0, 1.0, 4.0, -1.0])


def _left(x: Tensor, target: int, given: Sequence[int], intercept: bool = True) -> Tensor:
    """What the given columns leave of a column."""
    one = torch.ones(len(x), int(intercept), dtype=x.dtype)
    others = torch.cat([x[:, list(given)], one], 1)
    return x[:, target] - others @ torch.linalg.pinv(others) @ x[:, target]


def _r(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def _partial(scores: Tensor, i: int, j: int, given: Sequence[int]) -> float:
    x = scores.double()
    return _r(_left(x, i, given), _left(x, j, given))


def _two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def _p(scores: Tensor, i: int, j: int, given: Sequence[int]) -> float:
    r = _partial(scores, i, j, given)
    return _two_sided(math.sqrt(len(scores) - len(given) - 3) * math.atanh(r))


def _tests(scores: Tensor, i: int, j: int, given: Sequence[int]) -> dict[str, float]:
    """What the usual mistakes give."""
    from scipy.stats import norm, t

    x, n, size = scores.double(), len(scores), len(given)
    r, plain = _partial(scores, i, j, given), _partial(scores, i, j, ())
    every = _partial(scores, i, j, [k for k in range(scores.shape[1]) if k not in (i, j)])
    origin = _r(_left(x, i, given, False), _left(x, j, given, False))
    one_side = _r(_left(x, i, given), x[:, j]), _r(x[:, i], _left(x, j, given))
    root = math.sqrt(n - size - 3)
    z = root * math.atanh(r)

    def p(value: float, freedom: int = n - size - 3) -> float:
        return _two_sided(math.sqrt(freedom) * math.atanh(value))

    return {
        "given is not used: this is the plain correlation.": p(plain),
        "given is not used: this is the plain correlation, with n - 3.": p(plain, n - 3),
        "all other columns were held fixed; only those in given are.": p(every),
        "given was taken out of one column only; take it out of both.": p(one_side[0]),
        "given was taken out of one column only; take it out of both (here of j).": p(one_side[1]),
        "the scores have means other than 0: the regression on given needs an intercept.": p(
            origin
        ),
        "each column in given costs a degree of freedom: sqrt(n - |S| - 3).": p(r, n - 3),
        "the 3 is missing: sqrt(n - |S| - 3).": p(r, n - size),
        "only 2 were taken off; Fisher's z has sqrt(n - |S| - 3).": p(r, n - size - 2),
        "the root is missing: sqrt(n - |S| - 3).": _two_sided(root * z),
        "artanh is missing: r itself is not normal.": _two_sided(root * r),
        "artanh is half of log((1 + r) / (1 - r)).": _two_sided(2 * z),
        "tanh was taken; it is its inverse, artanh.": _two_sided(root * math.tanh(r)),
        "this is one-sided; a correlation below 0 counts as well: double it.": norm.sf(abs(z)),
        "without the size of z a correlation below 0 gets the wrong p.": 2 * norm.sf(z),
        "this is one-sided and without the size of z.": norm.sf(z),
        "this is 1 - p: a small p speaks for an edge.": 1 - _two_sided(z),
        "this is z; return its p value.": z,
        "this is the size of z; return its p value.": abs(z),
        "this is the partial correlation; return its p value.": r,
        "this is the t test of a correlation of residuals, as pearsonr does it: it does not know "
        "what given has cost. Take Fisher's z.": 2
        * t.sf(abs(r) * math.sqrt((n - 2) / (1 - r * r)), n - 2),
    }


def _require_invariances(
    fn: Independence, scores: Tensor, found: float, given: Sequence[int]
) -> None:
    units = torch.tensor([2.0, 0.5, -1.0, 3.0, -4.0])
    same = {
        "i and j in each other's place must give the same p.": (scores, 2, 0, given),
        "another order of given must give the same p.": (scores, 0, 2, given[::-1]),
        "other units of the scores changed p.": (scores * units, 0, 2, given),
        "a constant added to the scores changed p.": (scores + units, 0, 2, given),
    }
    for message, args in same.items():
        require(abs(number(fn, *args) - found) < 1e-4, message)


def _require_planted(fn: Independence) -> None:
    """a -> b -> c, and a -> d <- e, with noise that is uncorrelated in the rows themselves."""
    a, u, w, e, v = orthogonal(400, 5, seed=5).T
    b = a + u
    scores = torch.stack([a, b, b + w, a + e + v, e], 1).float()
    small = "must be nearly 0"
    for i, j, given, is_small, message in (
        (0, 2, (), True, f"the two ends of a chain go together: p {small}."),
        (0, 2, (1,), False, "the middle of a chain separates its ends: p must be nearly 1."),
        (0, 4, (), False, "two independent causes: p must be nearly 1."),
        (0, 4, (3,), True, f"a common effect that is held fixed joins its causes: p {small}."),
    ):
        p = number(fn, scores, i, j, given)
        require(p < 1e-3 if is_small else p > 0.99, message)
