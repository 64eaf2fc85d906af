"""A graph of values as a figure: what was found, what is wrong in it, and what is missing.

Chapter: values. Nodes stand on a circle, in an order that keeps neighbors close. Right edges are
solid, wrong ones dashed, missing ones dotted, so that colors are not needed to tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from steerlib.methods.value_graphs import ValueGraph
from steerlib.teaching.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOOK = {  # color, dash, width
    "right": (PALETTE["steered"], "solid", 1.8),
    "wrong": (PALETTE["warning"], "dashed", 1.8),
    "missing": (PALETTE["random"], "dotted", 1.4),
}


def draw_graph(ax: Axes, graph: ValueGraph, truth: ValueGraph | None = None) -> None:
    """Draw a graph on a circle, compared with a true one where it is given.

    An arrow goes from cause to effect; a line without a head is an open direction. An edge of the
    skeleton is right if the truth has it, in whatever direction.

    Args:
        graph: what was found.
        truth: with the same nodes; without it all edges look alike.

    Raises:
        ValueError: graphs of other nodes.

    Chapter: values.

    Example:
        >>> with plots.figure(height=5) as (fig, [ax]):
        ...     draw_graph(ax, found, truth)
    """
    import networkx as nx

    if truth is not None and set(truth.nodes) != set(graph.nodes):
        raise ValueError(f"the graphs have other nodes: {graph.nodes} and {truth.nodes}")
    order = circular_order((truth or graph).skeleton, graph.nodes)
    angle = {node: math.pi / 2 - 2 * math.pi * i / len(order) for i, node in enumerate(order)}
    places = {node: (math.cos(a), math.sin(a)) for node, a in angle.items()}
    drawn = nx.DiGraph()
    drawn.add_nodes_from(graph.nodes)
    for kind, (color, style, size) in _LOOK.items():
        for is_arrow, pairs in _edges(graph, truth, kind).items():
            nx.draw_networkx_edges(
                drawn, places, pairs, ax=ax, edge_color=color, style=style, width=size,
                arrows=True, arrowstyle="-|>" if is_arrow else "-", arrowsize=15, node_size=260,
            )  # fmt: skip
    nx.draw_networkx_nodes(drawn, places, ax=ax, node_size=90, node_color="#222222")
    for node, (x, y) in places.items():
        side = "center" if abs(x) < 0.2 else "left" if x > 0 else "right"
        up = "center" if abs(y) < 0.95 else "bottom" if y > 0 else "top"
        ax.text(1.09 * x, 1.09 * y, node, ha=side, va=up, fontsize=10)
    ax.set(xlim=(-1.75, 1.75), ylim=(-1.2, 1.2), aspect="equal")
    ax.set_axis_off()


def _edges(
    graph: ValueGraph, truth: ValueGraph | None, kind: str
) -> dict[bool, list[tuple[str, str]]]:
    """The arrows (True) and open edges (False) of one kind."""
    known = graph.skeleton if truth is None else truth.skeleton
    if kind == "missing":
        lost = known - graph.skeleton
        return {False: [(a, b) for a, b in map(sorted, sorted(lost, key=sorted))]}
    is_right = kind == "right"
    arrows = [pair for pair in sorted(graph.directed) if (frozenset(pair) in known) == is_right]
    undirected = sorted(graph.undirected, key=sorted)
    lines = [tuple(sorted(pair)) for pair in undirected if (pair in known) == is_right]
    return {True: arrows, False: [(a, b) for a, b in lines]}


def circular_order(skeleton: frozenset[frozenset[str]], nodes: Sequence[str]) -> list[str]:
    """Nodes in an order around a circle with short edges: swaps as long as one shortens them."""
    order = list(nodes)

    def length() -> float:
        place = {node: i for i, node in enumerate(order)}
        gaps = [abs(place[a] - place[b]) for a, b in skeleton]
        return sum(min(gap, len(order) - gap) ** 2 for gap in gaps)

    best, improved = length(), True
    while improved:
        improved = False
        for i in range(len(order)):
            for j in range(i):
                order[i], order[j] = order[j], order[i]
                if (now := length()) < best:
                    best, improved = now, True
                else:
                    order[i], order[j] = order[j], order[i]
    return order
