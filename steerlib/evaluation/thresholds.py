"""A detector as a yes or no: F1, F1 where the concept is rare, and hard negatives.

Chapter: axbench. An AUROC needs no threshold, a use of the detector does. A threshold chosen on
the texts that report it flatters the detector, so here one split chooses and another one reports;
where they are the same the result says that it is `optimistic`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class Scored:
    """Texts with a detector's score each: what thresholds are chosen and reported on.

    Args:
        scores: higher where the concept is (n,), finite.
        labels: True where the text shows the concept (n,).
        hard: True for a hard negative (n,); none by default. They never choose a threshold.

    Raises:
        ValueError: lengths that differ, scores that are not finite, no positive or no ordinary
            negative, a positive that is called hard.

    Chapter: axbench.

    Example:
        >>> Scored(np.array([0.9, 0.4, 0.1]), np.array([True, False, False])).plain.scores
        array([0.9, 0.4, 0.1])
    """

    scores: Float[np.ndarray, " n"]
    labels: Bool[np.ndarray, " n"]
    hard: Bool[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        x, y = np.asarray(self.scores, dtype=np.float64), _truth(self.labels, "labels")
        hard = np.zeros(len(y), bool) if self.hard is None else _truth(self.hard, "hard")
        if x.ndim != 1 or not x.shape == y.shape == hard.shape or not np.isfinite(x).all():
            raise ValueError(
                f"needed are one finite score, label and mark per text; got the shapes {x.shape}, "
                f"{y.shape}, {hard.shape}, {int((~np.isfinite(x)).sum())} scores not finite"
            )
        if (y & hard).any() or not y.any() or not (~y & ~hard).any():
            raise ValueError(
                f"needed are positives, and negatives that are not hard; got {int(y.sum())} and "
                f"{int((~y & ~hard).sum())}, and {int((y & hard).sum())} positives marked hard"
            )
        for name, value in (("scores", x), ("labels", y), ("hard", hard)):
            object.__setattr__(self, name, value)

    @property
    def plain(self) -> Scored:
        """The positives and the ordinary negatives."""
        assert self.hard is not None
        return Scored(self.scores[~self.hard], self.labels[~self.hard])


@dataclass(frozen=True)
class F1:
    """F1 = 2 TP / (2 TP + FP + FN) for "score >= threshold".

    Args:
        optimistic: the texts that report also chose the threshold.

    Chapter: axbench.
    """

    f1: float
    precision: float
    recall: float
    threshold: float
    optimistic: bool


@dataclass(frozen=True)
class HardNegatives:
    """How many positives and hard negatives are on their side of a threshold, and the mean of both.

    Args:
        optimistic: the texts that report also chose the threshold.

    Chapter: axbench.
    """

    accuracy: float
    positives: float
    hard_negatives: float
    threshold: float
    optimistic: bool


def f1(choose: Scored, report: Scored | None = None) -> F1:
    """F1 at the threshold that was best on other texts; hard negatives only report.

    threshold = argmax over the scores s of `choose` of F1(score >= s), the highest of equal ones.

    Args:
        choose: its positives and ordinary negatives choose the threshold.
        report: all of its texts report; None reports on `choose`, which is optimistic.

    Returns:
        An `F1` with its threshold.

    Source: Wu et al. 2025 (AxBench), appendix; they choose and report on the same texts.
    Chapter: axbench.

    Example:
        >>> f1(Scored(np.array([0.9, 0.4, 0.1]), np.array([True, False, False]))).f1
        1.0
    """
    threshold = best_f1_threshold(choose)
    texts = choose if report is None else report
    said = texts.scores >= threshold
    hits = int((said & texts.labels).sum())
    claimed, true = int(said.sum()), int(texts.labels.sum())
    value = 2 * hits / (claimed + true)
    precision = hits / claimed if claimed else 0.0  # nothing claimed: F1 is 0 as well
    return F1(value, precision, hits / true, threshold, report is None)


def best_f1_threshold(scored: Scored) -> float:
    """The score s with the best F1 of "score >= s", the highest of equal ones."""
    values, hits, claimed = _curve(scored.plain)
    return float(values[np.argmax(2 * hits / (claimed + hits[-1]))])


def rare(
    scored: Scored, negatives: Float[np.ndarray, " m"], prevalence: float = 0.01, seed: int = 0
) -> Scored:
    """The same texts among so many more negatives that few of all show the concept.

    Negatives are drawn without replacement until positives / (positives + ordinary negatives) is
    the prevalence, up to rounding. Precision falls at every threshold, recall stays: the best F1
    never rises.

    Args:
        scored: the balanced texts.
        negatives: scores of more texts without the concept (m,), such as those of other concepts.
        prevalence: the share of positives, between 0 and 1.
        seed: of the draw.

    Raises:
        ValueError: a prevalence that is none, scores that are not finite, too few negatives, or
            more in `scored` than the prevalence allows.

    Source: Wu et al. 2025 (AxBench), who add 100 negatives per positive (0.98%). Chapter: axbench.

    Example:
        >>> few = Scored(np.array([0.9, 0.4]), np.array([True, False]))
        >>> len(rare(few, np.linspace(0, 1, 200)).scores)
        100
    """
    pool = np.asarray(negatives, dtype=np.float64)
    if not 0 < prevalence < 1:
        raise ValueError(f"a prevalence lies between 0 and 1, got {prevalence!r}")
    if pool.ndim != 1 or not np.isfinite(pool).all():
        raise ValueError(f"negatives are finite scores (m,), got the shape {pool.shape}")
    positives, there = int(scored.labels.sum()), int((~scored.plain.labels).sum())
    needed = round(positives * (1 - prevalence) / prevalence) - there
    if not 0 <= needed <= len(pool):
        raise ValueError(
            f"{positives} positives at a prevalence of {prevalence} need {needed} more negatives "
            f"than the {there} there; got {len(pool)}. Give more, or another prevalence"
        )
    drawn = np.random.default_rng(seed).choice(pool, needed, replace=False)
    none = np.zeros(needed, bool)
    columns = ((scored.scores, drawn), (scored.labels, none), (scored.hard, none))
    return Scored(*(np.concatenate(column) for column in columns))  # type: ignore[arg-type]


def hard_negative_accuracy(choose: Scored, report: Scored | None = None) -> HardNegatives:
    """The mean accuracy on positives and hard negatives at Youden's threshold.

    threshold = argmax over the scores s of TPR(s) - FPR(s), without hard negatives, the highest of
    equal ones; infinity (never yes, accuracy 1/2) where no threshold is better than chance.

    Args:
        choose: its positives and ordinary negatives choose the threshold.
        report: its positives and hard negatives report; None reports on `choose`, which is
            optimistic.

    Returns:
        A `HardNegatives` with its threshold.

    Raises:
        ValueError: the texts that report have no hard negatives.

    Source: Wu et al. 2025 (AxBench); Youden 1950. Chapter: axbench.

    Example:
        >>> labels, hard = np.array([True, False, False]), np.array([False, False, True])
        >>> hard_negative_accuracy(Scored(np.array([0.9, 0.1, 0.8]), labels, hard)).hard_negatives
        1.0
    """
    texts = choose if report is None else report
    assert texts.hard is not None
    if not texts.hard.any():
        raise ValueError("there are no hard negatives to report on; leave this concept out")
    threshold = youden_threshold(choose)
    said = texts.scores >= threshold
    right, spared = float(said[texts.labels].mean()), float((~said[texts.hard]).mean())
    return HardNegatives((right + spared) / 2, right, spared, threshold, report is None)


def youden_threshold(scored: Scored) -> float:
    """The score s with the largest TPR - FPR of "score >= s", or infinity if none exceeds 0."""
    values, hits, claimed = _curve(scored.plain)
    alarms = claimed - hits
    # Multiplied out, so that chance is exactly 0.
    excess = hits * alarms[-1] - alarms * hits[-1]
    best = int(np.argmax(excess))
    return float(values[best]) if excess[best] > 0 else float("inf")


def _curve(
    scored: Scored,
) -> tuple[Float[np.ndarray, " k"], Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """The different scores, highest first, with the true and all positives claimed from there."""
    values, index, counts = np.unique(-scored.scores, return_inverse=True, return_counts=True)
    hits = np.bincount(index, weights=scored.labels, minlength=len(values)).astype(np.int64)
    return -values, hits.cumsum(), counts.cumsum()


def _truth(values: Bool[np.ndarray, " n"], name: str) -> Bool[np.ndarray, " n"]:
    found = np.asarray(values)
    if not np.isin(found, (0, 1)).all():
        raise ValueError(f"{name} are True or False, got {found[~np.isin(found, (0, 1))][0]!r}")
    return found.astype(bool)
