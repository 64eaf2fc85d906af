"""Which orientations of a graph say the same about independence: v-structures and Meek's rules.

Chapter: values. Source: Meek 1995, "Causal inference and causal explanation with background
knowledge". Functions on bare edges; `ValueGraph` is the value that holds them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

Arrow = tuple[str, str]  # cause, effect
Line = frozenset[str]  # two values whose direction is open
Neighbours = dict[str, set[str]]


def v_structures(nodes: Sequence[str], arrows: Collection[Arrow]) -> frozenset[tuple[Line, str]]:
    """({a, b}, c) for each a -> c <- b of a DAG without an edge between a and b."""
    parents, adjacent = _parents(nodes, arrows), _adjacent(nodes, arrows)
    return frozenset(
        (frozenset(pair), c)
        for c in nodes
        for pair in combinations(parents[c], 2)
        if pair[1] not in adjacent[pair[0]]
    )


def equivalence_class(
    nodes: Sequence[str], arrows: Collection[Arrow]
) -> tuple[frozenset[Arrow], frozenset[Line]]:
    """The CPDAG of a DAG: what all DAGs with its skeleton and v-structures have in common."""
    fixed = {(a, c) for pair, c in v_structures(nodes, arrows) for a in pair}
    return closed(nodes, fixed, {frozenset(arrow) for arrow in arrows if arrow not in fixed})


def closed(
    nodes: Sequence[str], arrows: Iterable[Arrow], lines: Collection[Line]
) -> tuple[frozenset[Arrow], frozenset[Line]]:
    """Meek's rules until none applies: lines become arrows where one direction is forced."""
    known, still_open = frozenset(arrows), frozenset(lines)
    adjacent = _adjacent(nodes, [*known, *still_open])
    while True:
        parents, linked = _parents(nodes, known), _adjacent(nodes, still_open)
        ways = [way for a, b in still_open for way in ((a, b), (b, a))]
        forced = {way for way in ways if _is_forced(*way, parents, adjacent, linked)}
        if not forced:
            return known, still_open
        known, still_open = known | forced, still_open - {frozenset(way) for way in forced}


def extension(
    nodes: Sequence[str], arrows: Collection[Arrow], lines: Collection[Line]
) -> frozenset[Arrow]:
    """One acyclic orientation of the lines without a new v-structure.

    Again and again a value is taken out that can be last: it causes nothing that is left, and who
    is linked to it by a line is adjacent to all of its other neighbours.

    Raises:
        ValueError: there is none; the message names where.

    Source: Dor and Tarsi 1992, "A simple algorithm to construct a consistent extension of a
    partially oriented graph".
    """
    adjacent = _adjacent(nodes, [*arrows, *lines])
    children, linked = _parents(nodes, [(b, a) for a, b in arrows]), _adjacent(nodes, lines)
    left, found = list(nodes), set(arrows)
    while left:
        rest = set(left)
        last = next((v for v in left if _can_be_last(v, rest, adjacent, children, linked)), None)
        if last is None:
            raise ValueError(
                f"no orientation of the undirected edges among {', '.join(left)} is without a "
                "cycle and without a new v-structure"
            )
        found |= {(u, last) for u in linked[last] & rest}
        left.remove(last)
    return frozenset(found)


def orientations(
    nodes: Sequence[str], arrows: Collection[Arrow], lines: Collection[Line]
) -> Iterator[frozenset[Arrow]]:
    """Every acyclic orientation of the lines without a new v-structure, where `extension` has one.

    After each choice Meek's rules fill in what follows. They are complete, so that no choice leads
    to a dead end.
    """
    known, still_open = closed(nodes, arrows, lines)
    if not still_open:
        yield known
        return
    place = {node: i for i, node in enumerate(nodes)}
    pairs = [sorted(line, key=place.__getitem__) for line in still_open]
    a, b = min(pairs, key=lambda pair: (place[pair[0]], place[pair[1]]))
    for arrow in ((a, b), (b, a)):
        yield from orientations(nodes, known | {arrow}, still_open - {frozenset(arrow)})


def _is_forced(
    a: str, b: str, parents: Neighbours, adjacent: Neighbours, linked: Neighbours
) -> bool:
    """Is a -> b the only direction of the line a - b? Else there were a cycle or a v-structure."""
    return (
        bool(parents[a] - adjacent[b])  # 1: c -> a - b
        or any(a in parents[c] for c in parents[b])  # 2: a -> c -> b
        or any(d not in adjacent[c] for c, d in combinations(parents[b] & linked[a], 2))  # 3
        or any(parents[d] & adjacent[a] - adjacent[b] for d in parents[b])  # 4: a - c -> d -> b
    )


def _can_be_last(
    v: str,
    rest: set[str],
    adjacent: Mapping[str, set[str]],
    children: Mapping[str, set[str]],
    linked: Mapping[str, set[str]],
) -> bool:
    around = adjacent[v] & rest
    return not children[v] & rest and all(around <= adjacent[u] | {u} for u in linked[v] & rest)


def _parents(nodes: Sequence[str], arrows: Iterable[Arrow]) -> Neighbours:
    found: Neighbours = {node: set() for node in nodes}
    for cause, effect in arrows:
        found[effect].add(cause)
    return found


def _adjacent(nodes: Sequence[str], edges: Iterable[Collection[str]]) -> Neighbours:
    found: Neighbours = {node: set() for node in nodes}
    for a, b in edges:
        found[a].add(b)
        found[b].add(a)
    return found
