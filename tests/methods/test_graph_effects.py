"""Effects of a graph, and graphs from effects: exact on planted models."""

from itertools import permutations
from random import Random

import numpy as np
import pandas as pd
import pytest

import steerlib.world.values as world
from steerlib.methods.graph_effects import (
    class_effects,
    orient,
    predict_side_effects,
    total_effects,
)
from steerlib.methods.graph_search import value_graph
from steerlib.methods.value_graphs import ValueGraph
from tests.methods.value_graph_cases import (
    ABC,
    TRUTH,
    arrows,
    complete,
    every_role,
    gaussian,
    random_dag,
    without,
    world_scores,
)

OTHERS = list(TRUTH.nodes)


@pytest.fixture(scope="module")
def scores():
    rng = Random(0)
    return world_scores([world.random_role(rng) for _ in range(5000)])


@pytest.fixture(scope="module")
def truth():
    return pd.DataFrame(world.total_effects(), OTHERS, OTHERS)


def planted(dag, rng):
    """The exact total effects of a linear model with weights from 0.3 to 1, [cause, effect]."""
    n = len(dag.nodes)
    b = np.zeros((n, n))
    for cause, effect in dag.directed:
        sign = rng.choice([-1, 1])
        b[dag.nodes.index(effect), dag.nodes.index(cause)] = sign * rng.uniform(0.3, 1)
    names = list(dag.nodes)
    return pd.DataFrame(np.linalg.inv(np.eye(n) - b).T, names, names)


def blank(graph):
    return ValueGraph(graph.nodes, frozenset(), graph.skeleton)


def test_total_effects_are_those_of_the_world(scores, truth):
    found = total_effects(scores, TRUTH)
    assert (found - truth).abs().max().max() < 0.05
    assert (found.index.name, found.columns.name) == ("cause", "effect")
    # Over all roles the exogenous terms are uncorrelated exactly.
    assert np.allclose(total_effects(world_scores(every_role()), TRUTH), truth, atol=1e-9)


def test_rows_are_causes_and_columns_are_effects(scores):
    found = total_effects(scores, TRUTH)
    assert found.loc["tradition", "freedom"] < -0.1
    assert found.loc["freedom", "tradition"] == 0
    assert np.allclose(np.diag(found), 1)
    for cause in OTHERS:
        moved = {name for name in OTHERS if name != cause and found.loc[cause, name] != 0}
        assert moved <= TRUTH.descendants(cause)


def test_effects_multiply_along_a_path_and_add_over_paths():
    rng = np.random.default_rng(0)
    scores = gaussian(arrows("a>b b>c a>c"), rng, rows=20000)
    found = total_effects(scores, arrows("a>b b>c a>c"))
    sd = scores.std()
    assert found.loc["a", "b"] == pytest.approx(0.8 * sd.a / sd.b, abs=0.02)
    assert found.loc["a", "c"] == pytest.approx((0.8 + 0.64) * sd.a / sd.c, abs=0.02)
    assert found.loc["b", "c"] == pytest.approx(0.8 * sd.b / sd.c, abs=0.02)


def test_effects_have_no_unit_and_no_order_of_columns(scores):
    other = (scores * np.arange(1, 11) + 5)[OTHERS[::-1]].assign(more=0.0)
    pd.testing.assert_frame_equal(total_effects(other, TRUTH), total_effects(scores, TRUTH))


def test_a_class_gives_the_mean_and_the_range_of_its_members():
    scores = gaussian(arrows("a>b b>c"), np.random.default_rng(1))
    graph = arrows("a-b b-c")
    found = class_effects(scores, graph)
    each = np.stack([total_effects(scores, member) for member in graph.members()])
    assert len(each) == 3
    for i, cause in enumerate(ABC):
        for j, effect in enumerate(ABC):
            if i != j:
                values = each[:, i, j]
                line = found.loc[(cause, effect)]
                assert line.to_list() == pytest.approx([values.mean(), values.min(), values.max()])
    assert list(found.columns) == ["mean", "low", "high"]
    assert found.index.names == ["cause", "effect"]
    assert len(found) == 6
    assert found.loc[("a", "c"), "low"] == 0 < found.loc[("a", "c"), "high"]
    r = scores.corr()
    assert found.loc[("a", "b"), "mean"] == pytest.approx(r.loc["a", "b"] / 3)


