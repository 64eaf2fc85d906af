r"""What a graph says about interventions, and what interventions say about a graph.

Chapter: values. With B the coefficients of a linear model over a DAG,

    v = B v + u,    do(v_j = x):  E[v_k | do(v_j = x)] = ((I - B)^{-1})_{kj} x + constant.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from steerlib.methods.graph_classes import extension
from steerlib.methods.score_tables import checked_scores, correlations
from steerlib.methods.value_graphs import ValueGraph

MOST = 18  # values that `orient` takes: it looks at all 2^18 sets of them
EQUAL = 1e-12  # sums of differences that are nearer than this are equal up to rounding
# (value, its parents) -> regression coefficients
Coefficients = dict[tuple[int, tuple[int, ...]], Float[np.ndarray, " parents"]]


def total_effects(scores: pd.DataFrame, dag: ValueGraph) -> pd.DataFrame:
    r"""The change of each value when another one is set one standard deviation higher.

    B from least squares of each value on its parents, on standardised scores; T = (I - B)^{-1}.

    Args:
        scores: one row per role, a column for each value of the graph.
        dag: a graph without undirected edges and without a cycle.

    Returns:
        [cause, effect], in standard deviations over the rows per standard deviation; 1 on the
        diagonal, 0 where the graph has no path.

    Raises:
        ValueError: a graph that is no DAG, and as `st.value_graph` about scores; KeyError: a value
            without a column.

    Source: Wright 1934 (path analysis). Chapter: values.

    Example:
        >>> total_effects(scores, dag).loc["tradition", "freedom"]
    """
    if (circle := dag.cycle()) is not None:
        raise ValueError(f"cyclic graph: {circle}; total effects need a DAG")
    if dag.undirected:
        raise ValueError(
            f"the graph leaves {len(dag.undirected)} directions open: {dag}; take class_effects "
            "for all DAGs that it stands for, or direct them with `orient`"
        )
    found = _total(_correlations(scores, dag), dag, {})
    return _table(found, dag)


def class_effects(scores: pd.DataFrame, graph: ValueGraph) -> pd.DataFrame:
    """The total effects over all DAGs that a graph stands for: their mean and their range.

    Returns:
        Index: pairs (cause, effect) of different values; columns: `mean`, `low`, `high` over the
        members, in standard deviations per standard deviation. Where `low` and `high` differ the
        scores cannot tell. `found["mean"].unstack()` is a matrix.

    Raises:
        ValueError: a graph without members or with too many (`ValueGraph.members`), and as
            `st.value_graph` about scores; KeyError: a value without a column.

    Source: Maathuis, Kalisch and Bühlmann 2009 (IDA). Chapter: values.

    Example:
        >>> class_effects(scores, graph).loc[("tradition", "freedom")]
    """
    r = _correlations(scores, graph)
    known: Coefficients = {}
    found = np.stack([_total(r, member, known) for member in graph.members()])
    pairs = [(a, b) for a in range(len(r)) for b in range(len(r)) if a != b]
    index = pd.MultiIndex.from_tuples(
        [(graph.nodes[a], graph.nodes[b]) for a, b in pairs], names=["cause", "effect"]
    )
    each = found[:, *np.array(pairs).T]
    columns = {"mean": each.mean(0), "low": each.min(0), "high": each.max(0)}
    return pd.DataFrame(columns, index)


def orient(graph: ValueGraph, effects: pd.DataFrame) -> ValueGraph:
    r"""Undirected edges directed by what interventions did: a -> b where do(a) moves b more.

    Of all acyclic orientations the one with the largest sum over its edges a -> b of
    |E[a, b]| - |E[b, a]|, exactly, over causal orders: best(S + v) = max_v best(S) + the edges from
    S into v. Arrows of the graph stay. An orientation may have a new v-structure: interventions
    are evidence of their own.

    Args:
        graph: to direct all edges anew, `ValueGraph(graph.nodes, frozenset(), graph.skeleton)`.
        effects: [cause, effect]: the measured effect of do(cause) on each value, in one unit for
            all.

    Returns:
        A DAG with the same skeleton. Between orientations with equal sums the order of the nodes
        decides, mostly for the earlier value as the cause.

    Raises:
        ValueError: arrows with a cycle, more than 18 values, an effect along an undirected edge
            that is not finite; KeyError: a value without a row or a column; TypeError: no table.

    Source: dynamic programming over sets as Silander and Myllymäki 2006. Chapter: values.

    Example:
        >>> effects = pd.DataFrame([[1, 0.8], [0.1, 1]], ["a", "b"], ["a", "b"])
        >>> print(orient(ValueGraph.of(["a", "b"], [("a", "b"), ("b", "a")]), effects))
        a -> b
    """
    nodes = graph.nodes
    if len(nodes) > MOST:
        raise ValueError(f"orient looks at all orders of up to {MOST} values, got {len(nodes)}")
    if (circle := graph.cycle()) is not None:
        raise ValueError(
            f"cyclic graph: {circle}; direct all edges anew: "
            "orient(ValueGraph(graph.nodes, frozenset(), graph.skeleton), effects)"
        )
    size = _sizes(graph, effects)
    place = {node: i for i, node in enumerate(nodes)}
    worth, before = np.zeros((2, len(nodes), len(nodes)))
    for line in graph.undirected:
        a, b = (place[node] for node in line)
        worth[a, b], worth[b, a] = size[a, b] - size[b, a], size[b, a] - size[a, b]
    for cause, effect in graph.directed:
        before[place[cause], place[effect]] = 1
    rank = {nodes[v]: i for i, v in enumerate(_best_order(worth, before.astype(bool)))}
    found = {tuple(sorted(line, key=rank.__getitem__)) for line in graph.undirected}
    return ValueGraph(nodes, graph.directed | {(a, b) for a, b in found})


def predict_side_effects(
    graph: ValueGraph, value: str, scores: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Which other values should move when one is steered, and, with scores, how far?

    Args:
        value: the one that is steered up.
        scores: one row per role, a column for each value of the graph; None: only `expected`.

    Returns:
        Index: the other values; columns: `expected`, is it a descendant (an undirected edge can be
        walked both ways)? With scores and a graph that stands for some DAG also `effect`, the mean
        total effect over these DAGs in standard deviations per standard deviation, and its range
        `low` to `high`; a graph with a cycle has no such columns.

    Raises:
        KeyError: an unknown value, a value without a column; ValueError: too many members, and as
            `st.value_graph` about scores.

    Source: Kang et al. 2025, for `expected`. Chapter: values.

    Example:
        >>> predict_side_effects(graph, "tradition", scores).query("expected").effect
    """
    reached = graph.descendants(value)
    others = [node for node in graph.nodes if node != value]
    table = pd.DataFrame({"expected": [node in reached for node in others]}, others)
    if scores is None or not _has_members(graph):
        return table
    effects = class_effects(scores, graph).loc[value].rename(columns={"mean": "effect"})
    return table.join(effects)


