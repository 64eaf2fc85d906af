"""How near is a found graph to the true one? Edges, arrows, and the number of differences.

Chapter: values. Graphs are compared as they are given: next to `truth.cpdag()` an arrow counts
only where observations can tell it, next to `truth` every arrow does.
"""

from __future__ import annotations

from collections.abc import Set

import pandas as pd

from steerlib.methods.value_graphs import ValueGraph


def skeleton_f1(found: ValueGraph, truth: ValueGraph) -> float:
    """F1 = 2 |found and true| / (|found| + |true|) of the edges, whatever their direction.

    Returns:
        A share in [0, 1]; 1 where neither graph has an edge.

    Raises:
        ValueError: the graphs are about different values.

    Chapter: values.

    Example:
        >>> found = ValueGraph.of(["a", "b", "c"], [("a", "b"), ("b", "c")])
        >>> skeleton_f1(found, ValueGraph.of(["a", "b", "c"], [("b", "a")]))
        0.6666666666666666
    """
    _check_nodes(found, truth)
    return _agreement(found.skeleton, truth.skeleton)[2]


def orientation_f1(found: ValueGraph, truth: ValueGraph) -> float:
    """F1 = 2 |found and true| / (|found| + |true|) of the arrows a -> b.

    An arrow on an edge that the other graph leaves open, turns round or does not have is wrong.

    Args:
        truth: `truth.cpdag()` for a graph from observations, which leave other directions open.

    Returns:
        A share in [0, 1]; 1 where neither graph has an arrow.

    Raises:
        ValueError: the graphs are about different values.

    Chapter: values.

    Example:
        >>> found = ValueGraph.of(["a", "b", "c"], [("a", "b"), ("c", "b")])
        >>> orientation_f1(found, ValueGraph.of(["a", "b", "c"], [("a", "b"), ("b", "c")]))
        0.5
    """
    _check_nodes(found, truth)
    return _agreement(found.directed, truth.directed)[2]


def structural_hamming(found: ValueGraph, truth: ValueGraph) -> int:
    """The number of pairs of values that are joined in another way: missing, extra, turned, open.

    Raises:
        ValueError: the graphs are about different values.

    Source: Tsamardinos, Brown and Aliferis 2006. Chapter: values.

    Example:
        >>> found = ValueGraph.of(["a", "b", "c"], [("a", "b"), ("b", "a"), ("b", "c")])
        >>> structural_hamming(found, ValueGraph.of(["a", "b", "c"], [("a", "b")]))
        2
    """
    _check_nodes(found, truth)
    edges = (found.directed ^ truth.directed) | (found.undirected ^ truth.undirected)
    return len({frozenset(edge) for edge in edges})


def compare_graphs(found: ValueGraph, truth: ValueGraph) -> pd.Series:
    """All measures at once.

    Precision is the share of what was found that is true, recall the share of what is true that
    was found.

    Args:
        truth: `truth.cpdag()` for a graph from observations, which leave other directions open.

    Returns:
        `skeleton_precision`, `skeleton_recall`, `skeleton_f1`, the same of `arrow`, and
        `structural_hamming`; NaN is the precision of nothing and the recall of nothing.

    Raises:
        ValueError: the graphs are about different values.

    Chapter: values.

    Example:
        >>> compare_graphs(graph, dag.cpdag()).skeleton_f1
    """
    _check_nodes(found, truth)
    edges = _agreement(found.skeleton, truth.skeleton)
    arrows = _agreement(found.directed, truth.directed)
    measures = ("precision", "recall", "f1")
    return pd.Series(
        {f"skeleton_{name}": x for name, x in zip(measures, edges, strict=True)}
        | {f"arrow_{name}": x for name, x in zip(measures, arrows, strict=True)}
        | {"structural_hamming": structural_hamming(found, truth)}
    )


def _agreement(found: Set[object], true: Set[object]) -> tuple[float, float, float]:
    """Precision, recall and F1."""
    hits, both = len(found & true), len(found) + len(true)
    precision = hits / len(found) if found else float("nan")
    recall = hits / len(true) if true else float("nan")
    return precision, recall, 2 * hits / both if both else 1.0


def _check_nodes(found: ValueGraph, truth: ValueGraph) -> None:
    if other := set(found.nodes) ^ set(truth.nodes):
        raise ValueError(
            "graphs are compared over the same values; only in one of them: "
            + ", ".join(sorted(other))
        )
