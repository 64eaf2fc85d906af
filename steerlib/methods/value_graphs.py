"""A causal graph over values: what it says, and which graphs are equivalent to it.

Chapter: values. An arrow a -> b says that a change of a changes b. Observations often leave a
direction open; such an edge is undirected, and the graph stands for a class of graphs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from steerlib.methods.graph_classes import (
    Arrow,
    Line,
    equivalence_class,
    extension,
    orientations,
)

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class ValueGraph:
    """Values, arrows from cause to effect, and edges whose direction is open.

    Cycles are allowed, as searches find them; `is_dag` tells.

    Args:
        nodes: the values.
        directed: pairs (cause, effect).
        undirected: sets of two values.

    Raises:
        ValueError: a value twice, an edge of an unknown value, from a value to itself, or in more
            than one way.

    Source: Kang et al. 2025, "Are the Values of LLMs Structurally Aligned with Humans?"
    (2501.00581). Chapter: values.

    Example:
        >>> graph = ValueGraph.of(["wealth", "power", "peace"], [("wealth", "power")])
        >>> graph.descendants("wealth")
        frozenset({'power'})
    """

    nodes: tuple[str, ...]
    directed: frozenset[Arrow]
    undirected: frozenset[Line] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "directed", frozenset(tuple(pair) for pair in self.directed))
        lines = frozenset(frozenset(pair) for pair in self.undirected)
        object.__setattr__(self, "undirected", lines)
        double = [node for node in set(self.nodes) if self.nodes.count(node) > 1]
        if double:
            raise ValueError(f"each value is one node, got twice: {', '.join(sorted(double))}")
        for edge in [*self.directed, *lines]:
            _check_edge(edge, self.nodes)
        for a, b in self.directed:
            if (b, a) in self.directed or frozenset((a, b)) in lines:
                raise ValueError(
                    f"{a} and {b} have more than one edge; an open direction is one undirected edge"
                )

    @classmethod
    def of(cls, nodes: Sequence[str], edges: Collection[Arrow]) -> ValueGraph:
        """A graph from (cause, effect) pairs; a pair in both directions is an undirected edge.

        Raises:
            ValueError: as `ValueGraph`.

        Example:
            >>> print(ValueGraph.of(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "b")]))
            a -> b, b - c
        """
        pairs = {tuple(edge) for edge in edges}
        for pair in pairs:
            _check_edge(pair, tuple(nodes))
        directed = frozenset((a, b) for a, b in pairs if (b, a) not in pairs)
        undirected = frozenset(frozenset(pair) for pair in pairs if pair not in directed)
        return cls(tuple(nodes), directed, undirected)

    def __str__(self) -> str:
        place = {node: i for i, node in enumerate(self.nodes)}
        edges = [(a, "->", b) for a, b in self.directed]
        for line in self.undirected:
            a, b = sorted(line, key=place.__getitem__)
            edges.append((a, "-", b))
        edges.sort(key=lambda edge: (place[edge[0]], place[edge[2]]))
        return ", ".join(" ".join(edge) for edge in edges)

    @property
    def skeleton(self) -> frozenset[Line]:
        """The pairs of values with an edge of any kind."""
        return self.undirected | {frozenset(arrow) for arrow in self.directed}

    @property
    def is_dag(self) -> bool:
        """Has every edge a direction, and are there no cycles?"""
        import networkx as nx

        # An undirected edge is a cycle of two there.
        return nx.is_directed_acyclic_graph(self.to_networkx())

    def parents(self, value: str) -> tuple[str, ...]:
        """The direct causes of a value by arrows, in the order of the nodes; KeyError: unknown."""
        self._check_value(value)
        return tuple(node for node in self.nodes if (node, value) in self.directed)

    def descendants(self, value: str) -> frozenset[str]:
        """The values that a change of this one may reach, itself left out; KeyError: unknown.

        An undirected edge can be walked both ways.
        """
        import networkx as nx

        self._check_value(value)
        return frozenset(nx.descendants(self.to_networkx(), value))

    def members(self, limit: int = 10_000) -> tuple[ValueGraph, ...]:
        """Every DAG that the graph stands for, in an order that depends on nothing but the nodes.

        These are the orientations of its undirected edges without a cycle and without a new
        v-structure a -> c <- b (a and b without an edge). A DAG is its own only member.

        Raises:
            ValueError: there is none, or there are more than `limit`.

        Source: Meek 1995. Chapter: values.

        Example:
            >>> chain = ValueGraph.of(["a", "b", "c"], [("a", "b"), ("b", "c")])
            >>> [str(member) for member in chain.cpdag().members()]
            ['a -> b, b -> c', 'b -> a, b -> c', 'b -> a, c -> b']
        """
        edges = (self.nodes, self.directed, self.undirected)
        if (circle := self.cycle()) is not None:
            raise ValueError(f"no DAG has these arrows: cycle {circle}")
        extension(*edges)  # says why where there is none
        found = list(islice(orientations(*edges), limit + 1))
        if len(found) > limit:
            raise ValueError(
                f"the graph has more than {limit} members; ask for members(limit=...) with a "
                "higher limit, or direct some of its "
                f"{len(self.undirected)} undirected edges with `orient`"
            )
        return tuple(ValueGraph(self.nodes, arrows) for arrows in found)

    def cpdag(self) -> ValueGraph:
        """The class of a DAG: an edge keeps its arrow where all equivalent DAGs agree on it.

        Raises:
            ValueError: the graph is no DAG.

        Source: Meek 1995. Chapter: values.

        Example:
            >>> print(ValueGraph.of(["a", "b", "c"], [("a", "b"), ("b", "c")]).cpdag())
            a - b, b - c
        """
        if not self.is_dag:
            raise ValueError(
                f"cpdag() is the class of a DAG, got the graph {self}; a graph with undirected "
                "edges stands for a class itself, see members()"
            )
        return ValueGraph(self.nodes, *equivalence_class(self.nodes, self.directed))

    def cycle(self) -> str | None:
        """One cycle of the arrows, such as "a -> b -> a", or None."""
        import networkx as nx

        try:
            found = nx.find_cycle(nx.DiGraph(sorted(self.directed)))
        except nx.NetworkXException:  # no cycle, or no arrow
            return None
        return " -> ".join([found[0][0], *(effect for _, effect in found)])

    def to_networkx(self) -> nx.DiGraph:
        """A graph of networkx; an undirected edge becomes an arrow each way."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from(sorted(self.directed))
        for a, b in sorted(map(sorted, self.undirected)):
            graph.add_edges_from([(a, b), (b, a)])
        return graph

    def _check_value(self, value: str) -> None:
        if value not in self.nodes:
            raise KeyError(f"{value!r} is no value of the graph: {', '.join(self.nodes)}")


