"""Value graphs: what they say, their classes, how near two are, and the reduction of the paper."""

import json
from dataclasses import FrozenInstanceError
from itertools import permutations, product

import networkx as nx
import numpy as np
import pytest
from causallearn.graph.Edge import Edge
from causallearn.graph.Endpoint import Endpoint
from causallearn.graph.GeneralGraph import GeneralGraph
from causallearn.graph.GraphNode import GraphNode
from causallearn.utils.DAG2CPDAG import dag2cpdag

from steerlib.methods.graph_classes import v_structures
from steerlib.methods.graph_comparison import (
    compare_graphs,
    orientation_f1,
    skeleton_f1,
    structural_hamming,
)
from steerlib.methods.value_graphs import ValueGraph, reduce_transitively
from tests.methods.value_graph_cases import ABC, ABCD, TRUTH, arrows, complete, random_dag


def every_orientation(graph):
    """By trying all: acyclic, with the arrows of the graph and with its v-structures only."""
    lines = [sorted(line) for line in graph.undirected]
    kept = v_structures(graph.nodes, graph.directed)
    adjacent = graph.skeleton
    found = set()
    for ways in product((False, True), repeat=len(lines)):
        chosen = {(b, a) if turn else (a, b) for (a, b), turn in zip(lines, ways, strict=True)}
        dag = ValueGraph(graph.nodes, graph.directed | chosen)
        new = {
            (frozenset((a, b)), c)
            for a, c in dag.directed
            for b, d in dag.directed
            if c == d and a != b and frozenset((a, b)) not in adjacent
        }
        true = {(pair, c) for pair, c in kept if pair not in adjacent}
        if nx.is_directed_acyclic_graph(dag.to_networkx()) and new == true:
            found.add(dag)
    return found


def reach(edges, nodes):
    graph = nx.DiGraph(list(edges))
    graph.add_nodes_from(nodes)
    return {node: nx.descendants(graph, node) for node in nodes}


def slowly_reduced(edges):
    """As the paper says it: all pairs are compared, and the whole pass repeats."""
    kept = list(edges)
    nodes = {node for edge in edges for node in edge}
    dropped = True
    while dropped:
        dropped = False
        for edge in list(kept):
            rest = [other for other in kept if other != edge]
            if reach(rest, nodes) == reach(edges, nodes):
                kept, dropped = rest, True
    return kept


def test_a_graph_says_what_its_edges_are():
    graph = arrows("a>b c>b b-d")
    assert graph.nodes == ABCD
    assert graph.skeleton == {frozenset("ab"), frozenset("bc"), frozenset("bd")}
    assert graph.parents("b") == ("a", "c")
    assert graph.parents("d") == ()
    assert str(graph) == "a -> b, b - d, c -> b"
    assert not graph.is_dag
    assert arrows("a>b c>b").is_dag
    assert not arrows("a>b b>c c>a").is_dag
    assert arrows("a>b b>c c>a").cycle() in {"a -> b -> c -> a", "b -> c -> a -> b"}
    assert arrows("a>b").cycle() is None


def test_parents_are_in_the_order_of_the_nodes():
    graph = ValueGraph.of(("c", "a", "b"), [("a", "b"), ("c", "b")])
    assert graph.parents("b") == ("c", "a")


def test_descendants_walk_undirected_edges_both_ways_and_leave_the_value_out():
    graph = arrows("a>b b-c c>d")
    assert graph.descendants("a") == {"b", "c", "d"}
    assert graph.descendants("b") == {"c", "d"}
    assert graph.descendants("c") == {"b", "d"}
    assert graph.descendants("d") == frozenset()
    assert arrows("a>b b>c c>a").descendants("a") == {"b", "c"}
    assert TRUTH.descendants("freedom") == {"hedonism", "achievement", "conformity", "benevolence"}


def test_networkx_gets_undirected_edges_both_ways_and_single_nodes():
    found = arrows("a>b b-c", ABCD).to_networkx()
    assert set(found.edges) == {("a", "b"), ("b", "c"), ("c", "b")}
    assert list(found.nodes) == list(ABCD)


def test_a_pair_in_both_directions_becomes_undirected():
    graph = ValueGraph.of(list(ABC), [["a", "b"], ("b", "a"), ("c", "b")])
    assert graph == arrows("a-b c>b")
    assert hash(graph) == hash(arrows("a-b c>b"))
    with pytest.raises(FrozenInstanceError):
        graph.nodes = ()


@pytest.mark.parametrize(
    ("text", "number"),
    [("a>b b>c", 3), ("a>b c>b", 1), ("a>b a>c", 3), ("a>b b>c a>c", 6), ("a>b b>c c>d", 4)],
)
def test_the_class_of_a_dag_has_so_many_members(text, number):
    dag = arrows(text)
    members = dag.cpdag().members()
    assert len(members) == len(set(members)) == number
    assert dag in members
    assert {member.cpdag() for member in members} == {dag.cpdag()}
    assert dag.members() == (dag,)


def test_members_of_complete_graphs_are_all_orders():
    assert len(complete(ABC).members()) == 6
    assert len(complete(ABCD).members()) == 24