def test_a_class_with_one_member_is_sure(scores):
    found = class_effects(scores, TRUTH)
    expected = total_effects(scores, TRUTH)
    assert np.allclose(found["mean"].unstack().loc[OTHERS, OTHERS].fillna(1), expected)
    assert (found.low == found.high).all()


def test_orient_finds_the_planted_order_from_exact_effects():
    rng = np.random.default_rng(2)
    turned = 0
    for _ in range(50):
        dag = random_dag(rng, rng.integers(2, 9), 0.5)
        effects = planted(dag, rng)
        assert orient(blank(dag), effects) == dag
        cpdag = dag.cpdag()
        assert orient(cpdag, effects) == dag
        turned += len(cpdag.undirected)
    assert turned > 50


def test_orient_finds_the_world_from_its_interventions(truth):
    assert orient(TRUTH.cpdag(), truth) == TRUTH
    assert orient(blank(TRUTH), truth) == TRUTH
    # Rows are causes: the other way round every arrow is turned.
    turned = orient(blank(TRUTH), truth.T)
    assert turned.directed == {(effect, cause) for cause, effect in TRUTH.directed}


def test_orient_is_the_best_of_all_acyclic_orientations():
    rng = np.random.default_rng(3)
    for _ in range(20):
        graph = blank(random_dag(rng, 5, 0.8))
        names = list(graph.nodes)
        effects = pd.DataFrame(rng.normal(size=(5, 5)), names, names)
        size = effects.abs()

        def gain(edges, size=size):
            return sum(size.loc[a, b] - size.loc[b, a] for a, b in edges)

        best = max(
            gain([(a, b) for a, b in permutations(graph.nodes, 2)
                  if {a, b} in graph.undirected and order.index(a) < order.index(b)])
            for order in permutations(graph.nodes)
        )  # fmt: skip
        found = orient(graph, effects)
        assert found.is_dag
        assert found.skeleton == graph.skeleton
        assert gain(found.directed) == pytest.approx(best)


def test_orient_gives_a_dag_where_effects_go_round_in_a_circle():
    """a moves b, b moves c, c moves a, the last one least."""
    effects = pd.DataFrame([[1, 0.9, 0], [0, 1, 0.8], [0.2, 0, 1]], list(ABC), list(ABC))
    assert orient(complete(ABC), effects) == arrows("a>b b>c a>c")


def test_arrows_of_the_graph_stay_whatever_effects_say():
    effects = pd.DataFrame([[1, 0.9, 0.3], [0, 1, 0], [0, 0.5, 1]], list(ABC), list(ABC))
    assert orient(arrows("b>a b-c"), effects) == arrows("b>a c>b")
    # Here the arrows forbid what the effect of a - c would choose.
    assert orient(arrows("c>b b>a a-c"), effects) == arrows("c>b b>a c>a")


def test_the_sign_of_an_effect_does_not_matter():
    effects = pd.DataFrame([[1, -0.9], [0.5, 1]], ["a", "b"], ["a", "b"])
    assert orient(arrows("a-b"), effects) == arrows("a>b")


def test_equal_effects_are_decided_by_the_order_of_the_nodes():
    effects = pd.DataFrame(0.1 + 0.2, list(ABC), list(ABC))
    for nodes in permutations(ABC):
        found = orient(complete(nodes), effects)
        first, second, third = nodes
        assert found.directed == {(first, second), (first, third), (second, third)}


def test_orient_takes_the_values_of_the_paper():
    names = [f"v{i}" for i in range(17)]
    rng = np.random.default_rng(4)
    effects = pd.DataFrame(np.triu(rng.uniform(0.1, 1, (17, 17))), names, names)
    assert orient(complete(tuple(names)), effects).directed == {
        (names[i], names[j]) for i in range(17) for j in range(i + 1, 17)
    }
    many = tuple(f"v{i}" for i in range(19))
    with pytest.raises(ValueError, match="up to 18 values, got 19"):
        orient(complete(many), effects)


