"""Searches find planted graphs, agree with causal-learn, and say what is wrong with scores."""

from random import Random

import numpy as np
import pandas as pd
import pytest
from causallearn.search.ConstraintBased.PC import pc
from causallearn.search.ScoreBased.GES import ges
from scipy import stats

from steerlib.methods.graph_comparison import compare_graphs, skeleton_f1, structural_hamming
from steerlib.methods.graph_search import _of_matrix, edge_frequencies, value_graph
from steerlib.methods.score_tables import checked_scores
from steerlib.methods.value_graphs import ValueGraph
from steerlib.world.values import random_role
from tests.methods.value_graph_cases import (
    ABC,
    TRUTH,
    arrows,
    gaussian,
    random_dag,
    without,
    world_scores,
)

FIT = ("pc", "ges")
FLAT = ("partial", "correlation")


@pytest.fixture(scope="module")
def world():
    rng = Random(0)
    return world_scores([random_role(rng) for _ in range(2000)])


@pytest.fixture(scope="module")
def chain():
    return gaussian(arrows("a>b b>c"), np.random.default_rng(0))


def noise(rows, names, seed=0):
    return pd.DataFrame(
        np.random.default_rng(seed).normal(size=(rows, len(names))), columns=list(names)
    )


@pytest.mark.parametrize("method", FIT)
@pytest.mark.parametrize("text", ["a>b b>c", "b>a b>c", "a>b c>b"])
def test_chain_fork_and_collider_are_found(method, text):
    graph = arrows(text)
    scores = gaussian(graph, np.random.default_rng(1))
    assert value_graph(scores, method, alpha=0.001) == graph.cpdag()


def test_a_chain_and_a_fork_are_the_same_to_every_search(chain):
    assert value_graph(chain).undirected == {frozenset("ab"), frozenset("bc")}
    assert value_graph(chain).directed == frozenset()


@pytest.mark.parametrize("method", FIT)
def test_the_world_is_recovered(world, method):
    found = value_graph(world, method)
    assert found.nodes == TRUTH.nodes
    assert skeleton_f1(found, TRUTH) >= 0.9
    assert compare_graphs(found, TRUTH.cpdag()).arrow_f1 >= 0.8


def theirs(marks, names):
    """The edges of causal-learn's matrix, by its documentation."""
    n = range(len(names))
    directed = {
        (names[i], names[j]) for i in n for j in n if marks[j, i] == 1 and marks[i, j] == -1
    }
    tails = {
        frozenset((names[i], names[j])) for i in n for j in n if marks[i, j] == marks[j, i] == -1
    }
    return ValueGraph(tuple(names), frozenset(directed), frozenset(tails))


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_pc_is_causal_learns(world, alpha):
    rng = np.random.default_rng(2)
    tables = [world, world[:60], gaussian(random_dag(rng, 8, 0.5), rng, rows=200)]
    seen = set()
    for scores in tables:
        marks = pc(scores.to_numpy(), alpha, "fisherz", True, 0, 2, show_progress=False).G.graph
        found = value_graph(scores, "pc", alpha=alpha)
        assert found == theirs(marks, list(scores.columns))
        seen.add(len(found.skeleton))
    assert len(seen) > 1


def test_ges_is_causal_learns(world):
    scores = world[:80]
    assert value_graph(scores, "ges") == theirs(ges(scores.to_numpy())["G"].graph, TRUTH.nodes)


def test_the_level_decides_how_many_edges_there_are(world):
    scores = world[:60]
    few, many = (value_graph(scores, alpha=alpha).skeleton for alpha in (1e-6, 0.2))
    assert len(few) < len(many)
    assert value_graph(scores) == value_graph(scores, "pc", alpha=0.01)


def test_marks_of_causal_learn_are_read():
    #       a   b   c   d
    marks = np.array(
        [
            [0, -1, 0, 0],  # a -> b: a tail at a,
            [1, 0, 1, 0],  # a head at b; b <-> c
            [0, 1, 0, -1],  # c - d
            [0, 0, -1, 0],
        ]
    )
    assert _of_matrix(("a", "b", "c", "d"), marks) == arrows("a>b b-c c-d")


def test_partial_correlations_leave_out_what_goes_through_others(chain):
    assert value_graph(chain, "partial") == arrows("a-b b-c")
    assert value_graph(chain, "correlation") == arrows("a-b b-c a-c")
    collider = gaussian(arrows("a>b c>b"), np.random.default_rng(3))
    assert value_graph(collider, "partial") == arrows("a-b b-c a-c")
    assert value_graph(collider, "correlation") == arrows("a-b b-c")


