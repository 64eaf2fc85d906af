"""Checks for the exercise on what -v adds: odd and even parts of a margin, and two losses of them.

Chapter: ``book/bipo.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from steerlib.teaching.checks.common import call, close, noise, passed, require

Parts = Callable[[Float[Tensor, " n"], Float[Tensor, " n"]], Any]
Losses = Callable[[Float[Tensor, " n"], Float[Tensor, " n"], float], Any]


def test_odd_and_even(fn: Parts) -> None:
    """``odd_and_even(plus, minus)``: the parts of Delta that change their sign with v, and not."""
    plus, minus = noise(6, seed=1), noise(6, seed=2) - 0.5
    before = plus.clone(), minus.clone()
    odd, even = _two(fn, plus, minus)
    require(
        close(plus, before[0]) and close(minus, before[1]),
        "plus or minus was changed in place; work on new tensors.",
    )
    both, difference = (plus + minus) / 2, (plus - minus) / 2
    for message, wrong in {
        "the two are exchanged: return the odd part first; it is the half of the difference.": (
            both,
            difference,
        ),
        "both are twice too large: Delta(v) - Delta(-v) is two times the odd part.": (
            2 * difference,
            2 * both,
        ),
        "the sign of the odd part is flipped: Delta(v) is odd + even.": (-difference, both),
        "the sign of the even part is flipped: Delta(v) is odd + even.": (difference, -both),
        "these are Delta(v) and Delta(-v) themselves.": (plus, minus),
    }.items():
        require(not (close(odd, wrong[0]) and close(even, wrong[1])), message)
    require(close(odd + even, plus), "the parts do not add up to Delta(v).")
    require(close(even - odd, minus), "even - odd is not Delta(-v).")
    passed("odd_and_even")


def test_loss_from_parts(fn: Losses) -> None:
    """``loss_from_parts(odd, even, beta)``: the losses of DPO and of BiPO, for each pair."""
    odd, even, beta = 2 * noise(6, seed=4), 2 * noise(6, seed=5), 0.7
    before = odd.clone(), even.clone()
    dpo, bipo = _two(fn, odd, even, beta)
    require(
        close(odd, before[0]) and close(even, before[1]),
        "odd or even was changed in place; work on new tensors.",
    )
    right = -logsigmoid(beta * (odd + even))
    other = -logsigmoid(beta * (odd - even))
    require(
        not (close(bipo, right) and not close(dpo, right)),
        "the two are exchanged: return DPO's loss first.",
    )
    for message, wrong in _wrong_dpo(odd, even, beta).items():
        require(not close(dpo, wrong), message)
    require(close(dpo, right), "the first is not -log sigmoid(beta Delta(v)) of each pair.")
    for message, wrong in _wrong_bipo(odd, even, beta).items():
        require(not close(bipo, wrong), message)
    require(
        close(bipo, (right + other) / 2), "the second is not the mean of the losses of v and -v."
    )
    _require_parts(fn, odd, beta)
    passed("loss_from_parts")


def _wrong_dpo(odd: Tensor, even: Tensor, beta: float) -> dict[str, Tensor]:
    """What the usual mistakes give for v alone."""
    return {
        "DPO's loss uses odd - even; Delta(v) is odd + even.": -logsigmoid(beta * (odd - even)),
        "DPO's loss uses the odd part only; without -v nothing tells the parts apart.": -logsigmoid(
            beta * odd
        ),
        "the losses lack beta.": -logsigmoid(odd + even),
        "DPO's loss is the sigmoid itself; take minus its logarithm.": (
            beta * (odd + even)
        ).sigmoid(),
        "the sign of DPO's loss is flipped.": logsigmoid(beta * (odd + even)),
    }


def _wrong_bipo(odd: Tensor, even: Tensor, beta: float) -> dict[str, Tensor]:
    """What the usual mistakes give for both signs."""
    plus, minus = -logsigmoid(beta * (odd + even)), -logsigmoid(beta * (odd - even))
    return {
        "for -v this uses Delta(-v) = even - odd; the sign in front makes it odd - even.": (
            (plus - logsigmoid(beta * (even - odd))) / 2
        ),
        "the second is DPO's loss again; add that of -v.": plus,
        "the second is the loss of -v alone; take the mean of both.": minus,
        "the two signs are added up; take the mean, so that it equals DPO's where even is 0.": (
            plus + minus
        ),
        "even is left out of BiPO's loss; it cancels in the mean of margins, and not in the mean "
        "of their losses.": -logsigmoid(beta * odd),
    }


def _require_parts(fn: Losses, odd: Tensor, beta: float) -> None:
    """DPO gains from an even part of Delta, BiPO is best without one."""
    grid = torch.linspace(-400, 400, 9)
    found = [torch.stack(_two(fn, odd, torch.full_like(odd, float(e)), beta)) for e in grid]
    dpo, bipo = torch.stack(found, 1)
    require(
        bool(torch.stack([dpo, bipo]).isfinite().all()),
        "with a large even part a loss is not finite; take torch.nn.functional.logsigmoid.",
    )
    require(bool((dpo.diff(dim=0) <= 0).all()), "DPO's loss must fall as the even part grows.")
    require(close(bipo, bipo.flip(0)), "BiPO's loss must be the same for even and -even.")
    require(bool((bipo[4] <= bipo).all()), "BiPO's loss must be smallest where even is 0.")
    require(close(bipo[4], dpo[4]), "where even is 0, the two losses must be equal.")


def _two(fn: Callable[..., Any], *args: Any) -> tuple[Tensor, Tensor]:
    """What the reader's function returns, which must be two tensors with one number per pair."""
    found, n = call(fn, *args), len(args[0])
    require(
        isinstance(found, tuple | list)
        and len(found) == 2
        and all(isinstance(part, Tensor) and part.shape == (n,) for part in found),
        f"{fn.__name__} returns two tensors of shape ({n},), one number for each pair.",
    )
    first, second = found
    return first, second
