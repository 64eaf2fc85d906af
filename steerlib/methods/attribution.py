r"""Detection by attribution: which tokens a small classifier's answer comes from.

Chapter: axbench. A head is trained to tell the texts apart by their last token (`last_token.py`),
and its probability is traced back to the tokens at an earlier site: by the gradient alone
(InputXGradient) or by its mean on the way from a baseline (Integrated Gradients).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.fitting import Plan
from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.model import Model
from steerlib.core.prompts import Prompt
from steerlib.core.sites import Site, as_site, width
from steerlib.methods.last_token import PLAN, Head, fit_head
from steerlib.methods.moments import Moments
from steerlib.methods.rerun import Rerun, reruns

Kind = Literal["ig", "ixg"]


@dataclass(frozen=True, eq=False)
class Attribution:
    """A detector that was fitted by `attribution`; score(text) = max over its tokens, without BOS.

    Args:
        model: the model that is read.
        site: where tokens are scored.
        head: the classifier of the last token after the last block.
        baseline: b (d,), where the path of Integrated Gradients starts.
        kind: "ig" or "ixg".
        signed: whether the terms of a token are summed as they are, or their sizes.
        steps: the points of the path.
        chat, system, batch_size: how texts are read.

    Raises:
        ValueError: another kind, no steps.

    Chapter: axbench.
    """

    model: Model = field(repr=False)
    site: Site
    head: Head = field(repr=False)
    baseline: Float[Tensor, " d"] = field(repr=False)
    kind: Kind = "ig"
    signed: bool = False
    steps: int = 20
    chat: bool | None = False
    system: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        _check(self.kind, self.steps)

    def __call__(self, texts: Sequence[Prompt]) -> Float[np.ndarray, " n"]:
        """The score of each text."""
        return np.array([scores.max().item() for scores in self.tokens(texts)])

    def tokens(self, texts: Sequence[Prompt]) -> list[Float[Tensor, " tokens"]]:
        """The score of each token of each text, BOS left out."""
        found: dict[int, Tensor] = {}
        for run in self._runs(texts):
            kept = zip(self._scores(run).cpu(), run.tokens.cpu(), strict=True)
            found |= {row: scores[mask] for row, (scores, mask) in zip(run.rows, kept, strict=True)}
        return [found[row] for row in range(len(found))]

    def probability(self, texts: Sequence[Prompt]) -> Float[np.ndarray, " n"]:
        """p1 of each text: what the head itself says, which is a detector as well."""
        found = np.empty(len(texts))
        for run in self._runs(texts):
            with torch.no_grad():
                found[run.rows] = self.head.probability(run.output(run.h)).cpu()
        return found

    def _runs(self, texts: Sequence[Prompt]) -> Iterator[Rerun]:
        options: dict[str, Any] = {"chat": self.chat, "system": self.system}
        return reruns(self.model, texts, self.site, batch_size=self.batch_size, **options)

    def _scores(self, run: Rerun) -> Float[Tensor, "batch pos"]:
        if self.kind == "ixg":
            terms = run.h * self._gradient(run, run.h)
        else:
            way = torch.where(run.tokens[..., None], run.h - self.baseline.to(run.h.device), 0.0)
            points = (run.h - (1 - k / self.steps) * way for k in range(self.steps))
            terms = way * sum(self._gradient(run, point) for point in points) / self.steps
        return (terms if self.signed else terms.abs()).sum(-1)

    def _gradient(
        self, run: Rerun, h: Float[Tensor, "batch pos d"]
    ) -> Float[Tensor, "batch pos d"]:
        """dp1 / dh where h is at the site."""
        with torch.enable_grad():
            leaf = h.detach().requires_grad_()
            # The probability of a text depends on its own tokens only.
            return torch.autograd.grad(self.head.probability(run.output(leaf)).sum(), leaf)[0]


def _check(kind: str, steps: int) -> None:
    if kind not in ("ig", "ixg") or steps < 1:
        raise ValueError(
            "kind is 'ig' (Integrated Gradients) or 'ixg' (InputXGradient) and steps at least "
            f"1, got {kind!r} and {steps}"
        )


def attribution(
    model: Model,
    data: Labelled,
    site: Site | str,
    *,
    kind: Kind = "ig",
    signed: bool = False,
    steps: int = 20,
    plan: Plan = PLAN,
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> Attribution:
    r"""A detector: how far the answer of a classifier of the last token comes from each token.

    With p1 the probability of a head on the last token's last activation, and h_i the activation
    of token i at the site,
    ixg: s_i = sum_d |h_id dp1/dh_id|,
    ig:  s_i = sum_d |(h_id - b_d) mean_k dp1/dh_id|, taken at b + alpha_k (h - b), all tokens moved
    together, alpha_k = k / steps for k = 0 .. steps - 1. With `signed` the terms keep their signs;
    the signed ig of all tokens of a text then sum to p1(h) - p1(b), up to an error of 1 / steps.
    The score of a text is its largest s_i. BOS has no score and stays as it is, and so does not
    appear in that sum. What ends a turn is cut off.

    Args:
        data: `.texts` and `.labels`.
        site: where tokens are scored; the head reads what the last block makes of them.
        kind: "ig" (Integrated Gradients) or "ixg" (InputXGradient).
        signed: False is AxBench's, which cannot tell for the concept from against it.
        steps: points on the path; AxBench has 50. Only for ig.
        plan: how the head is trained.
        chat, system: as in `diff_means`; also for the texts that are scored later.
        batch_size: texts in one pass.

    Returns:
        A function from texts to scores (n,), for `evaluation.detection`. Its `tokens(texts)` are
        s_i, its `probability(texts)` the head's own answer. `dataclasses.replace(detector,
        kind="ixg")` has another kind and the same head.

    Raises:
        ValueError: labels that are not two classes, one per text; texts that all end the same;
            another kind, no steps. FloatingPointError: the fit of the head diverged.

    Source: IG and IxG in AxBench (Wu et al. 2025), section 3.1; Sundararajan et al. 2017, eq. 3.
    There b is the embedding of a space token; here it is the mean token of the texts without the
    concept at the site: what the site holds where the concept is not. Their head's loss takes the
    softmax twice; here it is cross-entropy. Chapter: axbench.

    Example:
        >>> detector = st.attribution(model, data.train, st.resid(2), kind="ixg")
        >>> detector(["the rain is cold ."]).shape
        (1,)
    """
    _check(kind, steps)  # before anything is learned
    where = as_site(site)
    texts, labels = both_classes(data)
    truth = torch.tensor(labels)
    rows, negatives = torch.empty(len(texts), model.d_model), Moments(width(model, where))
    for run in reruns(model, texts, where, chat=chat, system=system, batch_size=batch_size):
        with torch.no_grad():
            rows[run.rows] = run.output(run.h).cpu()
        absent = ~truth[run.rows].to(run.h.device)
        negatives.add(run.h[run.tokens & absent[:, None]].cpu().double())
    head, baseline = fit_head(rows, truth, plan), negatives.mean.float()
    return Attribution(model, where, head, baseline, kind, signed, steps, chat, system, batch_size)