def test_correlations_are_tested_as_fisher_does():
    """p = 2 (1 - Phi(sqrt(n - 3) artanh r)): an edge just above its p, none just below."""
    scores = noise(40, ABC, 4)
    r = abs(stats.pearsonr(scores.a, scores.b).statistic)
    p = 2 * stats.norm.sf(np.sqrt(40 - 3) * np.arctanh(r))
    assert frozenset("ab") in value_graph(scores, "correlation", alpha=p * 1.001).skeleton
    assert frozenset("ab") not in value_graph(scores, "correlation", alpha=p * 0.999).skeleton


def test_partial_correlations_are_those_of_residuals_with_fewer_degrees_of_freedom():
    scores = noise(40, "abcd", 5)
    others = np.column_stack([np.ones(40), scores[["c", "d"]]])
    rest = scores[["a", "b"]] - others @ np.linalg.lstsq(others, scores[["a", "b"]], rcond=None)[0]
    r = abs(stats.pearsonr(rest.a, rest.b).statistic)
    p = 2 * stats.norm.sf(np.sqrt(40 - 2 - 3) * np.arctanh(r))
    assert frozenset("ab") in value_graph(scores, "partial", alpha=p * 1.001).skeleton
    assert frozenset("ab") not in value_graph(scores, "partial", alpha=p * 0.999).skeleton


def test_as_many_edges_as_asked_are_the_largest(chain):
    assert value_graph(chain, "correlation", edges=1) == arrows("b-c", ABC)
    assert value_graph(chain, "correlation", edges=2) == arrows("a-b b-c")
    assert len(value_graph(chain, "partial", edges=3).skeleton) == 3
    assert value_graph(chain, "partial", edges=0).skeleton == frozenset()


def test_a_planted_edge_always_comes_back_and_others_hardly_ever():
    scores = noise(300, "abcd", 6)
    scores["b"] += 2 * scores.a
    table = edge_frequencies(scores, lambda x: value_graph(x, alpha=0.001), repeats=40)
    assert list(table.columns) == ["edge", "forward", "backward", "undirected"]
    assert table.index[0] == ("a", "b")
    assert table.edge.iloc[0] == 1
    assert table.edge.iloc[1:].max() <= 0.2
    assert table.edge.is_monotonic_decreasing
    assert len(table) == 6


def test_frequencies_count_directions():
    """`fit` gives four known graphs in turn."""
    graphs = [arrows(text, ABC) for text in ("a>b", "b>a b>c", "a-b", "a>b")]
    turn = iter(graphs)
    table = edge_frequencies(noise(20, ABC), lambda _: next(turn), repeats=4)
    assert table.loc[("a", "b")].to_list() == [1.0, 0.5, 0.25, 0.25]
    assert table.loc[("b", "c")].to_list() == [0.25, 0.25, 0.0, 0.0]
    assert table.loc[("a", "c")].to_list() == [0.0] * 4
    assert list(table.index) == [("a", "b"), ("b", "c"), ("a", "c")]
    assert table.index.names == ["first", "second"]


