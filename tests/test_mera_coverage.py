"""The calibration does no harm more often than it says: simulated, and against exact sums."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multinomial

from experiments import mera_coverage as mc
from steerlib.methods.mera import Calibration
from steerlib.statistics import BOUNDS, Flips

REPETITIONS = 4000
VALID = ["conditional", "binomial", "hoeffding", "bernstein"]
NULLS = ["null_10", "null_30", "null_50"]
ADVERSARIAL = ["adversarial", "adversarial_correlated"]


@pytest.fixture(scope="module")
def table():
    """All tasks, sizes, deltas and bounds, and how far chance may carry a rate above delta.

    The margin is three standard errors of a rate that is delta: 3 sqrt(delta (1 - delta) / R).
    """
    found = mc.coverage_table(REPETITIONS, seed=0)
    margin = 3 * np.sqrt(found["delta"] * (1 - found["delta"]) / found["repetitions"])
    return found.assign(allowed=found["delta"] + margin)


def of(table, tasks, bounds):
    rows = table[table["task"].isin(tasks) & table["bound"].isin(bounds)]
    assert len(rows) == len(tasks) * len(bounds) * len(mc.SIZES) * len(mc.DELTAS)
    return rows


# --- what the calibration promises


def test_the_table_covers_what_was_asked(table):
    assert set(table["task"]) == {*NULLS, *ADVERSARIAL, "mixed", "mixed_correlated"}
    assert set(table["delta"]) == {0.01, 0.05, 0.1}
    assert set(table["n"]) == {250, 1000}
    assert set(table["bound"]) == set(BOUNDS)
    assert (table["repetitions"] == REPETITIONS).all()
    assert all(len(task.up) == 10 for task in mc.TASKS.values())


@pytest.mark.parametrize("name", mc.TASKS)
@pytest.mark.parametrize("bound", VALID)
def test_a_valid_bound_harms_with_probability_delta_at_most(table, name, bound):
    rows = of(table, [name], [bound])
    assert (rows["harm"] <= rows["allowed"]).all(), rows


def test_where_steering_changes_nothing_on_average_a_valid_bound_abstains(table):
    rows = of(table, NULLS, VALID)
    assert (1 - rows["steers"] >= 1 - rows["allowed"]).all(), rows
    assert (rows["harm"] == rows["steers"]).all()
    assert (rows["gain"] == 0).all()


def test_without_a_bound_useless_settings_are_steered_with_nearly_always(table):
    assert (of(table, NULLS, ["none"])["harm"] > 0.98).all()
    assert (of(table, ["adversarial"], ["none"])["harm"] > 0.98).all()
    # Settings with much in common have fewer chances to look good.
    assert (of(table, ["adversarial_correlated"], ["none"])["harm"] > 0.8).all()


def test_the_printed_bound_breaks_only_where_about_half_of_the_answers_flip(table):
    rare = ["null_10", "null_30", "mixed", "mixed_correlated"]
    often = ["null_50", *ADVERSARIAL]
    for name, task in mc.TASKS.items():
        flips = np.add(task.up, task.down)
        assert (flips < 0.35).all() if name in rare else (flips >= 0.5).all()
    kept = of(table, rare, ["as_printed"])
    assert (kept["harm"] <= kept["allowed"]).all(), kept
    broken = of(table, often, ["as_printed"])
    broken = broken[(broken["task"] != "null_50") | (broken["delta"] == 0.01)]
    assert (broken["harm"] > broken["allowed"]).all(), broken


def test_the_exact_bounds_see_gains_that_the_others_do_not(table):
    rows = of(table, ["mixed"], VALID).set_index(["n", "delta", "bound"])["gain"].unstack()
    assert (rows["conditional"] > rows["binomial"]).all()
    assert (rows["binomial"] > rows[["hoeffding", "bernstein"]].max(axis=1)).all()
    best = mc.TASKS["mixed"].gain.max()
    assert (rows.loc[1000, "conditional"] > 0.7 * best).all()
    assert (rows["conditional"] < best).all()


# --- the simulation itself


def passes(task, n, level, bound):
    """P(lower > 0) of each setting, exactly."""
    up, down = np.array([(u, d) for u in range(n + 1) for d in range(n + 1 - u)]).T
    lower = mc.lower_bounds(n, up, down, level, bound)
    counts = np.stack([up, down, n - up - down], 1)[lower > 0]
    each = dict.fromkeys(zip(task.up, task.down, strict=True))
    found = {(u, d): multinomial.pmf(counts, n, [u, d, 1 - u - d]).sum() for u, d in each}
    return np.array([found[pair] for pair in zip(task.up, task.down, strict=True)])


@pytest.mark.parametrize("bound", ["conditional", "binomial", "as_printed", "none"])
def test_independent_settings_steer_as_often_as_the_exact_sum_says(table, bound):
    for name in ("null_30", "adversarial", "mixed"):
        for delta in (0.01, 0.1):
            p = passes(mc.TASKS[name], 250, delta / 10, bound)
            exact = 1 - np.prod(1 - p)
            [row] = (
                of(table, [name], [bound]).query("n == 250 and delta == @delta").to_dict("records")
            )
            error = 4 * math.sqrt(exact * (1 - exact) / REPETITIONS) + 1 / REPETITIONS
            assert row["steers"] == pytest.approx(exact, abs=error), (name, delta)


def test_a_choice_is_the_one_of_a_calibration():
    rng = np.random.default_rng(0)
    n, ties, abstained = 12, 0, 0
    up, down = rng.multinomial(n, [0.35, 0.15, 0.5], (400, 5))[..., :2].transpose(2, 0, 1)
    lower = mc.lower_bounds(n, up, down, 0.2, "conditional")
    gain = (up - down) / n
    for epsilon in (0.0, 0.05):
        found = mc.chosen(gain, lower, epsilon)
        for row in range(len(up)):
            flips = tuple(
                Flips(n, int(d), int(u), int(d)) for u, d in zip(up[row], down[row], strict=True)
            )
            one = Calibration(
                tuple(range(5)),
                flips,
                tuple(map(float, lower[row])),
                1.0,
                epsilon,
                "conditional",
                (),
            )
            assert found[row] == (-1 if one.chosen is None else one.chosen)
            abstained += one.abstains
            ties += np.sum(gain[row] == gain[row, found[row]]) > 1
    assert min(ties, abstained) > 30


def test_a_choice_is_the_largest_gain_then_the_largest_bound_then_the_last():
    gain = np.array([[0.3, 0.2, 0.2], [0.2, 0.2, 0.1], [0.2, 0.2, 0.1], [0.5, 0.1, 0.1]])
    lower = np.array([[0.0, 0.1, 0.2], [0.1, 0.1, 0.2], [0.2, 0.1, 0.9], [0.0, -1, 0.0]])
    assert mc.chosen(gain, lower).tolist() == [2, 1, 0, -1]


@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_of_many_counts_are_those_of_each(bound):
    up, down = mc.draw(mc.TASKS["mixed"], 90, 6, np.random.default_rng(1))
    found = mc.lower_bounds(90, up, down, 0.01, bound)
    np.testing.assert_allclose(found, Flips(90, down, up, down).lower_bound(0.01, bound))


@pytest.mark.parametrize("name", ["mixed", "mixed_correlated", "adversarial_correlated"])
def test_settings_flip_as_often_as_asked_and_correlate_as_asked(name):
    task, n, times = mc.TASKS[name], 50, 40_000
    up, down = mc.draw(task, n, times, np.random.default_rng(2))
    assert up.shape == down.shape == (times, 10)
    assert (up + down <= n).all()
    for counts, p in ((up, np.array(task.up)), (down, np.array(task.down))):
        error = np.sqrt(n * p * (1 - p) / times)
        assert (np.abs(counts.mean(0) - n * p) < 5 * error).all()
        np.testing.assert_allclose(counts.var(0), n * p * (1 - p), rtol=0.05)
    together = np.mean((up - up.mean(0)) * (down - down.mean(0)), 0)
    np.testing.assert_allclose(together, -n * np.multiply(task.up, task.down), rtol=0.2, atol=0.02)
    apart = np.corrcoef(up - down, rowvar=False)[np.triu_indices(10, 1)]
    if name == "mixed_correlated":
        assert (apart > 0.2).all()
    else:
        np.testing.assert_allclose(apart, task.shared**2, atol=0.03)


def test_settings_that_cannot_share_so_much_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"share 0\.9 have to be more alike"):
        mc.draw(mc.Task((0.1, 0.9), (0.0, 0.0), 0.9), 10, 2, rng)
    for shared in (1.0, -0.1):
        with pytest.raises(ValueError, match="0 or more and below 1, got"):
            mc.draw(mc.Task((0.1, 0.1), (0.1, 0.1), shared), 10, 2, rng)


def test_population_gains_of_0_are_0_and_harm_counts_them():
    assert (mc.equal(0.3).gain == 0).all()
    assert mc.mixed(0.2, (0.1, 0.0, -0.01)).gain.tolist() == [0.1, 0.0, -0.01]
    helps = mc.coverage(mc.equal(0.3, 0.2), 250, bounds=["none"], deltas=[0.1], repetitions=200)
    assert helps[["harm", "steers", "gain"]].to_numpy().tolist() == [[0.0, 1.0, pytest.approx(0.2)]]
    assert helps["harm_se"].item() > 0
    half = mc.coverage(mc.equal(0.3, -0.1), 250, bounds=["none"], deltas=[0.1], repetitions=200)
    assert half["harm"].item() == half["steers"].item() == pytest.approx(-half["gain"].item() / 0.1)


def test_a_seed_repeats_and_another_does_not():
    asked = {"deltas": [0.1], "bounds": ["none"], "repetitions": 500}
    first = mc.coverage(mc.TASKS["mixed"], 250, **asked)
    pd.testing.assert_frame_equal(first, mc.coverage(mc.TASKS["mixed"], 250, **asked, seed=0))
    assert (
        first["gain"].item() != mc.coverage(mc.TASKS["mixed"], 250, **asked, seed=1)["gain"].item()
    )
    curse = [mc.winners_curse(250, 0.1, repetitions=50, seed=s)["best"] for s in (0, 0, 1)]
    assert curse[0] == curse[1] != curse[2]


def test_tables_take_a_seed_and_a_number_of_repetitions():
    for make, value in ((mc.coverage_table, "steers"), (mc.winners_curse_table, "best")):
        first, other = make(20, seed=0), make(20, seed=1)
        assert (first["repetitions"] == 20).all()
        assert (first[value] != other[value]).any()


def test_standard_errors_are_the_spread_of_repeated_simulations():
    runs = pd.concat(
        mc.coverage(mc.TASKS["mixed"], 250, deltas=[0.05], bounds=["conditional"],
                    repetitions=400, seed=seed)
        for seed in range(60)
    )  # fmt: skip
    for value in ("steers", "gain"):
        assert runs[value].std() == pytest.approx(runs[f"{value}_se"].mean(), rel=0.35)
    curse = pd.DataFrame([mc.winners_curse(250, 0.1, repetitions=200, seed=s) for s in range(60)])
    assert curse["best"].std() == pytest.approx(curse["best_se"].mean(), rel=0.35)


# --- the winner's curse, and gains that pass


@pytest.mark.parametrize("n", [250, 1000])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_the_best_of_ten_useless_settings_gains_the_mean_of_the_largest_of_ten_normals(n, rate):
    found = mc.winners_curse(n, rate, repetitions=REPETITIONS)
    # E max of 10 unit normals is 1.5388; a difference has the standard deviation sqrt(rate / n).
    assert found["best"] == pytest.approx(1.5388 * math.sqrt(rate / n), rel=0.02)
    assert found["best_se"] < 0.01 * found["best"]


def test_one_useless_setting_has_no_winner():
    found = mc.winners_curse(250, 0.3, settings=1, repetitions=REPETITIONS)
    assert abs(found["best"]) < 4 * found["best_se"]


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_needed_gain_passes_and_the_next_smaller_one_does_not(bound):
    n, flips, level = 250, 75, 0.001
    gain = mc.needed_gain(n, 10, 0.01, bound, 0.3)
    up = round((gain * n + flips) / 2)
    assert gain == pytest.approx((2 * up - flips) / n)
    lower = [Flips(n, n - u, u, flips - u).lower_bound(level, bound) for u in (up - 1, up)]
    assert lower[0] <= 0 < lower[1]


def test_needed_gains_are_those_of_the_notes_and_fall_with_more_questions():
    of = {bound: mc.needed_gain(250, 10, 0.01, bound, 0.3) for bound in BOUNDS}
    assert of["none"] < of["conditional"] < of["binomial"] < of["hoeffding"] < of["bernstein"]
    assert of["hoeffding"] == pytest.approx(0.235, abs=0.005)
    assert of["as_printed"] == pytest.approx(0.1233, abs=0.008)
    for bound in VALID:
        more = mc.needed_gain(1000, 10, 0.01, bound, 0.3)
        assert more < 0.6 * of[bound]
        assert mc.needed_gain(250, 1, 0.01, bound, 0.5) < mc.needed_gain(250, 10, 0.01, bound, 0.5)
        assert mc.needed_gain(250, 10, 0.1, bound, 0.5) < mc.needed_gain(250, 10, 0.01, bound, 0.5)
    # Not even 25 mended answers of 250 pass a bound that does not see how few flipped.
    assert math.isnan(mc.needed_gain(250, 10, 0.01, "hoeffding", 0.1))
    assert math.isnan(mc.needed_gain(250, 10, 0.01, "conditional", 0.0))


def test_the_tables_are_printed():
    shown = []
    mc.main(50, shown.append)
    text = "\n".join(shown)
    for word in (*mc.TASKS, *BOUNDS, "harm", "steers", "winner's curse", "gain that is needed"):
        assert word in text
    assert len(mc.needed_gain_table()) == 2 * 3 * len(BOUNDS) * len(mc.NEEDED)
