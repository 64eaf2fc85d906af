"""Checks for the exercises on scalars as edits: one for each position, or one read off h.

Chapter: ``book/scaling.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.teaching.checks.common import call, close, error, noise, passed, require, tensor

Scale = Callable[
    [Float[Tensor, "batch pos d"], Float[Tensor, " n"], float], Float[Tensor, "batch pos d"]
]
Factor = Callable[
    [Float[Tensor, "batch pos d"], Float[Tensor, " d"], float], Float[Tensor, "batch pos"]
]


def test_scale_positions(fn: Scale) -> None:
    """``scale_positions(h, alpha, beta)``: (1 + beta alpha) h, one alpha for each position."""
    # A cube, so that a factor that is broadcast along the wrong dimension gives a result.
    h, alpha, beta = noise(4, 4, 4), torch.tensor([0.5, -3.0, 1.5, -0.75]), 0.4
    before = h.clone(), alpha.clone()
    found = tensor(fn, h, alpha, beta, shape=(4, 4, 4))
    require(
        close(h, before[0]) and close(alpha, before[1]),
        "h or alpha was changed in place; return a new tensor.",
    )
    for message, wrong in _scaled(h, alpha, beta).items():
        require(not close(found, wrong), message)
    require(
        close(tensor(fn, h, alpha, 0.0, shape=(4, 4, 4)), h), "strength 0 must leave h as it is."
    )
    other = tensor(fn, h, alpha, -beta, shape=(4, 4, 4))
    require(close((found + other) / 2, h), "the results at +beta and at -beta must average to h.")
    require(close(found, h * (1 + beta * alpha[:, None])), "this is not (1 + beta alpha) h.")
    _require_later_positions(fn)
    passed("scale_positions")


def _scaled(h: Tensor, alpha: Tensor, beta: float) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    a = alpha[:, None]
    return {
        "alpha was added to h; it multiplies h.": h + beta * a,
        "this is only the change; add it to h.": beta * a * h,
        "beta is not used.": (1 + a) * h,
        "beta multiplies the 1 as well: at strength 0 h would be lost.": beta * (1 + a) * h,
        "the sign is flipped: 1 plus beta alpha.": (1 - beta * a) * h,
        "alpha was applied to the coordinates; there is one alpha for each position.": (
            h * (1 + beta * alpha)
        ),
        "alpha was applied to the prompts; there is one alpha for each position.": (
            h * (1 + beta * alpha[:, None, None])
        ),
        "one factor was used at all positions.": h * (1 + beta * alpha.mean()),
        "the factor is 1 + beta alpha, without exp: it must be linear in beta.": (
            h * (beta * a).exp()
        ),
        "a factor below 0 reverses h; do not clamp it at 0.": h * (1 + beta * a).clamp(min=0),
        "the size of the factor was taken; a factor below 0 reverses h.": h * (1 + beta * a).abs(),
    }


def _require_later_positions(fn: Scale) -> None:
    """Fewer scalars than positions: those of the prompt come first, then what was generated."""
    h, alpha = noise(2, 5, 3, seed=1), torch.tensor([0.5, -3.0, 1.5])
    try:
        found = tensor(fn, h, alpha, 1.0, shape=(2, 5, 3))
    except (RuntimeError, IndexError):
        raise error(
            "alpha may be shorter than the prompt: leave the positions beyond its end as they are."
        ) from None
    at_the_end = torch.cat([h[:, :2], h[:, 2:] * (1 + alpha[:, None])], 1)
    require(
        not close(found, at_the_end),
        "alpha was aligned at the end; alpha[0] belongs to position 0.",
    )
    require(
        bool((found[:, 3:] != 0).any()),
        "positions beyond the end of alpha were set to 0; leave them as they are.",
    )
    require(
        close(found[:, 3:], h[:, 3:]),
        "positions beyond the end of alpha were changed; leave them as they are.",
    )
    require(
        close(found[:, :3], h[:, :3] * (1 + alpha[:, None])),
        "with more positions than scalars the first positions are no longer scaled.",
    )


def test_dyn_alpha(fn: Factor) -> None:
    """``dyn_alpha(h, u, b)``: tanh(u . h / ||h|| + b), one factor for each token."""
    h, u, b = 2 * noise(2, 3, 4) + 0.5, 1.5 * noise(4, seed=1), 0.25
    before = h.clone(), u.clone()
    _require_factors(fn, h, u, b)
    found = tensor(fn, h, u, b, shape=(2, 3))
    require(
        close(h, before[0]) and close(u, before[1]),
        "h or u was changed in place; return a new tensor.",
    )
    for message, wrong in _factors(h, u, b).items():
        require(not close(found, wrong), message)
    for scale in (0.01, 100.0):
        longer = tensor(fn, scale * h, u, b, shape=(2, 3))
        require(
            bool((longer - found).abs().max() < 1e-3),
            "a longer or shorter h changed the factor; only its direction may count.",
        )
    require(
        close(tensor(fn, h, 0 * u, 0.0, shape=(2, 3)), torch.zeros(2, 3)),
        "with u = 0 and b = 0, where learning starts, the factor must be 0: no edit.",
    )
    require(
        close(found, torch.tanh((h @ u) / h.norm(dim=-1) + b)),
        "this is not tanh(u . h / ||h|| + b).",
    )
    _require_finite(fn, h, u, b)
    passed("dyn_alpha")


def _require_factors(fn: Factor, h: Tensor, u: Tensor, b: float) -> None:
    shape = getattr(call(fn, h, u, b), "shape", None)
    messages = {
        (2, 3, 4): "this has the shape of h; return the factors, one for each token.",
        (2, 3, 1): "this has a last dimension of 1; the factors have the shape (batch, pos).",
        (2,): "the positions were merged; each token has its own factor.",
        (3,): "the prompts were merged; each token has its own factor.",
        (): "the tokens were merged; each token has its own factor.",
    }
    for wrong, message in messages.items():
        require(shape != wrong, message)


def _factors(h: Tensor, u: Tensor, b: float) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    length, x = h.norm(dim=-1), h @ u
    spread = (h - h.mean(-1, keepdim=True)) / h.std(-1, keepdim=True, unbiased=False)

    def over(dim: int | tuple[int, ...]) -> Tensor:
        return (h / torch.linalg.vector_norm(h, dim=dim, keepdim=True)) @ u

    cosine = x / length
    inside = {
        "h is not normalized: divide u . h by the length of h.": x,
        "u was normalized as well; its length says how much the direction counts.": (
            cosine / u.norm()
        ),
        "u was normalized, h was not; it is the other way round.": x / u.norm(),
        "the length was taken over the positions; take that of each token.": over(1),
        "the length was taken over the prompts; take that of each token.": over(0),
        "the length was taken over the whole batch; take that of each token.": over((0, 1, 2)),
        "the length was taken over all tokens of a prompt; take that of each token.": over((1, 2)),
        "u . h was divided by the squared length.": x / length.square(),
        "u . h was divided by the root mean square; divide by the length, without the mean.": (
            cosine * len(u) ** 0.5
        ),
        "u . h was divided by the sum of sizes; divide by the length.": x / h.abs().sum(-1),
        "this is LayerNorm: do not take the mean out, and divide by the length.": spread @ u,
    }
    return {message: torch.tanh(value + b) for message, value in inside.items()} | {
        "the bias is missing.": torch.tanh(cosine),
        "the bias has the wrong sign.": torch.tanh(cosine - b),
        "the bias was divided by the length as well; add it after that.": torch.tanh(
            (x + b) / length
        ),
        "the bias was added after tanh; add it before.": torch.tanh(cosine) + b,
        "tanh is missing: the factor must stay between -1 and 1.": cosine + b,
        "this is the sigmoid, which is one half where learning starts; take tanh.": torch.sigmoid(
            cosine + b
        ),
        "1 was added: this is what multiplies h; return alpha.": 1 + torch.tanh(cosine + b),
        "this is a clamp, whose gradient is 0 outside; take tanh.": (cosine + b).clamp(-1, 1),
        "the sign is flipped.": -torch.tanh(cosine + b),
    }


def _require_finite(fn: Factor, h: Tensor, u: Tensor, b: float) -> None:
    zero = tensor(fn, 0 * h, u, b, shape=(2, 3))
    require(
        bool(zero.isfinite().all()),
        "where h is 0 the factor is not finite: keep the length away from 0 before you divide.",
    )
    require(
        close(zero, torch.tanh(torch.full((2, 3), b))), "where h is 0 the factor must be tanh(b)."
    )