def test_a_seed_repeats_and_another_does_not(world):
    first, same, other = (edge_frequencies(world[:50], repeats=10, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, same)
    assert not first.equals(other.loc[first.index])


def test_resamples_are_whole_rows_and_whole_clusters(world):
    """A fit that looks at its rows: as many as before, or as clusters are large."""
    roles = ["x"] * 3 + ["y"] * 5 + ["z"] * 12
    scores = world[:20].assign(achievement=[ord(role) for role in roles])
    drawn = []

    def look(table):
        drawn.append(table)
        return TRUTH

    edge_frequencies(scores, look, repeats=30)
    assert {len(table) for table in drawn} == {20}
    assert all(list(table.index) == list(range(20)) for table in drawn)
    assert min(table.power.nunique() for table in drawn) < 20
    drawn.clear()
    edge_frequencies(scores, look, clusters=roles, repeats=30)
    sizes = {ord("x"): 3, ord("y"): 5, ord("z"): 12}
    for table in drawn:
        counts = table.achievement.value_counts()
        assert all(counts[role] % sizes[role] == 0 for role in counts.index)
        assert sum(counts[role] // sizes[role] for role in counts.index) == 3
    assert len({len(table) for table in drawn}) > 3


def test_the_bootstrap_of_rows_is_too_sure_where_roles_repeat():
    """25 roles, each 100 times: to the rows, correlations by chance look certain."""
    few = noise(25, "abcdef", 7)
    scores = few.loc[few.index.repeat(100)].reset_index(drop=True)
    roles = list(few.index.repeat(100))

    def fit(table):
        return value_graph(table, "correlation")

    by_row = edge_frequencies(scores, fit, repeats=40).edge
    by_role = edge_frequencies(scores, fit, clusters=roles, repeats=40).edge
    assert (by_row * (1 - by_row)).mean() < 0.75 * (by_role * (1 - by_role)).mean()
    assert (by_row > 0.95).sum() > (by_role > 0.95).sum()
    alone = edge_frequencies(scores, fit, clusters=range(len(scores)), repeats=40).edge
    pd.testing.assert_series_equal(alone, by_row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.assign(c=0.1), r"constant.*: c; leave"),
        (lambda x: x.assign(c=0.1, e=3), r"constant.*: c, e;"),
        (lambda x: without(x, "b", [0, 1]), r"2 scores are not finite \(b 2\)"),
        (lambda x: x.assign(a=np.inf, d=np.nan), r"60 scores are not finite \(a 30, d 30\)"),
        (lambda x: x.assign(a=pd.array([None] + [1] * 29, "Int64")), r"1 scores .*\(a 1\)"),
        (lambda x: x[:7], "5 values need 8 rows or more, got 7"),
        (lambda x: x.assign(d=-2 * x.b + 1), "scores of b, d determine each other"),
        (lambda x: x.assign(d=x.a, e=-x.b), "scores of a, d determine each other"),
        (lambda x: x.assign(e=x.a + x.c), "scores of a, c, e determine each other"),
        (lambda x: x.set_axis(list("abcda"), axis=1), "one column, got twice: a"),
        (lambda x: x[["a"]], "two or more values, got 1"),
    ],
)
@pytest.mark.parametrize("method", ["pc", "correlation"])
def test_bad_scores_are_named(change, message, method):
    with pytest.raises(ValueError, match=message):
        value_graph(change(noise(30, "abcde", 8)), method)


def test_what_is_no_table_of_numbers_is_named():
    with pytest.raises(TypeError, match=r"pandas.DataFrame, got ndarray"):
        value_graph(np.zeros((9, 2)))
    with pytest.raises(TypeError, match="hold none: b, d"):
        value_graph(noise(9, "abcd").assign(b="yes", d="no"))
    with pytest.raises(TypeError, match="named after values, got the name 0"):
        value_graph(pd.DataFrame(np.zeros((9, 2))))


def test_enough_rows_and_nearly_equal_columns_pass():
    assert checked_scores(noise(8, "abcde")).shape == (8, 5)
    scores = noise(200, "ab").assign(c=lambda x: x.a + 1e-3 * x.b.iloc[::-1].to_numpy())
    assert frozenset("ac") in value_graph(scores).skeleton


def test_bad_arguments_are_named(chain):
    with pytest.raises(ValueError, match="one of pc, ges, partial, correlation; got 'lingam'"):
        value_graph(chain, "lingam")
    for alpha in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="alpha lies between 0 and 1, got"):
            value_graph(chain, alpha=alpha)
    for edges in (-1, 4):
        with pytest.raises(ValueError, match=f"3 values have 0 to 3 edges, got {edges}"):
            value_graph(chain, "partial", edges=edges)
    for method in FIT:
        with pytest.raises(ValueError, match=f"'{method}' decides on the number of edges"):
            value_graph(chain, method, edges=2)


def test_bad_bootstraps_are_named(chain):
    few = chain[:20]
    with pytest.raises(ValueError, match="2 clusters for 20 rows"):
        edge_frequencies(few, clusters=[0, 1])
    with pytest.raises(ValueError, match="3 rows have no cluster"):
        edge_frequencies(few, clusters=[None] * 3 + [1] * 17)
    with pytest.raises(ValueError, match="two or more clusters, got 1"):
        edge_frequencies(few, clusters=["x"] * 20)
    with pytest.raises(ValueError, match="two or more rows, got 1"):
        edge_frequencies(chain[:1])
    with pytest.raises(ValueError, match="repeats is a number from 1, got 0"):
        edge_frequencies(few, repeats=0)
    with pytest.raises(ValueError, match="over all columns, got a, b"):
        edge_frequencies(few, lambda x: arrows("a>b"))
    with pytest.raises(ValueError, match=r"resample 1: constant.*: b"):
        edge_frequencies(few.assign(b=1.0))
    with pytest.raises(TypeError, match=r"pandas.DataFrame, got list"):
        edge_frequencies([1, 2])


def test_nothing_is_found_where_there_is_nothing():
    empty = ValueGraph(tuple("abc"), frozenset())
    for method in (*FIT, *FLAT):
        found = value_graph(noise(500, ABC, 9), method, alpha=1e-4)
        assert structural_hamming(found, empty) == 0
