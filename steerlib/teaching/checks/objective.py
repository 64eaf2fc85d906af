"""Checks for the exercises on the objective: effective in both directions, faithful elsewhere.

Chapter: ``book/scaling.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.teaching.checks.common import (
    call,
    close,
    noise,
    number,
    passed,
    refuse,
    require,
    tensor,
)

Loss = Callable[[Float[Tensor, " n"], Float[Tensor, " n"], float], Float[Tensor, ""]]
Other = Callable[
    [Float[Tensor, "n vocab"], Float[Tensor, "n vocab"], Int[Tensor, " n"], Int[Tensor, " n"]],
    Float[Tensor, " n"],
]


def test_effectiveness(fn: Loss) -> None:
    """``effectiveness(delta_plus, delta_minus, m)``: the margin loss, both directions added."""
    plus = torch.tensor([3.0, 1.25, -1.0, 2.5, 0.5, 7.0])
    minus = torch.tensor([-4.5, 1.5, -0.5, -2.25, -3.5, 0.5])
    require(
        getattr(call(fn, plus, minus, 2.0), "shape", None) != (6,),
        "this is one number per prompt; return their mean.",
    )
    found = number(fn, plus, minus, 2.0)
    refuse(found, _losses(plus, minus, 2.0))
    require(
        math.isclose(number(fn, -minus, -plus, 2.0), found, abs_tol=1e-6),
        "the two answers in each other's place must give the same loss.",
    )
    require(
        number(fn, plus + 9, minus - 9, 2.0) == 0,
        "where all margins are met in both directions the loss must be 0.",
    )
    without = torch.tensor([number(fn, x[None], x[None], 2.0) for x in plus])
    require(
        close(without, 2 + plus.abs().clamp(min=2)),
        "without an edit (equal margins) the loss of a prompt must be m + max(m, |delta|).",
    )
    require(
        math.isclose(found, float(_loss(plus, minus, 2.0).mean()), abs_tol=1e-6),
        "this is not the mean of relu(m - delta_plus) + relu(m + delta_minus).",
    )
    with torch.enable_grad():
        result = call(fn, plus.clone().requires_grad_(), minus, 2.0)
    require(
        isinstance(result, Tensor) and result.requires_grad,
        "the loss has lost its gradient: return a tensor, without float() or .item().",
    )
    passed("effectiveness")


def _loss(plus: Tensor, minus: Tensor, m: float) -> Tensor:
    return (m - plus).relu() + (m + minus).relu()


def _losses(plus: Tensor, minus: Tensor, m: float) -> dict[str, float]:
    """What the usual mistakes give."""
    both, short = _loss(plus, minus, m), torch.cat([m - plus, m + minus]).relu()
    wrong = {
        "the direction -1 is missing; both count.": (m - plus).relu(),
        "the direction +1 is missing; both count.": (m + minus).relu(),
        "the sign of delta_minus is flipped: at -1 the margin should be below -m.": _loss(
            plus, -minus, m
        ),
        "the sign of delta_plus is flipped: at +1 the margin should be above m.": _loss(
            -plus, minus, m
        ),
        "both signs are flipped: at +1 the margin should be above m, at -1 below -m.": _loss(
            -plus, -minus, m
        ),
        "relu is missing: a margin beyond m earns nothing.": 2 * m - plus + minus,
        "relu was taken of the sum: one direction made up for the other. Take it of each.": (
            2 * m - plus + minus
        ).relu(),
        "relu was taken of the mean: one prompt made up for another. Take it of each prompt.": (
            (m - plus).mean().relu() + (m + minus).mean().relu()
        ),
        "m is not used: the margin should be m, not 0.": _loss(plus, minus, 0.0),
        "m is fixed at 1; use the argument.": _loss(plus, minus, 1.0),
        "m counts in one direction only; it counts in both.": ((m - plus).relu() + minus.relu()),
        "the two directions were averaged; add them.": both / 2,
        "only the worse direction was taken; add both.": torch.maximum(
            (m - plus).relu(), (m + minus).relu()
        ),
        "this is the sum over the prompts; take the mean.": both.sum(),
        "this is the mean over the prompts that fail; take it over all.": both[both > 0],
        "the mean of each direction is over those that fail; take it over all.": (
            short[:6].sum() / (short[:6] > 0).sum() + short[6:].sum() / (short[6:] > 0).sum()
        ),
        "the shortfall was squared; take it as it is.": (m - plus).relu().square()
        + (m + minus).relu().square(),
        "this counts the margins that are missed; say by how much.": 2 * (short > 0).double(),
        "the sign is flipped: a loss is high where steering fails.": -both,
    }
    return {message: float(value.double().mean()) for message, value in wrong.items()}


def test_other_kl(fn: Other) -> None:
    """``other_kl(logits_0, logits, c, w)``: the change among all tokens but the two answers."""
    before, after = 2 * noise(3, 8), 2 * noise(3, 8, seed=1)
    c, w = torch.tensor([0, 5, 2]), torch.tensor([3, 1, 6])
    kept = before.clone(), after.clone()
    require(
        getattr(call(fn, before, after, c, w), "shape", None) != torch.Size([]),
        "the prompts were merged; return one number for each.",
    )
    found = tensor(fn, before, after, c, w, shape=(3,))
    require(
        close(before, kept[0]) and close(after, kept[1]),
        "the logits were changed in place; work on new tensors.",
    )
    require(
        bool(found.isfinite().all()),
        "the result is not finite: where c and w are masked, 0 times a difference of minus "
        "infinities is NaN. Set those products to 0, or delete the two columns.",
    )
    for message, wrong in _divergences(before, after, c, w).items():
        require(not close(found, wrong), message)
    require(
        close(tensor(fn, before, before, c, w, shape=(3,)), torch.zeros(3)),
        "the same logits twice must give 0.",
    )
    _require_invariances(fn, before, after, c, w)
    require(
        close(found, _kl(_others(before, c, w), _others(after, c, w))),
        "this is not the KL divergence among the other tokens.",
    )
    _require_float32(fn)
    passed("other_kl")


def _others(logits: Tensor, *answers: Tensor) -> Tensor:
    """log p of the other tokens, renormalized; minus infinity at the answers."""
    index = torch.stack(answers, 1)
    return logits.scatter(1, index, -math.inf).log_softmax(1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return torch.where(log_p > -math.inf, log_p.exp() * (log_p - log_q), 0.0).sum(1)


def _divergences(before: Tensor, after: Tensor, c: Tensor, w: Tensor) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    p, q = _others(before, c, w), _others(after, c, w)
    whole_p, whole_q = before.log_softmax(1), after.log_softmax(1)
    kl, part = _kl(p, q), whole_p.where(p > -math.inf, torch.tensor(-math.inf))
    c_first, w_first = c[:1].expand(3), w[:1].expand(3)
    columns = [x.expand(3) for x in (*c, *w)]
    at = torch.stack([c, w], 1)
    zero = _kl(*(x.scatter(1, at, 0.0).log_softmax(1) for x in (before, after)))
    entropy = -torch.where(p > -math.inf, p.exp() * p, 0.0).sum(1)
    return {
        "the answers were left in; remove c and w from both.": _kl(whole_p, whole_q),
        "the probabilities were not renormalized after c and w were removed.": _kl(part, whole_q),
        "only the first was renormalized after c and w were removed; do it with both.": _kl(
            p, whole_q
        ),
        "only the second was renormalized after c and w were removed; do it with both.": _kl(
            part, q
        ),
        "the order is reversed: the expectation is under logits_0.": _kl(q, p),
        "the two orders were averaged; take KL(p_0 || p) alone.": (kl + _kl(q, p)) / 2,
        "the same columns were removed from all rows; each prompt has its own answers.": _kl(
            _others(before, c_first, w_first), _others(after, c_first, w_first)
        ),
        "the answers of all prompts were removed from each row; remove each prompt's own.": _kl(
            _others(before, *columns), _others(after, *columns)
        ),
        "w was left in.": _kl(_others(before, c), _others(after, c)),
        "c was left in.": _kl(_others(before, w), _others(after, w)),
        "the logits of c and w were set to 0, which is not a probability of 0.": zero,
        "this is in bits; use the natural logarithm.": kl / math.log(2),
        "this is the cross-entropy; the entropy of p_0 must be taken off.": kl + entropy,
        "this is the mean over the tokens; take the sum.": kl / 8,
        "this is the mean over the other tokens; take the sum.": kl / 6,
        "the sign is flipped: a divergence is never below 0.": -kl,
    }


def _require_invariances(fn: Other, before: Tensor, after: Tensor, c: Tensor, w: Tensor) -> None:
    """Any logits of c and w must do, also those that leave the others almost no probability."""
    base = tensor(fn, before, after, c, w, shape=(3,))
    shifted = tensor(fn, before + 1.5, after - 2, c, w, shape=(3,))
    require(
        bool(((shifted - base).abs() < 1e-4).all()),
        "a constant added to all logits must change nothing.",
    )
    for name, answer in (("c", c), ("w", w)):
        # 20 leaves the others 2e-9, which is 0 in 1 - p(c) - p(w).
        for size, message in (
            (3.0, f"a constant added to the logits of {name} changed the result."),
            (
                20.0,
                "where the answers have nearly all the probability, 1 - p(c) - p(w) is "
                "rounding; mask the logits before the softmax.",
            ),
        ):
            more = size * torch.nn.functional.one_hot(answer, before.shape[1])
            for logits in ((before + more, after), (before, after + more)):
                changed = tensor(fn, *logits, c, w, shape=(3,))
                require(bool(((changed - base).abs() < 1e-4).all()), message)


def _require_float32(fn: Other) -> None:
    """Half precision has three digits; a sum over many tokens loses what an edit changes."""
    before = (3 * noise(2, 500)).half()
    after = (before + noise(2, 500, seed=1) / 30).half()
    c, w = torch.tensor([4, 7]), torch.tensor([400, 2])
    found = tensor(fn, before, after, c, w, shape=(2,)).float()
    exact = _kl(_others(before.float(), c, w), _others(after.float(), c, w))
    require(
        bool(((found - exact).abs() < 0.01 * exact).all()),
        "logits in half precision lost their digits: go to float32 before the softmax.",
    )
