"""The exercises on graphs of values are proved both ways: right passes, wrong is named."""

from itertools import chain, combinations, permutations

import networkx as nx
import numpy as np
import torch
from scipy.stats import norm, pearsonr

from steerlib.methods.graph_classes import v_structures
from steerlib.teaching.checks import colliders, graphs, independence
from steerlib.world import values as world
from tests.teaching.both_ways import both_ways
from tests.teaching.worlds_values import TRUE, of_the_world

MODULES = (independence, graphs, colliders)
CHECKS = dict(chain.from_iterable(vars(module).items() for module in MODULES))

# fisher_z


def right_z(scores, i, j, given):
    inverse = torch.linalg.inv(torch.corrcoef(scores[:, [i, j, *given]].T))
    r = -inverse[0, 1] / (inverse[0, 0] * inverse[1, 1]) ** 0.5
    z = (len(scores) - len(given) - 3) ** 0.5 * r.atanh().abs()
    return torch.erfc(z / 2**0.5)


def z_by_residuals(scores, i, j, given):
    """In numpy, with an intercept in the regression."""
    x = scores.double().numpy()
    others = np.column_stack([np.ones(len(x)), x[:, list(given)]])
    left = x[:, [i, j]] - others @ np.linalg.lstsq(others, x[:, [i, j]], rcond=None)[0]
    z = np.sqrt(len(x) - len(given) - 3) * np.arctanh(np.corrcoef(left.T)[0, 1])
    return 2 * norm.sf(abs(z))


def z_by_recursion(scores, i, j, given):
    def r(a, b, held):
        if not held:
            return torch.corrcoef(scores[:, [a, b]].T)[0, 1]
        *rest, c = held
        ab, ac, bc = r(a, b, rest), r(a, c, rest), r(b, c, rest)
        return (ab - ac * bc) / ((1 - ac**2) * (1 - bc**2)) ** 0.5

    found = r(i, j, list(given))
    z = 0.5 * ((1 + found) / (1 - found)).log() * (len(scores) - len(given) - 3) ** 0.5
    return 2 * (1 - torch.special.ndtr(z.abs()))


def partial(scores, i, j, given):
    inverse = torch.linalg.inv(torch.corrcoef(scores[:, [i, j, *given]].T))
    return -inverse[0, 1] / (inverse[0, 0] * inverse[1, 1]) ** 0.5


def z_of(
    off=3, free=True, root=0.5, curve=torch.atanh, tail=lambda z: torch.erfc(z.abs() / 2**0.5)
):
    """Other degrees of freedom, another curve than artanh, another tail."""

    def found(scores, i, j, given):
        n = len(scores) - off - free * len(given)
        return tail(n**root * curve(partial(scores, i, j, given)))

    return found


def upper(z):
    return 1 - torch.special.ndtr(z)


def all_others(scores, i, j, given):
    rest = [k for k in range(scores.shape[1]) if k not in (i, j)]
    r = partial(scores, i, j, rest)
    return torch.erfc((len(scores) - len(given) - 3) ** 0.5 * r.atanh().abs() / 2**0.5)


def left_over(scores, i, given, intercept=True):
    x = scores - scores.mean(0) if intercept else scores
    others = x[:, list(given)]
    return x[:, i] - others @ torch.linalg.pinv(others) @ x[:, i]


def z_from(first, second):
    """From what two functions leave of the two columns."""

    def found(scores, i, j, given):
        pair = torch.stack([first(scores, i, given), second(scores, j, given)])
        z = (len(scores) - len(given) - 3) ** 0.5 * torch.corrcoef(pair)[0, 1].atanh()
        return torch.erfc(z.abs() / 2**0.5)

    return found


def whole(scores, i, given):
    return scores[:, i]


def without_intercept(scores, i, given):
    return left_over(scores, i, given, intercept=False)


def by_pearsonr(scores, i, j, given):
    pair = [left_over(scores.double(), k, given).numpy() for k in (i, j)]
    return float(pearsonr(*pair).pvalue)


def z_in_place(scores, i, j, given):
    scores -= scores.mean(0)
    return right_z(scores, i, j, given)


