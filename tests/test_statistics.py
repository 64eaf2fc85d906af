"""Bootstrap intervals and AUROC: coverage, seeds, pairing, ties, and bad input."""

import numpy as np
import pytest

from steerlib.statistics import auroc, bootstrap, bootstrap_difference, bootstrap_mean
from steerlib.statistics.intervals import _share_won


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        found = bootstrap_mean(rng.normal(3.0, 2.0, 60), level=0.9, resamples=300, seed=seed)
        hits += found.low <= 3.0 <= found.high
    assert 0.83 <= hits / 200 <= 0.96


def test_the_interval_has_the_width_of_the_standard_error():
    x = np.random.default_rng(1).normal(0.0, 1.0, 400)
    found = bootstrap_mean(x, resamples=4000)
    assert found.estimate == pytest.approx(x.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.1)


def test_a_seed_repeats_and_another_does_not():
    x = np.arange(30.0)
    assert bootstrap_mean(x, seed=1) == bootstrap_mean(x, seed=1) != bootstrap_mean(x, seed=2)


def test_pairing_takes_away_what_pairs_have_in_common():
    rng = np.random.default_rng(2)
    common = rng.normal(0, 10, 100)
    a, b = common + rng.normal(0.5, 0.1, 100), common
    found = bootstrap_difference(a, b)
    assert 0.4 < found.low < 0.5 < found.high < 0.6
    assert bootstrap_difference(b, a).estimate == pytest.approx(-found.estimate)


@pytest.mark.parametrize("values", [[1.0], [1.0, float("nan")], [[1.0, 2.0]], []])
def test_bad_values_are_refused(values):
    with pytest.raises(ValueError, match="two or more finite numbers"):
        bootstrap_mean(values)


def test_pairs_need_equal_numbers_and_levels_lie_between_0_and_1():
    with pytest.raises(ValueError, match="equal numbers, got 2 and 3"):
        bootstrap_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_mean([1, 2], level=95)


def test_an_interval_prints_short():
    assert str(bootstrap_mean([1.0, 1.0])) == "1.000 [1.000, 1.000]"


def test_a_bootstrap_of_the_mean_is_the_bootstrap_of_any_statistic():
    x = np.random.default_rng(3).normal(size=40)
    assert bootstrap(x, np.mean, seed=4) == bootstrap_mean(x, seed=4)


def test_the_columns_of_a_unit_stay_together():
    x = np.random.default_rng(4).normal(size=50)
    found = bootstrap(np.stack([x, 2 * x], 1), lambda rows: rows[:, 1].sum() / rows[:, 0].sum())
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))


def test_a_statistic_that_is_not_defined_is_refused():
    with pytest.raises(ValueError, match="all 3 units is nan"):
        bootstrap(np.arange(3.0), lambda x: float("nan"))
    with pytest.raises(ValueError, match=r"defined in only \d+ of 2000 resamples"):
        # Defined where a resample holds every unit: for five of them in 4% of the resamples.
        bootstrap(np.arange(5.0), lambda x: 1.0 if len(set(x)) == 5 else float("nan"))
    with pytest.raises(ValueError, match="two or more finite units"):
        bootstrap(np.array([[1.0, 2.0]]), np.mean)


def pairs_won(scores, labels):
    """AUROC by its definition: every pair, and a tie is half a pair."""
    won = [
        (a > b) + (a == b) / 2
        for a, y in zip(scores, labels, strict=True)
        if y
        for b, z in zip(scores, labels, strict=True)
        if not z
    ]
    return sum(won) / len(won)


@pytest.mark.parametrize("values", [2, 5, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_auroc_counts_pairs_with_ties_as_halves(values, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, values, 40) / 7, rng.random(40) < 0.3
    found = auroc(scores, labels, resamples=10)
    assert found.estimate == pytest.approx(pairs_won(scores, labels), abs=1e-12)


def test_auroc_counts_only_the_order():
    rng = np.random.default_rng(5)
    scores, labels = np.round(rng.normal(size=60), 1), rng.random(60) < 0.5
    found = auroc(scores, labels)
    assert auroc(np.exp(3 * scores) - 7, labels) == found
    turned = auroc(-scores, labels)
    assert turned.estimate == pytest.approx(1 - found.estimate)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))
    swapped = auroc(scores, ~labels)
    assert swapped.estimate == pytest.approx(1 - found.estimate)


def test_auroc_knows_perfect_useless_and_reversed_scores():
    labels = [False] * 4 + [True] * 4
    assert str(auroc(range(8), labels)) == "1.000 [1.000, 1.000]"
    assert str(auroc([1.0] * 8, labels)) == "0.500 [0.500, 0.500]"
    assert str(auroc(range(8, 0, -1), labels)) == "0.000 [0.000, 0.000]"


def test_the_resampled_auroc_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(6)
    positive, negative = rng.integers(0, 6, 30), rng.integers(0, 5, 20)
    counts = [np.bincount(group, minlength=6) for group in (positive, negative)]
    scores, labels = np.concatenate([positive, negative]), [1] * 30 + [0] * 20
    [found] = _share_won(*(count[None] for count in counts))
    assert found == pytest.approx(roc_auc_score(labels, scores))


def test_the_interval_of_an_auroc_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(7)
    truth, hits = 0.7602, 0  # Phi(1 / sqrt 2): two unit normals, one apart
    for seed in range(200):
        scores = np.concatenate([rng.normal(1, 1, 40), rng.normal(0, 1, 50)])
        found = auroc(scores, [True] * 40 + [False] * 50, level=0.9, resamples=200, seed=seed)
        hits += found.low <= truth <= found.high
    assert 0.82 <= hits / 200 <= 0.96


def test_classes_are_resampled_apart():
    # One of three positives scores low: the classes keep their numbers in every resample, so each
    # resampled AUROC is k/3 for the k good positives drawn.
    scores, labels = [0.0, 2.0, 2.0] + [1.0] * 50, [True] * 3 + [False] * 50
    found = auroc(scores, labels, level=0.5)
    assert {round(3 * bound, 6) % 1 for bound in (found.low, found.high)} == {0.0}


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2, 3, 4], [True] * 4, "both classes; got 4 scores and 4 labels, 4 of them true"),
        ([1, 2, 3, 4], [False] * 3 + [True], "two or more of both"),
        ([1, 2, 3, 4], [False, True, True], "4 scores and 3 labels"),
        ([1, 2, 3, np.nan], [0, 0, 1, 1], "two or more finite numbers"),
        ([1, 2, np.inf, 3], [0, 0, 1, 1], "two or more finite numbers"),
        ([1, 2, 3, 4], [0, 0, 1, 2], r"True or False \(or 1 and 0\)"),
        ([1, 2, 3, 4], [-1, -1, 1, 1], r"True or False \(or 1 and 0\)"),
    ],
)
def test_bad_scores_and_labels_are_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        auroc(scores, labels)