def _total(
    r: Float[np.ndarray, "values values"], dag: ValueGraph, known: Coefficients
) -> Float[np.ndarray, "cause effect"]:
    """T of a DAG from correlations; `known` keeps regressions that several DAGs share."""
    place = {node: i for i, node in enumerate(dag.nodes)}
    b = np.zeros_like(r)
    for i, node in enumerate(dag.nodes):
        parents = tuple(place[parent] for parent in dag.parents(node))
        if (i, parents) not in known:
            known[i, parents] = np.linalg.solve(r[np.ix_(parents, parents)], r[list(parents), i])
        b[i, list(parents)] = known[i, parents]
    return np.linalg.inv(np.eye(len(b)) - b).T


def _table(matrix: Float[np.ndarray, "cause effect"], graph: ValueGraph) -> pd.DataFrame:
    cause, effect = (pd.Index(graph.nodes, name=name) for name in ("cause", "effect"))
    return pd.DataFrame(matrix, cause, effect)


def _correlations(scores: pd.DataFrame, graph: ValueGraph) -> Float[np.ndarray, "values values"]:
    """The correlations of the values of the graph, in its order."""
    if not isinstance(scores, pd.DataFrame):
        raise TypeError(f"scores are a pandas.DataFrame, got {type(scores).__name__}")
    if missing := [node for node in graph.nodes if node not in scores.columns]:
        raise KeyError(f"scores have no column for {', '.join(missing)}")
    return correlations(checked_scores(scores[list(graph.nodes)]))


def _has_members(graph: ValueGraph) -> bool:
    try:
        extension(graph.nodes, graph.directed, graph.undirected)
    except ValueError:
        return False
    return True


def _sizes(graph: ValueGraph, effects: pd.DataFrame) -> Float[np.ndarray, "cause effect"]:
    """|E| in the order of the nodes, finite along the undirected edges."""
    if not isinstance(effects, pd.DataFrame):
        raise TypeError(f"effects are a pandas.DataFrame, got {type(effects).__name__}")
    for name, index in (("row", effects.index), ("column", effects.columns)):
        if missing := [node for node in graph.nodes if node not in index]:
            raise KeyError(f"effects are [cause, effect]; no {name} for {', '.join(missing)}")
    chosen = effects.loc[list(graph.nodes), list(graph.nodes)].astype(float).abs()
    for a, b in (way for line in graph.undirected for way in ((*line,), (*line,)[::-1])):
        if not np.isfinite(chosen.loc[a, b]):
            raise ValueError(f"the effect of do({a}) on {b} is {chosen.loc[a, b]}; measure it")
    return chosen.to_numpy()


def _best_order(worth: Float[np.ndarray, "n n"], before: Bool[np.ndarray, "n n"]) -> list[int]:
    """The order with the largest sum of worth[u, v] over u before v, where `before` is obeyed."""
    n = len(worth)
    subsets = np.arange(2**n)
    inside = (subsets[:, None] >> np.arange(n) & 1).astype(float)  # (2^n, n)
    gain = inside @ worth  # (2^n, n): of v after the set S
    gain[(inside > 0) | (inside @ before < before.sum(0))] = -np.inf
    best = np.where(subsets == 0, 0.0, -np.inf)
    sizes = inside.sum(1)
    for size in range(n):
        sets = subsets[sizes == size]
        for v in range(n):
            after = sets | 1 << v
            best[after] = np.maximum(best[after], best[sets] + gain[sets, v])
    order, left = [], 2**n - 1
    while left:
        # From the end; of equal ones the value that comes last, so that causes keep their order.
        earlier = [left & ~(1 << v) for v in range(n)]
        sums = np.array([best[s] + gain[s, v] for v, s in enumerate(earlier)])
        sums[[not left >> v & 1 for v in range(n)]] = -np.inf
        v = int(np.flatnonzero(sums >= sums.max() - EQUAL)[-1])
        order.append(v)
        left &= ~(1 << v)
    return order[::-1]
