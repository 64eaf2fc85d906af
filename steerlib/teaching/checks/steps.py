"""Checks for the exercises on how scalars are learned: the first gradient, the step to exact zeros.

Chapter: ``book/scaling.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.teaching.checks.common import call, close, noise, passed, require, tensor

Gradient = Callable[
    [Float[Tensor, "batch pos d"], Float[Tensor, "batch pos d"]], Float[Tensor, " pos"]
]
Prox = Callable[[Float[Tensor, " n"], Float[Tensor, " n"], float], Float[Tensor, " n"]]
Loss = Callable[[Float[Tensor, "batch pos d"]], Float[Tensor, " batch"]]


def test_first_gradient(fn: Gradient) -> None:
    """``first_gradient(h, gradient)``: d loss / d alpha of each position where alpha is 0."""
    h = noise(3, 4, 5) + 0.5
    r, s = noise(2, 20, seed=1) / 3

    def loss(x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ r) + (x.flatten(1) @ s).square()

    gradient = _gradient(loss, h)
    _require_one_per_position(fn, h, gradient)
    found = tensor(fn, h, gradient, shape=(4,))
    for message, wrong in _attributions(h, gradient).items():
        require(not close(found, wrong), message)
    # What LayerNorm does: the length of each activation is divided out.
    free = _gradient(lambda x: loss(x / x.norm(dim=-1, keepdim=True)), h)
    require(
        bool(tensor(fn, h, free, shape=(4,)).abs().max() < 1e-4),
        "a loss that does not depend on the length of h must give 0.",
    )
    require(
        close(tensor(fn, 4 * h, gradient / 4, shape=(4,)), found),
        "h in other units must change nothing: 4 h with a gradient of a quarter is the same.",
    )
    require(
        close(found, _by_autograd(loss, h)),
        "this is not the derivative of the mean loss with respect to alpha at alpha = 0.",
    )
    passed("first_gradient")


def _gradient(loss: Loss, h: Tensor) -> Tensor:
    with torch.enable_grad():
        x = h.clone().requires_grad_()
        return torch.autograd.grad(loss(x).sum(), x)[0]


def _by_autograd(loss: Loss, h: Tensor) -> Tensor:
    with torch.enable_grad():
        alpha = torch.zeros(h.shape[1], requires_grad=True)
        return torch.autograd.grad(loss((1 + alpha[:, None]) * h).mean(), alpha)[0]


def _require_one_per_position(fn: Gradient, h: Tensor, gradient: Tensor) -> None:
    shape = getattr(call(fn, h, gradient), "shape", None)
    messages = {
        (3, 4, 5): "this is one number per coordinate: sum over d, then take the mean over "
        "the prompts.",
        (4, 5): "this is one number per coordinate: alpha multiplies all of h, so sum over d.",
        (3, 4): "this is one number per prompt and position: take the mean over the prompts.",
        (3,): "this is one number per prompt; there is one alpha for each position.",
        (5,): "this is one number per coordinate; there is one alpha for each position.",
        (): "the positions were summed; there is one alpha for each position.",
    }
    for wrong, message in messages.items():
        require(shape != wrong, message)


def _attributions(h: Tensor, g: Tensor) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    product, inner = g * h, (g * h).sum(-1)
    lengths = g.norm(dim=-1) * h.norm(dim=-1)
    return {
        "the lengths were multiplied; take the inner product of gradient and h.": lengths.mean(0),
        "this is the cosine; the lengths of h and of the gradient count.": (inner / lengths).mean(
            0
        ),
        "h was brought to length 1; alpha multiplies h as it is.": (inner / h.norm(dim=-1)).mean(0),
        "the gradient was brought to length 1; keep its length.": (inner / g.norm(dim=-1)).mean(0),
        "the inner product was divided by the squared length of h.": (
            inner / h.square().sum(-1)
        ).mean(0),
        "h is not used: the gradient with respect to alpha is gradient . h.": g.sum(-1).mean(0),
        "h is not used: this is the length of the gradient.": g.norm(dim=-1).mean(0),
        "the gradient is not used.": h.norm(dim=-1).mean(0),
        "this is the sum over the prompts; take the mean.": inner.sum(0),
        "this is the mean over d; an inner product is a sum.": product.mean(-1).mean(0),
        "h and the gradient were averaged before they met; multiply prompt by prompt.": (
            h.mean(0) * g.mean(0)
        ).sum(-1),
        "the size of each product was taken; signs may cancel.": product.abs().sum(-1).mean(0),
        "the size of each prompt's value was taken; signs may cancel.": inner.abs().mean(0),
        "the size was taken; the sign says whether to strengthen or to weaken.": (
            inner.mean(0).abs()
        ),
        "the sign is flipped: this is the step, return the gradient.": -inner.mean(0),
        "the products were squared.": product.square().sum(-1).mean(0),
    }


def test_prox(fn: Prox) -> None:
    """``prox(alpha, step, lam)``: the step of the penalty lam |alpha|, exact zeros included."""
    alpha = torch.tensor([0.9, -0.8, 0.05, -0.03, 0.3, -0.35, 0.0, 0.12])
    step, lam = torch.tensor([0.2, 0.4, 0.3, 0.2, 1.0, 0.8, 0.5, 0.1]), 0.4
    before = alpha.clone(), step.clone()
    found = tensor(fn, alpha, step, lam, shape=(8,))
    require(
        close(alpha, before[0]) and close(step, before[1]),
        "alpha or step was changed in place; return a new tensor.",
    )
    for message, wrong in _shrunk(alpha, step, lam).items():
        require(not close(found, wrong), message)
    require(bool(found.isfinite().all()), "the result is not finite: 0 / 0 where alpha is 0.")
    small = alpha.abs() <= step * lam
    require(
        bool((found[small] == 0).all()),
        "entries with |alpha| up to step * lam must be 0 exactly, not nearly.",
    )
    still = tensor(fn, alpha, step, 0.0, shape=(8,))
    require(bool(still.isfinite().all()), "with lam = 0 the result is not finite: 0 / 0.")
    require(close(still, alpha), "with lam = 0 nothing may change.")
    require(
        close(tensor(fn, -alpha, step, lam, shape=(8,)), -found),
        "the other sign of alpha must give the other sign of the result.",
    )
    _require_least(found, alpha, step, lam)
    passed("prox")


def _shrunk(alpha: Tensor, step: Tensor, lam: float) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    t, sign = step * lam, alpha.sign()
    kept, less = alpha.abs() > t, (alpha.abs() - t).clamp(min=0)

    def soft(threshold: Tensor) -> Tensor:
        return sign * (alpha.abs() - threshold).clamp(min=0)

    return {
        "entries above the threshold were kept whole; they lose step * lam as well.": alpha * kept,
        "small entries jumped over 0 to the other sign; clamp what is left at 0.": alpha - t * sign,
        "the step is not used: entry i loses step[i] * lam.": soft(torch.full_like(t, lam)),
        "lam is not used: entry i loses step[i] * lam.": soft(step),
        "one step was used for all; entry i loses step[i] * lam.": soft(t.mean().expand(8)),
        "lam was divided by the step; multiply: a longer step takes more.": soft(lam / step),
        "entries grew; the penalty makes them smaller.": sign * (alpha.abs() + t),
        "entries below 0 were lost: shrink the size and keep the sign.": (alpha - t).clamp(min=0),
        "step * lam was taken from the value; take it from the size.": alpha - t,
        "the sign was lost: bring it back after the size has shrunk.": less,
        "alpha was multiplied by the size; multiply the size by the sign of alpha.": alpha * less,
        "this is what is taken away; return what is left.": torch.minimum(t, alpha.abs()) * sign,
        "this shrinks by a share, as for a penalty of squares; |alpha| takes the same from "
        "each size.": alpha * (1 - t),
        "this is the step for a penalty of squares; |alpha| takes the same from each size.": (
            alpha / (1 + t)
        ),
        "this is the step for a penalty of squares, 2 lam alpha; |alpha| takes the same from "
        "each size.": alpha / (1 + 2 * t),
        "half of step * lam was taken; take all of it.": soft(t / 2),
        "twice step * lam was taken.": soft(2 * t),
    }


def _require_least(found: Tensor, alpha: Tensor, step: Tensor, lam: float) -> None:
    """The definition of the proximal step: no other point has a smaller sum."""

    def total(a: Tensor) -> Tensor:
        return (a - alpha).square() / (2 * step) + lam * a.abs()

    for shift in (-0.1, -0.01, 0.01, 0.1):
        require(
            bool((total(found) <= total(found + shift) + 1e-7).all()),
            "this is not where (a - alpha)^2 / (2 step) + lam |a| is smallest.",
        )