def test_bad_effects_are_named():
    good = pd.DataFrame(np.eye(3), list(ABC), list(ABC))
    with pytest.raises(TypeError, match=r"pandas.DataFrame, got ndarray"):
        orient(arrows("a-b"), np.eye(2))
    with pytest.raises(KeyError, match="no row for c"):
        orient(complete(ABC), good.drop(index="c"))
    with pytest.raises(KeyError, match="no column for b"):
        orient(complete(ABC), good.drop(columns="b"))
    with pytest.raises(ValueError, match=r"effect of do\(c\) on b is nan"):
        orient(arrows("a>b b-c"), without(good, "b", ["c"]))
    # Nothing is asked about pairs without an open edge.
    assert orient(arrows("a>b", ABC), good * np.nan) == arrows("a>b", ABC)
    with pytest.raises(ValueError, match=r"cyclic graph: a -> b -> c -> a; direct all edges anew"):
        orient(arrows("a>b b>c c>a"), good)


def test_side_effects_are_expected_of_descendants():
    graph = arrows("a>b b-c d>a")
    found = predict_side_effects(graph, "a")
    assert list(found.index) == ["b", "c", "d"]
    assert list(found.columns) == ["expected"]
    assert found.expected.to_list() == [True, True, False]
    assert found.expected.dtype == bool
    assert predict_side_effects(graph, "b").expected.to_list() == [False, True, False]


def test_side_effects_have_a_sign_and_a_size(scores, truth):
    found = predict_side_effects(TRUTH, "security", scores)
    assert list(found.columns) == ["expected", "effect", "low", "high"]
    expected = truth.loc["security"].drop("security")
    assert (found.effect - expected).abs().max() < 0.05
    assert list(found.index) == list(expected.index)
    assert found.effect["freedom"] < -0.3
    assert (found.effect[~found.expected] == 0).all()
    assert (found.effect[found.expected] != 0).all()
    assert (found.low == found.high).all()


def test_side_effects_of_a_found_class_have_a_range_with_the_truth_in_it(scores, truth):
    found = predict_side_effects(value_graph(scores, alpha=0.001), "stimulation", scores)
    assert found.low["tradition"] < found.effect["tradition"] < found.high["tradition"] == 0
    expected = truth.loc["stimulation"].drop("stimulation")
    assert (found.low - 0.05 <= expected).all()
    assert (found.high + 0.05 >= expected).all()


@pytest.mark.parametrize("text", ["a>b b>c c>a d>a", "a-b b-c c-d a-d"])
def test_a_graph_that_stands_for_no_dag_still_says_what_to_expect(text):
    graph = arrows(text)
    rng = np.random.default_rng(5)
    scores = pd.DataFrame(rng.normal(size=(50, 4)), columns=list(graph.nodes))
    found = predict_side_effects(graph, "a", scores)
    assert list(found.columns) == ["expected"]
    assert found.expected["c"]


def test_bad_graphs_and_scores_are_named(scores):
    with pytest.raises(ValueError, match="cyclic graph: a -> b -> c -> a"):
        total_effects(scores, arrows("a>b b>c c>a c-d"))
    with pytest.raises(ValueError, match="leaves 1 directions open: a - b; take class_effects"):
        total_effects(scores, arrows("a-b"))
    with pytest.raises(ValueError, match="no DAG has these arrows"):
        class_effects(scores[OTHERS[:3]].set_axis(list(ABC), axis=1), arrows("a>b b>c c>a"))
    for call in (total_effects, class_effects):
        with pytest.raises(KeyError, match="no column for freedom, power"):
            call(scores.drop(columns=["freedom", "power"]), order_of("freedom", "power"))
        with pytest.raises(ValueError, match="1 scores are not finite"):
            call(without(scores, "power", [3]), TRUTH)
        with pytest.raises(ValueError, match=r"constant.*: power"):
            call(scores.assign(power=1.0), TRUTH)
        with pytest.raises(TypeError, match=r"pandas.DataFrame, got ndarray"):
            call(scores.to_numpy(), TRUTH)
    with pytest.raises(KeyError, match="'wealth' is no value of the graph"):
        predict_side_effects(TRUTH, "wealth")


def order_of(*first):
    """The world's DAG, its nodes in another order."""
    nodes = (*first, *(name for name in OTHERS if name not in first))
    return ValueGraph(nodes, TRUTH.directed)
