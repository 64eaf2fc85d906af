"""Check for the exercise on arrows: which pairs of edges meet in a common effect.

Chapter: ``book/values.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from steerlib.teaching.checks.common import call, error, passed, require
from steerlib.teaching.checks.graphs import GRAPHS, Edge, Truth, searched

Separating = dict[Edge, set[str]]
Orient = Callable[[set[Edge], Separating], Any]
Arrow = tuple[str, str]
# The first has a chain, triangles, and causes that an empty and a full set separate: there no two
# mistakes look the same.
_GRAPHS = ("a>b a>c b>d c>d d>e f>e b>e", "b>a b>c", *GRAPHS, "a>d b>d c>d a>b d>e")


def test_colliders(fn: Orient) -> None:
    """``colliders(edges, separating)``: the arrows a -> c and b -> c of each v-structure."""
    for graph in _GRAPHS:
        for names in ("abcdef", "fedcba"):
            renamed = graph.translate(str.maketrans("abcdef", names))
            _require_arrows(fn, *_problem(renamed))
    require(_arrows(fn, set(), {frozenset("ab"): set()}) == set(), "no edges: no arrows.")
    passed("colliders")


def _problem(graph: str) -> tuple[set[Edge], Separating]:
    """The skeleton of a graph, and the sets that separate in it."""
    levels, separating = searched(sorted(set(graph) - set("> ")), Truth(graph))
    return levels[-1], separating


def _arrows(fn: Orient, edges: set[Edge], separating: Separating) -> set[Arrow]:
    given = set(edges), {pair: set(held) for pair, held in separating.items()}
    try:
        found = call(fn, *given)
    except KeyError as missing:
        raise error(
            f"there is no separating set for {missing}: only pairs without an edge have one, and "
            "only they can be the causes of a v-structure. The keys are frozensets."
        ) from None
    require(
        given == (edges, separating), "edges or separating were changed; they belong to the caller."
    )
    require(
        isinstance(found, set | frozenset | list | tuple)
        and all(isinstance(arrow, tuple) and len(arrow) == 2 for arrow in found),
        "return a set of arrows, each a pair (cause, effect).",
    )
    return set(found)


def _require_arrows(fn: Orient, edges: set[Edge], separating: Separating) -> None:
    found, right = _arrows(fn, edges, separating), _right(edges, separating)
    for a, b in sorted(found):
        require(
            frozenset((a, b)) in edges, f"{a} -> {b} is an arrow, but {a} and {b} have no edge."
        )
    if found == right:
        return
    for message, wrong in _mistaken(edges, separating).items():
        require(found != wrong, message)
    triples = ", ".join(f"{a} - {c} - {b}" for a, c, b in open_triples(edges))
    names = [", ".join(f"{a} -> {b}" for a, b in sorted(arrows)) for arrows in (found, right)]
    raise error(
        f"with the triples {triples or 'none'} the arrows are {names[1] or 'none'}, not "
        f"{names[0] or 'none'}: a -> c <- b where c is in no set that separates a and b."
    )


def triples(edges: set[Edge]) -> Iterator[tuple[str, str, str]]:
    """a - c - b, each with a before b."""
    for c in sorted(set().union(*edges)):
        around = sorted(set().union(*(edge for edge in edges if c in edge)) - {c})
        yield from ((a, c, b) for a, b in combinations(around, 2))


def open_triples(edges: set[Edge]) -> list[tuple[str, str, str]]:
    """a - c - b without an edge between a and b."""
    return [(a, c, b) for a, c, b in triples(edges) if frozenset((a, b)) not in edges]


def _into(found: Iterator[tuple[str, str, str]] | list[tuple[str, str, str]]) -> set[Arrow]:
    return {arrow for a, c, b in found for arrow in ((a, c), (b, c))}


def _right(edges: set[Edge], separating: Separating) -> set[Arrow]:
    return _into(
        [(a, c, b) for a, c, b in open_triples(edges) if c not in separating[frozenset((a, b))]]
    )


def _mistaken(edges: set[Edge], separating: Separating) -> dict[str, set[Arrow]]:
    """What the usual mistakes give."""
    right, around = _right(edges, separating), open_triples(edges)
    sets = [(t, separating[frozenset((t[0], t[2]))]) for t in around]
    meeting = [t for t, held in sets if t[1] not in held]
    closed = [t for t in triples(edges) if t not in around]
    both = {arrow for a, b in map(sorted, edges) for arrow in ((a, b), (b, a))}
    return {
        "the arrows are reversed: the two causes point at the middle.": {(c, a) for a, c in right},
        "the condition is turned around: a middle that separates is no common effect.": _into(
            [t for t, held in sets if t[1] in held]
        ),
        "the separating sets were not looked at: a chain and a fork are triples too.": _into(
            around
        ),
        "a, b and c that are all joined are no v-structure: whatever the arrow, a and b go "
        "together.": _into([*meeting, *closed]),
        "only an empty set counts here; what matters is whether the middle is in the set.": _into(
            [t for t, held in sets if not held]
        ),
        "one of the two arrows of each v-structure is missing.": {(a, c) for a, c, _ in meeting},
        "one of the two arrows of each v-structure is missing (the second one is there).": {
            (b, c) for _, c, b in meeting
        },
        "no arrow was found.": set(),
        "edges that no v-structure directs have arrows; leave them out.": right
        | {arrow for arrow in both if arrow[::-1] not in right},
    }
