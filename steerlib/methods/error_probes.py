r"""Linear probes that read from an activation how wrong the answer will be.

Chapter: mera. The target is the log-odds of the error, y = logit E = log (1 - p) / p of the true
class, so that yhat(h) = w . h + b estimates y and {w . h + b <= logit alpha} is where the error is
estimated to be at most alpha. Activations are standardised for the fit and y too, so that a penalty
means the same at every layer; both are folded back into w and b.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.core.capture import capture
from steerlib.core.classification import Answers, Problem, classify
from steerlib.core.interventions import Add, HalfSpace, Intervention, Origin
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, last
from steerlib.core.prompts import render
from steerlib.core.readouts import Readout
from steerlib.core.sites import Site, Sites

Kind = Literal["lasso", "ridge", "logistic"]
Metric = Literal["identity", "covariance"]
PENALTIES: dict[Kind, tuple[float, ...]] = {
    "lasso": (0.5, 0.25, 0.1, 0.05, 0.01, 0.005),  # as in the paper's code
    "ridge": tuple(10.0**k for k in range(7)),
    "logistic": (0.001, 0.01, 0.1, 1.0, 10.0),  # C: the inverse strength of the penalty
}


@dataclass(frozen=True)
class Quality:
    """How well a probe reads the error of answers that it was not fitted on.

    Args:
        rmse: of y = logit E, in nats; nan for a logistic probe.
        dummy: the same of the mean of y, which reads nothing.
        r2: 1 - (rmse / dummy)^2; nan for a logistic probe.
        auroc: of the score for "the answer is wrong"; .5 reads nothing, nan without both classes.
        n: answers.
    """

    rmse: float
    dummy: float
    r2: float
    auroc: float
    n: int


@dataclass(frozen=True, eq=False)
class ErrorProbe:
    """yhat(h) = w . h + b, an estimate of the log-odds of the error.

    Args:
        site: where it reads.
        w, b: (d,) and the offset, in the model's raw basis.
        kind: how it was fitted.
        quality: cross-validated, on the problems that it was fitted on.
        positions: where it reads and steers.
        metric: S of the step (d, d); None is the identity.
        origin: the model.

    Chapter: mera.
    """

    site: Site
    w: Float[Tensor, " d"]
    b: float
    kind: str
    quality: Quality
    positions: Positions = last
    metric: Float[Tensor, "d d"] | None = None
    origin: Origin | None = None

    @property
    def readout(self) -> Readout:
        """The estimate at the last token of a prompt; `probe.readout > 0` is a gate."""
        return Readout(self.site, self.w, self.b)

    def step(self, alpha: float) -> Intervention:
        """The smallest step to where the error is estimated to be at most alpha.

        v = -relu(w . h + b - logit alpha) w / ||w||^2, or with a metric S along S w / (w . S w).

        Args:
            alpha: an error between 0 and 1; near 1 it does nothing.

        Raises:
            ValueError: an alpha outside (0, 1); a probe with zero weights.

        Source: Hedstrom et al. 2025 (MERA), section 3 and the appendix on the closed form; the
        paper prints the opposite sign. Chapter: mera.

        Example:
            >>> st.steer(model, probe.step(0.2))
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is an error between 0 and 1, both excluded, got {alpha}")
        self._check()
        made = HalfSpace(self.site, self.w, self.b - math.log(alpha / (1 - alpha)), self.metric)
        return Intervention(made.terms, self.origin).at(self.positions)

    def push(self) -> Intervention:
        """The additive baseline: h - strength * w, whatever the estimate says.

        Source: Hedstrom et al. 2025 (MERA), baseline "additive". Chapter: mera.
        """
        self._check()
        return Intervention(Add(self.site, -self.w).terms, self.origin).at(self.positions)

    def _check(self) -> None:
        if not self.w.any():
            raise ValueError(
                f"the {self.kind} probe at {self.site} has zero weights: it says the same of every "
                "activation, so there is nowhere to steer. Take a weaker penalty, another layer or "
                "more problems"
            )


