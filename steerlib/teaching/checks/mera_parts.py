"""Check for the exercise on the two parts of a pattern: between labels and within them.

Chapter: ``book/mera.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.teaching.checks.common import call, close, noise, passed, require

Pair = tuple[Float[Tensor, " d"], Float[Tensor, " d"]]
Parts = Callable[[Float[Tensor, "n d"], Float[Tensor, " n"], Int[Tensor, " n"]], Any]


def test_pattern_parts(fn: Parts) -> None:
    """``pattern_parts(h, y, label)``: Cov(h, y) between the labels and within them."""
    label = torch.tensor([0, 1, 0, 2, 0, 1, 2, 0, 0, 1, 2, 0])
    h = noise(12, 3, seed=1) + 2 * noise(3, 3, seed=2)[label] + 1
    y = noise(12, seed=3) + torch.tensor([2.0, -1.0, 0.5])[label]
    before = h.clone(), y.clone()
    found = _pair(fn, h, y, label)
    require(close(h, before[0]) and close(y, before[1]), "h or y was changed in place.")
    for message, wrong in _mistaken(h, y, label).items():
        require(not all(map(close, found, wrong)), message)
    require(
        close(found[0] + found[1], _cov(h, y)),
        "the two parts do not add up to Cov(h, y), with n below the line.",
    )
    _require_parts(fn, h, y, label)
    require(
        all(map(close, found, _parts(h, y, label))),
        "these are not Cov of the means of each label and the mean of Cov within each label.",
    )
    two = label.clamp(max=1)
    p = float((two == 0).double().mean())
    a, b = (two == 0), (two == 1)
    product = p * (1 - p) * (y[a].mean() - y[b].mean()) * (h[a].mean(0) - h[b].mean(0))
    require(
        close(_pair(fn, h, y, two)[0], product),
        "with two labels the first part is p (1 - p) times both differences of means.",
    )
    passed("pattern_parts")


def _pair(fn: Parts, h: Tensor, y: Tensor, label: Tensor) -> Pair:
    """What the reader's function returns, as two vectors."""
    result = call(fn, h, y, label)
    right = isinstance(result, tuple | list | Tensor) and len(result) == 2
    require(right, "return two vectors: the part between labels, and the part within them.")
    for part in result:
        require(
            isinstance(part, Tensor) and part.shape == h.shape[1:],
            f"each of the two parts has shape {tuple(h.shape[1:])}, got "
            f"{tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__}.",
        )
    return result[0], result[1]


def _require_parts(fn: Parts, h: Tensor, y: Tensor, label: Tensor) -> None:
    """One part is zero where it has to be."""
    zero = torch.zeros(h.shape[1])
    by_label = torch.tensor([3.0, -1.0, 1.0])[label]
    require(
        close(_pair(fn, h, by_label, label)[1], zero),
        "where y is the same for all items of a label the part within labels must be 0.",
    )
    alike = y - torch.stack([y[label == c].mean() for c in range(3)])[label]
    require(
        close(_pair(fn, h, alike, label)[0], zero),
        "where the mean of y is the same for all labels the part between labels must be 0.",
    )
    once = torch.arange(len(y))
    require(
        close(_pair(fn, h, y, once)[0], _cov(h, y)),
        "where each item has a label of its own all of Cov(h, y) lies between labels.",
    )


def _cov(h: Tensor, y: Tensor) -> Float[Tensor, " d"]:
    return (y - y.mean()) @ (h - h.mean(0)) / len(h)


def _parts(h: Tensor, y: Tensor, label: Tensor) -> Pair:
    within = torch.zeros(h.shape[1])
    for c in label.unique():
        mine = label == c
        within = within + mine.float().mean() * _cov(h[mine], y[mine])
    return _cov(h, y) - within, within


def _mistaken(h: Tensor, y: Tensor, label: Tensor) -> dict[str, Pair]:
    """What the usual mistakes give."""
    between, within = _parts(h, y, label)
    total, n, groups = _cov(h, y), len(h), [label == c for c in label.unique()]
    mu = torch.stack([h[g].mean(0) for g in groups])
    level = torch.stack([y[g].mean() for g in groups])
    share = torch.stack([g.float().mean() for g in groups])
    inside = torch.stack([_cov(h[g], y[g]) for g in groups])
    loose = torch.stack([_cov(h[g], y[g]) * g.sum() / (g.sum() - 1) for g in groups])
    alike = _cov(mu, level)
    return {
        "the order is reversed: first the part between labels, then that within.": (
            within,
            between,
        ),
        "the first part is all of Cov(h, y); take that of the means of each label.": (
            total,
            within,
        ),
        "the second part is all of Cov(h, y); centre h and y within each label.": (between, total),
        "each label counts alike in both parts; it counts by its share of the items.": (
            alike,
            inside.mean(0),
        ),
        "each label counts alike in the part between labels; it counts by its share of the "
        "items.": (alike, within),
        "each label counts alike in the part within labels; it counts by its share of the items.": (
            between,
            inside.mean(0),
        ),
        "the covariances within labels were added up; take their mean, by the shares of the "
        "labels.": (between, inside.sum(0)),
        "the means of the labels were not centred: subtract the mean of all items.": (
            (share * level) @ mu,
            within,
        ),
        "these are sums over the items; divide by n.": (n * between, n * within),
        "this divides by n - 1; divide by n, so that shares are shares.": (
            between * n / (n - 1),
            within * n / (n - 1),
        ),
        "within a label this divides by its number of items minus 1, and the parts no longer add "
        "up; divide by n throughout.": (between, share @ loose),
        "the sign is flipped.": (-between, -within),
        "the part within labels is that of the first label only.": (between, inside[0]),
        "the part within labels lacks the other labels: add those of all.": (
            between,
            share[0] * inside[0],
        ),
    }
