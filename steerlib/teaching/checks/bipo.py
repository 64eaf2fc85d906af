"""Checks for the exercises on the loss of a preference and on margins per token.

Chapter: ``book/bipo.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from steerlib.teaching.checks.common import (
    call,
    close,
    noise,
    number,
    passed,
    require,
    tensor,
)

Loss = Callable[[Float[Tensor, "2 n 2"], Float[Tensor, "n 2"], float], Any]
Margin = Callable[
    [Float[Tensor, "2 n 2"], Float[Tensor, "n 2"], Int[Tensor, "n 2"]], Float[Tensor, "2 n"]
]
_N = 5
_LENGTHS = torch.tensor([[4, 9], [3, 3], [12, 5], [2, 7], [6, 8]])


def _responses() -> tuple[Float[Tensor, "2 n 2"], Float[Tensor, "n 2"]]:
    """log p of targets and opposites under v and -v, and without: nats of whole responses."""
    reference = -1.5 * _LENGTHS - noise(_N, 2, seed=2).abs()
    return reference + 3 * noise(2, _N, 2, seed=3), reference


def test_preference_loss(fn: Loss) -> None:
    """``preference_loss(log_p, reference, beta)``: BiPO's loss, over pairs and both signs."""
    (log_p, reference), beta = _responses(), 0.4
    before = log_p.clone(), reference.clone()
    found = torch.tensor(number(fn, log_p, reference, beta))
    require(
        close(log_p, before[0]) and close(reference, before[1]),
        "log_p or reference was changed in place; work on new tensors.",
    )
    for message, wrong in _wrong_losses(log_p, reference, beta).items():
        require(not close(found, wrong), message)
    at_zero = number(fn, torch.stack([reference, reference]), reference, beta)
    require(
        close(torch.tensor(at_zero), torch.tensor(2.0).log()),
        f"at v = 0 both signs have Delta = 0 and the loss is ln 2 = 0.693; this gives "
        f"{at_zero:.3f}.",
    )
    require(
        close(found, _loss(log_p, reference, beta)),
        "this is not the mean, over pairs and signs, of -log sigmoid(d beta Delta(d v)).",
    )
    far = number(fn, reference + 300 * noise(2, _N, 2, seed=3), reference, beta)
    right = _loss(reference + 300 * noise(2, _N, 2, seed=3), reference, beta)
    require(
        close(torch.tensor(far), right),
        "with large margins the loss is not right: sigmoid is rounded to 0 and its logarithm is "
        "not finite, or was clipped. Take torch.nn.functional.logsigmoid.",
    )
    _require_gradient(fn, log_p, reference, beta)
    passed("preference_loss")


def _require_gradient(fn: Loss, log_p: Tensor, reference: Tensor, beta: float) -> None:
    leaf = log_p.clone().requires_grad_()
    loss = call(fn, leaf, reference, beta)
    require(
        isinstance(loss, Tensor) and loss.requires_grad,
        "no gradient reaches log_p, so nothing would be learned: stay with tensors, without "
        "item(), float() or no_grad.",
    )


def _margins(log_p: Tensor, reference: Tensor | float) -> Float[Tensor, "2 n"]:
    """Delta(v) and Delta(-v)."""
    gain = log_p - reference
    return gain[..., 0] - gain[..., 1]


def _loss(log_p: Tensor, reference: Tensor, beta: float) -> Float[Tensor, ""]:
    signs = torch.tensor([[1.0], [-1.0]])
    return -logsigmoid(signs * beta * _margins(log_p, reference)).mean()


