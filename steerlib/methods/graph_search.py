"""From scores to a graph: PC, GES, partial correlations, plain correlations; and how stable it is.

Chapter: values. Rows are roles, columns values. Searches of causal structure are causal-learn's;
they assume independent rows, linear relations, Gaussian noise and no hidden common cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from steerlib.methods.score_tables import checked_names, checked_scores, correlations
from steerlib.methods.value_graphs import ValueGraph

METHODS = ("pc", "ges", "partial", "correlation")


def value_graph(
    scores: pd.DataFrame, method: str = "pc", *, alpha: float = 0.01, edges: int | None = None
) -> ValueGraph:
    r"""The graph of values that fits how their scores vary together over roles.

    "pc": an edge where no partial correlation given other values vanishes, by Fisher's test
    2 (1 - Phi(sqrt(n - |S| - 3) |artanh r|)) <= alpha; then v-structures and Meek's rules.
    "ges": greedy search for the class with the best BIC. "partial": the same test once, given all
    other values. "correlation": the same test once, given none.

    Args:
        scores: one row per role, one column per value.
        method: "pc" and "ges" find arrows, "partial" and "correlation" undirected graphs.
        alpha: the level of the test; "ges" has none.
        edges: for "partial" and "correlation": the so many largest in place of the test.

    Returns:
        A graph over the columns, in their order. Directions that the data leave open, and those
        that two v-structures claim both ways, are undirected.

    Raises:
        ValueError: an unknown method, a level or number of edges that is none, and as
            `checked_scores`.

    Source: Spirtes, Glymour and Scheines 2000 and Colombo and Maathuis 2014 (PC, stable);
    Chickering 2002 (GES); Kang et al. 2025, who use PC at .05. Chapter: values.

    Example:
        >>> value_graph(scores, alpha=0.05).descendants("tradition")
    """
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}; got {method!r}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, got {alpha!r}")
    if edges is not None and method in ("pc", "ges"):
        raise ValueError(f"{method!r} decides on the number of edges itself: leave `edges` out")
    x = checked_scores(scores)
    nodes = tuple(scores.columns)
    if method == "pc":
        return _of_matrix(nodes, _pc(x, alpha))
    if method == "ges":
        return _of_matrix(nodes, _ges(x))
    r, given = (_partial(x), len(nodes) - 2) if method == "partial" else (correlations(x), 0)
    return _undirected(nodes, r, len(x) - given - 3, alpha, edges)


def edge_frequencies(
    scores: pd.DataFrame,
    fit: Callable[[pd.DataFrame], ValueGraph] = value_graph,
    *,
    clusters: Sequence[object] | None = None,
    repeats: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """How often each edge comes back when rows, or clusters of rows, are drawn anew.

    Rows that belong together (one role under several conditions) are no independent evidence:
    name them in `clusters`, and whole clusters are drawn. What `fit` itself tests it tests on rows.

    Args:
        scores: one row per role, one column per value.
        fit: scores -> graph, such as `lambda x: value_graph(x, "ges")`.
        clusters: for each row, in their order, what it belongs to; None: each row by itself.
        repeats: number of resamples.
        seed: of the draws.

    Returns:
        Index: pairs (first, second), in the order of the columns; columns: `edge`, the share of
        graphs with an edge of any kind, and of it `forward` (first -> second), `backward` and
        `undirected`. The most frequent edge comes first.

    Raises:
        ValueError: fewer than two rows or clusters, not one cluster for each row, no repeats, a
            resample that `fit` refuses, and, with TypeError, as `checked_names`.

    Source: Friedman, Goldszmidt and Wyner 1999 (bootstrap of graphs). Chapter: values.

    Example:
        >>> edge_frequencies(scores, clusters=roles, repeats=5).query("edge > 0.8")
    """
    nodes, groups = checked_names(scores), _groups(scores, clusters)
    if repeats < 1:
        raise ValueError(f"repeats is a number from 1, got {repeats!r}")
    rng = np.random.default_rng(seed)
    pairs = list(combinations(nodes, 2))
    counts = np.zeros((len(pairs), 3))
    for i in range(repeats):
        drawn = np.concatenate([groups[j] for j in rng.integers(0, len(groups), len(groups))])
        graph = _fitted(fit, scores.iloc[drawn].reset_index(drop=True), f"resample {i + 1}")
        if set(graph.nodes) != set(nodes):
            raise ValueError(f"fit returns a graph over all columns, got {', '.join(graph.nodes)}")
        counts += [
            [(a, b) in graph.directed, (b, a) in graph.directed, {a, b} in graph.undirected]
            for a, b in pairs
        ]
    index = pd.MultiIndex.from_tuples(pairs, names=["first", "second"])
    table = pd.DataFrame(counts / repeats, index, ["forward", "backward", "undirected"])
    table.insert(0, "edge", counts.sum(1) / repeats)
    return table.sort_values("edge", ascending=False, kind="stable")


def _groups(
    scores: pd.DataFrame, clusters: Sequence[object] | None
) -> list[Int[np.ndarray, " rows"]]:
    """The row numbers of each cluster, clusters in the order of their first row."""
    codes = np.arange(len(scores))
    if clusters is not None:
        if len(clusters) != len(scores):
            raise ValueError(
                f"there are {len(clusters)} clusters for {len(scores)} rows; name one for each row"
            )
        codes, _ = pd.factorize(pd.Series(list(clusters), dtype=object))
        if (codes < 0).any():
            raise ValueError(f"{int((codes < 0).sum())} rows have no cluster; name one for each")
    groups = [np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)]
    if len(groups) < 2:
        kind = "rows" if clusters is None else "clusters"
        raise ValueError(f"a bootstrap draws from two or more {kind}, got {len(groups)}")
    return groups


def _fitted(
    fit: Callable[[pd.DataFrame], ValueGraph], scores: pd.DataFrame, which: str
) -> ValueGraph:
    try:
        return fit(scores)
    except ValueError as error:
        raise ValueError(f"{which}: {error}") from error


def _pc(x: Float[np.ndarray, "rows values"], alpha: float) -> Int[np.ndarray, "values values"]:
    from causallearn.search.ConstraintBased.PC import pc

    # An arrow that one v-structure has claimed stays (uc_priority=2): the library's default.
    found = pc(x, alpha, "fisherz", stable=True, uc_rule=0, uc_priority=2, show_progress=False)
    return found.G.graph


def _ges(x: Float[np.ndarray, "rows values"]) -> Int[np.ndarray, "values values"]:
    from causallearn.search.ScoreBased.GES import ges

    return ges(x, "local_score_BIC")["G"].graph


def _of_matrix(nodes: tuple[str, ...], marks: Int[np.ndarray, "values values"]) -> ValueGraph:
    """causal-learn's matrix: [j, i] is the mark of the edge at j, 1 an arrowhead and -1 a tail."""
    directed, undirected = set(), set()
    for i, j in zip(*np.nonzero(marks), strict=True):
        if marks[j, i] == 1 and marks[i, j] == -1:
            directed.add((nodes[i], nodes[j]))
        elif marks[j, i] == marks[i, j]:  # two tails, or two heads: open either way
            undirected.add(frozenset((nodes[i], nodes[j])))
    return ValueGraph(nodes, frozenset(directed), frozenset(undirected))


