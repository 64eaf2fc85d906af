"""Checks for the exercises on learned directions: a magnitude, a step on the sphere, a margin.

Chapter: ``book/axbench.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlib.teaching.checks.common import call, close, error, noise, passed, require, tensor

Magnitude = Callable[
    [Float[Tensor, "batch pos d"], Float[Tensor, " d"], Bool[Tensor, "batch pos"], int],
    Float[Tensor, " batch"],
]
Step = Callable[[Float[Tensor, " d"], Float[Tensor, " d"], float], Float[Tensor, " d"]]
Margin = Callable[
    [
        Float[Tensor, " batch"],
        Int[Tensor, " batch"],
        Float[Tensor, " batch"],
        Int[Tensor, " batch"],
        Float[Tensor, " batch"],
    ],
    Float[Tensor, " batch"],
]


def test_reft_magnitude(fn: Magnitude) -> None:
    """``reft_magnitude(h, w, mask, k)``: the mean of the k largest relu(h . w) of each text."""
    h, w, values, mask = _texts()
    before = h.clone(), mask.clone()
    found = tensor(fn, h, w, mask, 3, shape=(5,))
    require(
        close(h, before[0]) and bool((mask == before[1]).all()),
        "h or the mask was changed in place; work on new tensors.",
    )
    require(
        bool(found.isfinite().all()),
        "the result is not finite: minus infinity at left-out tokens entered the mean.",
    )
    for message, wrong in _magnitudes(values, mask, 3).items():
        require(not close(found, wrong), message)
    require(
        close(found, _each(values, mask, lambda x: _top(x.relu(), 3).mean())),
        "this is not the mean of the 3 largest relu(h . w) of each text.",
    )
    _require_few_tokens(fn, h, w, values, mask)
    lower = torch.where(mask[:, :, None], h, -50 * w)
    require(
        close(tensor(fn, lower, w, mask, 3, shape=(5,)), found),
        "other activations where the mask is false changed the result.",
    )
    order = torch.tensor([3, 6, 0, 5, 1, 4, 2])
    require(
        close(tensor(fn, h[:, order], w, mask[:, order], 3, shape=(5,)), found),
        "another order of the tokens changed the result: use the mask, not the places.",
    )
    passed("reft_magnitude")


def _texts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h, w, the products h . w, and the mask; what the mask leaves out scores highest."""
    values = torch.tensor(
        [
            [60.0, 3.0, -4.0, 1.0, 2.0, 0.5, -3.5],  # BOS, then words
            [50.0, 50.0, 60.0, 1.0, 4.0, -2.0, 2.5],  # left padding, BOS, words
            [60.0, 1.0, 3.0, 50.0, 50.0, 50.0, 50.0],  # only two words
            [60.0, -1.0, 2.0, -3.0, -2.0, -5.0, -6.0],  # only one word above 0
            [60.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0],
        ]
    )
    w = noise(4, seed=1)
    w = w / w.norm()
    across = noise(5, 7, 4, seed=2)
    across = across - (across @ w)[:, :, None] * w
    return values[:, :, None] * w + across, w, values, values < 40


