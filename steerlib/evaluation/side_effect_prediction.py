"""Does a graph of values say what else changes when a value changes?

Chapter: values. Tables are [v, u]: what happens to u in the rows in which v changed. The values
that a graph expects to change with v are its descendants.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float


def descendants(
    values: Sequence[str], edges: Iterable[tuple[str, str]]
) -> dict[str, frozenset[str]]:
    """What each value reaches along (cause, effect) pairs, itself left out.

    Args:
        values: all values; those without an edge reach none.
        edges: an open direction is both pairs.

    Raises:
        ValueError: an edge of an unknown value.

    Chapter: values.

    Example:
        >>> descendants(["a", "b", "c"], [("a", "b"), ("b", "c")])["a"] == {"b", "c"}
        True
    """
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(values)
    graph.add_edges_from(edges)
    _check_known(set(graph) - set(values), values)
    return {value: frozenset(nx.descendants(graph, value)) for value in values}


def change_frequencies(
    before: pd.DataFrame, after: pd.DataFrame, least: float = 0.0
) -> pd.DataFrame:
    r"""How often u changes in the rows in which v does.

    F[v, u] = sum_r [|d_rv| > least] [|d_ru| > least] / sum_r [|d_rv| > least], d = after - before.

    Args:
        before: one row per comparison, one column per value.
        after: the same rows and columns.
        least: a change counts above this size, in units of the scores; 0 for counted answers, as
            in the paper; expected answers of a model change always, by a little.

    Returns:
        Square, [v, u]; NaN on the diagonal and where v never changed.

    Raises:
        ValueError: tables of other rows or columns, a score that is not finite, a negative least.

    Source: Kang et al. 2025 (2501.00581), their code. Chapter: values.

    Example:
        >>> old = pd.DataFrame({"a": [0.0, 0.0], "b": [0.0, 0.0]})
        >>> new = pd.DataFrame({"a": [1.0, -1.0], "b": [0.0, 0.5]})
        >>> float(change_frequencies(old, new).loc["a", "b"])
        0.5
    """
    change = _changes(before, after)
    if not 0 <= least < np.inf:
        raise ValueError(f"least is the size of a change, from 0; got {least!r}")
    moved = abs(change) > least
    return _per_change(moved, moved.astype(float), before.columns)


def signed_changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    r"""By how much u rises when v rises: mean of sign(d_rv) d_ru over the rows in which v changes.

    Args:
        before: one row per comparison, one column per value.
        after: the same rows and columns.

    Returns:
        Square, [v, u], in units of the scores; NaN on the diagonal and where v never changed.

    Raises:
        ValueError: tables of other rows or columns, a score that is not finite.

    Chapter: values.

    Example:
        >>> old = pd.DataFrame({"a": [0.0, 0.0], "b": [0.0, 0.0]})
        >>> new = pd.DataFrame({"a": [1.0, -1.0], "b": [-0.5, 0.5]})
        >>> float(signed_changes(old, new).loc["a", "b"])
        -0.5
    """
    change = _changes(before, after)
    return _per_change(np.sign(change), change, before.columns)


def excess_frequencies(frequencies: pd.DataFrame) -> pd.DataFrame:
    """How much more often u changes with v than with any value, on average.

    E[v, u] = F[v, u] - mean over w of F[w, u]. A value whose score changes all the time is a side
    effect of nothing in particular; its frequency says little about a graph.

    Args:
        frequencies: of `change_frequencies`.

    Raises:
        ValueError: no square table.

    Chapter: values.

    Example:
        >>> always = pd.DataFrame([[np.nan, 1.0], [1.0, np.nan]], ["a", "b"], ["a", "b"])
        >>> float(excess_frequencies(always).loc["a", "b"])
        0.0
    """
    check_square(frequencies)
    return frequencies - frequencies.mean()


def expected_unexpected(
    frequencies: pd.DataFrame, expected: Mapping[str, Collection[str]]
) -> pd.DataFrame:
    """The mean frequency of the changes that a graph expects, and of all others.

    Args:
        frequencies: of `change_frequencies`, or their excess.
        expected: for each value the others that should change with it, as `descendants` gives.

    Returns:
        One row per value: `expected`, `unexpected` and `gap`, their difference. NaN where a value
        expects none or all others, or never changed.

    Raises:
        ValueError: no square table, expectations of, or for, an unknown value, a value without
            any entry, or one that expects itself.

    Source: Kang et al. 2025, their table 2. Chapter: values.

    Example:
        >>> sure = pd.DataFrame([[np.nan, 1, 0]] * 3, list("abc"), list("abc"))
        >>> float(expected_unexpected(sure, {"a": {"b"}, "b": [], "c": []}).loc["a", "gap"])
        1.0
    """
    f, mask = checked_expectations(frequencies, expected)
    hit, other = two_means(f, mask)
    found = {"expected": hit, "unexpected": other, "gap": hit - other}
    return pd.DataFrame(found, frequencies.index)


def mean_gap(table: pd.DataFrame) -> float:
    """The gap as the paper reports it: mean of `expected` minus mean of `unexpected`.

    Each mean leaves out its own empty cells, so that a value without descendants counts only for
    the second; `table["gap"].mean()` compares within values.

    Args:
        table: of `expected_unexpected`.

    Source: Kang et al. 2025. Chapter: values.

    Example:
        >>> mean_gap(pd.DataFrame({"expected": [0.5, np.nan], "unexpected": [0.25, 0.75]}))
        0.0
    """
    return float(table["expected"].mean() - table["unexpected"].mean())


def _changes(before: pd.DataFrame, after: pd.DataFrame) -> Float[np.ndarray, "rows values"]:
    for axis, kind in ((0, "rows"), (1, "columns")):
        left, right = (list(table.axes[axis]) for table in (before, after))
        if left != right:
            raise ValueError(
                f"before and after have the same {kind} in one order, got {len(left)} ({left[:3]}, "
                f"...) and {len(right)} ({right[:3]}, ...)"
            )
    tables = [table.to_numpy(dtype=np.float64) for table in (before, after)]
    for name, scores in zip(("before", "after"), tables, strict=True):
        bad = before.columns[~np.isfinite(scores).all(0)]
        if len(bad):
            raise ValueError(f"scores in {name} are not finite: {', '.join(map(str, bad))}")
    return tables[1] - tables[0]


def _per_change(
    weights: Float[np.ndarray, "rows values"],
    effects: Float[np.ndarray, "rows values"],
    values: pd.Index,
) -> pd.DataFrame:
    """Sum over rows of weight [r, v] times effect [r, u], over the number of weights of v."""
    count = (weights != 0).sum(0)[:, None].astype(float)
    count[count == 0] = np.nan
    found = weights.astype(float).T @ effects / count
    np.fill_diagonal(found, np.nan)
    return pd.DataFrame(found, values, values)


def two_means(
    f: Float[np.ndarray, "values values"], mask: Bool[np.ndarray, "values values"]
) -> tuple[Float[np.ndarray, " values"], Float[np.ndarray, " values"]]:
    """Each row's mean inside and outside the mask, its diagonal left out; NaN where it is empty."""
    found = []
    for chosen in (mask, ~mask & ~np.eye(len(f), dtype=bool)):
        count = chosen.sum(1).astype(float)
        count[count == 0] = np.nan
        found.append(np.where(chosen, f, 0.0).sum(1) / count)
    return found[0], found[1]


