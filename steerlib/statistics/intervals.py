"""Bootstrap intervals of a mean, a paired difference, any statistic, and an AUROC.

Chapter: hooks. Every claim of the book carries such an interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(
    values: Float[np.ndarray, " n"], level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of independent values with a percentile bootstrap interval.

    Args:
        values: one number per independent unit (n,).
        level: the coverage, 0.95 for a 95% interval.

    Raises:
        ValueError: fewer than two values, or a value that is not finite.

    Example:
        >>> bootstrap_mean([0.0, 1.0, 1.0, 0.0]).estimate
        0.5
    """
    return bootstrap(_checked(values), lambda x: float(x.mean()), level, resamples, seed)


def bootstrap_difference(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of a - b for paired values: both come from the same n units, resampled together.

    Raises:
        ValueError: a and b of different length.
    """
    first, second = _checked(a), _checked(b)
    if first.shape != second.shape:
        raise ValueError(f"paired values need equal numbers, got {len(first)} and {len(second)}")
    return bootstrap_mean(first - second, level, resamples, seed)


def bootstrap(
    values: Float[np.ndarray, "n ..."],
    statistic: Callable[[Float[np.ndarray, "n ..."]], float],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Any statistic of n independent units with a percentile bootstrap interval.

    Args:
        values: the units along the first axis; what belongs to one unit stays together.
        statistic: resampled units -> a number. Resamples in which it is not finite (a
            correlation of equal values) are left out.

    Raises:
        ValueError: fewer than two units, a value or an estimate that is not finite.

    Example:
        >>> bootstrap(np.arange(5.0), np.median).estimate
        2.0
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim < 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"needed are two or more finite units, got the shape {x.shape}")
    estimate = float(statistic(x))
    if not np.isfinite(estimate):
        raise ValueError(f"the statistic of all {len(x)} units is {estimate}; it has to be finite")
    rng = np.random.default_rng(seed)
    # One resample at a time, so that memory stays at n.
    drawn = [float(statistic(x[rng.integers(0, len(x), len(x))])) for _ in range(resamples)]
    return percentiles(estimate, drawn, level)


def auroc(
    scores: Float[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    r"""The area under the ROC curve with an interval from a stratified bootstrap.

    AUROC = 1/(n+ n-) sum_ij [s+_i > s-_j] + 1/2 [s+_i = s-_j]: the probability that a positive
    scores above a negative. Positives and negatives are resampled apart, each in their number.

    Args:
        scores: higher for positive (n,); only their order counts.
        labels: True for positive (n,).

    Raises:
        ValueError: scores that are not finite, labels of another number or that are neither True
            nor False, fewer than two of a class.

    Source: Hanley and McNeil 1982; the estimate is scikit-learn's. Chapter: directions.

    Example:
        >>> auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True]).estimate
        0.875
    """
    from sklearn.metrics import roc_auc_score

    x, y = _checked(scores), _truth(labels)
    if len(x) != len(y) or min(y.sum(), (~y).sum()) < 2:
        raise ValueError(
            f"an AUROC needs one label per score and two or more of both classes; got {len(x)} "
            f"scores and {len(y)} labels, {int(y.sum())} of them true"
        )
    rng = np.random.default_rng(seed)
    # The number of the value that each score has: ties share one.
    ranks = np.unique(x, return_inverse=True)[1]
    values = int(ranks.max()) + 1
    # Many resamples at once, but no more than fit into some megabytes.
    step, drawn = max(1, 1_000_000 // len(x)), []
    for start in range(0, resamples, step):
        times = min(step, resamples - start)
        positive, negative = (_resampled(ranks[group], values, times, rng) for group in (y, ~y))
        drawn += _share_won(positive, negative).tolist()
    return percentiles(float(roc_auc_score(y, x)), drawn, level)


def _resampled(
    ranks: Int[np.ndarray, " n"], values: int, times: int, rng: np.random.Generator
) -> Int[np.ndarray, "times values"]:
    """How often each value occurs in some resamples of a class."""
    drawn = ranks[rng.integers(0, len(ranks), (times, len(ranks)))]
    # Each resample counts in a range of its own.
    shifted = drawn + values * np.arange(times)[:, None]
    return np.bincount(shifted.ravel(), minlength=times * values).reshape(times, values)


def _share_won(
    positive: Int[np.ndarray, "times values"], negative: Int[np.ndarray, "times values"]
) -> Float[np.ndarray, " times"]:
    """AUROC from how many positives and how many negatives have each value, in rising order."""
    below = np.cumsum(negative, 1) - negative / 2
    return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))


def percentiles(estimate: float, drawn: list[float], level: float) -> Interval:
    """The interval between the percentiles of what was drawn; what is not finite is left out."""
    if not 0 < level < 1:
        raise ValueError(f"level lies between 0 and 1, got {level}")
    usable = [value for value in drawn if np.isfinite(value)]
    if len(usable) < len(drawn) / 2:
        raise ValueError(
            f"the statistic is defined in only {len(usable)} of {len(drawn)} resamples: there are "
            "too few different units for an interval"
        )
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def _truth(labels: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    y = np.asarray(labels)
    if y.ndim != 1 or not np.isin(y, (0, 1)).all():
        raise ValueError(f"labels are True or False (or 1 and 0) along one axis, got {labels!r}")
    return y.astype(bool)


def _checked(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"needed are two or more finite numbers, got the shape {x.shape}")
    return x
