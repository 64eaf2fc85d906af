"""What a table of graded answers says: each arm with its interval, and one arm minus another.

Chapter: directions. Answers to the same prompt are not independent, so they are averaged first:
the different prompts are the units of every interval. Answers without a score, which a judge may
leave, count nowhere, and a warning says how many they are.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from steerlib.statistics import Interval, bootstrap_difference, bootstrap_mean

_DRAW = r"^(random|shuffled) \d+$"


def paired(
    table: pd.DataFrame,
    a: str | tuple[str, float],
    b: str | tuple[str, float],
    level: float = 0.95,
    *,
    seed: int = 0,
) -> Interval:
    """The mean score of one arm minus that of another, over the prompts that both answered.

    difference = 1/n sum_p (mean score of a on prompt p - mean score of b on prompt p). Answers
    to the same prompt are averaged first: the n different prompts are the units of the bootstrap.
    Prompts that have a score in one of the arms only are left out, with a warning.

    Args:
        table: from `score`.
        a, b: an arm's name, or (name, strength) where it has several strengths.

    Raises:
        KeyError: no such arm or strength; ValueError: several strengths and none named, arms that
            answered different prompts, or a table without scores.

    Chapter: directions.

    Example:
        >>> paired(table, ("weather", 1.25), "prompt")
    """
    rows = [_rows(table, a), _rows(table, b)]
    missing_scores(pd.concat(rows))
    first, second = (set(own["prompt"]) for own in rows)
    if first != second:
        raise ValueError(
            f"{a!r} answered {len(first)} different prompts, {b!r} {len(second)}, and they are "
            "not the same; a paired difference needs the same prompts in both"
        )
    ours, theirs = (_by_prompt(own)["score"] for own in rows)
    both = _enough([prompt for prompt in ours.index if prompt in theirs.index])
    return bootstrap_difference(ours[both].to_numpy(), theirs[both].to_numpy(), level, seed=seed)


def summary(table: pd.DataFrame, level: float = 0.95, *, seed: int = 0) -> pd.DataFrame:
    """The mean of each grade per arm and strength, with an interval of the score.

    Answers to the same prompt are averaged first, so that the prompts are the units. Answers
    without a score are left out of all means, with a warning.

    Returns:
        arm, strength, score, low, high, the other grades, prompts (how many different ones), and
        where any score is missing: missing (how many answers have none).

    Raises:
        ValueError: a table without scores, or fewer than two different prompts with one.

    Chapter: directions.

    Example:
        >>> summary(score(model, arms, prompts, judge))
    """
    lines, lost = [], missing_scores(table)
    for (arm, strength), rows in table.groupby(["arm", "strength"], sort=False):
        means = _by_prompt(rows)
        found = bootstrap_mean(means["score"].to_numpy(), level, seed=seed)
        line = {"arm": arm, "strength": strength, "score": found.estimate}
        others = means.drop(columns="score").mean().to_dict()
        line |= {"low": found.low, "high": found.high} | others | {"prompts": len(means)}
        lines.append(line | ({"missing": int(rows["score"].isna().sum())} if lost else {}))
    return pd.DataFrame(lines)


def against(table: pd.DataFrame, arm: str, level: float = 0.95, *, seed: int = 0) -> pd.DataFrame:
    """An arm and its controls, each with its score, and the arm minus each of them.

    The draws of a control, "random 0", "random 1", ..., are taken together.

    Args:
        table: from `score`, with one strength per arm.

    Returns:
        The columns of `summary`, then minus, minus_low, minus_high: `paired(table, arm, other)`,
        NaN for the arm itself.

    Raises:
        KeyError: no such arm; ValueError: an arm with several strengths, or other prompts.

    Chapter: directions.

    Example:
        >>> one = Arm("weather", weather, (1.25,))
        >>> others = controls(model, one, st.diff_means, data.train, ask=ask)
        >>> against(score(model, [one, *others], prompts, judge), "weather")
    """
    together = table.assign(arm=table["arm"].str.replace(_DRAW, r"\1", regex=True))
    _rows(together, arm)
    report = summary(together, level, seed=seed)
    nan = Interval(float("nan"), float("nan"), float("nan"))
    gaps = [
        nan if other == arm else paired(together, arm, other, level, seed=seed)
        for other in report["arm"]
    ]
    report["minus"] = [gap.estimate for gap in gaps]
    report["minus_low"], report["minus_high"] = [g.low for g in gaps], [g.high for g in gaps]
    return report


def _rows(table: pd.DataFrame, which: str | tuple[str, float]) -> pd.DataFrame:
    """The rows of one arm at one strength."""
    name, strength = (which, None) if isinstance(which, str) else which
    rows = table[table["arm"] == name]
    strengths = list(dict.fromkeys(rows["strength"]))
    if rows.empty:
        raise KeyError(f"no arm {name!r}; the table has {', '.join(table['arm'].unique())}")
    if strength is None and len(strengths) > 1:
        raise ValueError(f"arm {name!r} has the strengths {strengths}; write ({name!r}, strength)")
    if strength is not None:
        rows = rows[np.isclose(rows["strength"], strength)]
        if rows.empty:
            raise KeyError(f"arm {name!r} has no strength {strength}; it has {strengths}")
    return rows


def _by_prompt(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean of each grade for each different prompt, over the answers that have a score."""
    known = rows[rows["score"].notna()].drop(columns=["arm", "strength", "text"])
    means = known.groupby("prompt", sort=False).mean()
    _enough(list(means.index))
    return means


def _enough(prompts: list[str]) -> list[str]:
    if len(prompts) < 2:
        raise ValueError(
            "an interval over prompts needs two or more different prompts with a score, "
            f"got {len(prompts)}"
        )
    return prompts


def missing_scores(table: pd.DataFrame) -> int:
    """How many answers have no score; where there are any, a warning says so.

    Raises:
        ValueError: a table without scores.
    """
    check_scored(table)
    lost = int(table["score"].isna().sum())
    if lost:
        warnings.warn(
            f"{lost} of {len(table)} answers have no score and are left out", stacklevel=3
        )
    return lost


def check_scored(table: pd.DataFrame) -> None:
    """Raise a ValueError for answers that nobody has graded."""
    if "score" not in table:
        raise ValueError('the table has no scores; a sweep without a judge is rated with "rate"')
