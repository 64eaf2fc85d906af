"""Thresholds by brute force: F1, rare concepts, hard negatives, one split for each task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn.metrics import f1_score

import steerlib as st
from steerlib.evaluation.detection import scored
from steerlib.evaluation.thresholds import (
    Scored,
    best_f1_threshold,
    f1,
    hard_negative_accuracy,
    rare,
    youden_threshold,
)


def texts(seed, n=40, ties=True, hard=8, shift=1.0):
    """Scores with ties, both classes, and some hard negatives that score high."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) < n // 2
    marks = np.arange(n) >= n - hard
    x = rng.normal(size=n) + shift * labels + 2.0 * marks
    order = rng.permutation(n)
    x = np.round(x, 1) if ties else x
    return Scored(x[order], labels[order], marks[order])


def brute_f1(one, threshold):
    said = one.scores >= threshold
    return f1_score(one.labels, said, zero_division=0)


def brute_best(one, value):
    """The largest value over all thresholds, and the highest threshold that has it."""
    plain = one.plain
    found = [(value(plain, s), s) for s in np.unique(plain.scores)]
    best = max(v for v, _ in found)
    return best, max(s for v, s in found if v >= best - 1e-12)


def youden(one, threshold):
    said = one.scores >= threshold
    return said[one.labels].mean() - said[~one.labels].mean()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_the_best_threshold_is_the_one_found_by_trying_all(seed, ties):
    one = texts(seed, ties=ties)
    best, threshold = brute_best(one, brute_f1)
    assert best_f1_threshold(one) == threshold
    assert f1(one.plain).f1 == pytest.approx(best)
    best, threshold = brute_best(one, youden)
    assert youden_threshold(one) == (threshold if best > 1e-12 else np.inf)


@pytest.mark.parametrize("seed", range(10))
def test_the_threshold_comes_from_one_split_and_the_numbers_from_the_other(seed):
    choose, report = texts(seed), texts(seed + 100)
    found = f1(choose, report)
    said = report.scores >= found.threshold
    assert found.threshold == brute_best(choose, brute_f1)[1]
    assert found.f1 == pytest.approx(f1_score(report.labels, said))
    assert found.precision == pytest.approx(report.labels[said].mean())
    assert found.recall == pytest.approx(said[report.labels].mean())
    hard = hard_negative_accuracy(choose, report)
    said = report.scores >= brute_best(choose, youden)[1]
    assert hard.positives == said[report.labels].mean()
    assert hard.hard_negatives == (~said[report.hard]).mean()
    assert hard.accuracy == pytest.approx((hard.positives + hard.hard_negatives) / 2)
    assert not found.optimistic
    assert not hard.optimistic


def test_one_split_for_both_is_called_optimistic_and_flatters():
    """On noise there is nothing to find, yet the split that chose reports more."""
    same, other = [], []
    for seed in range(40):
        choose, report = (texts(s, hard=0, shift=0.0) for s in (seed, seed + 100))
        found = f1(choose)
        assert found.optimistic
        same.append(found.f1)
        other.append(f1(choose, report).f1)
    assert np.mean(same) > np.mean(other) + 0.02
    assert hard_negative_accuracy(texts(0)).optimistic


@given(
    some.lists(some.integers(0, 9), min_size=2, max_size=12),
    some.lists(some.integers(0, 9), min_size=1, max_size=12),
    some.integers(1, 11),
)
def test_more_negatives_never_raise_the_best_f1(values, more, positives):
    positives = min(positives, len(values) - 1)
    labels = np.arange(len(values)) < positives
    few = Scored(np.array(values), labels)
    many = Scored(np.array(values + more), np.append(labels, np.zeros(len(more), bool)))
    assert f1(many).f1 <= f1(few).f1 + 1e-12


def test_rare_has_the_prevalence_and_keeps_all_that_was_there():
    one, pool = texts(3), np.random.default_rng(0).normal(size=3000)
    found = rare(one, pool, 0.01)
    assert found.labels.sum() / len(found.plain.labels) == pytest.approx(0.01)
    assert found.hard.sum() == one.hard.sum()
    n = len(one.scores)
    assert (found.scores[:n] == one.scores).all()
    drawn = found.scores[n:]
    assert len(np.unique(drawn)) == len(drawn)
    assert np.isin(drawn, pool).all()
    assert not found.labels[n:].any()
    assert f1(found.plain).f1 <= f1(one.plain).f1
    assert (rare(one, pool, seed=1).scores != found.scores).any()
    assert (rare(one, pool).scores == found.scores).all()


