"""Checks for the exercises on hooks: editing a stream, positions, a fair control.

Chapter: ``book/hooks.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from steerlib.teaching.checks.common import call, close, noise, passed, require, solved, tensor

Edit = Callable[[Tensor], Tensor]
Hook = Callable[[nn.Module, Any, Any], Any]


class _Block(nn.Module):
    """Stands for a transformer block; returns a tensor, or a tuple as older libraries do."""

    def __init__(self, as_tuple: bool = False) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, x: Tensor) -> Any:
        y = x * 1.0
        return (y, "cache") if self.as_tuple else y


def _hooked(hook: Hook, x: Tensor, as_tuple: bool = False) -> Any:
    block = _Block(as_tuple)
    handle = block.register_forward_hook(hook)
    try:
        with solved("make_hook"):
            return block(x)
    finally:
        handle.remove()


def test_make_hook(fn: Callable[[Tensor, float], Hook]) -> None:
    """``make_hook(direction, strength)`` returns a forward hook that adds their product."""
    x, v = noise(2, 3, 4), 3 * noise(4, seed=1)
    hook = call(fn, v, 2.0)
    require(callable(hook), "make_hook must return a function hook(module, inputs, output).")
    y = _hooked(hook, x)
    require(isinstance(y, Tensor) and y.shape == x.shape, "the hook changed the output's shape.")
    change = y - x
    require(
        bool(change.abs().max() > 0),
        "the output did not change. A hook must return the new output.",
    )
    require(
        not close(change, (-2 * v).expand_as(x)),
        "the stream moved against the direction: the sign is flipped.",
    )
    require(
        not close(y, (2 * v).expand_as(x)),
        "the hook replaces the activation; it should add to it.",
    )
    require(
        bool(change[:, 0].abs().max() > 0),
        "only some positions changed; every position should be steered.",
    )
    require(
        not close(change, (2 * v / v.norm()).expand_as(x)),
        "the direction was normalized; keep its raw length.",
    )
    require(close(change, (2 * v).expand_as(x)), "the change is not strength * direction.")
    require(close(_hooked(call(fn, v, 0.0), x), x), "strength 0 must leave the output as it is.")
    output = x.clone()
    hook(_Block(), (x,), output)
    require(close(output, x), "the hook writes into the tensor in place; return a new one.")
    pair = _hooked(hook, x, as_tuple=True)
    require(
        isinstance(pair, tuple) and len(pair) == 2 and pair[1] == "cache",
        "some blocks return a tuple (hidden, ...): keep the rest of the tuple.",
    )
    require(close(pair[0], x + 2 * v), "in a tuple only the first item is to be steered.")
    passed("make_hook")


def test_difference_in_means(fn: Callable[[Tensor, Tensor], Tensor]) -> None:
    """``difference_in_means(positive, negative)``: mean of the first minus mean of the second."""
    positive = noise(6, 4) + 2
    negative = noise(3, 4, seed=1) - 1
    v = tensor(fn, positive, negative, shape=(4,))
    swapped = tensor(fn, negative, positive, shape=(4,))
    expected = positive.mean(0) - negative.mean(0)
    require(not close(v, -expected), "the sign is flipped: positive minus negative.")
    require(
        not close(v, expected / expected.norm()),
        "the direction was normalized; keep its raw length.",
    )
    require(
        not close(v, positive.sum(0) - negative.sum(0)),
        "these are sums; divide each by the number of its texts.",
    )
    both = torch.cat([positive, negative]).mean(0)
    require(
        not close(v, positive.mean(0) - both),
        "the positives were compared with all texts; compare them with the negatives.",
    )
    require(close(v, -swapped), "swapping the two classes must flip the sign.")
    shifted = tensor(fn, positive + 5, negative + 5, shape=(4,))
    require(close(v, shifted), "adding the same vector to all texts must change nothing.")
    doubled = tensor(fn, torch.cat([positive, positive]), negative, shape=(4,))
    require(close(v, doubled), "repeating every positive text must change nothing.")
    require(close(v, expected), "this is not the difference of the two means.")
    passed("difference_in_means")


def test_sequential(fn: Callable[[Tensor, list[tuple[float, Edit]]], Tensor]) -> None:
    """``sequential(h, edits)``: apply ``(strength, delta)`` pairs in order, the first one first."""
    h, d = noise(2, 4), noise(4, seed=1)
    add: tuple[float, Edit] = (2.0, lambda x: d.expand_as(x))
    halve: tuple[float, Edit] = (1.0, lambda x: -0.5 * x)
    before = h.clone()
    require(close(tensor(fn, h, [], shape=(2, 4)), h), "no edits must leave h as it is.")
    both = tensor(fn, h, [halve, halve], shape=(2, 4))
    require(close(h, before), "the input was changed in place; work on a new tensor.")
    require(
        not close(both, h + 2 * -0.5 * h),
        "both edits read the same h: this is the simultaneous form.",
    )
    once = tensor(fn, h, [halve], shape=(2, 4))
    require(not close(once, -0.5 * h), "an edit is a change: add it to h, do not replace h by it.")
    require(close(both, 0.25 * h), "halving twice must leave a quarter.")
    ordered = tensor(fn, h, [add, halve], shape=(2, 4))
    require(not close(ordered, 0.5 * h + 2 * d), "the order is reversed: first edit first.")
    require(not close(ordered, 0.5 * (h + d)), "the strength is not used.")
    require(close(ordered, 0.5 * (h + 2 * d)), "each edit should read what the last one left.")
    passed("sequential")


def test_steered_positions(fn: Callable[[int, int, int], Bool[Tensor, " n_new"]]) -> None:
    """``steered_positions(n_past, n_new, n_prompt)``: the mask of ``last | generation``."""
    n_prompt, total = 5, 9
    whole = tensor(fn, 0, total, n_prompt, shape=(total,))
    require(whole.dtype == torch.bool, f"the mask has dtype {whole.dtype}, expected torch.bool.")
    expected = torch.arange(total) >= n_prompt - 1
    require(not bool(whole.all()), "all positions are steered; the prompt's beginning is not.")
    require(
        not bool((whole == (torch.arange(total) >= n_prompt)).all()),
        "the last prompt token is missing: the first new token is chosen there.",
    )
    require(
        int(whole.sum()) > 1,
        "only one position is steered: index -1 forgets the tokens generated before.",
    )
    prefill = tensor(fn, 0, n_prompt, n_prompt, shape=(n_prompt,))
    steps = [tensor(fn, past, 1, n_prompt, shape=(1,)) for past in range(n_prompt, total)]
    require(
        all(bool(step.all()) for step in steps),
        "with a cache the chunk starts at n_past, not at 0: generated tokens were missed.",
    )
    require(bool((whole == expected).all()), "steer positions n_prompt - 1 and later.")
    require(
        bool((torch.cat([prefill, *steps]) == whole).all()),
        "cached and uncached runs must steer the same positions.",
    )
    passed("steered_positions")


def test_random_control(fn: Callable[[Tensor, int], Float[Tensor, " d_model"]]) -> None:
    """``random_control(direction, seed)``: an isotropic random direction of the same length."""
    v = 7 * noise(64, seed=3)
    drawn = torch.stack([tensor(fn, v, seed, shape=(64,)) for seed in range(200)])
    again = tensor(fn, v, 0, shape=(64,))
    require(bool((again == drawn[0]).all()), "the same seed must give the same direction.")
    require(not close(drawn[0], drawn[1]), "two seeds gave the same direction: use the seed.")
    norms = drawn.norm(dim=-1)
    require(
        not close(norms, torch.ones(200)), "the length is 1; match the length of the direction."
    )
    require(close(norms / v.norm(), torch.ones(200)), "the length must be that of the direction.")
    cosine = drawn @ v / v.norm() ** 2
    require(bool(cosine.abs().mean() < 0.3), "the control points along the direction itself.")
    # The mean of 200 isotropic directions has length about 1/sqrt(200) = 0.07 of each of them.
    bias = drawn.mean(0).norm() / v.norm()
    require(bool(bias < 0.2), "some directions are preferred; draw from a normal, not from [0, 1).")
    passed("random_control")
