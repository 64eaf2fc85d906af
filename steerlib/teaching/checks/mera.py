"""Checks for the exercises on the error of an answer and the smallest step that lowers it.

Chapter: ``book/mera.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.teaching.checks.common import close, noise, passed, require, tensor

Step = Callable[..., Float[Tensor, "batch d"]]
LogOdds = Callable[
    [Float[Tensor, "n d_vocab"], Sequence[Sequence[int]], Int[Tensor, " n"]], Float[Tensor, " n"]
]
_LABELS = [[1, 7], [4], [2, 9, 10]]  # the tokens of three classes, out of twelve


def test_smallest_step(fn: Step) -> None:
    """``smallest_step(h, w, b, alpha, metric=None)``: v down to an estimated error of alpha."""
    h, w, b, alpha = 2 * noise(8, 4, seed=3), 1.5 * noise(4, seed=1), -0.7, 0.2
    root = noise(4, 4, seed=2)
    metric = root @ root.T + 0.5 * torch.eye(4)
    before = h.clone(), w.clone(), metric.clone()
    found = tensor(fn, h, w, b, alpha, shape=(8, 4))
    measured = tensor(fn, h, w, b, alpha, metric, shape=(8, 4))
    require(
        all(close(x, y) for x, y in zip((h, w, metric), before, strict=True)),
        "h, w or the metric was changed in place; work on new tensors.",
    )
    for message, wrong in _steps(h, w, b, alpha).items():
        require(not close(found, wrong), message)
    for message, wrong in _metric_steps(h, w, b, alpha, metric).items():
        require(not close(measured, wrong), message)
    for level in (alpha, 0.01, 0.5, 0.9):
        for own in (None, metric):
            _require_smallest(fn, h, w, b, level, own)
    require(
        close(tensor(fn, h, w, b, alpha, torch.eye(4), shape=(8, 4)), found),
        "the identity as the metric must give what no metric gives.",
    )
    passed("smallest_step")


def _excess(h: Tensor, w: Tensor, b: float, alpha: float) -> Float[Tensor, " batch"]:
    """How far the estimated log-odds lie above logit alpha."""
    return h @ w + b - math.log(alpha / (1 - alpha))


def _require_smallest(
    fn: Step, h: Tensor, w: Tensor, b: float, alpha: float, metric: Tensor | None
) -> None:
    """Nothing inside moves, all else lands on the plane, and no other way there is shorter."""
    given = (w, b, alpha) if metric is None else (w, b, alpha, metric)
    v = tensor(fn, h, *given, shape=(8, 4))
    x, kind = _excess(h, w, b, alpha), "" if metric is None else " with a metric"
    inside = x <= 0
    require(
        not v[inside].any(),
        f"at alpha = {alpha}{kind} an activation moved whose estimated error is below alpha.",
    )
    landed = _excess(h + v, w, b, alpha)[~inside]
    require(
        close(landed, torch.zeros_like(landed)),
        f"at alpha = {alpha}{kind} a moved activation does not land on w . h + b = logit alpha.",
    )
    direction = w if metric is None else metric @ w
    expected = -x.clamp(min=0)[:, None] * direction / (w @ direction)
    require(
        close(v, expected),
        f"at alpha = {alpha}{kind} the step is longer than needed: go along "
        + ("w." if metric is None else "S w."),
    )
    below = tensor(fn, h - 50 * w, *given, shape=(8, 4))
    require(not below.any(), f"at alpha = {alpha}{kind}, where all are inside, none may move.")


def _steps(h: Tensor, w: Tensor, b: float, alpha: float) -> dict[str, Tensor]:
    """What the usual mistakes give without a metric."""
    x, size, y = _excess(h, w, b, alpha), w @ w, h @ w + b
    c, p = math.log(alpha / (1 - alpha)), torch.sigmoid(y)

    def along(excess: Tensor, by: Tensor = size) -> Tensor:
        return -excess[:, None] * w / by

    return {
        "this is h + v; return the step v alone.": h + along(x.relu()),
        "the sign is flipped: the step goes up, away from logit alpha.": -along(x.relu()),
        "this is the printed formula, with max: it moves the activations that are inside, up to "
        "alpha, and leaves those alone that are above. Take min, or turn the difference around.": (
            along(-(-x).relu())
        ),
        "activations inside moved too, up to the plane: the step is 0 where w . h + b is at most "
        "logit alpha.": along(x),
        "this divides by ||w||; it takes ||w||^2, one ||w|| for the direction and one for the "
        "units of the estimate.": along(x.relu(), size.sqrt()),
        "the division by ||w||^2 is missing.": along(x.relu(), torch.ones(())),
        "a probability is compared with a log-odds, sigmoid(w . h + b) with logit alpha, as in the "
        "released code: it steers almost all or nothing.": along((p > c) * (p - c)),
        "the right activations move, but by sigmoid(w . h + b) - logit alpha, a probability minus "
        "a log-odds.": along((x > 0) * (p - c)),
        "a log-odds is compared with a probability, w . h + b with alpha: take logit alpha.": along(
            (y - alpha).relu()
        ),
        "the distance is one of probabilities; w . h + b is a log-odds, so measure to logit "
        "alpha.": along((p - alpha).relu()),
        "the offset b is not used.": along((x - b).relu()),
        "the offset b has the wrong sign.": along((x - 2 * b).relu()),
        "this goes to log alpha; logit alpha is log(alpha / (1 - alpha)).": along(
            (y - math.log(alpha)).relu()
        ),
        "logit alpha is upside down: log(alpha / (1 - alpha)).": along((y + c).relu()),
        "this goes to w . h + b = 0, an error of one half; go to logit alpha.": along((x > 0) * y),
        "all that move, move by the same; the step is as long as the activation is above.": along(
            (x > 0).float()
        ),
        "the step is -w for all that move, whatever their distance.": along((x > 0) * size),
    }


def _metric_steps(
    h: Tensor, w: Tensor, b: float, alpha: float, metric: Tensor
) -> dict[str, Tensor]:
    """What the usual mistakes give with a metric."""
    x, sw, inverse = _excess(h, w, b, alpha).relu()[:, None], metric @ w, torch.linalg.inv(metric)
    iw = inverse @ w
    return {
        "the metric is not used.": -x * w / (w @ w),
        "this goes along S^-1 w: the step has the least v . S^-1 v, and goes along S w.": (
            -x * iw / (w @ iw)
        ),
        "with a metric divide by w . S w, not by w . w.": -x * sw / (w @ w),
        "with a metric divide by w . S w, not by ||S w||^2.": -x * sw / (sw @ sw),
        "with a metric the step goes along S w, not along w.": -x * w / (w @ sw),
    }


def test_error_log_odds(fn: LogOdds) -> None:
    """``error_log_odds(logits, labels, truth)``: log (1 - p) / p of the true class."""
    logits, truth = 2 * noise(6, 12, seed=5), torch.tensor([0, 1, 2, 0, 1, 2])
    before = logits.clone()
    found = tensor(fn, logits, _LABELS, truth, shape=(6,))
    require(close(logits, before), "logits was changed in place; work on new tensors.")
    for message, wrong in _odds(logits, truth).items():
        require(not close(found, wrong), message)
    others = logits.clone()
    others[:, [0, 3, 5, 6, 8, 11]] += 9.0
    require(
        close(tensor(fn, others, _LABELS, truth, shape=(6,)), found),
        "tokens that are no labels changed the result; the softmax is over the labels only.",
    )
    less = logits.clone()
    less[:, 9:11] = less[:, 2:3] - torch.tensor([1.0, 2.0])
    weakest = less.clone()
    weakest[:, 9:11] -= 5.0
    require(
        close(*(tensor(fn, z, _LABELS, truth, shape=(6,)) for z in (less, weakest))),
        "a spelling that is not its class's likeliest one changed the result; take the maximum.",
    )
    require(close(found, _log_odds(logits, truth)), "this is not log (1 - p) / p of the true p.")
    _require_stable(fn, logits, truth)
    passed("error_log_odds")


def _require_stable(fn: LogOdds, logits: Tensor, truth: Tensor) -> None:
    """Sure answers, right and wrong, and logits far from 0."""
    sure = tensor(fn, 400 * logits, _LABELS, truth, shape=(6,))
    require(
        bool(sure.isfinite().all()),
        "with large logits the result is not finite: p is rounded to 0 or 1. Stay with logarithms: "
        "the logsumexp of the other classes minus the logit of the true one.",
    )
    right = _log_odds(400 * logits, truth)
    require(
        close(sure / 400, right / 400),
        "with large logits the result is cut off: p was clipped, or rounded. Stay with logarithms.",
    )
    far = tensor(fn, logits + 1000, _LABELS, truth, shape=(6,))
    require(
        bool(((far - _log_odds(logits + 1000, truth)).abs() < 1e-3).all()),
        "the same constant added to all logits changed the result.",
    )


def _best(logits: Tensor) -> Float[Tensor, "n classes"]:
    return torch.stack([logits[:, ids].amax(1) for ids in _LABELS], 1)


def _of_classes(z: Tensor, truth: Tensor) -> Float[Tensor, " n"]:
    """log (1 - p) / p from one logit per class."""
    own = torch.nn.functional.one_hot(truth, z.shape[1]).bool()
    return z.masked_fill(own, -torch.inf).logsumexp(1) - z[own]


def _log_odds(logits: Tensor, truth: Tensor) -> Float[Tensor, " n"]:
    return _of_classes(_best(logits), truth)


def _odds(logits: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    best, y = _best(logits), _log_odds(logits, truth)
    own = torch.nn.functional.one_hot(truth, 3).bool()
    vocabulary = torch.logit(1 - (best[own] - logits.logsumexp(1)).exp())
    variants = [logits[:, ids] for ids in _LABELS]

    def each(pool: Callable[[Tensor], Tensor]) -> Tensor:
        return _of_classes(torch.stack([pool(z) for z in variants], 1), truth)

    return {
        "the sign is flipped: this is the log-odds of the true class.": -y,
        "this is the error 1 - p; return its log-odds.": y.sigmoid(),
        "this is p; return the log-odds of 1 - p.": (-y).sigmoid(),
        "this is -log p: the true class is among the others. log-odds is log(1 - p) - log p.": (
            torch.nn.functional.softplus(y)
        ),
        "this is log(1 - p); take log p away.": torch.nn.functional.logsigmoid(y),
        "these are odds; take their logarithm.": y.exp(),
        "the softmax is over the whole vocabulary; take the labels only.": vocabulary,
        "the probabilities of a class's spellings were added up; greedy decoding writes one of "
        "them, so take the largest.": each(lambda z: z.logsumexp(1)),
        "the logits of a class's spellings were averaged; take the largest.": each(
            lambda z: z.mean(1)
        ),
        "the logits of a class's spellings were added up; take the largest.": each(
            lambda z: z.sum(1)
        ),
        "only the first spelling of each class was read; take the largest logit.": each(
            lambda z: z[:, 0]
        ),
        "only the last spelling of each class was read; take the largest logit.": each(
            lambda z: z[:, -1]
        ),
        "only the likeliest wrong class was compared; 1 - p is that of all wrong classes.": (
            best.masked_fill(own, -torch.inf).amax(1) - best[own]
        ),
        "this is about the class that is answered; take the true one.": _of_classes(
            best, best.argmax(1)
        ),
    }
