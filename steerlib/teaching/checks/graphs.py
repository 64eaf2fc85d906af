"""Check for the exercise on the skeleton of a graph: PC's search with any test of independence.

Chapter: ``book/values.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import combinations
from typing import Any

from steerlib.teaching.checks.common import call, passed, require

Edge = frozenset[str]
Independent = Callable[[str, str, Collection[str]], bool]
Search = Callable[[Sequence[str], Independent], Any]
# In the first graph c and d, neighbours of b alone, separate a from b, no neighbours of a do; b
# alone separates e from a, and nothing is needed between a and d.
GRAPHS = ("a>c d>c c>b d>b b>e", "a>b b>c", "a>c b>c", "a>b a>c b>d c>d d>e f>e", "a>b a>c b>c")


def test_skeleton(fn: Search) -> None:
    """``skeleton(nodes, independent)``: the edges that no set of neighbours separates, and sets."""
    for graph in GRAPHS:
        names = tuple(sorted(set(graph) - set("> ")))
        for nodes in (names, names[::-1]):
            _require_search(fn, nodes, Truth(graph))
    for order in ("abcd", "acbd", "dcba"):
        _require_stable(fn, tuple(order))
    passed("skeleton")


class Truth:
    """A perfect test of independence, by d-separation, that keeps a record of what it is asked."""

    def __init__(self, graph: str) -> None:
        import networkx as nx

        self.dag = nx.DiGraph([(arrow[0], arrow[2]) for arrow in graph.split()])
        self.asked: list[tuple[Edge, frozenset[str]]] = []

    def __call__(self, a: str, b: str, given: Collection[str]) -> bool:
        pair, held = frozenset((a, b)), frozenset(given)
        require(
            not pair & held,
            f"{a} and {b} were tested given a set with one of them in it: {sorted(held)}.",
        )
        self.asked.append((pair, held))
        return self.holds(pair, held)

    def holds(self, pair: Edge, given: Collection[str]) -> bool:
        """The answer, off the record."""
        import networkx as nx

        a, b = pair
        return nx.is_d_separator(self.dag, {a}, {b}, set(given))


class Mistaken(Truth):
    """Three independences that no graph has together, as tests on few rows may find them.

    b - c goes first. Then a - b goes given c and a - c goes given b: whichever is gone, the other
    set is no longer one of neighbours.
    """

    _found = (("bc", ""), ("ab", "c"), ("ac", "b"))

    def __init__(self) -> None:
        super().__init__("a>b a>c a>d b>d c>d")

    def holds(self, pair: Edge, given: Collection[str]) -> bool:
        return (pair, frozenset(given)) in [(frozenset(p), frozenset(s)) for p, s in self._found]


def searched(nodes: Sequence[str], truth: Truth) -> tuple[list[set[Edge]], dict[Edge, set[str]]]:
    """The edges before each size of set, then those at the end; and the separating sets."""
    levels: list[set[Edge]] = [set(map(frozenset, combinations(nodes, 2)))]
    separating: dict[Edge, set[str]] = {}
    for size in range(len(nodes) - 1):
        before = levels[-1]
        for edge in before:
            sets = (s for s in neighbour_sets(edge, before) if len(s) == size)
            held = next((s for s in sets if truth.holds(edge, s)), None)
            if held is not None:
                separating[edge] = set(held)
        levels.append(before - set(separating))
    return levels, separating


def neighbour_sets(edge: Edge, edges: set[Edge]) -> Iterator[frozenset[str]]:
    """All sets of neighbours of one of the two ends."""
    for end in sorted(edge):
        around = sorted({node for other in edges if end in other for node in other - edge})
        for size in range(len(around) + 1):
            yield from map(frozenset, combinations(around, size))


def _result(fn: Search, nodes: Sequence[str], truth: Truth) -> tuple[set[Edge], dict[Edge, set]]:
    """The reader's edges and sets, whatever kind of pairs and collections they are."""
    result = call(fn, nodes, truth)
    require(
        isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict),
        "return two things: the set of edges, and a dict from each separated pair to its set.",
    )
    try:
        edges = {frozenset(edge) for edge in result[0]}
        separating = {frozenset(pair): set(held) for pair, held in result[1].items()}
    except TypeError:
        edges, separating = {frozenset("?")}, {}
    require(
        all(len(pair) == 2 and pair <= set(nodes) for pair in [*edges, *separating]),
        "edges and the keys of the dict are frozensets of two nodes, and its values sets of nodes.",
    )
    return edges, separating


