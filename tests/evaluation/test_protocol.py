"""The protocol: prompts that choose a factor report nothing, ties, win rates, bad tables."""

import math

import pandas as pd
import pytest

from steerlib.evaluation import FACTORS, benchmark, choosing, reported, win_rate

PROMPTS = [f"prompt {number}" for number in range(10)]


def rows(method, scores, concept="rain", prompts=PROMPTS, seed=0):
    """`scores[strength]` is one number for all prompts, or one each."""
    table = []
    for strength, values in scores.items():
        each = values if isinstance(values, list) else [values] * len(prompts)
        table += [
            {"concept": concept, "method": method, "strength": strength, "prompt": p, "score": v,
             "grade_fluency": 2.0, "seed": seed}
            for p, v in zip(prompts, each, strict=True)
        ]  # fmt: skip
    return pd.DataFrame(table)


def test_the_grid_is_that_of_the_paper():
    assert len(FACTORS) == 14
    assert list(FACTORS) == sorted(FACTORS)
    assert (FACTORS[0], FACTORS[-1]) == (0.2, 5.0)


def test_of_ten_prompts_the_first_five_choose_and_of_an_odd_number_the_larger_half():
    assert choosing(PROMPTS) == PROMPTS[:5]
    assert len(choosing(PROMPTS[:5])) == 3
    assert len(choosing(PROMPTS[:7])) == 3  # round(3.5) = 4 report
    assert choosing(PROMPTS[:2]) == PROMPTS[:1]


def test_the_other_half_reports_at_the_strength_that_won_and_never_chooses():
    # Strength 2 is best on the prompts that report and must not be taken.
    table = rows("a", {1.0: [2.0] * 5 + [0.5] * 5, 2.0: [1.0] * 5 + [2.0] * 5})
    found = reported(table, choosing(PROMPTS))
    assert set(found["strength"]) == {1.0}
    assert list(found["prompt"]) == PROMPTS[5:]
    assert set(found["score"]) == {0.5}
    assert set(found["chosen_on"]) == {2.0}


@pytest.mark.parametrize("order", [(0.2, 1.0, -0.4), (1.0, -0.4, 0.2)])
def test_of_equal_strengths_the_smallest_wins_in_whatever_order(order):
    table = rows("a", dict.fromkeys(order, 1.2))
    assert set(reported(table, choosing(PROMPTS))["strength"]) == {0.2}


def test_each_concept_and_method_has_a_strength_of_its_own():
    table = pd.concat(
        [
            rows("a", {1.0: 1.0, 2.0: 0.0}),
            rows("b", {1.0: 0.0, 2.0: 1.0}),
            rows("a", {1.0: 0.0, 2.0: 1.0}, concept="snow"),
        ]
    ).reset_index(drop=True)
    found = reported(table, choosing(PROMPTS)).groupby(["concept", "method"])["strength"].first()
    assert found.to_dict() == {("rain", "a"): 1.0, ("rain", "b"): 2.0, ("snow", "a"): 2.0}


def test_the_rows_of_a_table_may_come_in_any_order():
    table = rows("a", {1.0: [2.0] * 5 + [0.5] * 5, 2.0: [1.0] * 5 + [2.0] * 5})
    mixed = table.sample(frac=1, random_state=3)
    assert set(reported(mixed, choosing(PROMPTS))["strength"]) == {1.0}


def test_the_benchmark_averages_prompts_first_and_says_what_the_choice_promised():
    table = pd.concat(
        [
            rows("a", {1.0: 2.0}),
            rows("a", {1.0: 1.0}, concept="snow", seed=0),
            rows("a", {1.0: 1.0}, concept="snow", seed=1),
            rows("a", {1.0: 1.0}, concept="snow", seed=2),
        ]
    ).reset_index(drop=True)
    line = benchmark(reported(table, choosing(PROMPTS))).iloc[0]
    # Not the mean over rows, which would be 1.25.
    assert (line.score, line.low, line.high) == (1.5, 1.0, 2.0)
    assert (line.chosen_on, line.grade_fluency, line.concepts) == (1.5, 2.0, 2)


