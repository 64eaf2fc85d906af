"""paired and summary: prompts are the units, arms and strengths are kept apart."""

import numpy as np
import pandas as pd
import pytest

from steerlib.evaluation import against, paired, summary
from steerlib.statistics import bootstrap_difference, bootstrap_mean

A = {"p": [2.0, 0.0], "q": [1.0, 1.0], "r": [0.0, 2.0], "s": [2.0, 2.0]}
B = {"p": [0.0, 0.0], "q": [1.0, 0.0], "r": [0.0, 0.0], "s": [0.0, 1.0]}


def table(**arms):
    """A table as `score` makes it: arm -> prompt -> scores."""
    rows = [
        {"arm": arm, "strength": 1.0, "prompt": p, "text": "", "score": x, "fluency": x / 2}
        for arm, answers in arms.items()
        for p, scores in answers.items()
        for x in scores
    ]
    return pd.DataFrame(rows)


def test_a_difference_is_over_prompts_and_not_over_answers():
    found = paired(table(a=A, b=B), "a", "b")
    assert found == bootstrap_difference([1, 1, 1, 2], [0, 0.5, 0, 0.5])
    tenfold = {prompt: scores * 10 for prompt, scores in A.items()}
    assert paired(table(a=tenfold, b=B), "a", "b") == found
    assert paired(table(b=B, a=A), "b", "a").estimate == -found.estimate


def test_a_prompt_with_many_answers_counts_once():
    found = paired(table(a=A | {"p": [2.0] * 100}, b=B), "a", "b")
    assert found.estimate == pytest.approx(np.mean([2 - 0, 1 - 0.5, 1 - 0, 2 - 0.5]))


def test_the_order_of_the_prompts_does_not_matter():
    turned = dict(reversed(B.items()))
    assert paired(table(a=A, b=turned), "a", "b") == paired(table(a=A, b=B), "a", "b")


def test_the_level_sets_the_width():
    wide, narrow = (paired(table(a=A, b=B), "a", "b", level) for level in (0.99, 0.5))
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert wide.high - wide.low > narrow.high - narrow.low


def test_an_arm_with_several_strengths_needs_one():
    two = pd.concat([table(a=A, b=B), table(a=B).assign(strength=2.0)])
    assert paired(two, ("a", 1), "b") == paired(table(a=A, b=B), "a", "b")
    assert paired(two, ("a", 2.0), "b").estimate == 0
    with pytest.raises(ValueError, match=r"strengths \[1.0, 2.0\]; write \('a', strength\)"):
        paired(two, "a", "b")
    with pytest.raises(KeyError, match="no strength 3"):
        paired(two, ("a", 3), "b")


def test_unknown_arms_other_prompts_and_single_prompts_are_refused():
    with pytest.raises(KeyError, match="no arm 'c'; the table has a, b"):
        paired(table(a=A, b=B), "a", "c")
    with pytest.raises(ValueError, match="the same prompts in both"):
        paired(table(a=A, b={"p": [1.0], "q": [1.0], "r": [1.0], "t": [1.0]}), "a", "b")
    with pytest.raises(ValueError, match="two or more different prompts with a score, got 1"):
        paired(table(a={"p": [1.0, 2.0]}, b={"p": [1.0]}), "a", "b")


def test_a_summary_has_a_line_for_each_arm_and_strength_in_their_order():
    both = pd.concat([table(b=B, a=A), table(a=B).assign(strength=0.5)])
    found = summary(both)
    columns = ["arm", "strength", "score", "low", "high", "fluency", "prompts"]
    assert list(found.columns) == columns
    assert list(zip(found.arm, found.strength, strict=True)) == [("b", 1), ("a", 1), ("a", 0.5)]
    expected = bootstrap_mean([1, 1, 1, 2])
    line = found.iloc[1]
    assert (line.score, line.low, line.high) == (expected.estimate, expected.low, expected.high)
    assert (line.fluency, line.prompts) == (0.625, 4)


def test_against_pairs_the_arm_with_each_control_and_joins_their_draws():
    found = table(
        steered={"a": [2.0], "b": [1.0], "c": [1.5]},
        **{
            "random 0": {"a": [0.0], "b": [1.0], "c": [0.5]},
            "random 1": {"a": [1.0], "b": [0.0], "c": [0.5]},
            "block 1": {"a": [2.0], "b": [2.0], "c": [2.0]},
        },
    )
    report = against(found, "steered").set_index("arm")
    assert list(report.index) == ["steered", "random", "block 1"]
    assert report.loc["random", "score"] == pytest.approx(0.5)
    assert report.loc["random", "minus"] == pytest.approx(1.0)
    expected = paired(found, "steered", "block 1")
    row = report.loc["block 1"]
    assert (row["minus"], row["minus_low"], row["minus_high"]) == (
        expected.estimate, expected.low, expected.high,
    )  # fmt: skip
    assert report.loc["steered", ["minus", "minus_low", "minus_high"]].isna().all()


def test_against_names_an_arm_that_is_not_there():
    with pytest.raises(KeyError, match="no arm 'steered'"):
        against(table(a={"x": [1.0], "y": [2.0]}), "steered")


def missing(found, arm, *prompts):
    """The table without the scores of an arm on some prompts."""
    lost = (found["arm"] == arm) & found["prompt"].isin(prompts)
    return found.assign(score=found["score"].mask(lost))


def test_answers_without_a_score_are_left_out_of_all_means_and_counted():
    whole = table(a=A, b=B)
    assert "missing" not in summary(whole)
    with pytest.warns(UserWarning, match="2 of 16 answers have no score and are left out"):
        found = summary(missing(whole, "a", "q"))
    assert found.missing.tolist() == [2, 0]
    assert found.prompts.tolist() == [3, 4]
    rest = summary(table(a={p: scores for p, scores in A.items() if p != "q"}))
    columns = ["score", "low", "high", "fluency"]
    assert found.loc[0, columns].tolist() == rest.loc[0, columns].tolist()


def test_a_difference_is_over_the_prompts_that_have_a_score_in_both():
    whole = missing(missing(table(a=A, b=B), "a", "q"), "b", "s")
    with pytest.warns(UserWarning, match="4 of 16 answers"):
        assert paired(whole, "a", "b") == bootstrap_difference([1, 1], [0, 0])
    with (
        pytest.warns(UserWarning, match="8 of 16 answers"),
        pytest.raises(ValueError, match="two or more different prompts with a score, got 1"),
    ):
        paired(missing(missing(whole, "a", "p"), "b", "p"), "a", "b")
    with pytest.warns(UserWarning, match="have no score"):
        report = against(whole, "a").set_index("arm")
    assert report.loc["b", "minus"] == 1
    assert report["missing"].tolist() == [2, 2]


def test_a_table_without_scores_is_refused():
    for ask in (summary, lambda found: paired(found, "a", "b")):
        with pytest.raises(ValueError, match="the table has no scores"):
            ask(table(a=A, b=B).drop(columns="score"))
