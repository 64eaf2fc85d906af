"""Flips of paired answers: counts, SPI, and lower bounds of the gain that are valid or are not."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from steerlib.statistics import BOUNDS, Flips, spi
from steerlib.statistics.gains import highest, lowest

VALID = ("conditional", "binomial", "hoeffding", "bernstein")
# Probabilities of up and of down, the corners and edges of the triangle among them.
PLACES = (0.0, 0.02, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
GRID = [(up, down) for up, down in product(PLACES, PLACES) if up + down <= 1]


def outcomes(n):
    """All counts (up, down) of n questions."""
    pairs = [(up, down) for up in range(n + 1) for down in range(n + 1 - up)]
    return np.array(pairs).T


def arrays(n, up, down):
    """Flips of many counts; how many were right changes no bound."""
    return Flips(n, down, up, down)


def missed(n, up, down, delta, bound):
    """P(L > gain), exactly: the sum over all outcomes, each with its probability."""
    ups, downs = outcomes(n)
    lower = arrays(n, ups, downs).lower_bound(delta, bound)
    chances = multinomial.pmf(
        np.stack([ups, downs, n - ups - downs], 1), n, [up, down, max(0.0, 1 - up - down)]
    )
    assert chances.sum() == pytest.approx(1)
    return float(chances[lower > up - down + 1e-12].sum())


def clopper_pearson(hits, n, delta, end):
    """One end of the exact interval of scipy; without a trial it says nothing."""
    if n == 0:
        return float(end == "high")
    side = "greater" if end == "low" else "less"
    found = binomtest(hits, n, alternative=side).proportion_ci(1 - delta, method="exact")
    return getattr(found, end)


# --- counts


def test_flips_count_what_became_right_and_wrong():
    before = [True, True, False, False, False, True]
    after = [True, False, True, True, False, True]
    flips = Flips.of(before, after)
    assert flips == Flips(6, right=3, up=2, down=1)
    assert Flips.of(np.array(before, int), np.array(after, int)) == flips
    assert flips.gain == pytest.approx(np.mean(after) - np.mean(before)) == 1 / 6


def test_swapping_before_and_after_turns_the_gain():
    rng = np.random.default_rng(0)
    before, after = rng.random((2, 80)) < 0.6
    there, back = Flips.of(before, after), Flips.of(after, before)
    assert (there.up, there.down) == (back.down, back.up)
    assert there.gain == -back.gain != 0


@pytest.mark.parametrize(
    ("counts", "spi"),
    [
        ((10, 6, 2, 0), 0.5),  # two of four wrong answers mended
        ((10, 6, 4, 0), 1.0),
        ((10, 6, 0, 3), -0.5),  # three of six right answers lost
        ((10, 6, 0, 6), -1.0),
        ((10, 6, 3, 3), 0.0),
        ((10, 6, 4, 6), -1 / 3),  # all answers turned
        ((10, 4, 6, 4), 1 / 3),
        ((10, 10, 0, 0), 0.0),  # nothing to gain
        ((10, 10, 0, 10), -1.0),
        ((10, 0, 0, 0), 0.0),  # nothing to lose
        ((10, 0, 10, 0), 1.0),
        ((1, 0, 1, 0), 1.0),
    ],
)
def test_spi_is_a_share_of_what_could_be_gained_or_lost(counts, spi):
    flips = Flips(*counts)
    assert flips.spi == pytest.approx(spi)
    assert type(flips.spi) is float


def test_spi_is_the_paper_s_formula_and_lies_between_minus_1_and_1():
    for right in range(8):
        ups, downs = np.arange(8 - right), np.arange(right + 1)
        for up, down in product(ups, downs):
            found, before = Flips(7, right, up, down).spi, right / 7
            change = (up - down) / 7
            room = {1: 1 - before, -1: before, 0: 1}[int(np.sign(up - down))]
            assert found == pytest.approx(change / room)
            assert -1 <= found <= 1


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((10, 5, -1, 0), "counts of at least one question"),
        ((10, 5, 0, -1), "counts of at least one question"),
        ((0, 0, 0, 0), "counts of at least one question"),
        ((10, 5, 1.0, 0), "counts of at least one question"),
        ((10, 5, np.array([1, 2]), np.array([0.5, 1])), "counts of at least one question"),
        ((10, 5, 6, 0), "at most the 5 right ones can become wrong.* got 0 and 6"),
        ((10, 5, 0, 6), "at most the 5 right ones can become wrong.* got 6 and 0"),
        ((10, 11, 0, 0), "of 10 answers at most the 11 right ones"),
        ((10, 5, np.array([1, 6]), np.array([0, 0])), "got "),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        Flips(*counts)


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int16])
def test_counts_of_any_whole_type_are_subtracted_rightly(kind):
    usual = Flips(250, np.array([100, 20]), np.array([3, 200]), np.array([5, 20]))
    found = Flips(250, *(np.array(x, kind) for x in ([100, 20], [3, 200], [5, 20])))
    listed = Flips(250, [100, 20], [3, 200], [5, 20])
    for flips in (found, listed):
        np.testing.assert_array_equal(flips.gain, [-2 / 250, 180 / 250])
        np.testing.assert_array_equal(flips.spi, usual.spi)
        for bound in BOUNDS:
            expected = usual.lower_bound(0.05, bound)
            np.testing.assert_array_equal(flips.lower_bound(0.05, bound), expected)
    single = Flips(250, kind(100), kind(3), kind(5))
    assert single == Flips(250, 100, 3, 5)
    assert type(single.gain) is float
    assert single.gain == -2 / 250


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([True], [True, False]),
        ([], []),
        ([[True, False]], [[True, False]]),
        ([0, 1, 2], [0, 1, 1]),
        ([0.3, 1.0], [0.0, 1.0]),
    ],
)
def test_answers_that_are_no_pairs_are_refused(before, after):
    for function in (Flips.of, spi):
        with pytest.raises(ValueError, match="needed are True or False for each answer"):
            function(before, after)


# --- the bounds of a probability


@pytest.mark.parametrize("delta", [0.0005, 0.01, 0.05, 0.5])
@pytest.mark.parametrize("n", [1, 2, 7, 250])
def test_the_bounds_of_a_probability_are_scipy_s(n, delta):
    hits = np.unique([0, 1, n // 3, n // 2, n - 1, n])
    for function, end in ((lowest, "low"), (highest, "high")):
        expected = [clopper_pearson(int(k), n, delta, end) for k in hits]
        np.testing.assert_allclose(function(hits, n, delta), expected, atol=1e-12)


def test_a_probability_without_trials_is_anything():
    assert (lowest(0, 0, 0.05), highest(0, 0, 0.05)) == (0, 1)
    np.testing.assert_allclose(lowest([0, 3], [0, 3], 0.05), [0, 0.05 ** (1 / 3)])


# --- the bounds of a gain


@pytest.mark.parametrize("bound", BOUNDS)
def test_arrays_give_what_each_count_gives(bound):
    ups, downs = outcomes(6)
    right = np.minimum(downs + 1, 6 - ups)
    many = Flips(6, right, ups, downs)
    each = [Flips(6, int(r), int(u), int(d)) for r, u, d in zip(right, ups, downs, strict=True)]
    for found, single in (
        (many.lower_bound(0.1, bound), [one.lower_bound(0.1, bound) for one in each]),
        (many.gain, [one.gain for one in each]),
        (many.spi, [one.spi for one in each]),
    ):
        assert all(type(x) is float for x in single)
        np.testing.assert_allclose(found, single, rtol=1e-12)
    square = Flips(6, right[:20].reshape(4, 5), ups[:20].reshape(4, 5), downs[:20].reshape(4, 5))
    found = square.lower_bound(0.1, bound)
    assert found.shape == (4, 5)
    np.testing.assert_array_equal(found.ravel(), many.lower_bound(0.1, bound)[:20])


@pytest.mark.parametrize("bound", BOUNDS)
def test_what_was_right_before_changes_no_bound(bound):
    found = {Flips(40, right, 9, 4).lower_bound(0.05, bound) for right in (4, 17, 31)}
    assert len(found) == 1


@pytest.mark.parametrize("delta", [0.001, 0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("n", [1, 2, 5, 13, 30])
def test_valid_bounds_are_above_the_gain_with_probability_delta_at_most(n, delta):
    for bound, (up, down) in product(VALID, GRID):
        assert missed(n, up, down, delta, bound) <= delta, (bound, up, down)


def test_the_exact_bounds_use_what_they_may_miss():
    # Bounds that miss next to nothing would be valid too, and useless.
    for bound, least in (("conditional", 0.4), ("binomial", 0.3)):
        assert max(missed(30, up, down, 0.05, bound) for up, down in GRID) > least * 0.05


@pytest.mark.parametrize("delta", [0.001, 0.01])
def test_the_printed_bound_is_wrong_where_half_of_the_answers_flip(delta):
    n = 60
    for flips in (0.5, 0.6, 0.8, 1.0):
        assert missed(n, flips / 2, flips / 2, delta, "as_printed") > delta
        assert missed(n, flips / 2, flips / 2, delta, "hoeffding") <= delta
    for flips in (0.02, 0.1, 0.2, 0.3):
        assert missed(n, flips / 2, flips / 2, delta, "as_printed") <= delta


def test_the_printed_bound_is_right_where_nothing_becomes_wrong():
    # There d lies in [0, 1], as its formula supposes.
    for n, delta, up in product((5, 30), (0.01, 0.2), PLACES):
        assert missed(n, up, 0.0, delta, "as_printed") <= delta


def test_no_bound_misses_about_half_of_the_time():
    for up, down in GRID:
        if up and down and up + down < 1:
            assert missed(30, up, down, 0.05, "none") > 0.25
    assert Flips(250, 175, 40, 15).lower_bound(0.05, "none") == 0.1


@pytest.mark.parametrize("bound", ["conditional", "binomial"])
def test_exact_bounds_are_made_of_scipy_s_intervals(bound):
    rng = np.random.default_rng(1)
    for n, delta in product((3, 40, 500), (0.002, 0.1)):
        for up, down in rng.multinomial(n, [0.3, 0.2, 0.5], 5)[:, :2].tolist():
            if bound == "binomial":
                low = clopper_pearson(up, n, delta / 2, "low")
                expected = low - clopper_pearson(down, n, delta / 2, "high")
            else:
                m = up + down
                lean = 2 * clopper_pearson(up, m, delta / 2, "low") - 1
                expected = lean * clopper_pearson(m, n, delta / 2, "low" if lean > 0 else "high")
            found = Flips(n, down, up, down).lower_bound(delta, bound)
            assert found == pytest.approx(expected, abs=1e-12)


def test_the_conditional_bound_without_flips_and_with_flips_one_way():
    n, delta = 50, 0.04
    c = (delta / 2) ** (1 / n)  # the bound of a probability whose n trials all succeeded
    assert Flips(n, 20, 0, 0).lower_bound(delta) == pytest.approx(-(1 - c))
    assert Flips(n, 0, n, 0).lower_bound(delta) == pytest.approx((2 * c - 1) * c)
    assert Flips(n, n, 0, n).lower_bound(delta) == pytest.approx(-1)
    m = 12
    rate = clopper_pearson(m, n, delta / 2, "high")
    assert Flips(n, m, 0, m).lower_bound(delta) == pytest.approx(-rate)
    lean = 2 * (delta / 2) ** (1 / m) - 1
    rate = clopper_pearson(m, n, delta / 2, "low")
    assert Flips(n, 0, m, 0).lower_bound(delta) == pytest.approx(lean * rate)
    # Few flips are no evidence, even if all go up: then the bound is below 0.
    assert Flips(n, 0, 3, 0).lower_bound(delta) < 0 < Flips(n, 0, 6, 0).lower_bound(delta)


def test_the_conditional_bound_is_positive_where_a_sign_test_rejects():
    n, delta = 60, 0.05
    ups, downs = outcomes(n)
    found = arrays(n, ups, downs).lower_bound(delta)
    some = ups + downs > 0
    p = [
        binomtest(int(u), int(u + d), alternative="greater").pvalue
        for u, d in zip(ups[some], downs[some], strict=True)
    ]
    np.testing.assert_array_equal(found[some] > 0, np.array(p) < delta / 2)


def test_hoeffding_s_bound_has_the_range_from_minus_1_to_1():
    # d = 2x - 1 for coins x in [0, 1]: Hoeffding's bound of the mean of x, carried over.
    n, heads, delta = 200, 130, 0.03
    of_x = heads / n - math.sqrt(math.log(1 / delta) / (2 * n))
    found = Flips(n, n - heads, heads, n - heads).lower_bound(delta, "hoeffding")
    assert found == pytest.approx(2 * of_x - 1)


def test_bernstein_s_bound_is_the_published_one_on_values_carried_over_to_0_and_1():
    n, up, down, delta = 120, 30, 11, 0.02
    d = np.repeat([1.0, -1.0, 0.0], [up, down, n - up - down])
    x, log = (d + 1) / 2, math.log(2 / delta)
    of_x = x.mean() - math.sqrt(2 * x.var(ddof=1) * log / n) - 7 * log / (3 * (n - 1))
    found = Flips(n, 60, up, down).lower_bound(delta, "bernstein")
    assert found == pytest.approx(2 * of_x - 1)


def test_one_question_has_no_variance_and_bernstein_no_bound():
    assert Flips(1, 0, 1, 0).lower_bound(0.5, "bernstein") == -math.inf
    found = arrays(1, *outcomes(1)).lower_bound(0.5, "bernstein")
    assert (found == -np.inf).all()


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_smaller_risk_lowers_a_bound_and_none_exceeds_the_gain(bound):
    ups, downs = outcomes(12)
    flips = arrays(12, ups, downs)
    found = np.stack([flips.lower_bound(d, bound) for d in (0.001, 0.01, 0.1, 0.4, 0.5)])
    assert (np.diff(found, axis=0) >= -1e-12).all()
    assert (found <= flips.gain + 1e-12).all()
    if bound != "none":
        assert (np.diff(found, axis=0) > 1e-12).any(0).sum() >= len(ups) - 1


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bound_rises_with_the_share_of_flips_that_go_up(bound):
    n, m = 100, 60
    up = np.arange(m // 2, m + 1)
    found = arrays(n, up, m - up).lower_bound(0.05, bound)
    assert (np.diff(found) > 0).all()
    # From no flip down more flips up raise it, once it is above 0.
    many = arrays(n, np.arange(n + 1), np.zeros(n + 1, int)).lower_bound(0.05, bound)
    assert many[-1] > 0
    assert (np.diff(many[many > 0]) > 0).all()


@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_come_close_to_the_gain_with_many_questions(bound):
    below = [
        -Flips(n, n // 2, n // 5, n // 10).lower_bound(0.05, bound) + 0.1
        for n in (100, 10_000, 1_000_000)
    ]
    assert below == sorted(below, reverse=True)
    assert below[-1] < 0.005


def test_the_conditional_bound_passes_0_wherever_another_valid_bound_does():
    for n, delta in product((60, 250), (0.001, 0.05)):
        ups, downs = outcomes(n)
        flips = arrays(n, ups[ups > downs], downs[ups > downs])
        passes = {bound: flips.lower_bound(delta, bound) > 0 for bound in VALID}
        for bound in VALID[1:]:
            assert passes["conditional"][passes[bound]].all()
            assert passes["conditional"].sum() > passes[bound].sum() > 0
    # Well above 0 the other exact bound can be the higher one.
    clear = Flips(250, 125, 100, 10)
    assert clear.lower_bound(0.001, "binomial") > clear.lower_bound(0.001, "conditional") > 0


# The bounds b that the notes on the paper give: N, delta, K = 10.
@pytest.mark.parametrize(
    ("n", "printed"),
    [
        (50, (0.276, 0.245, 0.230)),
        (210, (0.134, 0.119, 0.112)),
        (250, (0.123, 0.109, 0.103)),
        (1000, (0.062, 0.055, 0.051)),
    ],
)
def test_the_printed_bound_has_the_published_numbers_and_a_valid_one_is_twice_as_wide(n, printed):
    none = Flips(n, 0, 0, 0)
    for delta, b in zip((0.01, 0.05, 0.1), printed, strict=True):
        level = delta / 10
        assert -none.lower_bound(level, "as_printed") == pytest.approx(b, abs=6e-4)
        # The printed one is two-sided: at half the level the one-sided one has its logarithm.
        twice = none.lower_bound(level / 2, "hoeffding")
        assert twice == pytest.approx(2 * none.lower_bound(level, "as_printed"))
        assert twice < none.lower_bound(level, "hoeffding") < none.lower_bound(level, "as_printed")
    if n == 250:
        assert -none.lower_bound(0.0005, "hoeffding") == pytest.approx(0.247, abs=6e-4)


@pytest.mark.parametrize("delta", [0, 1, -0.1, 5, math.nan])
def test_a_risk_is_a_probability(delta):
    with pytest.raises(ValueError, match="delta is a probability between 0 and 1, got"):
        Flips(10, 5, 1, 1).lower_bound(delta)


def test_an_unknown_bound_is_refused_by_naming_the_known_ones():
    with pytest.raises(ValueError, match=r"one of .*'conditional'.* got 'exact'"):
        Flips(10, 5, 1, 1).lower_bound(0.05, "exact")


# --- SPI with an interval


def test_the_interval_of_spi_covers_the_truth_as_often_as_it_says():
    rng, truth, hits = np.random.default_rng(2), (0.12 - 0.06) / 0.4, 0
    for seed in range(200):
        # 60% right before; 30% of the wrong ones are mended, 10% of the right ones lost.
        before = rng.random(300) < 0.6
        after = np.where(before, rng.random(300) < 0.9, rng.random(300) < 0.3)
        found = spi(before, after, level=0.9, resamples=200, seed=seed)
        hits += found.low <= truth <= found.high
    assert 0.83 <= hits / 200 <= 0.96


def test_spi_keeps_the_answers_to_a_question_together():
    rng = np.random.default_rng(3)
    before = rng.random(200) < 0.5
    after = before.copy()
    after[:10] = True
    found = spi(before, after)
    assert found.estimate == Flips.of(before, after).spi > 0
    assert 0 <= found.low < found.estimate < found.high < 0.2
    half = spi(before, after, level=0.5)
    assert found.low < half.low < half.high < found.high
    # Shuffled apart, nearly as much is lost as gained, and nobody knows which.
    apart = spi(before, rng.permutation(after))
    assert apart.low < 0 < apart.high
    assert apart.high - apart.low > 3 * (found.high - found.low)


def test_spi_repeats_with_its_seed_and_knows_perfect_and_ruined_answers():
    rng = np.random.default_rng(4)
    before, after = rng.random((2, 60)) < 0.6
    assert spi(before, after, seed=1) == spi(before, after, seed=1) != spi(before, after, seed=2)
    mixed = [True, False] * 10
    assert str(spi(mixed, [True] * 20)) == "1.000 [1.000, 1.000]"
    assert str(spi(mixed, [False] * 20)) == "-1.000 [-1.000, -1.000]"
    assert str(spi(mixed, mixed)) == "0.000 [0.000, 0.000]"
    with pytest.raises(ValueError, match="two or more"):
        spi([True], [False])