def _require_search(fn: Search, nodes: Sequence[str], truth: Truth) -> None:
    edges, separating = _result(fn, nodes, truth)
    levels, right = searched(nodes, truth)
    every = levels[0]
    for message, wrong in _mistaken(nodes, truth).items():
        require(edges != wrong or wrong == levels[-1], message)
    for edge in sorted(map(sorted, edges - levels[-1])):
        _explain(edge, truth, right[frozenset(edge)])
    for a, b in sorted(map(sorted, levels[-1] - edges)):
        require(False, f"{a} and {b} have lost their edge, but no set separates them.")
    _require_asked(truth, levels)
    require(
        set(separating) == every - edges,
        "each pair without an edge, and no other pair, has a separating set in the dict.",
    )
    for pair, held in separating.items():
        a, b = sorted(pair)
        require(
            truth.holds(pair, held),
            f"{sorted(held)} does not separate {a} and {b}: keep the set with which the test said "
            "independent.",
        )
        require(
            len(held) == len(right[pair]),
            f"{a} and {b} are separated by {len(right[pair])} nodes, the set has {len(held)}: try "
            "small sets first, and stop at the first that separates.",
        )


def _mistaken(nodes: Sequence[str], truth: Truth) -> dict[str, set[Edge]]:
    """What other searches leave."""
    every = set(map(frozenset, combinations(nodes, 2)))
    plain = {edge for edge in every if not truth.holds(edge, ())}
    rest = {edge for edge in every if not truth.holds(edge, set(nodes) - edge)}
    return {
        "all pairs have an edge: remove those that the test calls independent.": every,
        "the test is turned around: it is True where the edge must go.": every - plain,
        "only the empty set was tried: what goes together through others has an edge here.": plain,
        "all other nodes were held fixed at once: a common effect then joins its causes.": rest,
    }


def _explain(edge: list[str], truth: Truth, needed: set[str]) -> None:
    """Why is this edge still there?"""
    a, b = edge
    tried = [held for pair, held in truth.asked if pair == frozenset(edge)]
    most = max((len(held) for _, held in truth.asked), default=-1)
    left = f"the edge of {a} and {b} is left, though {sorted(needed)} separates them"
    require(
        frozenset(needed) not in tried,
        f"{left}, and the test said so: remove the edge where any set separates.",
    )
    require(
        most >= len(needed),
        f"{left}: larger sets were not tried. Go on while a node has enough neighbours.",
    )
    require(False, f"{left}: sets come from the neighbours of {a}, and from those of {b}.")


def _require_asked(truth: Truth, levels: list[set[Edge]]) -> None:
    """What was asked: small sets first, and none but of neighbours."""
    sizes = [len(held) for _, held in truth.asked]
    require(
        sizes == sorted(sizes),
        "the sets did not grow: first the empty set for all pairs, then single nodes, ...",
    )
    for pair, held in truth.asked:
        a, b = sorted(pair)
        require(
            held in neighbour_sets(pair, levels[min(len(held), len(levels) - 1)]),
            f"{a} and {b} were tested given {sorted(held)}, which are no neighbours of one of them "
            "any more; that costs tests, and each test may err.",
        )


def _require_stable(fn: Search, nodes: Sequence[str]) -> None:
    """A removal must not change what else is tried with sets of the same size."""
    truth = Mistaken()
    edges, separating = _result(fn, nodes, truth)
    levels, right = searched(nodes, truth)
    require(
        edges == levels[-1],
        "the result depends on the order of the nodes: an edge that went changed which sets were "
        "tried for the next one. Look up the neighbours once, before each size.",
    )
    require(separating == right, "another order of the nodes gave other separating sets.")
