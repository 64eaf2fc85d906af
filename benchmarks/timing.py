"""How two pieces of code are compared: in turn, in one run, by the ratio of their times.

Machines differ and are shared, so a time alone says little. Each round runs every contestant once,
in an order that changes, and only the ratios within a round are kept. Time is the processor time of
this process, which other processes disturb less than the clock on the wall.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the first contestant is as the second: median and 95% interval."""

    value: float
    low: float
    high: float
    rounds: int


def race(first: Callable[[], object], second: Callable[[], object], rounds: int = 15) -> Ratio:
    """The speed of `first` over that of `second`."""
    contestants = (first, second)
    for run in contestants:
        run()
    times = np.zeros((rounds, 2))
    for number in range(rounds):
        for index in (0, 1) if number % 2 else (1, 0):
            times[number, index] = seconds(contestants[index])
    return summary(times[:, 1] / times[:, 0])


def seconds(run: Callable[[], object]) -> float:
    """Processor time of one call, without garbage collection in between."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    run()
    spent = time.process_time() - start
    gc.enable()
    return spent


def summary(ratios: np.ndarray) -> Ratio:
    """The median of paired ratios and its percentile bootstrap interval."""
    value = float(np.median(ratios))
    random = np.random.default_rng(0)
    resampled = np.median(random.choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Ratio(value, min(low, value), max(high, value), len(ratios))
