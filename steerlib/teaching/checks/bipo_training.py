"""Checks for the exercises on how a preference is learned: which tokens count, and how fast.

Chapter: ``book/bipo.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlib.teaching.checks.common import (
    close,
    error,
    number,
    passed,
    require,
    tensor,
)

Mask = Callable[[Int[Tensor, " batch"], Int[Tensor, " batch"], int], Bool[Tensor, "batch width"]]
Rate = Callable[[int, float, int, int], Any]


def test_response_mask(fn: Mask) -> None:
    """``response_mask(lengths, starts, width)``: the tokens of left-padded responses."""
    lengths, starts, width = torch.tensor([7, 4, 6, 8]), torch.tensor([3, 2, 5, 1]), 11
    before = lengths.clone(), starts.clone()
    found = tensor(fn, lengths, starts, width, shape=(4, width))
    require(
        torch.equal(lengths, before[0]) and torch.equal(starts, before[1]),
        "lengths or starts was changed in place; work on new tensors.",
    )
    require(found.dtype == torch.bool, f"the mask is of {found.dtype}; return booleans.")
    for message, wrong in _wrong_masks(lengths, starts, width).items():
        require(not torch.equal(found, wrong), message)
    require(
        torch.equal(found.sum(1), lengths - starts),
        "a row does not have as many True as its response has tokens, lengths - starts.",
    )
    require(
        torch.equal(found, torch.arange(width) >= (width - lengths + starts)[:, None]),
        "True must be the last lengths - starts places of a row, and no others.",
    )
    full = tensor(fn, lengths - 2, starts, 6, shape=(4, 6))
    require(
        torch.equal(full, torch.arange(6) >= (8 - lengths + starts)[:, None]),
        "another batch is wrong, whose longest row has no padding.",
    )
    passed("response_mask")


def _wrong_masks(lengths: Tensor, starts: Tensor, width: int) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    places = torch.arange(width)
    begin, length, start = (x[:, None] for x in (width - lengths + starts, lengths, starts))
    right, last = places >= begin, places == width - 1
    return {
        "this is for padding on the right; here it is on the left, and the response ends with the "
        "row.": (places >= start) & (places < length),
        "the padding is forgotten: a row has width - lengths places of it before the prompt.": (
            places >= start
        ),
        "the padding of a row is width - lengths, not the longest length minus its own.": (
            places >= begin - (width - lengths.amax())
        ),
        "the mask is shifted by one: it has the places whose logits predict a token of the "
        "response. This mask is about the tokens; the loss does the shift.": (places >= begin - 1)
        & ~last,
        "the last token of the prompt is included: the response begins after `starts` tokens.": (
            places >= begin - 1
        ),
        "the end of the turn is dropped; it is a token of the response, and teaches when to "
        "stop.": right & ~last,
        "the first token of the response is dropped.": places >= begin + 1,
        "the prompt is counted: only padding is left out.": places >= width - length,
        "this is the prompt; take the response.": (places >= width - length) & ~right,
        "the mask is inverted: True stands for tokens of the response.": ~right,
    }


_STEPS = (0, 25, 100, 700, 3219, 3220, 9000, 15_000, 16_000, 16_100)
_LR, _WARMUP, _TOTAL = 2.0, 100, 100 * 161  # 100 epochs of 642 pairs in batches of four
_RUN = 20 * 161


def test_learning_rate(fn: Rate) -> None:
    """``learning_rate(step, lr, warmup, total)``: linear warm-up, then half a cosine to 0."""
    found = _rates(fn, _STEPS)
    for message, wrong in _wrong_rates().items():
        require(not close(found, wrong), message)
    require(float(found[0]) == 0.0, "at step 0 the rate is 0; the warm-up starts there.")
    require(close(found[2], torch.tensor(_LR)), "after the warm-up the rate is lr, its peak.")
    require(
        abs(float(found[5]) / _LR - 0.909) < 1e-3,
        f"20 of 100 epochs, step 3220 of 16100, leave 0.909 of lr; this gives "
        f"{float(found[5]) / _LR:.3f}.",
    )
    require(
        close(found, _right_rates(_STEPS)),
        "this is not lr step / warmup, and then lr (1 + cos(pi done)) / 2 with done the share of "
        "the steps after the warm-up.",
    )
    require(
        close(_rates(fn, (1000,), warmup=0, total=4000), torch.tensor([_LR * (2 + 2**0.5) / 4])),
        "another schedule is wrong, without warm-up, at a quarter of it.",
    )
    require(
        close(_rates(fn, (0,), warmup=0, total=4000), torch.tensor([_LR])),
        "without warm-up the first step has the full rate.",
    )
    passed("learning_rate")


def _rates(
    fn: Rate, steps: Sequence[int], warmup: int = _WARMUP, total: int = _TOTAL
) -> Float[Tensor, " steps"]:
    """What the reader's function gives at some steps."""
    try:
        return torch.tensor([number(fn, step, _LR, warmup, total) for step in steps])
    except ZeroDivisionError:
        raise error(f"a division by zero, with warmup = {warmup}: ask step < warmup.") from None