def test_tables_that_were_joined_as_they_were_are_taken_row_by_row():
    # Both have the index 0 to 19.
    table = pd.concat([rows(name, {1.0: [2.0] * 5 + [0.5] * 5, 2.0: 1.0}) for name in ("a", "b")])
    found = reported(table, choosing(PROMPTS))
    assert found.groupby("method")["score"].agg(["mean", "size"]).to_numpy().tolist() == [
        [0.5, 5],
        [0.5, 5],
    ]


def test_the_benchmark_tells_of_answers_without_a_score():
    table = pd.concat([rows("a", {1.0: 2.0}, c).assign(chosen_on=2.0) for c in ("rain", "snow")])
    table = table.reset_index(drop=True)
    assert "missing" not in benchmark(table)
    table.loc[:3, "score"] = math.nan
    with pytest.warns(UserWarning, match="4 of 20 answers have no score"):
        line = benchmark(table).iloc[0]
    assert (line.score, line.missing, line.concepts) == (2.0, 4, 2)


def test_a_win_rate_of_one_concept_counts_prompts_whatever_else_is_in_the_table():
    parts = [rows("a", {1.0: 1.0}), rows("b", {1.0: 0.0}), rows("c", {1.0: 0.0}, "snow")]
    assert win_rate(pd.concat(parts).reset_index(drop=True), "a", "b").estimate == 1.0


def test_a_win_rate_counts_pairs_of_the_same_prompt_and_ties_as_one_half():
    a = rows("a", {1.0: [2.0, 1.0, 0.0, 1.5]}, prompts=PROMPTS[:4])
    b = rows("b", {1.0: [1.0, 1.0 + 1e-9, 1.0, 1.5]}, prompts=PROMPTS[:4]).iloc[::-1]
    both = pd.concat([a, b]).reset_index(drop=True)
    assert win_rate(both, "a", "b").estimate == (1 + 0.5 + 0 + 0.5) / 4
    assert win_rate(both, "b", "a").estimate == 1 - win_rate(both, "a", "b").estimate
    assert win_rate(both, "a", "a").estimate == 0.5


def test_concepts_are_the_units_of_a_win_rate():
    parts = [rows("a", {1.0: 1.0}, c) for c in ("rain", "snow")]
    parts += [rows("b", {1.0: value}, c) for c, value in (("rain", 0.0), ("snow", 2.0))]
    found = win_rate(pd.concat(parts).reset_index(drop=True), "a", "b")
    assert (found.estimate, found.low, found.high) == (0.5, 0.0, 1.0)


def test_bad_calls_are_refused():
    table = rows("a", {1.0: 1.0, 2.0: 0.5})
    with pytest.raises(ValueError, match="two or more different prompts"):
        choosing(["one"])
    with pytest.raises(ValueError, match="two or more different prompts"):
        choosing(["one", "one"])
    with pytest.raises(ValueError, match="two or more different prompts"):
        choosing("tell")
    unscored = table.drop(columns="score")
    with pytest.raises(ValueError, match="the table has no scores"):
        reported(unscored, choosing(PROMPTS))
    with pytest.raises(ValueError, match="the table has no scores"):
        win_rate(unscored, "a", "a")
    with pytest.raises(ValueError, match="answered 5 of the 6 prompts"):
        reported(table, [*PROMPTS[:5], "another"])
    with pytest.raises(ValueError, match="and 0 others"):
        reported(table, PROMPTS)
    unrated = table.assign(score=table["score"].mask(table["prompt"] == PROMPTS[0], math.nan))
    with pytest.raises(ValueError, match=r"2 of the answers .* have no score"):
        reported(unrated, choosing(PROMPTS))
    with pytest.raises(KeyError, match="no method 'c'; there are a"):
        win_rate(table[table["strength"] == 1.0], "a", "c")
    with pytest.raises(ValueError, match="several answers to one prompt"):
        win_rate(table, "a", "a")
    gap = pd.concat([rows("a", {1.0: 1.0}), rows("b", {1.0: 1.0}, prompts=PROMPTS[1:])])
    with pytest.raises(ValueError, match="answered different prompts"):
        win_rate(gap.reset_index(drop=True), "a", "b")
