"""Predicted side effects: the published numbers, planted ones, and tests that hold their level."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, spearmanr

from steerlib.evaluation.side_effect_nulls import (
    node_permutation_test,
    signed_rank_correlation,
    value_tests,
)
from steerlib.evaluation.side_effect_prediction import (
    change_frequencies,
    descendants,
    excess_frequencies,
    expected_unexpected,
    mean_gap,
    signed_changes,
)
from steerlib.evaluation.value_files import released_values

NAMES = list("abcdefgh")
TREE = [("a", "b"), ("b", "c"), ("a", "d"), ("e", "f"), ("f", "g")]
# Mean frequency of expected and unexpected changes: of the authors' table, and recomputed.
PUBLISHED = {
    ("gemma", "prompt"): {"gemma": (0.690, 0.560), "human1": (0.693, 0.593),
                          "gemma_gen": (0.661, 0.589)},
    ("gemma", "sae"): {"gemma": (0.568, 0.506), "human1": (0.787, 0.504),
                       "gemma_gen": (0.499, 0.530)},
    ("llama", "prompt"): {"llama": (0.572, 0.469), "human1": (0.483, 0.496),
                          "llama_gen": (0.433, 0.498)},
    ("llama", "sae"): {"llama": (0.741, 0.464), "human1": (0.504, 0.564),
                       "llama_gen": (0.650, 0.541)},
}  # fmt: skip


def scores(rows, names=NAMES):
    return pd.DataFrame(np.asarray(rows, dtype=float), columns=list(names))


def tables(change, names=NAMES, seed=0):
    """Scores before and after a change of known size, in quarters, which floats hold exactly."""
    start = np.random.default_rng(seed).integers(-8, 8, np.shape(change)) / 4
    return scores(start, names), scores(start + np.asarray(change, dtype=float), names)


def along(edges, names=NAMES):
    """One row per value, in which it and what it reaches change, and nothing else."""
    reach = descendants(names, edges)
    return [[float(u == v or u in reach[v]) for u in names] for v in names]


def drawn(rng, rows=30, names=NAMES):
    return tables(rng.integers(-2, 3, (rows, len(names))) * 0.25, names)


# --- the real files


@pytest.fixture(scope="module")
def home(external):
    folder = external / "data" / "value_causal_graph"
    if not folder.exists():
        pytest.skip(f"{folder} does not exist")
    return folder


@pytest.mark.parametrize(("model", "kind"), PUBLISHED)
def test_the_published_frequencies_to_three_decimals(home, model, kind):
    data = released_values(model, home)
    before, after = data.prompt_setting() if kind == "prompt" else data.feature_setting()
    frequencies = change_frequencies(before, after)
    for name, (expected, unexpected) in PUBLISHED[model, kind].items():
        reach = descendants(data.values, data.graphs[name])
        table = expected_unexpected(frequencies, reach)
        assert round(table["expected"].mean(), 3) == expected
        assert round(table["unexpected"].mean(), 3) == unexpected
        assert mean_gap(table) == pytest.approx(expected - unexpected, abs=0.001)


def test_the_gap_of_llama_is_unlikely_by_chance_but_not_beyond_how_often_values_change(home):
    data = released_values("llama", home)
    frequencies = change_frequencies(*data.feature_setting())
    reach = descendants(data.values, data.graphs["llama"])
    assert 0.004 < node_permutation_test(frequencies, reach, 4000).p < 0.012
    assert node_permutation_test(excess_frequencies(frequencies), reach, 500).p > 0.3


# --- frequencies and signs


def test_frequencies_are_those_of_a_plain_count():
    before, after = drawn(np.random.default_rng(1))
    found = change_frequencies(before, after)
    for v in NAMES:
        rows = [i for i in before.index if after.loc[i, v] != before.loc[i, v]]
        for u in NAMES:
            share = np.mean([after.loc[i, u] != before.loc[i, u] for i in rows])
            assert np.isnan(found.loc[v, u]) if u == v else found.loc[v, u] == pytest.approx(share)


def test_signed_changes_are_those_of_a_plain_sum():
    before, after = drawn(np.random.default_rng(2))
    found, change = signed_changes(before, after), after - before
    for v in NAMES:
        rows = change[change[v] != 0]
        for u in set(NAMES) - {v}:
            wanted = np.mean([np.sign(row[v]) * row[u] for _, row in rows.iterrows()])
            assert found.loc[v, u] == pytest.approx(wanted)
        assert np.isnan(found.loc[v, v])


def test_a_turned_sign_changes_signed_changes_only():
    before, after = drawn(np.random.default_rng(3))
    frequencies, signed = change_frequencies(before, after), signed_changes(before, after)
    pd.testing.assert_frame_equal(change_frequencies(after, before), frequencies)
    # All changes turned: v rises where it fell, and so does u.
    pd.testing.assert_frame_equal(signed_changes(after, before), signed)
    before["b"], after["b"] = -before["b"], -after["b"]
    pd.testing.assert_frame_equal(change_frequencies(before, after), frequencies)
    turned = signed.copy()
    turned["b"] *= -1
    turned.loc["b"] *= -1
    pd.testing.assert_frame_equal(signed_changes(before, after), turned)


def test_a_value_that_never_changes_has_no_row_but_a_column():
    change = np.random.default_rng(4).integers(1, 3, (6, 8)) / 4
    change[:, 2] = 0
    for found in (change_frequencies(*tables(change)), signed_changes(*tables(change))):
        assert found.loc["c"].isna().all()
        assert (found["c"].drop("c") == 0).all()
        assert found.drop(index="c").notna().to_numpy().sum() == 7 * 7


def test_changes_up_to_least_do_not_count():
    change = [[0.25, 0.5, 1.0, 0.0, -0.5, -1.0, 0.0, 0.0]]
    found = change_frequencies(*tables(change), least=0.5)
    assert found.loc["c", "f"] == 1
    assert found.loc["c", ["a", "b", "e"]].eq(0).all()
    assert found.loc[["a", "b", "e"]].isna().to_numpy().all()


# --- expected and unexpected


def test_planted_changes_along_the_edges_have_the_gap_1():
    frequencies = change_frequencies(*tables(along(TREE)))
    reach = descendants(NAMES, TREE)
    table = expected_unexpected(frequencies, reach)
    # A change of c comes with one of a or b only where these were changed.
    assert (table["expected"].dropna() == 1).all()
    only_roots = change_frequencies(*tables(np.asarray(along(TREE))[[0, 4, 7]]))
    table = expected_unexpected(only_roots, reach)
    assert table.loc[["a", "e"], "gap"].tolist() == [1, 1]
    direct = pd.DataFrame(along(TREE), NAMES, NAMES).where(~np.eye(8, dtype=bool))
    table = expected_unexpected(direct, reach)
    assert mean_gap(table) == 1
    assert node_permutation_test(direct, reach, 999).p < 0.005


def test_means_are_over_those_values_that_have_them():
    frequencies = pd.DataFrame(0.5, list("abcd"), list("abcd")).where(~np.eye(4, dtype=bool))
    frequencies.loc["a", ["b", "c", "d"]] = [1.0, 0.0, 0.5]
    frequencies.loc["d"] = np.nan
    reach = {"a": {"b", "c"}, "b": set(), "c": {"a", "b", "d"}, "d": {"a"}}
    table = expected_unexpected(frequencies, reach)
    assert table["expected"].fillna(-1).tolist() == [0.5, -1, 0.5, -1]
    assert table["unexpected"].fillna(-1).tolist() == [0.5, 0.5, -1, -1]
    assert table["gap"].fillna(-1).tolist() == [0, -1, -1, -1]


def test_a_value_without_descendants_counts_in_the_gap_of_the_paper_but_not_within_values():
    frequencies = pd.DataFrame(0.2, list("abc"), list("abc"))
    frequencies.loc["a", ["b", "c"]] = [1.0, 0.8]
    table = expected_unexpected(frequencies, {"a": {"b"}, "b": set(), "c": set()})
    assert table["gap"].mean() == pytest.approx(0.2)
    assert mean_gap(table) == pytest.approx(1.0 - (0.8 + 0.2 + 0.2) / 3)


def test_open_directions_are_walked_both_ways_and_a_value_does_not_reach_itself():
    reach = descendants("abcd", [("a", "b"), ("b", "a"), ("b", "c")])
    assert reach == {"a": {"b", "c"}, "b": {"a", "c"}, "c": set(), "d": set()}


def test_a_base_rate_alone_has_a_gap_but_no_excess():
    """u changes in the same share of rows whatever v does: a hub of a graph looks predicted."""
    rng, rate = np.random.default_rng(5), np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.2, 0.1, 0.1])
    change = (rng.random((4000, 8)) < rate) * 0.25
    frequencies = change_frequencies(*tables(change))
    reach = {v: {"a", "b"} - {v} for v in NAMES}
    assert mean_gap(expected_unexpected(frequencies, reach)) > 0.4
    excess = excess_frequencies(frequencies)
    assert abs(mean_gap(expected_unexpected(excess, reach))) < 0.03
    # What does depend on v stays.
    change[:, 7] = np.where(change[:, 0] > 0, change[:, 7], (rng.random(4000) < 0.9) * 0.25)
    change[:, 3] = np.where(rng.random(4000) < 0.8, change[:, 6], change[:, 3])
    excess = excess_frequencies(change_frequencies(*tables(change)))
    assert excess.loc["g", "d"] > 0.3


# --- tests by relabeling


def null_cases(rng):
    """A random graph, and frequencies that know nothing about it but have base rates."""
    edges = {(str(u), str(v)) for u, v in rng.choice(NAMES, (8, 2)) if u != v}
    rates = rng.random(8)
    return descendants(NAMES, edges), pd.DataFrame(rng.random((8, 8)) + rates, NAMES, NAMES).where(
        ~np.eye(8, dtype=bool)
    )


def test_p_is_uniform_where_the_graph_knows_nothing():
    rng, found = np.random.default_rng(6), []
    for seed in range(200):
        reach, frequencies = null_cases(rng)
        found.append(node_permutation_test(frequencies, reach, 99, seed).p)
    assert kstest(found, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(found) <= 0.05) < 0.1
    assert 0.4 < np.mean(found) < 0.6


def test_p_of_signed_ranks_is_uniform_where_the_prediction_knows_nothing():
    rng, found = np.random.default_rng(7), []
    for seed in range(100):
        predicted, observed = (
            pd.DataFrame(rng.normal(size=(8, 8)) + rng.normal(size=8), NAMES, NAMES)
            for _ in range(2)
        )
        found.append(signed_rank_correlation(predicted, observed, 99, seed).p)
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) < 0.12


def test_p_counts_the_prediction_itself_and_ties():
    reach, frequencies = null_cases(np.random.default_rng(8))
    flat = frequencies * 0 + 0.3
    assert node_permutation_test(flat, reach, 50).p == 1
    found = node_permutation_test(frequencies, reach, 50, seed=3)
    assert found.p == (1 + (found.null >= found.statistic - 1e-12).sum()) / 51
    assert len(found.null) == 50
    again = node_permutation_test(frequencies, reach, 50, seed=3)
    assert (again.null == found.null).all()
    assert (node_permutation_test(frequencies, reach, 50, seed=4).null != found.null).any()


def test_relabelings_with_the_gap_of_the_graph_itself_count():
    """All relabelings of one edge that fall on a frequency of 1 have its gap, up to rounding."""
    frequencies = pd.DataFrame(0.1, list("abcdef"), list("abcdef"))
    frequencies.loc["a", "b"] = frequencies.loc["c", "d"] = frequencies.loc["e", "f"] = 1.0
    reach = descendants("abcdef", [("a", "b")])
    found = node_permutation_test(frequencies, reach, 3000)
    assert found.p == pytest.approx(3 / 30, abs=0.02)


def test_equal_gaps_are_ties_whatever_their_rounding():
    names, rng = [f"v{i}" for i in range(17)], np.random.default_rng(13)
    flat = pd.DataFrame(0.3, names, names)  # sums of 0.3 depend on their order
    for _ in range(20):
        edges = [(str(u), str(v)) for u, v in rng.choice(names, (14, 2)) if u != v]
        assert node_permutation_test(flat, descendants(names, edges), 30).p == 1


def test_names_and_their_order_do_not_matter():
    reach, frequencies = null_cases(np.random.default_rng(9))
    order = list("hbdacgfe")
    mixed = frequencies.loc[order, order]
    statistic = node_permutation_test(frequencies, reach, 1).statistic
    assert node_permutation_test(mixed, reach, 1).statistic == pytest.approx(statistic)
    assert statistic == pytest.approx(mean_gap(expected_unexpected(frequencies, reach)))


def test_relabelings_without_a_gap_are_left_out():
    frequencies = pd.DataFrame(np.nan, list("abc"), list("abc"))
    frequencies.loc["a"] = [np.nan, 1.0, 0.0]
    frequencies.loc["b"] = [0.0, np.nan, 0.0]
    found = node_permutation_test(frequencies, {"a": {"b"}, "b": [], "c": []}, 300)
    assert 100 < len(found.null) < 280  # the edge starts at c in a third of them
    assert np.isfinite(found.null).all()


def test_each_value_is_tested_and_adjusted_for_their_number():
    rng = np.random.default_rng(10)
    names = [f"v{i}" for i in range(12)]
    frequencies = pd.DataFrame(rng.random((12, 12)) * 0.2, names, names)
    reach = {v: set(rng.choice([u for u in names if u != v], 4, replace=False)) for v in names}
    frequencies.loc["v3", list(reach["v3"])] += 0.7
    reach["v5"] = set()
    found = value_tests(frequencies, reach, 4000)
    assert found.loc["v3", "p"] < 0.01  # one of 330 sets
    assert found["q"].idxmin() == "v3"
    assert found.loc["v5", ["gap", "p", "q"]].isna().all()
    p = found["p"].dropna().sort_values()
    steps = p * len(p) / np.arange(1, len(p) + 1)
    wanted = steps[::-1].cummin()[::-1].clip(upper=1)  # Benjamini and Hochberg
    assert found["q"].dropna().loc[p.index].tolist() == pytest.approx(wanted.tolist())


def test_p_of_a_value_is_the_share_of_sets_of_its_size():
    frequencies = pd.DataFrame(0.0, list("abcde"), list("abcde"))
    frequencies.loc["a"] = [np.nan, 1.0, 0.5, 0.25, 0.0]
    reach = dict.fromkeys("bcde", frozenset()) | {"a": {"b", "c"}}
    assert value_tests(frequencies, reach, 6000).loc["a", "p"] == pytest.approx(1 / 6, abs=0.02)
    reach["a"] = {"b", "d"}
    assert value_tests(frequencies, reach, 6000).loc["a", "p"] == pytest.approx(2 / 6, abs=0.02)


# --- signed ranks


def test_signed_ranks_are_spearmans_over_pairs_without_nan():
    rng = np.random.default_rng(11)
    predicted, observed = (
        pd.DataFrame(rng.integers(-2, 3, (8, 8)).astype(float), NAMES, NAMES) for _ in range(2)
    )
    observed.loc["c"] = np.nan
    predicted.loc["a", "b"] = np.nan
    pairs = [(v, u) for v in NAMES for u in NAMES if u != v and v != "c" and (v, u) != ("a", "b")]
    wanted = spearmanr(*([table.loc[pair] for pair in pairs] for table in (predicted, observed)))
    found = signed_rank_correlation(predicted, observed, 99)
    assert found.statistic == pytest.approx(wanted.statistic)


def test_signed_ranks_of_a_planted_effect():
    """Half as far and the other way: b follows a, c opposes it, nothing else moves together."""
    rng = np.random.default_rng(12)
    change = rng.normal(size=(3000, 8))
    change[:, 1] += 2 * change[:, 0]
    change[:, 2] -= 2 * change[:, 0]
    observed = signed_changes(*tables(change))
    effects = pd.DataFrame(0.0, NAMES, NAMES)
    effects.loc["a", ["b", "c"]] = [2.0, -2.0]
    right, wrong = (signed_rank_correlation(sign * effects, observed, 299) for sign in (1, -1))
    assert right.statistic > 0.2
    assert right.p < 0.05
    assert wrong.statistic == pytest.approx(-right.statistic)
    assert wrong.p > 0.9


# --- what is refused

SQUARE = pd.DataFrame(np.arange(9.0).reshape(3, 3), list("abc"), list("abc"))
REACH = {"a": {"b"}, "b": set(), "c": set()}


@pytest.mark.parametrize("measure", [change_frequencies, signed_changes])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.iloc[1:], "same rows in one order, got 3.* and 2"),
        (lambda t: t.iloc[::-1], "same rows in one order"),
        (lambda t: t[["b", "a", "c"]], "same columns in one order"),
        (lambda t: t.drop(columns="c"), "same columns in one order, got 3.* and 2"),
        (lambda t: t.assign(b=[0, np.nan, 0]), "after are not finite: b"),
        (lambda t: t.assign(c=np.inf), "after are not finite: c"),
    ],
)
def test_tables_that_do_not_fit_are_refused(measure, change, said):
    before = pd.DataFrame(np.zeros((3, 3)), columns=list("abc"))
    with pytest.raises(ValueError, match=said):
        measure(before, change(before))


@pytest.mark.parametrize("least", [-0.1, np.nan, np.inf])
def test_a_threshold_that_is_none_is_refused(least):
    before = pd.DataFrame(np.zeros((3, 3)), columns=list("abc"))
    with pytest.raises(ValueError, match="least is the size of a change"):
        change_frequencies(before, before, least)


@pytest.mark.parametrize("test", [expected_unexpected, node_permutation_test, value_tests])
@pytest.mark.parametrize(
    ("table", "reach", "said"),
    [
        (SQUARE, REACH | {"a": {"peace"}}, "values are a, b, c; got peace"),
        (SQUARE, REACH | {"peace": {"a"}}, "values are a, b, c; got peace"),
        (SQUARE, {"a": {"b"}, "c": set()}, "no expectation for b; give an empty set"),
        (SQUARE, REACH | {"b": {"b", "a"}}, "no side effect of itself; take out b"),
        (SQUARE.iloc[:2], REACH, "same values as rows and columns"),
        (SQUARE[["b", "a", "c"]], REACH, "same values as rows and columns"),
    ],
)
def test_expectations_that_do_not_fit_are_refused(test, table, reach, said):
    with pytest.raises(ValueError, match=said):
        test(table, reach)


@pytest.mark.parametrize("test", [node_permutation_test, value_tests])
@pytest.mark.parametrize(
    ("table", "reach", "repeats", "said"),
    [
        (SQUARE, REACH, 0, "repeats is a number from 1, got 0"),
        (SQUARE, dict.fromkeys("abc", frozenset()), 9, "nothing to test"),
        (SQUARE, {v: set("abc") - {v} for v in "abc"}, 9, "nothing to test"),
        (SQUARE * np.nan, REACH, 9, "nothing to test"),
    ],
)
def test_where_there_is_nothing_to_test_is_said(test, table, reach, repeats, said):
    with pytest.raises(ValueError, match=said):
        test(table, reach, repeats)


def test_an_edge_of_an_unknown_value_is_named():
    with pytest.raises(ValueError, match="values are a, b; got peace"):
        descendants("ab", [("a", "peace")])


@pytest.mark.parametrize(
    ("predicted", "observed", "said"),
    [
        (SQUARE * 0, SQUARE, "effects of a table are the same"),
        (SQUARE, SQUARE * np.nan, "effects of a table are the same"),
        (SQUARE.iloc[:2], SQUARE, "same values as rows and columns"),
        (SQUARE, SQUARE.loc[["b", "a", "c"], ["b", "a", "c"]], "same values in one order"),
    ],
)
def test_effects_that_cannot_be_ranked_are_refused(predicted, observed, said):
    with pytest.raises(ValueError, match=said):
        signed_rank_correlation(predicted, observed)
    with pytest.raises(ValueError, match="repeats is a number from 1"):
        signed_rank_correlation(SQUARE, SQUARE, 0)


def test_a_table_that_is_not_square_has_no_excess():
    with pytest.raises(ValueError, match="same values as rows and columns"):
        excess_frequencies(SQUARE.iloc[:2])