@pytest.mark.parametrize(
    ("pool", "prevalence", "said"),
    [
        (np.zeros(10), 0.01, "20 positives at a prevalence of 0.01 need 1968 more"),
        (np.zeros(10), 0.9, "need -10 more"),
        (np.zeros(10), 0.0, "between 0 and 1, got 0.0"),
        (np.zeros(10), 1, "between 0 and 1, got 1"),
        (np.array([np.nan] * 3000), 0.01, "finite"),
        (np.zeros((2, 2)), 0.01, r"the shape \(2, 2\)"),
    ],
)
def test_rare_names_what_is_missing(pool, prevalence, said):
    with pytest.raises(ValueError, match=said):
        rare(texts(0), pool, prevalence)


def test_hard_negatives_never_choose_a_threshold():
    one = texts(1)
    harder = Scored(np.where(one.hard, 100.0, one.scores), one.labels, one.hard)
    assert best_f1_threshold(harder) == best_f1_threshold(one)
    assert youden_threshold(harder) == youden_threshold(one)
    assert hard_negative_accuracy(harder).hard_negatives == 0.0
    assert f1(harder).f1 < f1(harder.plain).f1


def test_a_detector_no_better_than_chance_says_never():
    """Published code leaves such a concept out; here it counts as chance."""
    flat = Scored(np.zeros(6), np.arange(6) < 2, np.arange(6) > 4)
    found = hard_negative_accuracy(flat)
    assert (found.threshold, found.accuracy) == (np.inf, 0.5)
    turned = Scored(-texts(0, hard=0, shift=9.0).scores, texts(0, hard=0, shift=9.0).labels)
    assert youden_threshold(turned) == np.inf


def test_no_claim_at_all_has_an_f1_of_zero():
    high = Scored(np.array([9.0, 0.0]), np.array([True, False]))
    low = Scored(np.array([1.0, 0.0]), np.array([True, False]))
    found = f1(high, low)
    assert (found.f1, found.precision, found.recall) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("scale", [0.01, 7.0])
def test_only_the_order_of_the_scores_counts(scale):
    one, other = texts(5), texts(6)
    moved = [Scored(scale * part.scores - 3, part.labels, part.hard) for part in (one, other)]
    assert f1(*moved).f1 == f1(one, other).f1
    assert hard_negative_accuracy(*moved).accuracy == hard_negative_accuracy(one, other).accuracy


@pytest.mark.parametrize(
    ("scores", "labels", "hard", "said"),
    [
        ([0.1, 0.2], [True, True], None, "got 2 and 0"),
        ([0.1, 0.2], [False, False], None, "got 0 and 2"),
        ([0.1, 0.2], [True, False], [False, True], "got 1 and 0"),
        ([0.1, 0.2, 0.3], [True, True, False], [False, True, False], "1 positives marked hard"),
        ([0.1, 0.2], [True], None, r"the shapes \(2,\), \(1,\)"),
        ([0.1, 0.2], [True, False], [False], r"\(1,\), 0 scores"),
        ([0.1, np.nan], [True, False], None, "1 scores not finite"),
        ([0.1, 0.2], [2, 0], None, "labels are True or False, got .*2"),
        ([0.1, 0.2], [1, 0], [0, 3], "hard are True or False, got .*3"),
    ],
)
def test_texts_that_cannot_choose_are_refused(scores, labels, hard, said):
    with pytest.raises(ValueError, match=said):
        Scored(np.array(scores), np.array(labels), None if hard is None else np.array(hard))


def test_a_concept_without_hard_negatives_is_said():
    with pytest.raises(ValueError, match="no hard negatives"):
        hard_negative_accuracy(texts(0), texts(1, hard=0))


def test_scores_of_a_model_carry_its_hard_negatives():
    """The world's polysemous words are hard: they lower F1, and are no ordinary negatives."""
    model, data = st.load("world", engine="hf"), st.world.concept("weather")
    weather = st.diff_means(model, data.train, st.resid(2))
    choose, report = (
        scored(model, {"w": weather}, part)["w"] for part in (data.selection, data.test)
    )
    expected = np.array([kind == "polysemous" for kind in data.test.kinds])
    assert expected.any()
    assert (report.hard == expected).all()
    assert (report.labels == np.array(data.test.labels)).all()
    score = st.Readout(st.resid(2), weather.unit().direction, pool="max").score
    assert report.scores == pytest.approx(score(model, list(data.test.texts)).numpy(), abs=1e-4)
    assert f1(choose, report.plain).f1 > 0.7
    unmarked = scored(model, {"w": weather}, data.test, hard=())["w"]
    assert not unmarked.hard.any()
