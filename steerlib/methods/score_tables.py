"""Tables of scores that a graph can be found in: what has to hold, and the correlations.

Chapter: values.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

SINGULAR = 1e-10  # a correlation matrix with a smaller eigenvalue cannot be inverted safely


def checked_scores(scores: pd.DataFrame) -> Float[np.ndarray, "rows values"]:
    """The scores as numbers, where a graph can be found in them.

    Args:
        scores: one row per role, one column per value.

    Raises:
        TypeError: scores that are no table, columns that are not named or hold no numbers.
        ValueError: fewer than two columns, a name twice, scores that are not finite, fewer rows
            than values + 3, a constant column, a column that follows from others.

    Chapter: values.

    Example:
        >>> checked_scores(scores).shape[1]
        10
    """
    names = checked_names(scores)
    x = scores.to_numpy(dtype=np.float64, na_value=np.nan)
    _check_finite(x, names)
    if len(x) < len(names) + 3:
        raise ValueError(
            f"{len(names)} values need {len(names) + 3} rows or more, got {len(x)}; ask more "
            "roles, or leave values out"
        )
    _check_constant(x, names)
    _check_independent(correlations(x), names)
    return x


def checked_names(scores: pd.DataFrame) -> list[str]:
    """The columns of a table with one column of numbers per value.

    Raises:
        TypeError: scores that are no table, columns that are not named or hold no numbers.
        ValueError: fewer than two columns, a name twice.

    Chapter: values.

    Example:
        >>> checked_names(pd.DataFrame({"peace": [0.1], "power": [0.4]}))
        ['peace', 'power']
    """
    if not isinstance(scores, pd.DataFrame):
        raise TypeError(f"scores are a pandas.DataFrame, got {type(scores).__name__}")
    names = list(scores.columns)
    if nameless := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"columns are named after values, got the name {nameless[0]!r}")
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each value has one column, got twice: {', '.join(double)}")
    if len(names) < 2:
        raise ValueError(f"a graph joins two or more values, got {len(names)}")
    if words := [name for name in names if not pd.api.types.is_numeric_dtype(scores[name])]:
        raise TypeError(f"scores are numbers; these columns hold none: {', '.join(words)}")
    return names


def correlations(x: Float[np.ndarray, "rows values"]) -> Float[np.ndarray, "values values"]:
    """Pearson's r of each pair of columns."""
    return np.corrcoef(x, rowvar=False)


def _check_finite(x: Float[np.ndarray, "rows values"], names: list[str]) -> None:
    bad = (~np.isfinite(x)).sum(0)
    if bad.any():
        where = ", ".join(f"{name} {n}" for name, n in zip(names, bad, strict=True) if n)
        raise ValueError(
            f"{bad.sum()} scores are not finite ({where}); leave out their rows or columns"
        )


def _check_constant(x: Float[np.ndarray, "rows values"], names: list[str]) -> None:
    # A column of the same 0.1 may differ in its last bit.
    flat = x.max(0) - x.min(0) <= 1e-12 * abs(x).max(0)
    if flat.any():
        which = ", ".join(name for name, is_flat in zip(names, flat, strict=True) if is_flat)
        raise ValueError(
            f"constant, so that they vary with nothing: {which}; leave these columns out"
        )


def _check_independent(r: Float[np.ndarray, "values values"], names: list[str]) -> None:
    """No column is a linear function of others."""
    weights, vectors = np.linalg.eigh(r)
    if weights[0] >= SINGULAR:
        return
    same = np.argwhere(np.triu(abs(r) > 1 - SINGULAR, 1))
    # The eigenvector of eigenvalue 0 is the sum that is always 0; where two columns are the same
    # they alone are named.
    part = same[0] if len(same) else np.flatnonzero(abs(vectors[:, 0]) > 1e-3)
    raise ValueError(
        f"the scores of {', '.join(names[i] for i in part)} determine each other (their "
        "correlation matrix is singular); leave one of them out"
    )
