"""Check for the exercise on a graph-adjusted direction: along what the parents leave of a value.

Chapter: ``book/values.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.teaching.checks.common import call, close, noise, passed, require, tensor
from steerlib.teaching.checks.independence import orthogonal

Direction = Callable[
    [Float[Tensor, "roles d"], Float[Tensor, "roles values"], int, Sequence[int]],
    Float[Tensor, " d"],
]


def test_residual_direction(fn: Direction) -> None:
    """``residual_direction(h, scores, value, parents)``: along what parents do not explain."""
    h, scores, value, parents = _planted()
    before = h.clone(), scores.clone()
    _require_size(fn, h, scores, value, parents)
    found = tensor(fn, h, scores, value, parents, shape=(6,))
    require(
        close(h, before[0]) and close(scores, before[1]), "h or the scores were changed in place."
    )
    for message, wrong in _directions(h, scores, value, parents).items():
        require(not _near(found, wrong), message)
    _require_sameness(fn, found)
    right = _along(h, left_of(scores, value, parents))
    require(
        _near(found, right),
        "this is not Cov(h, r) / sd(r), with r what the parents leave of the score.",
    )
    alone = _along(h, left_of(scores, 0, ()))
    require(
        _near(tensor(fn, h, scores, 0, (), shape=(6,)), alone),
        "a value without parents must give the plain direction.",
    )
    _require_effects(fn)
    passed("residual_direction")


WEIGHTS = torch.tensor(  # of the five values of `_planted`: [effect, cause]
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.9, -0.7, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.8, 0.0, 0.0],
        [0.0, 0.6, -0.5, 0.0, 0.0],
    ]
)


def _planted(roles: int = 60) -> tuple[Tensor, Tensor, int, tuple[int, ...]]:
    """0 and 1 cause 2, which causes 3 and, with 1, 4; h is linear in the values and in noise."""
    u = orthogonal(roles, 8, seed=7)
    total = torch.linalg.inv(torch.eye(5) - WEIGHTS).double()
    scores = u[:, :5] @ total.T
    h = scores @ noise(5, 6, seed=8).double() + 0.3 * u[:, 5:] @ noise(3, 6, seed=9).double() + 2.0
    units = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5])
    means = torch.tensor([2.0, -1.0, 1.5, 0.5, -3.0])
    return h.float(), (scores * units + means).float(), 2, (0, 1)


def left_of(
    scores: Tensor, value: int, others: Sequence[int], *, intercept: bool = True
) -> Float[Tensor, " roles"]:
    """What the others leave of a score, by least squares."""
    x, own = scores[:, list(others)].double(), scores[:, value].double()
    if intercept:
        x, own = x - x.mean(0), own - own.mean()
    return own - x @ torch.linalg.pinv(x) @ own


def _along(h: Tensor, r: Tensor) -> Float[Tensor, " d"]:
    """Cov(h, r) / sd(r)."""
    h, r = h.double(), r.double() - r.double().mean()
    return (r @ h / len(r) / r.square().mean().sqrt()).float()


def _near(a: Tensor, b: Tensor) -> bool:
    """Equal up to whether n or n - 1 is under a mean."""
    return bool((a - b).norm() < 0.015 * b.norm())


def _require_size(
    fn: Direction, h: Tensor, scores: Tensor, value: int, parents: Sequence[int]
) -> None:
    shape = getattr(call(fn, h, scores, value, parents), "shape", None)
    require(shape != (len(h),), "this is one number per role, the residual; the direction has d.")
    require(shape != (len(h), h.shape[1]), "this is one row per role; a direction has d numbers.")


def _directions(h: Tensor, scores: Tensor, value: int, parents: Sequence[int]) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    r = left_of(scores, value, parents)
    right, plain = _along(h, r), left_of(scores, value, ())
    every = [k for k in range(scores.shape[1]) if k != value]
    z = scores.double() - scores.double().mean(0)
    raw = left_of(scores, value, parents, intercept=False)
    half = (h[r > r.median()].mean(0) - h[r <= r.median()].mean(0)) / 2
    beta = torch.linalg.pinv(z[:, list(parents)]) @ z[:, value]
    partial = (
        torch.linalg.pinv(torch.cat([z[:, [value]], z[:, every]], 1)) @ (h - h.mean(0)).double()
    )
    return {
        "parents are not used: this is the plain direction, along all that goes with the value.": (
            _along(h, plain)
        ),
        "all other values were taken out: what is left of this value then moves no other one. "
        "Take out its parents only.": _along(h, left_of(scores, value, every)),
        "its effects were taken out; take out its parents.": _along(
            h, left_of(scores, value, (3, 4))
        ),
        "only the first parent was taken out.": _along(h, left_of(scores, value, parents[:1])),
        "only the last parent was taken out.": _along(h, left_of(scores, value, parents[1:])),
        "this is along what the parents explain; take it away from the score.": _along(
            h, plain - r
        ),
        "the sign is flipped: the direction must raise the value.": -right,
        "the parents were added to the score; take them away.": _along(
            h, plain + z[:, list(parents)] @ beta
        ),
        "the regression has no intercept: the scores have means other than 0.": _along(h, raw),
        "the regression has no intercept, and the residual still has a mean.": (
            raw @ h.double() / len(h) / raw.std()
        ).float(),
        "neither h nor the score is centred: the mean of h came in.": (
            (r + scores[:, value].double().mean()) @ h.double() / len(h) / r.std()
        ).float(),
        "this is the covariance; divide by the deviation of the residual.": right * float(r.std()),
        "this is per unit of the score; multiply by the deviation of the residual.": (
            right / float(r.std())
        ),
        "this was divided by the deviation of the score; take that of the residual.": (
            right * float(r.std() / plain.std())
        ),
        "this is a sum over the roles; take the mean.": right * len(h),
        "this has length 1; its length says how far h moves per deviation.": right / right.norm(),
        "this is a correlation with each coordinate; do not divide by the deviation of h.": (
            right / h.std(0)
        ),
        "this compares two halves of the roles; take the slope.": half,
        "these are coefficients of h on all values at once.": partial[0].float() * float(r.std()),
    }


def _require_sameness(fn: Direction, found: Tensor) -> None:
    """What must not matter."""
    h, scores, value, parents = _planted()
    moved = scores.clone()
    moved[:, value] += 3 * scores[:, 0] - scores[:, 1]
    units = torch.tensor([2.0, 0.5, 4.0, 0.1, 3.0])
    same = {
        "more of the parents in the score changed the direction; only what they leave counts.": (
            h, moved, value, parents
        ),
        "other units of the scores changed the direction.": (h, scores * units, value, parents),
        "a constant added to the scores changed the direction.": (h, scores + 5, value, parents),
        "a constant added to h changed the direction.": (h + 7, scores, value, parents),
        "another order of the parents changed the direction.": (h, scores, value, parents[::-1]),
    }  # fmt: skip
    for message, args in same.items():
        require(bool((tensor(fn, *args, shape=(6,)) - found).norm() < 1e-3 * found.norm()), message)


def _require_effects(fn: Direction) -> None:
    """Where the scores are read off h, the direction moves them as do(value) would."""
    u = orthogonal(60, 5, seed=11)
    total = torch.linalg.inv(torch.eye(5) - WEIGHTS)
    scores = (u @ total.double().T).float()
    turn = orthogonal(6, 5, seed=12).float()[:, :5]
    h = scores @ turn.T  # so that h @ turn / 6 is the scores
    moved = tensor(fn, h, scores, 2, (0, 1), shape=(6,)) @ turn / 6
    require(bool(moved[2] > 0), "the value itself must rise.")
    require(
        bool((moved / moved[2] - total[:, 2]).abs().max() < 1e-3),
        "side effects, per effect on the value itself, must be the total effects of the model.",
    )
