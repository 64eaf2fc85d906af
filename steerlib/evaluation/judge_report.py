"""What a judged run will cost, and what it brought: ratings, and those that are missing.

Chapter: axbench.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from steerlib.evaluation.judge_prompts import ASPECTS


@dataclass(frozen=True)
class Estimate:
    """What a run will cost: calls to make, ratings known already, dollars.

    Args:
        about: a guess, from four bytes to a token and replies of half of the allowed length.
        at_most: a bound without retries, from one token per byte and replies of full length.
        spent: what these ratings have cost in earlier runs.

    Chapter: axbench.
    """

    calls: int
    cached: int
    about: float
    at_most: float
    spent: float


@dataclass(frozen=True)
class Ratings:
    """What the judge said, and what is missing.

    Args:
        table: one row per answer: wanted, prompt, text, score (the harmonic mean), concept,
            instruction, fluency, missing (reasons by aspect, "" for none). NaN is missing.
        missing: how many ratings are missing, by reason.
        calls: attempts of this run, failed ones included.
        cached: questions whose reply was there before.
        spent: dollars that these ratings have cost so far, at most.
        per_answer: how many ratings an answer has when it has all.

    Chapter: axbench.
    """

    table: pd.DataFrame
    missing: dict[str, int]
    calls: int
    cached: int
    spent: float
    per_answer: int = len(ASPECTS)

    @property
    def mean(self) -> float:
        """The mean score of the answers that have all their ratings; NaN without one."""
        return float(self.table["score"].mean())

    def report(self) -> str:
        """How many ratings there are, how many are missing and why, and the cost."""
        total, lost = self.per_answer * len(self.table), sum(self.missing.values())
        why = "; ".join(f"{reason}: {n}" for reason, n in self.missing.items())
        whole = int(self.table["score"].notna().sum())
        complete = f"{whole} of {len(self.table)} answers have all three; "
        return (
            f"{total - lost} of {total} ratings, {lost} missing{f' ({why})' if why else ''}; "
            f"{complete if self.per_answer > 1 else ''}{self.calls} calls made, "
            f"{self.cached} replies from the cache, ${self.spent:.4f} spent at most"
        )


def harmonic(ratings: Sequence[float]) -> float:
    """The harmonic mean; 0 if one is 0, and NaN if one is missing.

    Chapter: axbench.

    Example:
        >>> round(harmonic([1, 2, 2]), 6), harmonic([0, 2, 2]), harmonic([0, 2, math.nan])
        (1.5, 0.0, nan)
    """
    if any(math.isnan(rating) for rating in ratings):
        return math.nan
    return 0.0 if 0 in ratings else len(ratings) / sum(1 / rating for rating in ratings)
