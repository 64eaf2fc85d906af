"""Checks for the exercises on activations that leave few latents: TopK and JumpReLU.

Chapter: ``book/sae.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.teaching.checks.common import call, close, noise, passed, require, tensor

TopK = Callable[[Float[Tensor, "... n"], int], Float[Tensor, "... n"]]
Jump = Callable[[Float[Tensor, "... n"], Float[Tensor, " n"]], Float[Tensor, "... n"]]


def test_topk(fn: TopK) -> None:
    """``topk(x, k)``: ReLU, and of that the k largest of each token; all others are 0."""
    # A cube, so that a maximum along the wrong dimension gives a result.
    x = noise(4, 4, 4)
    before = x.clone()
    result = call(fn, x, 2)
    require(
        not isinstance(result, torch.return_types.topk)
        and getattr(result, "shape", None) != (4, 4, 2),
        "these are the k values alone; return all latents, each value at its own latent.",
    )
    found = tensor(fn, x, 2, shape=(4, 4, 4))
    require(close(x, before), "x was changed in place; return a new tensor.")
    for message, wrong in _topk_mistakes(x).items():
        require(not close(found, wrong), message)
    require(close(found, kept(x, 2)), "this is not ReLU(x) with all but the k largest set to 0.")
    require(
        close(tensor(fn, x, 4, shape=(4, 4, 4)), x.relu()),
        "with k = n nothing is dropped: this must be ReLU.",
    )
    _require_at_most_k(fn)
    token = torch.tensor([1.0, 3.0, -1.0, 0.5, 2.0])
    require(
        close(tensor(fn, token, 2, shape=(5,)), kept(token, 2)),
        "one token of shape (n,) must work as well: take the last dimension.",
    )
    _require_gradient(fn, x, 2)
    passed("topk")


def kept(x: Tensor, k: int, dim: int = -1, largest: bool = True) -> Tensor:
    """ReLU(x), all but the k largest set to 0."""
    z = x.relu()
    found = z.topk(k, dim=dim, largest=largest)
    return torch.zeros_like(z).scatter(dim, found.indices, found.values)


def at_largest(x: Tensor, order: Tensor) -> Tensor:
    """x at the two largest of `order` in each token."""
    index = order.expand_as(x).topk(2).indices
    return torch.zeros_like(x).scatter(-1, index, x.gather(-1, index))


def _topk_mistakes(x: Tensor) -> dict[str, Tensor]:
    """What the usual mistakes give at k = 2."""
    n, z = x.shape[-1], x.relu()
    first = torch.cat([z.topk(2).values, torch.zeros_like(x)], -1)[..., :n]
    return {
        "all latents above 0 were kept; keep the k largest.": z,
        "values below 0 were kept: ReLU is missing.": at_largest(x, x),
        "the k largest sizes were kept; a value below 0 counts as 0.": at_largest(x, x.abs()),
        "a large value below 0 took one of the k places: ReLU comes before the choice.": (
            at_largest(x, x.abs()).relu()
        ),
        "the sign was lost: a value below 0 counts as 0.": kept(x.abs(), 2),
        "the k smallest were kept; keep the k largest.": kept(x, 2, largest=False),
        "k - 1 are kept: the k-th largest stays.": kept(x, 1),
        "k + 1 are kept.": kept(x, 3),
        "k are kept in the whole batch; each token keeps k.": kept(z.flatten(), 2).view_as(x),
        "k are kept per token on average (BatchTopK); here each token keeps k.": (
            kept(z.flatten(), 2 * n * n).view_as(x)
        ),
        "the k largest were taken over the positions; take them over the latents.": kept(x, 2, 1),
        "the k largest were taken over the prompts; take them over the latents.": kept(x, 2, 0),
        "the same latents were kept for all tokens; each token has its own.": (
            at_largest(z, z.mean((0, 1)))
        ),
        "these are 0 and 1; keep the values.": (kept(x, 2) > 0).float(),
        "the values stand in the first k places; each belongs at its own latent.": first,
        "the (k+1)-th value was taken off; the others keep their values.": (
            (z - z.topk(3).values[..., 2:]).relu()
        ),
    }


def _require_at_most_k(fn: TopK) -> None:
    """Three inputs share the second place."""
    x = torch.tensor([[1.0, 2.0, 1.0, 0.5, 1.0], [0.25, -1.0, 0.25, 0.25, 0.25]])
    found = tensor(fn, x, 2, shape=(2, 5))
    require(
        bool(((found > 0).sum(-1) <= 2).all()),
        "of equal inputs more than k were kept: a threshold at the k-th value keeps all of them.",
    )
    require(
        bool(((found > 0).sum(-1) == 2).all()),
        "of equal inputs too few were kept: k stay, no matter which.",
    )
    require(
        close(found.sum(-1), torch.tensor([3.0, 0.5])),
        "with equal inputs the values that are kept are not the k largest.",
    )


def test_jumprelu(fn: Jump) -> None:
    """``jumprelu(x, theta)``: x where it exceeds the threshold of its latent, elsewhere 0."""
    x, theta = 1.5 * noise(4, 4, 4), torch.tensor([0.8, 0.0, 0.3, 1.5])
    x[0, 0] = theta
    before = x.clone(), theta.clone()
    found = tensor(fn, x, theta, shape=(4, 4, 4))
    require(
        close(x, before[0]) and close(theta, before[1]),
        "x or theta was changed in place; return a new tensor.",
    )
    for message, wrong in _jump_mistakes(x, theta).items():
        require(not close(found, wrong), message)
    require(
        close(tensor(fn, x, 0 * theta, shape=(4, 4, 4)), x.relu()),
        "with theta = 0 this must be ReLU, also where x is below 0.",
    )
    require(
        close(tensor(fn, 9 + x, theta, shape=(4, 4, 4)), 9 + x),
        "where x is far above theta it must be kept as it is.",
    )
    require(close(found, x.where(x > theta, 0.0)), "this is not x where x > theta, elsewhere 0.")
    require(
        close(tensor(fn, x[1, 0], theta, shape=(4,)), found[1, 0]),
        "one token of shape (n,) must get what it gets in a batch.",
    )
    _require_gradient(fn, x, theta)
    passed("jumprelu")


def _jump_mistakes(x: Tensor, theta: Tensor) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    zero = torch.zeros(())
    return {
        "theta was taken off; what exceeds it is kept whole.": (x - theta).relu(),
        "theta was taken off, and from values below 0 as well: keep x, and only above theta.": (
            x.sign() * (x.abs() - theta).relu()
        ),
        "theta is not used: this is ReLU.": x.relu(),
        "x equal to theta is not above it: use >, not >=.": x.where(x >= theta, zero),
        "values below 0 were kept: compare x with theta, not the size of x.": (
            x.where(x.abs() > theta, zero)
        ),
        "the sign was lost: a value below 0 counts as 0.": x.abs().where(x.abs() > theta, zero),
        "below theta stands theta; it must be 0.": x.clamp(min=theta),
        "these are 0 and 1; keep the values.": (x > theta).float(),
        "what is below theta was kept; keep what is above.": x.where(x < theta, zero),
        "one threshold was used for all; each latent has its own.": x.where(x > theta.mean(), zero),
        "theta was compared along the positions; it belongs to the latents.": (
            x.where(x > theta[:, None], zero)
        ),
        "theta was compared along the prompts; it belongs to the latents.": (
            x.where(x > theta[:, None, None], zero)
        ),
        "theta is a threshold, not a factor.": (x * theta).relu(),
    }


def _require_gradient(fn: Callable[[Tensor, Any], Tensor], x: Tensor, argument: Any) -> None:
    """One through what is kept, nothing through the rest."""
    weight = noise(*x.shape, seed=3)
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        z = call(fn, leaf, argument)
        require(
            z.requires_grad,
            "the gradient is lost: no detach(), no .item(), no new tensor of numbers.",
        )
        (gradient,) = torch.autograd.grad((z * weight).sum(), leaf)
    stays = z.detach() > 0
    require(
        not bool(gradient[~stays].any()),
        "a gradient passes through latents that were not kept; it must pass through the kept only.",
    )
    require(
        close(gradient[stays], weight[stays]),
        "the gradient through a kept latent is not 1: its value is x itself.",
    )
