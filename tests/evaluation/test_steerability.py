"""Steerability: slopes on planted propensities and on a model in which they are exact."""

import numpy as np
import pytest
import torch
from torch import nn

import steerlib as st
from steerlib.core.prompts import answer_id
from steerlib.evaluation import Choice, Steerability, generalization, propensity, steerability
from steerlib.evaluation.steerability import slopes
from steerlib.statistics import bootstrap_mean

STRENGTHS = (-1.0, 0.0, 0.5, 2.0)
CHOICES = [
    Choice("tell me about the dog", "happy", "sad"),
    Choice("sun", "good", "bad"),
    Choice("a little girl went to the park and saw", "rain", "sun"),
    Choice("once upon a time", "cat", "fish"),
    Choice("the boy was", "little", "big"),
    Choice("there was a", "ball", "bird"),
]


def planted(slope, start=0.0, strengths=STRENGTHS):
    """Propensities on straight lines."""
    lines = np.add.outer(np.broadcast_to(start, np.shape(slope)), 0 * np.array(strengths))
    return Steerability(strengths, lines + np.outer(slope, strengths))


def test_planted_lines_have_their_slopes():
    truth, start = np.array([2.0, -1.0, 0.0, 0.5]), np.array([7.0, -3.0, 1.0, 0.0])
    found = planted(truth, start)
    assert found.slopes == pytest.approx(truth, abs=1e-12)
    assert found.mean.estimate == pytest.approx(truth.mean())
    assert found.curve == pytest.approx(start.mean() + truth.mean() * np.array(STRENGTHS))
    assert found.r2[[0, 1, 3]] == pytest.approx([1, 1, 1])
    assert np.isnan(found.r2[2])


def test_slopes_are_those_of_least_squares():
    from scipy.stats import linregress

    y = np.random.default_rng(0).normal(size=(5, 4))
    fits = [linregress(STRENGTHS, row) for row in y]
    assert slopes(STRENGTHS, y) == pytest.approx([fit.slope for fit in fits])
    assert Steerability(STRENGTHS, y).r2 == pytest.approx([fit.rvalue**2 for fit in fits])


def test_the_wrong_way_is_a_negative_slope_and_not_a_flat_one():
    found = planted([1.0, -1.0, 0.0, 2.0, -0.1])
    assert found.wrong_way == bootstrap_mean([0, 1, 0, 0, 1])
    assert planted([1.0, 2.0]).wrong_way.high == 0
    assert planted([-1.0, -2.0]).wrong_way.low == 1


def test_the_order_of_the_strengths_does_not_matter():
    y = np.random.default_rng(1).normal(size=(3, 4))
    turned = Steerability(STRENGTHS[::-1], y[:, ::-1])
    assert turned.slopes == pytest.approx(Steerability(STRENGTHS, y).slopes)


@pytest.fixture
def linear(folders):
    """GPT-2 without its last norm: logits are linear in the last block's output."""
    model = st.load(folders["gpt2"], engine="hf")
    model.module.transformer.ln_f = nn.Identity()
    return model


def test_where_logits_are_linear_the_slopes_are_exact(linear, vector):
    v = 2 * vector(seed=4)
    found = steerability(linear, st.Add(st.resid(3), v), CHOICES, STRENGTHS)
    W = linear.hf.get_output_embeddings().weight
    truth = [
        (W[answer_id(linear, c.positive)] - W[answer_id(linear, c.negative)]) @ v for c in CHOICES
    ]
    assert found.slopes == pytest.approx([x.item() for x in truth], abs=1e-5)
    assert found.r2.min() > 0.9999
    assert found.wrong_way.estimate == np.mean([x.item() < 0 for x in truth])
    assert 0 < found.wrong_way.estimate < 1
    assert np.allclose(found.propensities[:, 1], propensity(linear, CHOICES), atol=1e-6)