def reduce_transitively(edges: Sequence[Arrow]) -> list[Arrow]:
    """The edges that are left when each one that reaches nothing new is dropped, first ones first.

    Goes through the edges in their order and drops a -> b where b can still be reached from a, so
    that who reaches whom stays the same. In a graph with cycles another order leaves other edges.
    One pass is enough: an edge that was needed among more edges is needed among fewer.

    Args:
        edges: (cause, effect) pairs; an undirected edge is a pair each way.

    Returns:
        The pairs that are left, in their order.

    Raises:
        ValueError: an edge from a value to itself.

    Source: Kang et al. 2025, their code. Chapter: values.

    Example:
        >>> reduce_transitively([("a", "c"), ("a", "b"), ("b", "c")])
        [('a', 'b'), ('b', 'c')]
    """
    import networkx as nx

    kept = list(dict.fromkeys((cause, effect) for cause, effect in edges))
    if loops := [cause for cause, effect in kept if cause == effect]:
        raise ValueError(f"an edge joins two different values, got {loops[0]} twice")
    graph = nx.DiGraph(kept)
    for edge in kept:
        graph.remove_edge(*edge)
        if not nx.has_path(graph, *edge):
            graph.add_edge(*edge)
    return [edge for edge in kept if graph.has_edge(*edge)]


def _check_edge(edge: Collection[str], nodes: tuple[str, ...]) -> None:
    if unknown := [node for node in edge if node not in nodes]:
        raise ValueError(
            f"edges join the values {', '.join(nodes)}; got {', '.join(map(str, unknown))}"
        )
    if len(set(edge)) != 2 or len(edge) != 2:
        raise ValueError(f"an edge joins two different values, got {sorted(edge)}")
