"""MERA with a gate and a fit within one label, once for each kind of mistake.

Chapter: mera. A mistake is a pair: the model answers b where a is true. The step comes from
problems whose label is a, so that it cannot change which label the prompt speaks for; it is taken
only where a second probe, fitted on problems that are answered b, says that the answer is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steerlib.core.classification import Answers, Problem
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.positions import Positions, last
from steerlib.core.sites import Site, Sites, as_sites
from steerlib.methods.error_fits import Kind
from steerlib.methods.error_probes import ErrorProbe, Metric, error_probes, known_answers

SMALLEST = 20  # mistakes of a kind that are worth a probe


@dataclass(frozen=True, eq=False)
class GatedProbe:
    """The step for one kind of mistake, and when to take it.

    Args:
        label: the true label.
        answer: what the model says instead.
        probe: the error within the label.
        gate: logit P(wrong | answer), a logistic probe.

    Chapter: mera.
    """

    label: str
    answer: str
    probe: ErrorProbe
    gate: ErrorProbe

    def step(self, alpha: float, threshold: float = 0.0) -> Intervention:
        """The probe's step, on prompts whose last token has a gate above the threshold only.

        Args:
            alpha: as in `ErrorProbe.step`.
            threshold: in log-odds; 0 steers where a mistake is likelier than not. A higher one
                abstains on more prompts.

        Chapter: mera.

        Example:
            >>> st.steer(model, gated.step(0.1, threshold=2.0))
        """
        return self.probe.step(alpha).when(self.gate.readout > threshold)


def gated_probes(
    model: Model,
    problems: Sequence[Problem],
    sites: Sites,
    at: Positions | str = last,
    *,
    kind: Kind = "ridge",
    metric: Metric = "covariance",
    answers: Answers | None = None,
    folds: int = 5,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[Site, list[GatedProbe]]:
    """For each site the probes and gates of all kinds of mistakes that the model makes.

    A kind counts if at least 20 problems show it. Its gate is fitted on the problems that are
    answered so and have one of the two labels.

    Args:
        at: which token is read and steered; the gates read the last one.
        kind, metric, answers, folds, seed: as in `error_probes`, for the steps.

    Raises:
        ValueError: no kind of mistake is frequent enough.

    Source: a refinement of MERA (Hedstrom et al. 2025) of this book. Chapter: mera.

    Example:
        >>> gated = st.gated_probes(model, problems, st.resid(3))[st.resid(3)]
        >>> st.steer(model, st.mera(gated, 0.1))
    """
    known = known_answers(model, problems, answers, batch_size)
    wanted = as_sites(sites)
    found: dict[Site, list[GatedProbe]] = {site: [] for site in wanted}
    for label, answer in mistakes(known):
        rows = [row for row, p in enumerate(problems) if p.label in (label, answer)]
        asked, own = [problems[row] for row in rows], known.of(rows)
        steps = error_probes(
            model, asked, wanted, at, kind=kind, label=label, metric=metric, answers=own,
            folds=folds, seed=seed, batch_size=batch_size,
        )  # fmt: skip
        gates = error_probes(
            model, asked, wanted, last, kind="logistic", answer=answer, answers=own,
            folds=folds, seed=seed, batch_size=batch_size,
        )  # fmt: skip
        for site in wanted:
            found[site].append(GatedProbe(label, answer, steps[site], gates[site]))
    return found


def mistakes(answers: Answers) -> list[tuple[str, str]]:
    """(label, answer) of each kind of mistake that is frequent enough.

    Raises:
        ValueError: there is none.
    """
    counts = {
        (label, answer): int(((answers.truth == i) & (answers.predicted == j)).sum())
        for i, label in enumerate(answers.classes)
        for j, answer in enumerate(answers.classes)
        if i != j
    }
    frequent = [pair for pair, count in counts.items() if count >= SMALLEST]
    if not frequent:
        raise ValueError(
            f"no kind of mistake is made {SMALLEST} times in {len(answers.truth)} problems: "
            f"{counts}; take more problems, or harder ones"
        )
    return frequent