def test_half_of_the_strength_is_half_of_the_slope_where_logits_are_linear(linear, vector):
    whole, half = (
        steerability(linear, st.Add(st.resid(3), length * vector()), CHOICES, STRENGTHS).slopes
        for length in (2.0, 1.0)
    )
    assert whole == pytest.approx(2 * half, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_strengths_in_one_batch_equal_one_strength_at_a_time(model, vector, batch_size):
    push = st.Add(st.resid(1), 2 * vector())
    choices = [*CHOICES, Choice("the boy was", "a big red fish", "sad")]
    found = steerability(model, push, choices, STRENGTHS, chat=False, batch_size=batch_size)
    assert found.propensities.shape == (7, 4)
    for number, strength in enumerate(STRENGTHS):
        with st.steer(model, push, strength=strength):
            alone = propensity(model, choices, chat=False)
        assert found.propensities[:, number] == pytest.approx(alone.numpy(), abs=3e-5)


def test_weather_steers_the_world_and_its_negative_the_wrong_way():
    world = st.load("world", engine="hf")
    weather = st.diff_means(world, st.world.concept("weather").train, st.resid(2))
    choices = st.world.concept_choices("weather", 24)
    found, reverse = (steerability(world, sign * weather, choices) for sign in (1, -1))
    assert found.wrong_way.estimate == 0
    assert found.mean.low > 2
    assert reverse.wrong_way.estimate == 1
    assert reverse.slopes == pytest.approx(-found.slopes, abs=1e-4)


def test_a_generalization_compares_slopes_choice_by_choice():
    base = planted([1.0, 2.0, 3.0, 5.0])
    same, twice = generalization(base, base), generalization(base, planted([2.0, 4.0, 6.0, 10.0]))
    assert (same.correlation.estimate, same.ratio.estimate) == pytest.approx((1, 1))
    assert (twice.ratio.estimate, twice.ratio.low, twice.ratio.high) == pytest.approx((2, 2, 2))
    turned = generalization(base, planted([5.0, 3.0, 2.0, 1.0]))
    assert turned.correlation.estimate == pytest.approx(-1)
    assert turned.ratio.estimate == pytest.approx(1)


def test_the_correlation_is_spearman_s():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(2)
    x, y = np.round(rng.normal(size=(2, 30)), 1)
    found = generalization(planted(x), planted(y)).correlation
    assert found.estimate == pytest.approx(spearmanr(planted(x).slopes, planted(y).slopes)[0])
    assert found.low < found.estimate < found.high


def test_generalizations_that_mean_nothing_are_refused():
    base = planted([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="got 3 and 2"):
        generalization(base, planted([1.0, 2.0]))
    with pytest.raises(ValueError, match="nothing to correlate"):
        generalization(base, planted([0.0, 0.0, 0.0]))


@pytest.mark.parametrize("strengths", [(), (1.0,), (2.0, 2.0), (0.0, float("nan"))])
def test_a_slope_needs_two_different_strengths(gpt2, vector, strengths):
    match = "two or more different finite strengths"
    with pytest.raises(ValueError, match=match):
        steerability(gpt2, st.Add(st.resid(1), vector()), CHOICES, strengths)
    with pytest.raises(ValueError, match=match):
        Steerability(strengths, np.zeros((2, len(strengths))))


def test_bad_propensities_and_single_choices_are_refused(gpt2, vector):
    with pytest.raises(ValueError, match=r"at 2 strengths, got the shape \(3, 4\)"):
        Steerability((0, 1), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="not finite"):
        Steerability((0, 1), np.array([[0, np.inf], [0, 1]]))
    with pytest.raises(ValueError, match="two or more choices, got 1"):
        steerability(gpt2, st.Add(st.resid(1), vector()), CHOICES[:1], STRENGTHS)


def test_a_steerability_keeps_its_own_copy():
    values = np.array([[0.0, 1.0], [0.0, 2.0]])
    found = Steerability((0, 1), values)
    values[0] = 9
    assert found.slopes.tolist() == [1.0, 2.0]
    assert torch.tensor(found.propensities).max() == 2