def _done(step: float, warmup: float = _WARMUP, total: float = _TOTAL) -> float:
    return (step - warmup) / (total - warmup)


def _right_rates(steps: Sequence[int]) -> Float[Tensor, " steps"]:
    return _schedule(steps, lambda step: _half(math.pi * _done(step)))


def _half(angle: float) -> float:
    return (1 + math.cos(angle)) / 2


def _schedule(
    steps: Sequence[int],
    after: Callable[[int], float],
    before: Callable[[int], float] = lambda step: step / _WARMUP,
) -> Float[Tensor, " steps"]:
    """lr times a factor of each step, before the end of the warm-up and after."""
    return torch.tensor([_LR * (before if s < _WARMUP else after)(s) for s in steps])


def _wrong_rates() -> dict[str, Tensor]:
    """What the usual mistakes give."""

    def cosine(angle: Callable[[int], float]) -> Tensor:
        return _schedule(_STEPS, lambda step: _half(angle(step)))

    def late(step: int) -> float:
        return _half(math.pi * step / _TOTAL)

    def short(step: int) -> float:
        return _half(math.pi * _done(step, total=_RUN))

    def cut(step: int) -> float:
        return short(min(step, _RUN))

    right = _right_rates(_STEPS)
    return {
        "the schedule is as long as a run of 20 epochs: its rate is 0 at step 3220. `total` are "
        "the steps of the schedule, and the run stops before.": _schedule(_STEPS, cut),
        "the schedule is as long as a run of 20 epochs, and then the cosine rises again. `total` "
        "are the steps of the schedule.": _schedule(_STEPS, short),
        "there is no warm-up: for step < warmup the rate is lr step / warmup.": _schedule(
            _STEPS, late, late
        ),
        "there is no warm-up: for step < warmup the rate is lr step / warmup, not lr.": _schedule(
            _STEPS, lambda step: _half(math.pi * _done(step)), lambda step: 1.0
        ),
        "the cosine starts at step 0, though the warm-up comes first: count the steps after it.": (
            _schedule(_STEPS, late)
        ),
        "the cosine counts the steps after the warm-up, but divides by all of them: it does not "
        "end at 0.": cosine(lambda step: math.pi * (step - _WARMUP) / _TOTAL),
        "the cosine lacks pi: it takes radians, and half a period are pi.": cosine(_done),
        "180 degrees went into a cosine of radians; half a period are pi.": cosine(
            lambda step: 180 * _done(step)
        ),
        "degrees were made of a number in radians: the cosine hardly moves.": cosine(
            lambda step: math.radians(math.pi * _done(step))
        ),
        "this is a whole period: the rate rises again. Half a period falls to 0.": cosine(
            lambda step: 2 * math.pi * _done(step)
        ),
        "this is a quarter of a period: the rate ends at one half.": cosine(
            lambda step: math.pi / 2 * _done(step)
        ),
        "this is cos alone, which becomes negative; take (1 + cos) / 2.": _schedule(
            _STEPS, lambda step: math.cos(math.pi * _done(step))
        ),
        "1 + cos runs from 2 to 0; halve it.": _schedule(
            _STEPS, lambda step: 2 * _half(math.pi * _done(step))
        ),
        "the rate falls on a line; it is a cosine.": _schedule(
            _STEPS, lambda step: 1 - _done(step)
        ),
        "after the warm-up the rate stays; it falls.": _schedule(_STEPS, lambda step: 1.0),
        "lr is not used.": right / _LR,
    }