def _wrong_losses(log_p: Tensor, reference: Tensor, beta: float) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    signs, delta = torch.tensor([[1.0], [-1.0]]), _margins(log_p, reference)
    x = beta * signs * delta
    right = -logsigmoid(x).mean()
    return {
        "for -v the sign in front of Delta is missing: d stands at v and in front of Delta, so "
        "that -v has to prefer the opposite.": -logsigmoid(beta * delta).mean(),
        "target and opposite are exchanged: the target is the first of the last axis. (Or the sign "
        "is in front of Delta for v, and not for -v.)": -logsigmoid(-x).mean(),
        "the reference is not used: Delta is about what steering adds to each response.": (
            -logsigmoid(beta * signs * _margins(log_p, 0.0)).mean()
        ),
        "the reference is added; take it away.": (
            -logsigmoid(beta * signs * _margins(log_p, -reference)).mean()
        ),
        "this is a sum over pairs and signs; take the mean.": 2 * _N * right,
        "this is a sum over the pairs; take the mean.": _N * right,
        "the two signs are added up; take their mean.": 2 * right,
        "this is minus the mean of sigmoid; take its logarithm first.": -x.sigmoid().mean(),
        "this is the mean of sigmoid; take minus its logarithm.": x.sigmoid().mean(),
        "this is 1 - sigmoid, on average; take -log sigmoid.": 1 - x.sigmoid().mean(),
        "this is the logarithm of a mean; take the mean of logarithms.": -x.sigmoid().mean().log(),
        "the sign of the loss is flipped: it would be made as large as possible.": -right,
        "beta is not used.": -logsigmoid(signs * delta).mean(),
        "this divides by beta; multiply.": -logsigmoid(signs * delta / beta).mean(),
        "beta is outside the logarithm; it multiplies Delta.": -beta
        * logsigmoid(signs * delta).mean(),
        "only v is asked; -v is the second half of the loss.": -logsigmoid(x[0]).mean(),
        "only -v is asked; v is the first half of the loss.": -logsigmoid(x[1]).mean(),
        "d Delta(d v) is averaged over the signs before the logarithm: so the even part of Delta "
        "cancels, and nothing holds it down.": -logsigmoid(x.mean(0)).mean(),
        "d Delta(d v) is averaged over the pairs before the logarithm; each pair has a loss of its "
        "own.": -logsigmoid(x.mean(1)).mean(),
        "d Delta(d v) is averaged over all before the logarithm.": -logsigmoid(x.mean()),
    }


def test_per_token_margin(fn: Margin) -> None:
    """``per_token_margin(log_p, reference, tokens)``: Delta of mean log-probabilities."""
    (log_p, reference), shape = _responses(), (2, _N)
    before = log_p.clone(), reference.clone(), _LENGTHS.clone()
    found = tensor(fn, log_p, reference, _LENGTHS, shape=shape)
    require(
        all(map(torch.equal, (log_p, reference, _LENGTHS), before)),
        "log_p, reference or tokens was changed in place; work on new tensors.",
    )
    for message, wrong in _wrong_margins(log_p, reference, _LENGTHS).items():
        require(not close(found, wrong), message)
    for side, response in enumerate(("target", "opposite")):
        twice = torch.ones(2)
        twice[side] = 2
        same = tensor(fn, twice * log_p, twice * reference, _LENGTHS * twice.long(), shape=shape)
        require(
            close(same, found),
            f"{response}s that say their tokens twice, each as likely as before, changed the "
            "result; a mean stays as it is.",
        )
    require(
        close(found, _margins(log_p / _LENGTHS, reference / _LENGTHS)),
        "this is not the gain per token of the target minus that of the opposite.",
    )
    passed("per_token_margin")


def _wrong_margins(log_p: Tensor, reference: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    delta, right = _margins(log_p, reference), _margins(log_p / tokens, reference / tokens)
    target, opposite = tokens.unbind(1)
    return {
        "tokens is not used: this is Delta of whole responses.": delta,
        "both responses are divided by the number of the target's tokens.": delta / target,
        "both responses are divided by the number of the opposite's tokens.": delta / opposite,
        "both responses are divided by the sum of the two lengths.": delta / tokens.sum(1),
        "both responses are divided by the mean of the two lengths.": delta / tokens.sum(1) * 2,
        "both responses are divided by the longer length.": delta / tokens.amax(1),
        "each response is divided by the length of the other.": _margins(
            log_p / tokens.flip(1), reference / tokens.flip(1)
        ),
        "only log_p is divided by tokens: the reference that is taken away is still that of whole "
        "responses.": _margins(log_p / tokens, reference),
        "only the reference is divided by tokens; divide the difference.": _margins(
            log_p, reference / tokens
        ),
        "the reference is not used: this is about mean log-probabilities under steering.": _margins(
            log_p / tokens, 0.0
        ),
        "this multiplies by tokens; divide.": _margins(log_p * tokens, reference * tokens),
        "target and opposite are exchanged: the target is the first of the last axis.": -right,
        "the two gains are added up; take that of the opposite away.": (
            (log_p - reference) / tokens
        ).sum(-1),
        "for -v a sign is in front of Delta here; it belongs to the loss.": right
        * torch.tensor([[1.0], [-1.0]]),
    }
