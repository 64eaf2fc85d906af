"""Check for the exercise on dead latents: the loss that revives them.

Chapter: ``book/sae.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.teaching.checks.common import call, error, noise, number, passed, require
from steerlib.teaching.checks.sparsity import at_largest, kept

Revive = Callable[
    [
        Float[Tensor, "tokens d"],
        Float[Tensor, "tokens n"],
        Float[Tensor, "n d"],
        Bool[Tensor, " n"],
        int,
    ],
    Float[Tensor, ""],
]


def test_auxiliary_loss(fn: Revive) -> None:
    """``auxiliary_loss(left, inputs, decoder, is_dead, k)``: dead latents rebuild what is left."""
    left, inputs, decoder = noise(5, 3), 0.5 + noise(5, 6, seed=1), noise(6, 3, seed=2)
    is_dead = torch.tensor([True, False, True, True, False, True])
    before = [x.clone() for x in (left, inputs, decoder, is_dead)]
    require(
        getattr(call(fn, left, inputs, decoder, is_dead, 2), "shape", None) not in ((5,), (5, 3)),
        "this is one number per token or coordinate; return one loss.",
    )
    found = number(fn, left, inputs, decoder, is_dead, 2)
    require(
        all(map(torch.equal, before, (left, inputs, decoder, is_dead))),
        "an argument was changed in place; work on new tensors.",
    )
    for message, wrong in _revive_mistakes(left, inputs, decoder, is_dead).items():
        require(not math.isclose(found, wrong, abs_tol=1e-5), message)
    expected = _revive(left, inputs, decoder, is_dead, 2)
    require(
        math.isclose(found, float(expected), abs_tol=1e-5),
        "this is not the mean over tokens of ||left - z D||^2 with k dead latents.",
    )
    _require_few_dead(fn, left, inputs, decoder, is_dead)
    _require_constant_task(fn, left, inputs, decoder, is_dead)
    passed("auxiliary_loss")


def _revive(left: Tensor, inputs: Tensor, decoder: Tensor, is_dead: Tensor, k: int) -> Tensor:
    rebuilt = kept(inputs[:, is_dead], k) @ decoder[is_dead]
    return (left - rebuilt).square().sum(1).mean()


def _revive_mistakes(
    left: Tensor, inputs: Tensor, decoder: Tensor, is_dead: Tensor
) -> dict[str, float]:
    """What the usual mistakes give at k = 2."""
    everyone, loss = torch.ones_like(is_dead), _revive(left, inputs, decoder, is_dead, 2)
    first = kept(inputs, 2) * is_dead
    signed = at_largest(inputs[:, is_dead], inputs[:, is_dead]) @ decoder[is_dead]
    gap = left - kept(inputs[:, is_dead], 2) @ decoder[is_dead]
    wrong = {
        "the living latents were used; the dead ones rebuild what is left.": (
            _revive(left, inputs, decoder, ~is_dead, 2)
        ),
        "all latents were used; leave the living ones out.": (
            _revive(left, inputs, decoder, everyone, 2)
        ),
        "the k largest were chosen among all latents; choose among the dead.": (
            (left - first @ decoder).square().sum(1).mean()
        ),
        "all dead latents were used; per token the k with the largest inputs.": (
            _revive(left, inputs, decoder, is_dead, int(is_dead.sum()))
        ),
        "inputs below 0 were used: ReLU is missing.": (left - signed).square().sum(1).mean(),
        "nothing was rebuilt: this is the size of what is left.": left.square().sum(1).mean(),
        "the sign is flipped: z D should equal what is left.": (
            (2 * left - gap).square().sum(1).mean()
        ),
        "this is the mean over the coordinates as well; sum over them.": gap.square().mean(),
        "this is the sum over the tokens; take the mean.": gap.square().sum(),
        "the square is missing.": gap.norm(dim=1).mean(),
        "this was divided by the size of what is left.": loss / left.square().sum(1).mean(),
    }
    return {message: float(value) for message, value in wrong.items()}


def _require_few_dead(
    fn: Revive, left: Tensor, inputs: Tensor, decoder: Tensor, is_dead: Tensor
) -> None:
    """Early in a run none is dead, later fewer than k."""
    try:
        none = number(fn, left, inputs, decoder, torch.zeros_like(is_dead), 2)
        few = number(fn, left, inputs, decoder, is_dead, 6)
    except (RuntimeError, IndexError):
        raise error(
            "fewer dead latents than k, or none, must work: keep as many as there are."
        ) from None
    require(none == 0, "with no dead latent there is nothing to revive: the loss is 0.")
    require(
        math.isclose(few, float(_revive(left, inputs, decoder, is_dead, 4)), abs_tol=1e-5),
        "with fewer dead latents than k all dead ones are used.",
    )


def _require_constant_task(
    fn: Revive, left: Tensor, inputs: Tensor, decoder: Tensor, is_dead: Tensor
) -> None:
    """The living must not be rewarded for leaving something that the dead can rebuild."""
    with torch.enable_grad():
        leaves = [x.clone().requires_grad_() for x in (left, inputs, decoder)]
        loss = call(fn, *leaves, is_dead, 2)
        require(
            isinstance(loss, Tensor) and loss.requires_grad,
            "the loss has lost its gradient: return a tensor, without float() or .item().",
        )
        of_left, of_inputs, of_decoder = torch.autograd.grad(loss, leaves, allow_unused=True)
    require(
        of_left is None or not bool(of_left.any()),
        "a gradient passes into what is left; it is the task of the dead, a constant: detach it.",
    )
    require(
        of_inputs is not None and bool(of_inputs.any()),
        "no gradient reaches the inputs of the dead latents: only they can be revived.",
    )
    require(
        of_decoder is not None and bool(of_decoder.any()),
        "no gradient reaches the decoder rows of the dead latents.",
    )
