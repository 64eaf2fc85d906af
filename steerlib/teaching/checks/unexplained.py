"""Check for the exercise on what an autoencoder misses: the unexplained share of the variance.

Chapter: ``book/sae.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.teaching.checks.common import noise, number, passed, require

Unexplained = Callable[
    [Float[Tensor, "batch pos d"], Float[Tensor, "batch pos d"], Bool[Tensor, "batch pos"]], Any
]


def test_fvu(fn: Unexplained) -> None:
    """``fvu(h, rebuilt, is_bos)``: the share of the variance that is not rebuilt, without BOS."""
    h = noise(3, 4, 5) + 2 * noise(5, seed=1)
    rebuilt = h + 0.4 * noise(3, 4, 5, seed=2)
    # BOS first; BOS behind one token of padding; a text without BOS.
    is_bos = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    h[is_bos] = 40 * noise(3, 5, seed=3)  # as long as BOS is in models
    before = h.clone(), rebuilt.clone(), is_bos.clone()
    found = number(fn, h, rebuilt, is_bos)
    require(
        all(map(torch.equal, before, (h, rebuilt, is_bos))),
        "an argument was changed in place; work on new tensors.",
    )
    for message, wrong in _fvu_mistakes(h, rebuilt, is_bos).items():
        require(not math.isclose(found, wrong, rel_tol=1e-5), message)
    x, r = h[~is_bos], rebuilt[~is_bos]
    require(
        abs(number(fn, h, h, is_bos)) < 1e-6, "where the reconstruction is perfect FVU must be 0."
    )
    mean = x.mean(0).expand_as(h)
    require(
        math.isclose(number(fn, h, mean, is_bos), 1, abs_tol=1e-5),
        "where the mean stands for every activation FVU must be 1.",
    )
    require(
        math.isclose(number(fn, h, 3 * mean - 2 * h, is_bos), 9, rel_tol=1e-4),
        "a reconstruction worse than the mean has an FVU above 1; leave it there.",
    )
    require(
        math.isclose(number(fn, 3 * h + 5, 3 * rebuilt + 5, is_bos), found, rel_tol=1e-4),
        "other units or another origin, of h and of the reconstruction, must change nothing.",
    )
    require(
        math.isclose(found, float(_ratio(x - r, x - x.mean(0))), rel_tol=1e-4),
        "this is not sum ||h - rebuilt||^2 / sum ||h - mean||^2.",
    )
    passed("fvu")


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return a.square().sum() / b.square().sum()


def _fvu_mistakes(h: Tensor, rebuilt: Tensor, is_bos: Tensor) -> dict[str, float]:
    """What the usual mistakes give."""
    x, r = h[~is_bos], rebuilt[~is_bos]
    y, s = h.flatten(0, 1), rebuilt.flatten(0, 1)
    error, centred, whole = x - r, x - x.mean(0), y - y.mean(0)
    late, late_r = h[:, 1:].flatten(0, 1), rebuilt[:, 1:].flatten(0, 1)
    zeroed = torch.where(is_bos[..., None], 0.0, h).flatten(0, 1)
    right, d = _ratio(error, centred), h.shape[-1]
    by_text = torch.cat([a[~m] - a[~m].mean(0) for a, m in zip(h, is_bos, strict=True)])
    wrong = {
        "BOS was counted: its length drowns everything else. Leave it out.": _ratio(y - s, whole),
        "BOS is in the variance; leave it out there too.": _ratio(error, whole),
        "BOS is in the error; leave it out there too.": _ratio(y - s, centred),
        "BOS is in the mean; leave it out there too.": _ratio(error, x - y.mean(0)),
        "the mask is turned round: this is the FVU of BOS alone.": (
            _ratio(h[is_bos] - rebuilt[is_bos], h[is_bos] - h[is_bos].mean(0))
        ),
        "position 0 was left out; BOS is where is_bos says.": (
            _ratio(late - late_r, late - late.mean(0))
        ),
        "BOS was set to 0 and still counted as a token.": _ratio(error, zeroed - zeroed.mean(0)),
        "the variance is not centred: subtract the mean activation of the tokens.": (
            _ratio(error, x)
        ),
        "one mean was taken of all coordinates; each coordinate has its own.": (
            _ratio(error, x - x.mean())
        ),
        "each token was centred over its coordinates; take the mean over the tokens.": (
            _ratio(error, x - x.mean(1, keepdim=True))
        ),
        "each text was centred by its own mean; take one mean of all tokens.": (
            _ratio(error, by_text)
        ),
        "the mean of the error was taken out; it is part of what is not explained.": (
            _ratio(error - error.mean(0), centred)
        ),
        "this is the variance of the reconstruction; divide by that of h.": (
            _ratio(error, r - r.mean(0))
        ),
        "this is the explained share, 1 - FVU.": 1 - right,
        "this is the share of the variance that the reconstruction has.": (
            _ratio(r - r.mean(0), centred)
        ),
        "this is a ratio of lengths; take squares.": right.sqrt(),
        "lengths were added up; add their squares.": (
            error.norm(dim=1).sum() / centred.norm(dim=1).sum()
        ),
        "the ratio of each token was averaged; divide the sums.": (
            (error.square().sum(1) / centred.square().sum(1)).mean()
        ),
        "the ratio of each coordinate was averaged; divide the sums.": (
            (error.square().sum(0) / centred.square().sum(0)).mean()
        ),
        "the variance has n - 1 below, the error n: use the same number for both.": (
            right * (len(x) - 1) / len(x)
        ),
        "the mean over coordinates was taken in one of the two; sum in both.": right / d,
        "the sum over coordinates was taken in one of the two only.": right * d,
        "this is the squared error; divide by the variance.": error.square().sum(1).mean(),
        "this is the mean squared error; divide by the variance.": error.square().mean(),
        "the fraction is upside down.": 1 / right,
    }
    return {message: float(value) for message, value in wrong.items()}
