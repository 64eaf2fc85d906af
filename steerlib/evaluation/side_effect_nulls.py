"""Is a prediction of side effects better than the same graph with its values relabeled?

Chapter: values. Pairs of values are not independent, so that the tests permute whole values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from steerlib.evaluation.side_effect_prediction import (
    check_square,
    checked_expectations,
    expected_unexpected,
    two_means,
)

_ROUNDING = 1e-12  # equal gaps of two relabelings may differ by this
_NO_GAP = "no value has both a change that it expects and one that it does not"


@dataclass(frozen=True)
class Permuted:
    """A statistic and what it is when the values trade places in the prediction.

    Args:
        statistic: of the prediction as it is.
        p: (1 + how many of the null are as large) / (1 + their number), one-sided.
        null: of the relabeled predictions.

    Chapter: values.
    """

    statistic: float
    p: float
    null: Float[np.ndarray, " repeats"]


def node_permutation_test(
    frequencies: pd.DataFrame,
    expected: Mapping[str, Collection[str]],
    repeats: int = 500,
    seed: int = 0,
) -> Permuted:
    """Is `mean_gap` larger than that of the same graph with its values relabeled?

    Args:
        frequencies: of `change_frequencies`, or their excess.
        expected: as in `expected_unexpected`.
        repeats: relabelings; those whose gap is not defined are left out.
        seed: of the relabelings.

    Raises:
        ValueError: as `expected_unexpected`; no value with a gap, no repeats.

    Chapter: values.

    Example:
        >>> found = pd.DataFrame(0.25, list("abc"), list("abc"))
        >>> found.loc["a", "b"] = 1.0
        >>> test = node_permutation_test(found, {"a": {"b"}, "b": set(), "c": set()})
        >>> test.statistic, 0.1 < test.p < 0.25  # one of six relabelings
        (0.75, True)
    """
    f, mask = checked_expectations(frequencies, expected)

    def gap(order: np.ndarray) -> float:
        hit, other = two_means(f, mask[np.ix_(order, order)])
        # As `mean_gap`; NaN without a warning where one of them is empty.
        return _mean(hit) - _mean(other)

    return _permuted(gap, len(f), repeats, seed, _NO_GAP)


def value_tests(
    frequencies: pd.DataFrame,
    expected: Mapping[str, Collection[str]],
    repeats: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """For each value: is its gap larger than with as many expected values drawn at random?

    Args:
        frequencies: of `change_frequencies`, or their excess.
        expected: as in `expected_unexpected`.
        repeats: draws for each value.
        seed: of the draws.

    Returns:
        The table of `expected_unexpected` with `p`, one-sided, and `q`, adjusted for the false
        discovery rate over the values that have a gap.

    Raises:
        ValueError: as `node_permutation_test`.

    Source: Benjamini and Hochberg 1995. Chapter: values.

    Example:
        >>> found = pd.DataFrame(0.25, list("abc"), list("abc"))
        >>> found.loc["a", "b"] = 1.0
        >>> float(value_tests(found, {"a": {"b"}, "b": [], "c": []}).loc["a", "gap"])
        0.75
    """
    from scipy.stats import false_discovery_control

    f, mask = checked_expectations(frequencies, expected)
    _check_repeats(repeats)
    table = expected_unexpected(frequencies, expected).assign(p=np.nan, q=np.nan)
    rng = np.random.default_rng(seed)
    for row in np.flatnonzero(table["gap"].notna()):
        others = np.arange(len(f)) != row
        drawn = rng.permuted(np.tile(f[row, others], (repeats, 1)), axis=1)
        size = mask[row].sum()
        null = drawn[:, :size].mean(1) - drawn[:, size:].mean(1)
        table.iloc[row, table.columns.get_loc("p")] = _p(table["gap"].iloc[row], null)
    if not (tested := table["p"].notna()).any():
        raise ValueError(f"there is nothing to test: {_NO_GAP}")
    table.loc[tested, "q"] = false_discovery_control(table.loc[tested, "p"])
    return table


def signed_rank_correlation(
    predicted: pd.DataFrame, observed: pd.DataFrame, repeats: int = 500, seed: int = 0
) -> Permuted:
    """Spearman's correlation of predicted and observed effects over all pairs of two values.

    Unlike the frequencies it knows the direction of a change. p is that of relabeled predictions:
    pairs are not independent.

    Args:
        predicted: [v, u], the effect of v on u, such as a total effect; 0 where there is none.
        observed: [v, u], as `signed_changes` gives; pairs with a NaN in either are left out.
        repeats: relabelings.
        seed: of the relabelings.

    Raises:
        ValueError: no square tables of the same values, or one that is the same for all pairs.

    Source: Spearman 1904; the relabeling is Mantel's (1967). Chapter: values.

    Example:
        >>> effects = pd.DataFrame([[1, 0.5, -2], [0, 1, 1], [0, 0, 1]], list("abc"), list("abc"))
        >>> signed_rank_correlation(effects, 3 * effects).statistic
        1.0
    """
    from scipy.stats import rankdata

    for table in (predicted, observed):
        check_square(table)
    if list(predicted.index) != list(observed.index):
        raise ValueError(
            f"both tables are over the same values in one order, got {list(predicted.index)} and "
            f"{list(observed.index)}"
        )
    x, y = (table.to_numpy(dtype=np.float64) for table in (predicted, observed))
    off = ~np.eye(len(x), dtype=bool)

    def correlation(order: np.ndarray) -> float:
        moved = x[np.ix_(order, order)]
        pairs = off & np.isfinite(moved) & np.isfinite(y)
        ranks = [rankdata(part[pairs]) for part in (moved, y)]
        if min(np.ptp(rank) if len(rank) else 0 for rank in ranks) == 0:
            return np.nan
        return float(np.corrcoef(*ranks)[0, 1])

    return _permuted(correlation, len(x), repeats, seed, "all effects of a table are the same")


def _mean(x: Float[np.ndarray, " n"]) -> float:
    kept = x[np.isfinite(x)]
    return float(kept.mean()) if len(kept) else np.nan


def _permuted(
    statistic: Callable[[np.ndarray], float], size: int, repeats: int, seed: int, undefined: str
) -> Permuted:
    _check_repeats(repeats)
    found = statistic(np.arange(size))
    if not np.isfinite(found):
        raise ValueError(f"there is nothing to test: {undefined}")
    rng = np.random.default_rng(seed)
    null = np.array([statistic(rng.permutation(size)) for _ in range(repeats)])
    null = null[np.isfinite(null)]
    return Permuted(found, _p(found, null), null)


def _p(found: float, null: Float[np.ndarray, " n"]) -> float:
    return float((1 + (null >= found - _ROUNDING).sum()) / (1 + len(null)))


def _check_repeats(repeats: int) -> None:
    if repeats < 1:
        raise ValueError(f"repeats is a number from 1, got {repeats!r}")
