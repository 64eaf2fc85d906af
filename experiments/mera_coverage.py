"""How often a calibration steers although steering does not help: simulated from counts of flips.

There is no model here. A setting changes a wrong answer into a right one with probability `up` and
a right one into a wrong one with `down`; its population gain is up - down. A repetition draws the
calibration questions of all settings, and chooses as `Calibration.chosen` does.

* `coverage`: harm (P(a setting is chosen whose population gain is 0 or less)), steering, and the
  mean population gain of what is chosen, per bound and delta;
* `winners_curse`: what the best of several useless settings gains on the calibration questions;
* `needed_gain`: the smallest gain that a bound lets pass.

Chapter: mera. Used by `experiments.mera`; alone it prints its tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from steerlib.statistics import BOUNDS, Flips

SETTINGS = 10
SIZES = (250, 1000)
DELTAS = (0.01, 0.05, 0.1)
RATES = (0.1, 0.3)  # of flips, for the winner's curse
NEEDED = (0.1, 0.2, 0.3, 0.5)  # rates of flips, for the gain that is needed
REPETITIONS = 40_000

Counts = Int[np.ndarray, "repetitions settings"]


@dataclass(frozen=True)
class Task:
    """What the settings of a grid do to a question.

    Args:
        up, down: of each setting, the probability that an answer becomes right, and wrong.
        shared: the probability that a setting takes a question's flip from what all settings have
            in common. 0: settings are independent. Two equal settings correlate by shared ** 2.
    """

    up: tuple[float, ...]
    down: tuple[float, ...]
    shared: float = 0.0

    @property
    def gain(self) -> Float[np.ndarray, " settings"]:
        """The population gain of each setting; rounded, so that a gain of 0 is 0."""
        return np.round(np.subtract(self.up, self.down), 12)


def equal(flips: float, gain: float = 0.0, shared: float = 0.0) -> Task:
    """All settings flip the same share of the answers and gain the same."""
    up, down = (flips + gain) / 2, (flips - gain) / 2
    return Task((up,) * SETTINGS, (down,) * SETTINGS, shared)


def mixed(flips: float, gains: tuple[float, ...], shared: float = 0.0) -> Task:
    """All settings flip the same share of the answers; their gains differ."""
    up = tuple((flips + gain) / 2 for gain in gains)
    return Task(up, tuple(flips - one for one in up), shared)


# Three settings help and seven harm a little.
_GAINS = (0.06, 0.03, 0.01) + (-0.01,) * (SETTINGS - 3)
# Equal settings with this share correlate by .5.
_SHARED = 0.5**0.5
TASKS: dict[str, Task] = {
    "null_10": equal(0.1),
    "null_30": equal(0.3),
    "null_50": equal(0.5),
    "mixed": mixed(0.2, _GAINS),
    "mixed_correlated": mixed(0.2, _GAINS, _SHARED),
    "adversarial": equal(0.7, -0.002),
    "adversarial_correlated": equal(0.7, -0.002, _SHARED),
}


# --- one calibration, many times


def draw(task: Task, n: int, repetitions: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """How many of n answers each setting makes right, and wrong.

    Raises:
        ValueError: a share of 1 or more or below 0; settings that differ by more than they do not
            share.
    """
    if not 0 <= task.shared < 1:
        raise ValueError(f"shared is 0 or more and below 1, got {task.shared}")
    p = np.array([task.up, task.down, np.zeros(len(task.up))]).T
    p[:, 2] = 1 - p.sum(1)
    common = np.append(p[:, :2].min(0), 0)
    common[2] = 1 - common.sum()
    own = (p - task.shared * common) / (1 - task.shared)
    if (own < 0).any():
        raise ValueError(f"settings that share {task.shared} have to be more alike, got {task}")
    # Of the questions' common outcomes each setting takes over some, and draws the others itself.
    drawn = rng.multinomial(n, common, size=(repetitions, 1))
    taken = rng.binomial(np.repeat(drawn, len(p), axis=1), task.shared)
    counts = taken + rng.multinomial(n - taken.sum(-1), own)
    return counts[..., 0], counts[..., 1]


def lower_bounds(
    n: int, up: Counts, down: Counts, level: float, bound: str
) -> Float[np.ndarray, "repetitions settings"]:
    """`Flips.lower_bound` of all counts, each pair of counts computed once."""
    pairs, where = np.unique(up * (n + 1) + down, return_inverse=True)
    ups, downs = np.divmod(pairs, n + 1)
    # How many were right before changes no bound; as many as became wrong are enough.
    found = np.asarray(Flips(n, downs, ups, downs).lower_bound(level, bound))
    return found[where].reshape(up.shape)


def chosen(
    gain: Float[np.ndarray, "repetitions settings"],
    lower: Float[np.ndarray, "repetitions settings"],
    epsilon: float = 0.0,
) -> Int[np.ndarray, " repetitions"]:
    """The setting that `Calibration.chosen` takes in each repetition; -1 where it abstains."""
    left: Bool[np.ndarray, "repetitions settings"] = lower > epsilon
    for values in (gain, lower):
        largest = np.where(left, values, -np.inf).max(1, keepdims=True)
        left = left & (values == largest)
    last = left.shape[1] - 1 - left[:, ::-1].argmax(1)
    return np.where(left.any(1), last, -1)


# --- what comes of it


def coverage(
    task: Task,
    n: int,
    *,
    deltas: Iterable[float] = DELTAS,
    bounds: Iterable[str] = BOUNDS,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Harm, steering and gain of each bound at each delta, on the same draws.

    Returns:
        One row per delta and bound. `harm`: how often a setting is chosen whose population gain is
        0 or less; `steers`: how often one is chosen at all; `gain`: the mean population gain of
        what is chosen, 0 where it abstains. Each with its standard error `_se`.
    """
    up, down = draw(task, n, repetitions, np.random.default_rng((seed, n)))
    rows = []
    for delta, bound in product(deltas, bounds):
        lower = lower_bounds(n, up, down, delta / up.shape[1], bound)
        found = chosen((up - down) / n, lower)
        gains = np.where(found < 0, 0.0, task.gain[found])
        steers = found >= 0
        rows.append(
            {
                "n": n,
                "delta": delta,
                "bound": bound,
                **_rate("harm", steers & (gains <= 0)),
                **_rate("steers", steers),
                "gain": float(gains.mean()),
                "gain_se": float(gains.std(ddof=1) / np.sqrt(repetitions)),
                "repetitions": repetitions,
            }
        )
    return pd.DataFrame(rows)


