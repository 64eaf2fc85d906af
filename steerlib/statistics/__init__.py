"""Intervals for whatever is claimed, and lower bounds for a gain that decides about steering."""

from steerlib.statistics.gains import BOUNDS, Flips, spi
from steerlib.statistics.intervals import (
    Interval,
    auroc,
    bootstrap,
    bootstrap_difference,
    bootstrap_mean,
)

__all__ = [
    "BOUNDS",
    "Flips",
    "Interval",
    "auroc",
    "bootstrap",
    "bootstrap_difference",
    "bootstrap_mean",
    "spi",
]