def _each(values: Tensor, mask: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([of(row[real]) for row, real in zip(values, mask, strict=True)])


def _top(x: Tensor, k: int) -> Tensor:
    return x.sort(descending=True).values[:k]


def _magnitudes(values: Tensor, mask: Tensor, k: int) -> dict[str, Tensor]:
    """What the usual mistakes give."""

    def right(x: Tensor) -> Tensor:
        return _top(x.relu(), k).mean()

    def above_zero(x: Tensor) -> Tensor:
        return _top(x.relu(), k).sum() / (_top(x, k) > 0).sum().clamp(min=1)

    wrong: dict[str, Callable[[Tensor], Tensor]] = {
        "relu is missing: a product below 0 counts as 0.": lambda x: _top(x, k).mean(),
        "relu was taken of the mean; take it of each product.": lambda x: _top(x, k).mean().relu(),
        "the size of the products was taken; relu turns those below 0 into 0.": lambda x: right(
            x.abs()
        ),
        "a text with fewer than k tokens was divided by k; divide by how many it has.": lambda x: (
            _top(x.relu(), k).sum() / k
        ),
        "this is the mean over all tokens; take the k largest.": lambda x: x.relu().mean(),
        "this is the sum of the k largest; take their mean.": lambda x: _top(x.relu(), k).sum(),
        "only the largest product was taken; take k of them.": lambda x: x.relu().max(),
        "these are the k smallest products.": lambda x: -_top(-x.relu(), k).mean(),
        "these are the first k tokens; take the largest products.": lambda x: x.relu()[:k].mean(),
        "tokens at 0 were left out of the mean; they are among the k as well.": above_zero,
    }
    found = {message: _each(values, mask, of) for message, of in wrong.items()}
    everything, fewer = torch.ones_like(mask), mask & (mask.cumsum(1) > 1)
    return found | {
        "tokens that the mask leaves out entered the k largest.": _each(values, everything, right),
        "one more token was left out: the mask is already false at BOS.": _each(
            values, fewer, right
        ),
    }


def _require_few_tokens(fn: Magnitude, h: Tensor, w: Tensor, values: Tensor, mask: Tensor) -> None:
    try:
        found = tensor(fn, h, w, mask, 20, shape=(5,))
    except (RuntimeError, IndexError):
        raise error("k may exceed the number of positions: take min(k, positions).") from None
    require(
        close(found, _each(values, mask, lambda x: x.relu().mean())),
        "with k above the number of tokens the mean is over all tokens of the text.",
    )


def test_sphere_step(fn: Step) -> None:
    """``sphere_step(w, gradient, lr)``: one step of descent on the sphere, plain, renormalized."""
    w = noise(5)
    w = w / w.norm()
    across = noise(5, seed=1)
    across = across - (across @ w) * w
    across = 1.5 * across / across.norm()
    # A large part along w: left in, it would stretch the step.
    gradient, lr = across + 1.2 * w, 0.4
    before = w.clone(), gradient.clone()
    found = tensor(fn, w, gradient, lr, shape=(5,))
    require(
        close(w, before[0]) and close(gradient, before[1]),
        "w or the gradient was changed in place; return a new tensor.",
    )
    for message, wrong in _steps(w, gradient, across, lr).items():
        require(not close(found, wrong), message)
    require(close(found.norm(), torch.tensor(1.0)), "the length is not 1; renormalize at the end.")
    require(
        close(found, _unit(w - lr * across)),
        "this is not w minus lr times the gradient without its part along w, renormalized.",
    )
    for name, still in (("along w", 2 * w), ("of 0", 0 * w)):
        require(
            close(tensor(fn, w, still, lr, shape=(5,)), w),
            f"a gradient {name} must leave w where it is.",
        )
    passed("sphere_step")


def _steps(w: Tensor, gradient: Tensor, across: Tensor, lr: float) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    angle = lr * across.norm()
    return {
        "w did not move: the part along w was kept and the rest removed.": w,
        "this goes uphill: subtract the gradient.": _unit(w + lr * across),
        "the gradient still has its part along w: remove (gradient . w) w first.": _unit(
            w - lr * gradient
        ),
        "the part along w was added once more; subtract it.": _unit(w - lr * (gradient + 1.2 * w)),
        "the part along w is (gradient . w) w, a multiple of w.": _unit(
            w - lr * (gradient - (gradient @ w) * gradient)
        ),
        "the length is not 1: renormalize after the step.": w - lr * across,
        "the length is not 1, and the gradient still has its part along w.": w - lr * gradient,
        "the gradient was normalized: a small gradient is a small step.": _unit(
            w - lr * _unit(across)
        ),
        "the gradient was normalized before its part along w was removed; keep its length.": _unit(
            w - lr * across / gradient.norm()
        ),
        "lr is not used.": _unit(w - across),
        "w itself was lost: the step starts at w.": _unit(-across),
        "this goes along the great circle; here the step is plain, then renormalized.": angle.cos()
        * w
        - angle.sin() * _unit(across),
    }


def _unit(x: Tensor) -> Tensor:
    return x / x.norm()


def test_reps_margin(fn: Margin) -> None:
    """``reps_margin(won, won_tokens, lost, lost_tokens, reference_gap)``, one number per pair."""
    won, lost = torch.tensor([-6.0, -9.0, -4.0, -12.0, -7.0]), -20 + noise(5)
    n, m = torch.tensor([3, 5, 8, 4, 2]), torch.tensor([4, 7, 3, 6, 9])
    gap = torch.tensor([3.0, 0.2, -2.0, 1.5, 0.0])
    require(
        getattr(call(fn, won, n, lost, m, gap), "shape", None) != torch.Size([]),
        "the pairs were averaged; return one margin per pair.",
    )
    found = tensor(fn, won, n, lost, m, gap, shape=(5,))
    for message, wrong in _margins(won, n, lost, m, gap).items():
        require(not close(found, wrong), message)
    require(
        close(found, gap.clamp(min=1) * won / n - lost / m),
        "this is not c * won / won_tokens - lost / lost_tokens with c = max(reference_gap, 1).",
    )
    longer = tensor(fn, 2 * won, 2 * n, 3 * lost, 3 * m, gap, shape=(5,))
    require(
        close(longer, found), "a longer response with the same log p per token must change nothing."
    )
    passed("reps_margin")


def _margins(won: Tensor, n: Tensor, lost: Tensor, m: Tensor, gap: Tensor) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    c, a, b = gap.clamp(min=1), won / n, lost / m
    return {
        "both sides are weighted; only the winner is.": c * (a - b),
        "the loser is weighted; only the winner is.": a - c * b,
        "no side is weighted: multiply the winner's by c.": a - b,
        "the reference gap is not clamped: c is at least 1.": gap * a - b,
        "c is clamped from above; it is at least 1.": gap.clamp(max=1) * a - b,
        "c is clamped at 0; it is at least 1.": gap.clamp(min=0) * a - b,
        "1 was added to c; c is the larger of the gap and 1.": (gap + 1) * a - b,
        "the sign of the reference gap is flipped: it is already loser minus winner.": (
            (-gap).clamp(min=1) * a - b
        ),
        "c is a difference of log-probabilities; no exp is needed.": gap.exp().clamp(min=1) * a - b,
        "the log-probabilities are sums: divide each by its number of tokens.": c * won - lost,
        "the loser is not divided by its number of tokens.": c * a - lost,
        "the winner is not divided by its number of tokens.": c * won - b,
        "the numbers of tokens are swapped.": c * won / m - lost / n,
        "the sign is flipped: winner minus loser.": b - c * a,
        "winner and loser are swapped.": c * b - a,
        "this is the log-sigmoid, the next step of the loss; return the margin.": (
            torch.nn.functional.logsigmoid(c * a - b)
        ),
        "this is the loss; return the margin.": -torch.nn.functional.logsigmoid(c * a - b),
    }
