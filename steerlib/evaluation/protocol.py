"""AxBench's protocol: a factor for each concept and method from one part of the prompts.

Chapter: axbench. The other part reports. What chose is optimistic and is shown as such.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from steerlib.evaluation.comparing import check_scored, missing_scores
from steerlib.statistics import Interval, bootstrap_mean

# The grid of the paper, in units of the maximum activation.
FACTORS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0)
_TIE = 1e-6
_ROW = ["concept", "method"]


def choosing(prompts: Sequence[str]) -> list[str]:
    """The first half of the prompts, which choose the factor; the others report.

    n - round(n / 2) of n prompts choose. Python rounds halves to even numbers: 3 of 5, but 3 of 7.

    Raises:
        ValueError: fewer than two different prompts, or one that comes twice.

    Source: Wu et al. 2025 (AxBench), section 3.2: of ten, numbers 0-4 choose. Chapter: axbench.

    Example:
        >>> choosing(["a", "b", "c", "d", "e"])
        ['a', 'b', 'c']
    """
    if isinstance(prompts, str) or len(prompts) < 2 or len(set(prompts)) != len(prompts):
        raise ValueError(f"needed are two or more different prompts, got {prompts!r}")
    return list(prompts)[: len(prompts) - round(len(prompts) / 2)]


def reported(table: pd.DataFrame, choose: Sequence[str]) -> pd.DataFrame:
    """The answers that report: of each concept and method, those at the strength that won.

    strength = argmax over strengths of the mean score on the prompts that choose, the smallest in
    absolute value of equal ones.

    Args:
        table: a sweep.
        choose: the prompts that choose; all others report.

    Returns:
        Rows of the table on the other prompts, with `chosen_on`, the score that chose.

    Raises:
        ValueError: prompts that are not in the table for every concept and method, none left to
            report, a table without scores, or scores that are missing where they choose.

    Source: Wu et al. 2025 (AxBench), section 3.2. Chapter: axbench.

    Example:
        >>> rows = reported(sweep(model, studies, folder), choosing(prompts))
    """
    check_scored(table)
    chosen = set(choose)
    kept = []
    for (concept, method), rows in table.groupby(_ROW, sort=False):
        here = rows["prompt"].isin(chosen)
        found, left = set(rows["prompt"][here]), rows[~here]
        if found != chosen or left.empty:
            raise ValueError(
                f"{method!r} on {concept!r} answered {len(found)} of the {len(chosen)} prompts "
                f"that choose and {left['prompt'].nunique()} others; it needs all and at least one"
            )
        strength, score = _best(rows[here], f"{method!r} on {concept!r}")
        kept.append(left[left["strength"] == strength].assign(chosen_on=score))
    return pd.concat(kept, ignore_index=True)


def _best(rows: pd.DataFrame, name: str) -> tuple[float, float]:
    """The winning strength with its mean score."""
    if rows["score"].isna().any():
        raise ValueError(
            f"{int(rows['score'].isna().sum())} of the answers of {name} that choose have no "
            "score; rate them again before a strength is chosen"
        )
    # Rounded, so that sums in another order are ties.
    means = rows.groupby("strength")["score"].mean().round(9)
    ordered = means.iloc[np.argsort(np.abs(means.index.to_numpy()), kind="stable")]
    return float(ordered.idxmax()), float(ordered.max())


def benchmark(rows: pd.DataFrame, level: float = 0.95, *, seed: int = 0) -> pd.DataFrame:
    """One line per method: its score over concepts, and what the choice of the factor promised.

    The prompts and seeds of a concept are averaged first, so that the concepts are the units.
    Answers without a score are left out of all means, with a warning.

    Args:
        rows: from `reported`; several tables with other seeds may be joined.

    Returns:
        method, score, low, high, each grade, chosen_on, strength (median), concepts, and where any
        score is missing: missing (how many answers have none).

    Raises:
        ValueError: fewer than two concepts with a score.

    Chapter: axbench.

    Example:
        >>> rows = pd.DataFrame({"concept": ["rain", "snow"], "method": "a", "strength": 1.0})
        >>> benchmark(rows.assign(score=[2.0, 1.0], chosen_on=2.0))["score"].item()
        1.5
    """
    lines, lost = [], missing_scores(rows)
    numbers = [c for c in rows.columns if c.startswith("grade_")]
    for method, own in rows.groupby("method", sort=False):
        known = own[own["score"].notna()]
        means = known.groupby("concept")[["score", *numbers, "chosen_on"]].mean()
        found = bootstrap_mean(means["score"].to_numpy(), level, seed=seed)
        line = {"method": method, "score": found.estimate, "low": found.low, "high": found.high}
        line |= means.drop(columns="score").mean().to_dict()
        line |= {"strength": float(own["strength"].median()), "concepts": len(means)}
        lines.append(line | ({"missing": len(own) - len(known)} if lost else {}))
    return pd.DataFrame(lines)


def win_rate(rows: pd.DataFrame, a: str, b: str, level: float = 0.95, *, seed: int = 0) -> Interval:
    """How often method a scores above method b on the same prompt; ties count one half.

    rate = mean of 1 [s_a > s_b] + 1/2 [|s_a - s_b| < 1e-6]. Concepts are the units of the interval,
    prompts where there is one concept.

    Args:
        rows: from `reported`, with at most one answer per concept, method, seed and prompt.

    Raises:
        KeyError: no such method. ValueError: other prompts in the two, several answers to one
            prompt, a missing score, or a single prompt of a single concept.

    Source: Wu et al. 2025 (AxBench), section 5.2; their code counts ties as losses. Chapter:
    axbench.

    Example:
        >>> rows = pd.DataFrame({"concept": ["rain", "rain", "snow", "snow"], "seed": 0})
        >>> rows = rows.assign(method=["a", "b"] * 2, prompt="tell me", score=[2.0, 1.0, 1.2, 1.2])
        >>> win_rate(rows, "a", "b").estimate
        0.75
    """
    check_scored(rows)
    unit = ["concept", "seed", "prompt"]
    first, second = _scores(rows, a, unit), _scores(rows, b, unit)
    if set(first.index) != set(second.index):
        raise ValueError(f"{a!r} and {b!r} answered different prompts; a win needs the same ones")
    gap = first - second.loc[first.index]
    wins = (gap > _TIE) + 0.5 * (gap.abs() <= _TIE)
    by = "concept" if wins.index.unique("concept").size > 1 else "prompt"
    return bootstrap_mean(wins.groupby(by).mean().to_numpy(), level, seed=seed)


def _scores(rows: pd.DataFrame, method: str, unit: list[str]) -> pd.Series:
    own = rows[rows["method"] == method]
    if own.empty:
        raise KeyError(f"no method {method!r}; there are {', '.join(rows['method'].unique())}")
    scores = own.set_index(unit)["score"]
    if scores.index.has_duplicates or scores.isna().any():
        raise ValueError(
            f"{method!r} has several answers to one prompt, or {int(scores.isna().sum())} missing "
            "scores; keep one answer, and rate the missing ones"
        )
    return scores
