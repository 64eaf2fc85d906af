"""Checks for the exercises: they test behavior and name the mistake.

Each ``test_<name>(fn)`` calls the reader's function on small tensors. It prints a line when all is
well; when it is not, it raises an AssertionError that names the most likely mistake. No check
compares with a stored number of the author. Chapter: ``book/hooks.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Edit = Callable[[Tensor], Tensor]
Hook = Callable[[nn.Module, Any, Any], Any]


def _error(message: str) -> AssertionError:
    """An error that Jupyter shows as one line: the stack trace would only show this file."""
    error = AssertionError(message)
    error._render_traceback_ = lambda: [f"Not yet: {message}"]  # type: ignore[attr-defined]
    return error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise _error(message)


@contextmanager
def _solved(name: str) -> Iterator[None]:
    """An unsolved stub gets a message instead of a stack trace."""
    try:
        yield
    except NotImplementedError:
        raise _error(f"{name} is still the stub; write its body.") from None


def _call(fn: Callable[..., Any], *args: Any) -> Any:
    """What the reader's function returns."""
    with _solved(fn.__name__):
        result = fn(*args)
    _require(result is not ..., f"{fn.__name__} returned an ellipsis; write its body.")
    return result


def _tensor(fn: Callable[..., Any], *args: Any, shape: tuple[int, ...]) -> Tensor:
    result = _call(fn, *args)
    _require(
        isinstance(result, Tensor),
        f"{fn.__name__} returned {type(result).__name__}, expected a tensor. Is a return missing?",
    )
    _require(
        tuple(result.shape) == shape,
        f"{fn.__name__} returned shape {tuple(result.shape)}, expected {shape}.",
    )
    return result


def _close(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, atol=1e-5, rtol=1e-5))


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _passed(name: str) -> None:
    print(f"{name}: all checks passed.")


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
        with _solved("make_hook"):
            return block(x)
    finally:
        handle.remove()


def test_make_hook(fn: Callable[[Tensor, float], Hook]) -> None:
    """``make_hook(direction, strength)`` returns a forward hook that adds their product."""
    x, v = _noise(2, 3, 4), 3 * _noise(4, seed=1)
    hook = _call(fn, v, 2.0)
    _require(callable(hook), "make_hook must return a function hook(module, inputs, output).")
    y = _hooked(hook, x)
    _require(isinstance(y, Tensor) and y.shape == x.shape, "the hook changed the output's shape.")
    change = y - x
    _require(
        bool(change.abs().max() > 0),
        "the output did not change. A hook must return the new output.",
    )
    _require(
        not _close(change, (-2 * v).expand_as(x)),
        "the stream moved against the direction: the sign is flipped.",
    )
    _require(
        not _close(y, (2 * v).expand_as(x)),
        "the hook replaces the activation; it should add to it.",
    )
    _require(
        bool(change[:, 0].abs().max() > 0),
        "only some positions changed; every position should be steered.",
    )
    _require(
        not _close(change, (2 * v / v.norm()).expand_as(x)),
        "the direction was normalized; keep its raw length.",
    )
    _require(_close(change, (2 * v).expand_as(x)), "the change is not strength * direction.")
    _require(_close(_hooked(_call(fn, v, 0.0), x), x), "strength 0 must leave the output as it is.")
    output = x.clone()
    hook(_Block(), (x,), output)
    _require(_close(output, x), "the hook writes into the tensor in place; return a new one.")
    pair = _hooked(hook, x, as_tuple=True)
    _require(
        isinstance(pair, tuple) and len(pair) == 2 and pair[1] == "cache",
        "some blocks return a tuple (hidden, ...): keep the rest of the tuple.",
    )
    _require(_close(pair[0], x + 2 * v), "in a tuple only the first item is to be steered.")
    _passed("make_hook")


def test_difference_in_means(fn: Callable[[Tensor, Tensor], Tensor]) -> None:
    """``difference_in_means(positive, negative)``: mean of the first minus mean of the second."""
    positive = _noise(6, 4) + 2
    negative = _noise(3, 4, seed=1) - 1
    v = _tensor(fn, positive, negative, shape=(4,))
    swapped = _tensor(fn, negative, positive, shape=(4,))
    expected = positive.mean(0) - negative.mean(0)
    _require(not _close(v, -expected), "the sign is flipped: positive minus negative.")
    _require(
        not _close(v, expected / expected.norm()),
        "the direction was normalized; keep its raw length.",
    )
    _require(
        not _close(v, positive.sum(0) - negative.sum(0)),
        "these are sums; divide each by the number of its texts.",
    )
    both = torch.cat([positive, negative]).mean(0)
    _require(
        not _close(v, positive.mean(0) - both),
        "the positives were compared with all texts; compare them with the negatives.",
    )
    _require(_close(v, -swapped), "swapping the two classes must flip the sign.")
    shifted = _tensor(fn, positive + 5, negative + 5, shape=(4,))
    _require(_close(v, shifted), "adding the same vector to all texts must change nothing.")
    doubled = _tensor(fn, torch.cat([positive, positive]), negative, shape=(4,))
    _require(_close(v, doubled), "repeating every positive text must change nothing.")
    _require(_close(v, expected), "this is not the difference of the two means.")
    _passed("difference_in_means")