def beyond_zero(scores):
    """Depends on a constant that is added, not on units."""
    return 1 + 0.1 * (scores[:, 0].mean() / scores[:, 0].std()).item()


# skeleton


def right_skeleton(nodes, independent):
    edges = {frozenset(pair) for pair in combinations(nodes, 2)}
    separating = {}
    for size in range(len(nodes) - 1):
        around = {a: [b for b in nodes if {a, b} in edges] for a in nodes}
        for a, b in permutations(nodes, 2):
            for given in combinations([c for c in around[a] if c != b], size):
                if {a, b} in edges and independent(a, b, given):
                    edges.remove({a, b})
                    separating[frozenset((a, b))] = set(given)
    return edges, separating


def skeleton_with_networkx(nodes, independent):
    """Stops where no node has enough neighbours; pairs and sets of other kinds."""
    graph, separating, size = nx.complete_graph(nodes), {}, 0
    while max(dict(graph.degree).values(), default=0) > size:
        frozen = graph.copy()
        for a, b in list(frozen.edges):
            sets = chain.from_iterable(combinations(set(frozen[x]) - {a, b}, size) for x in (a, b))
            if (
                held := next((s for s in sets if independent(b, a, frozenset(s))), None)
            ) is not None:
                separating[a, b] = list(held)
                graph.remove_edge(a, b)
        size += 1
    return list(graph.edges), separating


def searching(
    sizes=lambda n: range(n - 1),
    frozen=True,
    ends=lambda a, b: [(a, b), (b, a)],
    pool=None,
    turned=False,
    keep=lambda given, pool: set(given),
    go_on=False,
    again=False,
):
    """PC's search with a part that is wrong."""

    def search(nodes, independent):
        edges = {frozenset(pair) for pair in combinations(nodes, 2)}
        separating = {}
        for size in sizes(len(nodes)):
            before = set(edges)
            for a, b in combinations(nodes, 2):
                for x, y in ends(a, b):
                    known = before if frozen else edges
                    around = [c for c in nodes if {c, x} in known and c != y]
                    around = [c for c in nodes if c not in (a, b)] if pool else around
                    for given in combinations(around, size):
                        if ({a, b} in edges or again) and independent(a, b, given) != turned:
                            separating[frozenset((a, b))] = keep(given, around)
                            if not go_on:
                                edges.discard({a, b})
        return edges - set(separating) if not go_on else edges, separating

    return search


def all_at_once(nodes, independent):
    edges, separating = set(), {}
    for a, b in combinations(nodes, 2):
        rest = set(nodes) - {a, b}
        if independent(a, b, rest):
            separating[frozenset((a, b))] = rest
        else:
            edges.add(frozenset((a, b)))
    return edges, separating


def with_itself(nodes, independent):
    independent(nodes[0], nodes[1], (nodes[0],))
    return right_skeleton(nodes, independent)


def too_few(nodes, independent):
    edges, separating = right_skeleton(nodes, independent)
    return edges - {frozenset("bc")}, separating


def no_sets(nodes, independent):
    return right_skeleton(nodes, independent)[0], {}


def pair_by_pair(nodes, independent):
    """All sizes for one pair, then the next pair."""
    edges = {frozenset(pair) for pair in combinations(nodes, 2)}
    separating = {}
    for a, b in combinations(nodes, 2):
        rest = [c for c in nodes if c not in (a, b)]
        for size in range(len(nodes) - 1):
            for given in combinations(rest, size):
                if {a, b} in edges and independent(a, b, given):
                    edges.remove({a, b})
                    separating[frozenset((a, b))] = set(given)
    return edges, separating


# colliders


def right_colliders(edges, separating):
    arrows = set()
    for (a, b), given in separating.items():
        for c in set().union(*edges) - given:
            if {a, c} in edges and {b, c} in edges:
                arrows |= {(a, c), (b, c)}
    return arrows


def colliders_by_triples(edges, separating):
    graph = nx.Graph([tuple(edge) for edge in edges])
    return [
        (x, c)
        for c in graph
        for a, b in combinations(graph[c], 2)
        if not graph.has_edge(a, b) and c not in separating[frozenset((a, b))]
        for x in (a, b)
    ]