def checked_expectations(
    frequencies: pd.DataFrame, expected: Mapping[str, Collection[str]]
) -> tuple[Float[np.ndarray, "values values"], Bool[np.ndarray, "values values"]]:
    """The table as numbers, and where a change is expected."""
    check_square(frequencies)
    values = list(frequencies.index)
    _check_known({*expected, *(u for effects in expected.values() for u in effects)}, values)
    if missing := [value for value in values if value not in expected]:
        raise ValueError(f"no expectation for {', '.join(missing)}; give an empty set for none")
    if own := [value for value in values if value in expected[value]]:
        raise ValueError(f"a value is no side effect of itself; take out {', '.join(own)}")
    mask = np.array([[u in expected[v] for u in values] for v in values])
    return frequencies.to_numpy(dtype=np.float64), mask


def _check_known(found: Iterable[str], values: Sequence[str]) -> None:
    if unknown := sorted(set(found) - set(values)):
        raise ValueError(f"values are {', '.join(values)}; got {', '.join(unknown)}")


def check_square(table: pd.DataFrame) -> None:
    """Raise a ValueError if a table is not [v, u] over the same values."""
    if list(table.index) != list(table.columns):
        raise ValueError(
            f"a table [v, u] has the same values as rows and columns, got {list(table.index)} and "
            f"{list(table.columns)}"
        )
