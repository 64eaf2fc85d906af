"""Check for the detective's exercise: six functions as a released code has them, and what is wrong.

Chapter: ``book/mera.md``. Each function has an identity that it should satisfy. The check says
which of them do not, and how; the first message about each is that of the released mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from steerlib.teaching.checks.common import call, close, noise, passed, require

Fn = Callable[..., Any]


def test_repaired(fn: Callable[[], Any]) -> None:
    """``repaired()``: the six functions, in the order in which they were given, corrected."""
    functions = call(fn)
    count = len(_EXAMINED)
    require(
        isinstance(functions, tuple | list)
        and len(functions) == count
        and all(map(callable, functions)),
        f"repaired returns the {count} functions, in the order in which they were given.",
    )
    wrong = {}
    for (name, examine), function in zip(_EXAMINED.items(), functions, strict=True):
        complaint = next(examine(function), None)
        if complaint is not None:
            wrong[name] = complaint
    require(
        wrong != _RELEASED, "repaired is still the stub: all six do what the released code does."
    )
    found = "".join(f"\n  {name}: {complaint}" for name, complaint in wrong.items())
    require(not wrong, f"{len(wrong)} of {count} are still wrong:{found}")
    passed("repaired")


_RELEASED = {
    "stepped": "sigmoid(w . h), a probability, is compared with logit alpha, a log-odds.",
    "pushed": "w reads whether the answer is right, and h goes against w: towards error.",
    "baselines": "all names share one dict: each has the direction that was put in last.",
    "label_logits": "this is one token late: logits[t] choose the token after t.",
    "errors": "an answer without a label has an error of 0; it is wrong, so 1.",
    "calibrated": "no bound is asked for, and a tie with no steering counts as a gain.",
}


def _examine_stepped(fn: Fn) -> Iterator[str]:
    h, w = 2 * noise(9, 4, seed=4), 1.5 * noise(4, seed=5)
    y, p = h @ w, torch.sigmoid(h @ w)
    for alpha in (0.2, 0.5, 0.9):
        c = torch.logit(torch.tensor(alpha))
        moved = fn(h.clone(), w.clone(), alpha)
        if not isinstance(moved, Tensor) or moved.shape != h.shape:
            yield "return the moved activations, of the shape of h."
            return
        read = moved @ w
        if close(read, torch.where(p > c, y + c - p, y)):
            yield _RELEASED["stepped"]
        if not close(moved[y <= c], h[y <= c]):
            yield f"at alpha = {alpha} activations moved with w . h at most logit alpha."
        if not close(read, y.clamp(max=float(c))):
            yield f"at alpha = {alpha} a moved activation does not end at w . h = logit alpha."
        if not close(moved - h, (y.clamp(max=float(c)) - y)[:, None] * w / (w @ w)):
            yield "the step is not along w, and so longer than needed."


def _examine_pushed(fn: Fn) -> Iterator[str]:
    h, w = noise(5, 4, seed=6), noise(4, seed=7)
    moved = fn(h.clone(), w.clone())
    if not isinstance(moved, Tensor) or moved.shape != h.shape:
        yield "return the moved activations, of the shape of h."
        return
    if close(moved, h - w):
        yield _RELEASED["pushed"]
    if not bool(((moved - h) @ w > 0).all()):
        yield "w . h does not rise, so the answer looks no surer to be right."
    if not close(moved, h + w):
        yield "the push is no longer as long as w, or not along it; only its sign was wrong."


def _examine_baselines(fn: Fn) -> Iterator[str]:
    given = {name: noise(3, seed=k) for k, name in enumerate(("error", "contrast", "logistic"))}
    found = fn(dict(given))
    if (
        not isinstance(found, dict)
        or set(found) != set(given)
        or not all(isinstance(options, dict) for options in found.values())
    ):
        yield "return a dict with a dict of options for each name."
        return
    own = [options.get("direction") is given[name] for name, options in found.items()]
    if len({id(options) for options in found.values()}) == 1:
        yield _RELEASED["baselines"]
    if not all(own):
        yield 'found[name]["direction"] is not directions[name] for each name.'
    if any(options.get("strength") != 1.0 for options in found.values()):
        yield "the strength, 1.0 for each, was lost."


def _examine_label_logits(fn: Fn) -> Iterator[str]:
    tokens = torch.tensor([3, 1, 4, 1, 5, 0, 2])
    logits = noise(7, 6, seed=8)
    logits[torch.arange(6), tokens[1:]] += 10.0  # written greedily
    for at in (4, 6, 1):
        row = fn(logits.clone(), at)
        if not isinstance(row, Tensor) or row.shape != (6,):
            yield "return one row of the logits."
            return
        if close(row, logits[at]):
            yield _RELEASED["label_logits"]
        if not close(row, logits[at - 1]):
            yield f"in a greedy text logits[{at - 1}] have their maximum at token {at}; return it."


def _examine_errors(fn: Fn) -> Iterator[str]:
    p, found = torch.tensor([0.9, 0.2, 0.7, 0.4]), torch.tensor([True, True, False, False])
    error = fn(p.clone(), found.clone())
    if not isinstance(error, Tensor) or error.shape != p.shape:
        yield "return one error for each answer; none is left out."
        return
    if not error[~found].any():
        yield _RELEASED["errors"]
    if not close(error[~found], torch.ones(2)):
        yield "an answer without a label has not the error 1, though it is wrong."
    if not close(error[found], 1 - p[found]):
        yield "where a label was found the error is 1 - p; that was right."


def _examine_calibrated(fn: Fn) -> Iterator[str]:
    alphas = [0.1, 0.3, 0.5, 0.9]
    ties = [0.0, 0.0, 0.0, 0.0]
    lucky = [0.02, 0.04, 0.01, 0.0], [-0.03, -0.01, -0.04, -0.02]
    if fn(alphas, ties, [-0.05] * 4) == 0.9 and fn(alphas, *lucky) == 0.3:
        yield _RELEASED["calibrated"]
    if fn(alphas, ties, [-0.05] * 4) != 1.0:
        yield "where nothing changes an alpha is chosen; a tie is no gain."
    if fn(alphas, *lucky) != 1.0:
        yield "an alpha is chosen though no lower bound is above 0; return 1.0."
    if fn(alphas, [0.3, 0.2, 0.1, 0.0], [-0.02, 0.05, 0.02, -0.1]) != 0.3:
        yield "of the alphas whose lower bound is above 0, take the one with the largest gain."
    if fn(alphas, [0.1, 0.2, 0.15, 0.0], [0.06, 0.03, 0.05, -0.1]) != 0.3:
        yield "among safe alphas the largest gain counts, not the first or the largest bound."


_EXAMINED: dict[str, Callable[[Fn], Iterator[str]]] = {
    "stepped": _examine_stepped,
    "pushed": _examine_pushed,
    "baselines": _examine_baselines,
    "label_logits": _examine_label_logits,
    "errors": _examine_errors,
    "calibrated": _examine_calibrated,
}