def error_probes(
    model: Model,
    problems: Sequence[Problem],
    sites: Sites,
    at: Positions | str = last,
    *,
    kind: Kind = "lasso",
    label: str | None = None,
    answer: str | None = None,
    metric: Metric = "identity",
    answers: Answers | None = None,
    folds: int = 5,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[Site, ErrorProbe]:
    """A probe of the error at each site, its penalty chosen by cross-validation.

    Args:
        sites: where to read; all are read in one pass.
        at: which token is read and, by `step`, steered: one in each prompt. Several or none is an
            error.
        kind: "lasso" and "ridge" fit logit E; "logistic" fits whether the answer is wrong.
        label: only problems with this true label: the within-label fit. Without it a probe may read
            which label is the hard one, which no step should change.
        answer: only problems that the model answers so: what a gate needs to know.
        metric: of the steps. "covariance" is that of the activations that the probe was fitted on:
            the step goes along S w, the part of h that varies with the estimate (its pattern), and
            not along w, which also holds what has to be subtracted to read it.
        answers: of these problems, where they are known already.
        folds: of the cross-validation.
        seed: of the folds.

    Raises:
        ValueError: fewer than two problems per fold are left; all answers right, or all wrong, for
            a logistic probe; errors that do not vary.

    Source: Hedstrom et al. 2025 (MERA), section 3; there without an offset. Chapter: mera.

    Example:
        >>> probes = st.error_probes(model, problems, [st.resid(l) for l in range(5)])
        >>> best = max(probes.values(), key=lambda probe: probe.quality.r2)
    """
    for name, value, allowed in (("kind", kind, Kind), ("metric", metric, Metric)):
        if value not in get_args(allowed):
            raise ValueError(f"{name} is one of {get_args(allowed)}, got {value!r}")
    known = classify(model, problems, batch_size=batch_size) if answers is None else answers
    rows = _rows(problems, known, label, answer)
    y, wrong = known.log_odds[rows].double().numpy(), ~known.correct[rows].numpy()
    check_targets(kind, y, wrong, folds)
    held = read_problems(model, [problems[row] for row in rows], sites, at, batch_size)
    origin = Origin(model.id, model.revision, f"error probe ({kind})", seed)
    found = {}
    for site, h in held.items():
        w, b, quality = _fitted(h.double().numpy(), y, wrong, kind, folds, seed)
        own = torch.cov(h.T) if metric == "covariance" else None
        found[site] = ErrorProbe(site, w, b, kind, quality, as_positions(at), own, origin)
    return found


def probe_quality(
    model: Model,
    probe: ErrorProbe,
    problems: Sequence[Problem],
    *,
    answers: Answers | None = None,
    batch_size: int = 64,
) -> Quality:
    """How well a probe reads the error of other problems.

    Chapter: mera.

    Example:
        >>> probe_quality(model, probe, test).auroc
    """
    known = classify(model, problems, batch_size=batch_size) if answers is None else answers
    h = read_problems(model, problems, [probe.site], probe.positions, batch_size)[probe.site]
    x = (h @ probe.w + probe.b).double().numpy()
    y, wrong = known.log_odds.double().numpy(), ~known.correct.numpy()
    return quality_of(y, None if probe.kind == "logistic" else x, x, wrong)


def read_problems(
    model: Model,
    problems: Sequence[Problem],
    sites: Sites,
    at: Positions | str = last,
    batch_size: int = 64,
) -> dict[Site, Float[Tensor, "n d"]]:
    """The activation of one token per problem at each site.

    Raises:
        ValueError: positions that select several tokens of a prompt, or none.
    """
    texts = [render(model, p.prompt, p.chat, p.system) for p in problems]
    held = capture(model, texts, sites, at, chat=False, batch_size=batch_size)
    for site, h in held.items():
        if len(h) != len(problems):
            raise ValueError(
                f"an error probe reads one token of each prompt, but {as_positions(at)} selects "
                f"{len(h)} in {len(problems)} prompts at {site}"
            )
    return held


def _rows(
    problems: Sequence[Problem], known: Answers, label: str | None, answer: str | None
) -> list[int]:
    """The rows with this true label and this answer."""
    if len(known.truth) != len(problems):
        raise ValueError(f"there are {len(known.truth)} answers to {len(problems)} problems")
    for name, value in (("label", label), ("answer", answer)):
        if value is not None and value not in known.classes:
            raise ValueError(f"{name} is one of {known.classes} or None, got {value!r}")
    chosen = torch.ones(len(problems), dtype=torch.bool)
    if label is not None:
        chosen &= known.truth == known.classes.index(label)
    if answer is not None:
        chosen &= known.predicted == known.classes.index(answer)
    return chosen.nonzero()[:, 0].tolist()


def check_targets(
    kind: str, y: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"], folds: int
) -> None:
    if folds < 2 or len(y) < 2 * folds:
        raise ValueError(
            f"{folds} folds (at least 2) need {2 * folds} problems, but {len(y)} are left after "
            "the choice by label and answer"
        )
    if kind == "logistic" and min(wrong.sum(), (~wrong).sum()) < folds:
        raise ValueError(
            f"a logistic probe needs right and wrong answers, {folds} of each; of {len(y)} are "
            f"{wrong.sum()} wrong. Take more problems, or harder ones"
        )
    if np.ptp(y) == 0:
        raise ValueError(f"the error is the same for all {len(y)} problems: nothing to fit")


def _fitted(
    h: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
    kind: Kind,
    folds: int,
    seed: int,
) -> tuple[Float[Tensor, " d"], float, Quality]:
    """Weights and offset in the raw basis, and the cross-validated quality."""
    from sklearn.model_selection import GridSearchCV, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    centre, scale = (0.0, 1.0) if kind == "logistic" else (y.mean(), y.std())
    target = wrong if kind == "logistic" else (y - centre) / scale
    model, name, method = _estimator(kind)
    pipeline = make_pipeline(StandardScaler(), model)
    score = "neg_log_loss" if kind == "logistic" else "neg_mean_squared_error"
    grid = {f"{type(model).__name__.lower()}__{name}": PENALTIES[kind]}
    search = GridSearchCV(pipeline, grid, scoring=score, cv=_folds(kind, folds, seed))
    best = search.fit(h, target).best_estimator_
    # Other folds than those that chose the penalty.
    read = cross_val_predict(best, h, target, cv=_folds(kind, folds, seed + 1), method=method)
    read = centre + scale * read
    quality = quality_of(y, None if kind == "logistic" else read, read, wrong)
    scaler, linear = best[0], best[1]
    w = scale * np.ravel(linear.coef_) / scaler.scale_
    b = centre + scale * float(np.ravel(linear.intercept_)[0]) - float(w @ scaler.mean_)
    return torch.from_numpy(w).float(), b, quality


def _estimator(kind: Kind) -> tuple[Any, str, str]:
    """An estimator, the name of its penalty, and the method that gives its score."""
    from sklearn.linear_model import Lasso, LogisticRegression, Ridge

    if kind == "lasso":
        return Lasso(max_iter=5000), "alpha", "predict"
    if kind == "ridge":
        return Ridge(), "alpha", "predict"
    return LogisticRegression(max_iter=5000), "C", "decision_function"


def _folds(kind: Kind, folds: int, seed: int) -> Any:
    from sklearn.model_selection import KFold, StratifiedKFold

    split = StratifiedKFold if kind == "logistic" else KFold
    return split(folds, shuffle=True, random_state=seed)


def quality_of(
    y: Float[np.ndarray, " n"],
    estimate: Float[np.ndarray, " n"] | None,
    score: Float[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
) -> Quality:
    from sklearn.metrics import roc_auc_score

    dummy = float(y.std())
    rmse = math.nan if estimate is None else float(np.sqrt(np.mean((y - estimate) ** 2)))
    both = 0 < wrong.sum() < len(wrong)
    auroc = float(roc_auc_score(wrong, score)) if both else math.nan
    r2 = 1 - (rmse / dummy) ** 2 if dummy else math.nan
    return Quality(rmse, dummy, r2, auroc, len(y))