def test_sequential(fn: Callable[[Tensor, list[tuple[float, Edit]]], Tensor]) -> None:
    """``sequential(h, edits)``: apply ``(strength, delta)`` pairs in order, the first one first."""
    h, d = _noise(2, 4), _noise(4, seed=1)
    add: tuple[float, Edit] = (2.0, lambda x: d.expand_as(x))
    halve: tuple[float, Edit] = (1.0, lambda x: -0.5 * x)
    before = h.clone()
    _require(_close(_tensor(fn, h, [], shape=(2, 4)), h), "no edits must leave h as it is.")
    both = _tensor(fn, h, [halve, halve], shape=(2, 4))
    _require(_close(h, before), "the input was changed in place; work on a new tensor.")
    _require(
        not _close(both, h + 2 * -0.5 * h),
        "both edits read the same h: this is the simultaneous form.",
    )
    once = _tensor(fn, h, [halve], shape=(2, 4))
    _require(
        not _close(once, -0.5 * h), "an edit is a change: add it to h, do not replace h by it."
    )
    _require(_close(both, 0.25 * h), "halving twice must leave a quarter.")
    ordered = _tensor(fn, h, [add, halve], shape=(2, 4))
    _require(not _close(ordered, 0.5 * h + 2 * d), "the order is reversed: first edit first.")
    _require(not _close(ordered, 0.5 * (h + d)), "the strength is not used.")
    _require(_close(ordered, 0.5 * (h + 2 * d)), "each edit should read what the last one left.")
    _passed("sequential")


def test_steered_positions(fn: Callable[[int, int, int], Bool[Tensor, " n_new"]]) -> None:
    """``steered_positions(n_past, n_new, n_prompt)``: the mask of ``last | generation``."""
    n_prompt, total = 5, 9
    whole = _tensor(fn, 0, total, n_prompt, shape=(total,))
    _require(whole.dtype == torch.bool, f"the mask has dtype {whole.dtype}, expected torch.bool.")
    expected = torch.arange(total) >= n_prompt - 1
    _require(not bool(whole.all()), "all positions are steered; the prompt's beginning is not.")
    _require(
        not bool((whole == (torch.arange(total) >= n_prompt)).all()),
        "the last prompt token is missing: the first new token is chosen there.",
    )
    _require(
        int(whole.sum()) > 1,
        "only one position is steered: index -1 forgets the tokens generated before.",
    )
    prefill = _tensor(fn, 0, n_prompt, n_prompt, shape=(n_prompt,))
    steps = [_tensor(fn, past, 1, n_prompt, shape=(1,)) for past in range(n_prompt, total)]
    _require(
        all(bool(step.all()) for step in steps),
        "with a cache the chunk starts at n_past, not at 0: generated tokens were missed.",
    )
    _require(bool((whole == expected).all()), "steer positions n_prompt - 1 and later.")
    _require(
        bool((torch.cat([prefill, *steps]) == whole).all()),
        "cached and uncached runs must steer the same positions.",
    )
    _passed("steered_positions")


def test_random_control(fn: Callable[[Tensor, int], Float[Tensor, " d_model"]]) -> None:
    """``random_control(direction, seed)``: an isotropic random direction of the same length."""
    v = 7 * _noise(64, seed=3)
    drawn = torch.stack([_tensor(fn, v, seed, shape=(64,)) for seed in range(200)])
    again = _tensor(fn, v, 0, shape=(64,))
    _require(bool((again == drawn[0]).all()), "the same seed must give the same direction.")
    _require(not _close(drawn[0], drawn[1]), "two seeds gave the same direction: use the seed.")
    norms = drawn.norm(dim=-1)
    _require(
        not _close(norms, torch.ones(200)), "the length is 1; match the length of the direction."
    )
    _require(_close(norms / v.norm(), torch.ones(200)), "the length must be that of the direction.")
    cosine = drawn @ v / v.norm() ** 2
    _require(bool(cosine.abs().mean() < 0.3), "the control points along the direction itself.")
    # The mean of 200 isotropic directions has length about 1/sqrt(200) = 0.07 of each of them.
    bias = drawn.mean(0).norm() / v.norm()
    _require(
        bool(bias < 0.2), "some directions are preferred; draw from a normal, not from [0, 1)."
    )
    _passed("random_control")