def _partial(x: Float[np.ndarray, "rows values"]) -> Float[np.ndarray, "values values"]:
    """r_ij given all other values: -P_ij / sqrt(P_ii P_jj), with P the inverse of the matrix."""
    p = np.linalg.inv(correlations(x))
    scale = np.sqrt(np.diag(p))
    return -p / np.outer(scale, scale)


def _undirected(
    nodes: tuple[str, ...],
    r: Float[np.ndarray, "values values"],
    freedom: int,
    alpha: float,
    edges: int | None,
) -> ValueGraph:
    """The pairs with a significant r, or the `edges` largest."""
    from scipy.stats import norm

    pairs = list(combinations(range(len(nodes)), 2))
    size = np.array([abs(r[pair]) for pair in pairs])
    if edges is None:
        chosen = np.flatnonzero(2 * norm.sf(np.sqrt(freedom) * np.arctanh(size)) <= alpha)
    elif 0 <= edges <= len(pairs):
        chosen = np.argsort(-size, kind="stable")[:edges]
    else:
        raise ValueError(f"{len(nodes)} values have 0 to {len(pairs)} edges, got {edges!r}")
    lines = (frozenset(nodes[i] for i in pairs[k]) for k in chosen)
    return ValueGraph(nodes, frozenset(), frozenset(lines))
