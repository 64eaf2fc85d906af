r"""Linear probes that read from an activation how wrong the answer will be.

Chapter: mera. The target is the log-odds of the error, y = logit E = log (1 - p) / p of the true
class, so that yhat(h) = w . h + b estimates y and {w . h + b <= logit alpha} is where the error is
estimated to be at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.capture import capture
from steerlib.core.classification import Answers, Problem, classify
from steerlib.core.interventions import Add, HalfSpace, Intervention, Origin
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, last
from steerlib.core.prompts import render
from steerlib.core.readouts import Readout
from steerlib.core.sites import Site, Sites
from steerlib.methods.error_fits import Kind, Quality, check_targets, fit_error, quality_of

Metric = Literal["identity", "covariance"]


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
    known = known_answers(model, problems, answers, batch_size)
    rows = _rows(problems, known, label, answer)
    y, wrong = known.log_odds[rows].double().numpy(), ~known.correct[rows].numpy()
    check_targets(kind, y, wrong, folds)
    held = read_problems(model, [problems[row] for row in rows], sites, at, batch_size)
    origin = Origin(model.id, model.revision, f"error probe ({kind})", seed)
    found = {}
    for site, h in held.items():
        raw, b, quality = fit_error(h.double().numpy(), y, wrong, kind, folds, seed)
        w, own = torch.from_numpy(raw).float(), torch.cov(h.T) if metric == "covariance" else None
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
    known = known_answers(model, problems, answers, batch_size)
    h = read_problems(model, problems, [probe.site], probe.positions, batch_size)[probe.site]
    x = (h @ probe.w + probe.b).double().numpy()
    y, wrong = known.log_odds.double().numpy(), ~known.correct.numpy()
    return quality_of(y, None if probe.kind == "logistic" else x, x, wrong)


def known_answers(
    model: Model, problems: Sequence[Problem], answers: Answers | None, batch_size: int
) -> Answers:
    """The answers that are given, or what the model answers.

    Raises:
        ValueError: answers to other problems.
    """
    if answers is None:
        return classify(model, problems, batch_size=batch_size)
    labels = [answers.classes[number] for number in answers.truth.tolist()]
    if labels != [problem.label for problem in problems]:
        raise ValueError(
            f"the {len(labels)} answers are not to these {len(problems)} problems, or not in their "
            "order: the true labels differ"
        )
    return answers


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
    for name, value in (("label", label), ("answer", answer)):
        if value is not None and value not in known.classes:
            raise ValueError(f"{name} is one of {known.classes} or None, got {value!r}")
    chosen = torch.ones(len(problems), dtype=torch.bool)
    if label is not None:
        chosen &= known.truth == known.classes.index(label)
    if answer is not None:
        chosen &= known.predicted == known.classes.index(answer)
    return chosen.nonzero()[:, 0].tolist()
