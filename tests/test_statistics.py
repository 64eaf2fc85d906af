"""Bootstrap intervals: coverage, seeds, pairing, and bad input."""

import numpy as np
import pytest

from steerlib.statistics import bootstrap_difference, bootstrap_mean


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