def test_members_come_in_an_order_that_the_nodes_decide():
    graph = arrows("a-b b-c")
    assert [str(member) for member in graph.members()] == [
        "a -> b, b -> c",
        "b -> a, b -> c",
        "b -> a, c -> b",
    ]


def test_a_graph_without_members_says_why():
    with pytest.raises(ValueError, match=r"edges among a, b, c, d is without a cycle and.*v-struc"):
        arrows("a-b b-c c-d a-d").members()
    with pytest.raises(ValueError, match=r"edges among a, b, c, d is"):
        arrows("a-b b-c c-d a-d d>e").members()
    with pytest.raises(ValueError, match="no DAG has these arrows: cycle a -> b -> c -> a"):
        arrows("a>b b>c c>a c-d").members()


def test_too_many_members_are_refused():
    graph = complete(ABCD)
    assert len(graph.members(limit=24)) == 24
    with pytest.raises(ValueError, match=r"more than 23 members.*6 undirected edges"):
        graph.members(limit=23)


def test_members_and_classes_are_those_of_trying_everything():
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(60):
        dag = random_dag(rng, 5, 0.6)
        found = dag.cpdag()
        blank = ValueGraph(dag.nodes, frozenset(), dag.skeleton)
        same = {
            other
            for other in every_acyclic(blank)
            if v_structures(other.nodes, other.directed) == v_structures(dag.nodes, dag.directed)
        }
        assert set(found.members()) == same
        agreed = frozenset.intersection(*(other.directed for other in same))
        assert found.directed == agreed
        sizes.append(len(same))
    assert max(sizes) > 5 > 1 in sizes


def every_acyclic(graph):
    lines = [sorted(line) for line in graph.undirected]
    for ways in product((False, True), repeat=len(lines)):
        chosen = {(b, a) if turn else (a, b) for (a, b), turn in zip(lines, ways, strict=True)}
        dag = ValueGraph(graph.nodes, frozenset(chosen))
        if nx.is_directed_acyclic_graph(dag.to_networkx()):
            yield dag


def test_members_keep_arrows_that_were_known_beforehand():
    """Arrows that only background knowledge gives, where Meek's fourth rule is needed."""
    rng = np.random.default_rng(1)
    empty = several = 0
    for _ in range(200):
        dag = random_dag(rng, 5, 0.8)
        known = frozenset(edge for edge in sorted(dag.directed) if rng.random() < 0.4)
        lines = frozenset(frozenset(edge) for edge in dag.directed - known)
        graph = ValueGraph(dag.nodes, known, lines)
        expected = every_orientation(graph)
        if expected:
            assert set(graph.members()) == expected
            several += len(expected) > 1
        else:
            with pytest.raises(ValueError, match="no orientation"):
                graph.members()
            empty += 1
    assert empty > 5
    assert several > 20


def test_the_class_is_that_of_causal_learn():
    rng = np.random.default_rng(2)
    for dag in [TRUTH, *(random_dag(rng, 8, 0.4) for _ in range(30))]:
        nodes = {name: GraphNode(name) for name in dag.nodes}
        theirs = GeneralGraph(list(nodes.values()))
        for cause, effect in sorted(dag.directed):
            theirs.add_edge(Edge(nodes[cause], nodes[effect], Endpoint.TAIL, Endpoint.ARROW))
        marks = dag2cpdag(theirs).graph
        found = dag.cpdag()
        for i, a in enumerate(dag.nodes):
            for j, b in enumerate(dag.nodes):
                assert ((a, b) in found.directed) == (marks[j, i] == 1 and marks[i, j] == -1)
                assert ({a, b} in found.undirected) == (marks[j, i] == marks[i, j] == -1)


def test_the_class_of_the_world_leaves_two_edges_open():
    found = TRUTH.cpdag()
    assert found.skeleton == TRUTH.skeleton
    assert ("security", "freedom") in found.directed
    assert found.undirected == {
        frozenset(("tradition", "stimulation")),
        frozenset(("security", "universalism")),
    }
    assert len(found.members()) == 4
    assert TRUTH in found.members()


@pytest.mark.parametrize(
    ("nodes", "directed", "undirected", "message"),
    [
        ("aa", [], [], "each value is one node, got twice: a"),
        ("ab", [("a", "c")], [], "edges join the values a, b; got c"),
        ("ab", [], [{"a", "c"}], "edges join the values a, b; got c"),
        ("ab", [("a", "a")], [], r"two different values, got \['a', 'a'\]"),
        ("ab", [], [{"a"}], r"two different values, got \['a'\]"),
        ("abc", [("a", "b", "c")], [], "two different values"),
        ("ab", [("a", "b"), ("b", "a")], [], "have more than one edge.*undirected"),
        ("ab", [("a", "b")], [{"a", "b"}], "a and b have more than one edge"),
    ],
)
def test_bad_graphs_are_named(nodes, directed, undirected, message):
    lines = frozenset(map(frozenset, undirected))
    with pytest.raises(ValueError, match=message):
        ValueGraph(tuple(nodes), frozenset(directed), lines)