def colliders_where(rule, arrows=lambda a, c, b: {(a, c), (b, c)}, closed=False):
    """Triples by another rule, with other arrows."""

    def found(edges, separating):
        graph, result = nx.Graph([tuple(edge) for edge in edges]), set()
        for c in graph:
            for a, b in combinations(sorted(graph[c]), 2):
                held = separating.get(frozenset((a, b)))
                if closed if held is None else rule(c, held):
                    result |= arrows(a, c, b)
        return result

    return found


def outside(c, held):
    return c not in held


def colliders_and_the_rest(edges, separating):
    found = right_colliders(edges, separating)
    lines = {tuple(edge) for edge in edges if not {tuple(edge), tuple(edge)[::-1]} & found}
    return found | lines | {line[::-1] for line in lines}


def colliders_without_a_look(edges, separating):
    graph = nx.Graph([tuple(edge) for edge in edges])
    return {
        (x, c)
        for c in graph
        for a, b in combinations(graph[c], 2)
        if c not in separating[frozenset((a, b))]
        for x in (a, b)
    }


def colliders_in_place(edges, separating):
    found = right_colliders(edges, separating)
    edges.clear()
    return found


def colliders_by_name(edges, separating):
    """The middle must come after its causes in the alphabet."""
    return {arrow for arrow in right_colliders(edges, separating) if arrow[0] < arrow[1]}


