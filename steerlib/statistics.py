"""Bootstrap intervals of a mean and of a paired difference.

Chapter: hooks. Every claim of the book carries such an interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


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
    x = _checked(values)
    if not 0 < level < 1:
        raise ValueError(f"level lies between 0 and 1, got {level}")
    rng = np.random.default_rng(seed)
    # One resample at a time, so that memory stays at n.
    means = [x[rng.integers(0, len(x), len(x))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(x.mean()), float(low), float(high))


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


def _checked(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"needed are two or more finite numbers, got the shape {x.shape}")
    return x