def test_bad_pairs_and_unknown_values_are_named():
    with pytest.raises(ValueError, match="got c"):
        ValueGraph.of(["a", "b"], [("a", "c")])
    with pytest.raises(ValueError, match="two different values"):
        ValueGraph.of(["a", "b"], [("a", "a")])
    with pytest.raises(KeyError, match="'z' is no value of the graph: a, b"):
        arrows("a>b").descendants("z")
    with pytest.raises(KeyError, match="'z' is no value"):
        arrows("a>b").parents("z")
    for graph in (arrows("a>b b-c"), arrows("a>b b>c c>a")):
        with pytest.raises(ValueError, match=r"class of a DAG, got the graph a"):
            graph.cpdag()


def test_skeletons_and_arrows_are_counted():
    truth = arrows("a>b b>c c>d", tuple("abcde"))
    found = arrows("a>b c>b d-a", tuple("abcde"))
    measures = compare_graphs(found, truth)
    assert measures.skeleton_precision == measures.skeleton_recall == pytest.approx(2 / 3)
    assert skeleton_f1(found, truth) == measures.skeleton_f1 == pytest.approx(2 / 3)
    assert measures.arrow_precision == 1 / 2
    assert measures.arrow_recall == pytest.approx(1 / 3)
    assert orientation_f1(found, truth) == measures.arrow_f1 == pytest.approx(2 / 5)
    # b - c is turned, c - d is missing, a - d is extra.
    assert structural_hamming(found, truth) == measures.structural_hamming == 3


def test_an_open_edge_is_one_difference_and_counts_against_no_skeleton():
    truth, found = arrows("a>b b>c"), arrows("a-b b-c")
    assert skeleton_f1(found, truth) == 1
    assert orientation_f1(found, truth) == 0
    assert structural_hamming(found, truth) == structural_hamming(truth, found) == 2
    assert np.isnan(compare_graphs(found, truth).arrow_precision)
    assert np.isnan(compare_graphs(truth, found).arrow_recall)
    assert structural_hamming(found, truth.cpdag()) == 0
    assert structural_hamming(arrows("a-b", ABC), found) == 1
    assert structural_hamming(found, arrows("a-b", ABC)) == 1
    assert orientation_f1(found, truth.cpdag()) == 1


def test_graphs_over_other_values_are_not_compared():
    for measure in (compare_graphs, skeleton_f1, orientation_f1, structural_hamming):
        with pytest.raises(ValueError, match="only in one of them: c"):
            measure(arrows("a>b", ABC), arrows("a>b"))
    turned = ValueGraph.of(("b", "a"), [("a", "b")])
    assert structural_hamming(turned, arrows("a>b")) == 0


def test_reduction_of_a_dag_is_its_transitive_reduction():
    rng = np.random.default_rng(3)
    dropped = 0
    for _ in range(30):
        edges = sorted(random_dag(rng, 8, 0.6).directed)
        found = reduce_transitively(edges)
        assert set(found) == set(nx.transitive_reduction(nx.DiGraph(edges)).edges)
        assert found == [edge for edge in edges if edge in found]
        dropped += len(edges) - len(found)
    assert dropped > 100


def test_reduction_with_cycles_is_the_papers_and_keeps_who_reaches_whom():
    rng = np.random.default_rng(4)
    nodes = "abcdef"
    pairs = list(permutations(nodes, 2))
    for _ in range(30):
        edges = [pairs[i] for i in rng.permutation(len(pairs))[:14]]
        found = reduce_transitively(edges)
        assert found == slowly_reduced(edges)
        assert reach(found, nodes) == reach(edges, nodes)


def test_reduction_depends_on_the_order_where_there_are_cycles():
    edges = list(permutations("abc", 2))
    results = {frozenset(reduce_transitively(order)) for order in permutations(edges)}
    assert len(results) > 1
    assert all(reach(result, "abc") == reach(edges, "abc") for result in results)


def test_reduction_of_bad_and_double_edges():
    assert reduce_transitively([]) == []
    assert reduce_transitively([("a", "b"), ["a", "b"]]) == [("a", "b")]
    with pytest.raises(ValueError, match="two different values, got b twice"):
        reduce_transitively([("a", "b"), ("b", "b")])


def test_published_graphs_are_read_and_cannot_be_reduced_further(external):
    path = external / "data" / "value_causal_graph" / "value_graphs.json"
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    published = json.loads(path.read_text(encoding="utf-8"))
    graphs = {}
    for name, number, both_ways in (("gemma", 28, 3), ("llama", 19, 1)):
        edges = [(cause, effect) for cause, effect, *_ in published["edges"][name]]
        assert reduce_transitively(edges) == edges
        graphs[name] = ValueGraph.of(tuple(published["nodes"]), edges)
        assert (len(edges), len(graphs[name].undirected)) == (number, both_ways)
    assert len(graphs["gemma"].descendants("Uncertainty Avoidance")) == 11
    with pytest.raises(ValueError, match="cycle Achievement -> Breadth of Interest -> Anxiety"):
        graphs["llama"].members()