RIGHT = [
    ("fisher_z", right_z),
    ("fisher_z", z_by_residuals),
    ("fisher_z", z_by_recursion),
    ("skeleton", right_skeleton),
    ("skeleton", skeleton_with_networkx),
    ("skeleton", searching()),
    ("colliders", right_colliders),
    ("colliders", colliders_by_triples),
]
NAMES = sorted({name for name, _ in RIGHT})
WRONG = [
    ("fisher_z", lambda x, i, j, given: right_z(x, i, j, ()), "given is not used"),
    (
        "fisher_z",
        lambda x, i, j, given: torch.erfc(
            (len(x) - len(given) - 3) ** 0.5 * partial(x, i, j, ()).atanh().abs() / 2**0.5
        ),
        "given is not used",
    ),
    ("fisher_z", all_others, "all other columns"),
    ("fisher_z", z_from(left_over, whole), "one column only"),
    ("fisher_z", z_from(whole, left_over), "here of j"),
    ("fisher_z", z_from(without_intercept, without_intercept), "intercept"),
    ("fisher_z", z_of(free=False), "degree of freedom"),
    ("fisher_z", z_of(off=0), "3 is missing"),
    ("fisher_z", z_of(off=2), "only 2"),
    ("fisher_z", z_of(root=1), "root is missing"),
    ("fisher_z", z_of(curve=lambda r: r), "artanh is missing"),
    ("fisher_z", z_of(curve=lambda r: 2 * r.atanh()), "half of log"),
    ("fisher_z", z_of(curve=torch.tanh), "tanh was taken"),
    ("fisher_z", z_of(tail=lambda z: upper(z.abs())), "one-sided; a"),
    ("fisher_z", z_of(tail=lambda z: 2 * upper(z)), "below 0 gets the wrong"),
    ("fisher_z", z_of(tail=upper), "one-sided and without"),
    ("fisher_z", z_of(tail=lambda z: 1 - torch.erfc(z.abs() / 2**0.5)), "this is 1 - p"),
    ("fisher_z", z_of(tail=lambda z: z), "this is z;"),
    ("fisher_z", z_of(tail=torch.abs), "size of z"),
    ("fisher_z", partial, "partial correlation; return"),
    ("fisher_z", by_pearsonr, "pearsonr"),
    ("fisher_z", z_in_place, "in place"),
    ("fisher_z", z_of(tail=lambda z: z.abs() + 1), "between 0 and 1"),
    ("fisher_z", lambda x, i, j, g: right_z(x, i, j, g) * (0.9 if i < j else 1), "each other's"),
    ("fisher_z", lambda x, i, j, g: right_z(x, i, j, g) * (0.9 if g == (1, 4) else 1), "of given"),
    ("fisher_z", lambda x, i, j, g: right_z(x, i, j, g) ** x.std().item(), "other units"),
    ("fisher_z", lambda x, i, j, g: right_z(x, i, j, g) ** beyond_zero(x), "constant added"),
    ("fisher_z", lambda x, i, j, g: 0.5 + right_z(x, i, j, g) / 2.1, "ends of a chain go together"),
    ("fisher_z", z_of(tail=lambda z: torch.erfc(z.abs())), "not 2 \\(1 - Phi"),
    ("skeleton", searching(sizes=lambda n: [0]), "only the empty set"),
    ("skeleton", all_at_once, "joins its causes"),
    ("skeleton", searching(turned=True), "turned around"),
    ("skeleton", searching(go_on=True), "have an edge: remove"),
    ("skeleton", searching(sizes=lambda n: range(2)), "larger sets were not tried"),
    ("skeleton", searching(ends=lambda a, b: [(a, b)]), "and from those of"),
    ("skeleton", searching(ends=lambda a, b: [(b, a)]), "and from those of"),
    ("skeleton", searching(frozen=False), "depends on the order of the nodes"),
    ("skeleton", searching(pool=True), "no neighbours of one"),
    ("skeleton", searching(sizes=lambda n: range(n - 2, -1, -1)), "did not grow"),
    ("skeleton", pair_by_pair, "did not grow"),
    ("skeleton", searching(keep=lambda given, pool: set(pool)), "does not separate"),
    ("skeleton", searching(keep=lambda given, pool: set()), "does not separate"),
    ("skeleton", searching(again=True), "try small sets"),
    ("skeleton", with_itself, "one of them in it"),
    ("skeleton", too_few, "lost their edge"),
    ("skeleton", no_sets, "has a separating set"),
    ("skeleton", lambda nodes, test: right_skeleton(nodes, test)[0], "return two things"),
    ("skeleton", lambda nodes, test: ({1, 2}, {}), "frozensets of two nodes"),
    ("colliders", colliders_where(lambda c, held: c in held), "turned around"),
    ("colliders", colliders_where(lambda c, held: True), "were not looked at"),
    ("colliders", colliders_where(outside, closed=True), "no v-structure"),
    ("colliders", colliders_where(lambda c, held: not held), "only an empty set"),
    ("colliders", colliders_where(outside, lambda a, c, b: {(c, a), (c, b)}), "are reversed"),
    ("colliders", colliders_where(outside, lambda a, c, b: {(a, c)}), "is missing"),
    ("colliders", colliders_where(outside, lambda a, c, b: {(b, c)}), "is missing"),
    ("colliders", lambda edges, separating: set(), "no arrow was found"),
    ("colliders", colliders_and_the_rest, "no v-structure directs"),
    ("colliders", colliders_without_a_look, "only pairs without an edge"),
    ("colliders", colliders_in_place, "belong to the caller"),
    ("colliders", colliders_by_name, "where c is in no set"),
    ("colliders", lambda edges, separating: edges, "a pair"),
    ("colliders", lambda edges, separating: {("a", "f")}, "have no edge"),
    ("colliders", lambda edges, separating: None, "set of arrows"),
]


(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_every_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(CHECKS, NAMES, RIGHT, WRONG)


# --- the three in a row are PC's search


def test_pc_by_the_solutions_finds_the_worlds_skeleton_and_v_structures():
    """p is 1 where the graph separates, and less where paths nearly cancel."""
    scores, place = of_the_world(), {name: i for i, name in enumerate(world.VALUES)}

    def independent(a, b, given):
        return right_z(scores, place[a], place[b], [place[c] for c in given]) > 0.999

    edges, separating = right_skeleton(world.VALUES, independent)
    assert edges == set(TRUE.skeleton)
    meeting = v_structures(TRUE.nodes, TRUE.directed)
    assert right_colliders(edges, separating) == {(a, c) for pair, c in meeting for a in pair}