def _rate(name: str, happened: Bool[np.ndarray, " repetitions"]) -> dict[str, float]:
    """A rate with its standard error, which counts half a case more of both, and so is never 0."""
    n, hits = len(happened), int(happened.sum())
    p = (hits + 0.5) / (n + 1)
    return {name: hits / n, f"{name}_se": float(np.sqrt(p * (1 - p) / n))}


def winners_curse(
    n: int,
    rate: float,
    settings: int = SETTINGS,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> dict[str, float]:
    """The mean calibration gain of the best of some independent settings that gain nothing."""
    useless = Task((rate / 2,) * settings, (rate / 2,) * settings)
    up, down = draw(useless, n, repetitions, np.random.default_rng((seed, n)))
    best = ((up - down) / n).max(1)
    return {
        "n": n,
        "rate": rate,
        "settings": settings,
        "best": float(best.mean()),
        "best_se": float(best.std(ddof=1) / np.sqrt(repetitions)),
        "repetitions": repetitions,
    }


def needed_gain(n: int, settings: int, delta: float, bound: str, flip_rate: float) -> float:
    """The smallest gain with a lower bound above 0, if round(flip_rate * n) answers flip.

    nan where not even flips that all mend an answer pass.
    """
    up = np.arange(round(flip_rate * n) + 1)
    flips = Flips(n, up[::-1], up, up[::-1])
    passing = np.asarray(flips.lower_bound(delta / settings, bound)) > 0
    return float(np.asarray(flips.gain)[passing].min()) if passing.any() else float("nan")


# --- tables


def coverage_table(repetitions: int = REPETITIONS, seed: int = 0) -> pd.DataFrame:
    """`coverage` of all tasks at all sizes."""
    tables = [
        coverage(task, n, repetitions=repetitions, seed=seed).assign(task=name)
        for (name, task), n in product(TASKS.items(), SIZES)
    ]
    return pd.concat(tables, ignore_index=True)


def winners_curse_table(repetitions: int = REPETITIONS, seed: int = 0) -> pd.DataFrame:
    """`winners_curse` at all sizes and rates."""
    grid = product(SIZES, RATES)
    return pd.DataFrame(
        [winners_curse(n, rate, repetitions=repetitions, seed=seed) for n, rate in grid]
    )


def needed_gain_table() -> pd.DataFrame:
    """`needed_gain` at all sizes, deltas, bounds and rates of flips; no randomness."""
    rows = [
        {
            "n": n,
            "delta": delta,
            "bound": bound,
            "flip_rate": rate,
            "gain": needed_gain(n, SETTINGS, delta, bound, rate),
        }
        for n, delta, bound, rate in product(SIZES, DELTAS, BOUNDS, NEEDED)
    ]
    return pd.DataFrame(rows)


def main(repetitions: int = REPETITIONS, show: Callable[[str], None] = print) -> None:
    """Compute and print all tables."""
    table = coverage_table(repetitions)
    for value in ("harm", "steers", "gain"):
        wide = table.pivot_table(value, ["task", "n", "delta"], "bound", sort=False)
        errors = table.groupby("bound")[f"{value}_se"].max().max()
        show(f"{value} (standard error at most {errors:.4f})\n{wide.round(4).to_string()}\n")
    curse = winners_curse_table(repetitions)
    show(f"winner's curse\n{curse.round(4).to_string(index=False)}\n")
    needed = needed_gain_table().pivot_table(
        "gain", ["n", "delta", "flip_rate"], "bound", sort=False, dropna=False
    )
    show(f"gain that is needed\n{needed.round(3).to_string()}")


if __name__ == "__main__":
    main()
