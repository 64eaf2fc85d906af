"""The experiment of the chapter axbench: what its shards are made of and how they are averaged."""

import pytest
import torch

import steerlib as st
from experiments import axbench, axbench_claims, axbench_methods
from experiments.axbench_effects import effect, gain, loss


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


def test_learning_rates_are_those_that_did_best_where_they_were_chosen(monkeypatch):
    rates = axbench_methods.RATES
    shards = {
        (name, str(rate), concept): {"score": float(rate == axbench_methods.RATE[name])}
        for name, values in rates.items()
        for rate in values
        for concept in axbench_methods.TUNED
    }
    recorded = []
    monkeypatch.setattr(axbench_claims.st, "record", lambda *a, **k: recorded.append(a))
    axbench_claims.record_rates(shards)
    assert {name.removeprefix("axbench.rate_") for name, *_ in recorded} == set(rates)
    other = ("reps", str(min(rates["reps"])), "war")
    with pytest.raises(ValueError, match=r"reps does best at the rate 0\.1, not"):
        axbench_claims.record_rates(shards | {other: {"score": 9.0}})


def test_seeds_and_prompts_of_a_concept_are_averaged_before_concepts():
    shards = {
        ("rain", "0"): {"rows": [{"score": 2.0}, {"score": 0.0}]},
        ("rain", "1"): {"rows": [{"score": 0.0}]},
        ("snow", "0"): {"rows": [{"score": 1.0}] * 8},
    }
    found = axbench_claims.per_concept(axbench_claims.frame(shards, "rows"), "score")
    assert found.to_dict() == {"rain": 0.5, "snow": 1.0}


def test_the_published_step_is_the_largest_score_times_a_vector_that_is_not_unit(world):
    data = st.Dialogues(st.world.dialogues("weather", 4))
    vector = st.random_direction(world, axbench_methods.SITE, norm=3.0)
    h = st.capture(world, data.texts, axbench_methods.SITE, at="prompt", chat=None)
    largest = torch.relu(h[axbench_methods.SITE] @ vector.direction).max()
    arm = axbench_methods._published(world, vector, data)
    expected = largest * vector.direction
    assert torch.allclose(arm.intervention.direction, expected, rtol=1e-4)


def test_a_text_with_a_word_of_the_concept_is_no_negative():
    def says(text):
        return st.world.Dialogue("tell me about the dog .", text, False)

    assert axbench._shows(says("the shell breaks ."), "ocean")
    assert not axbench._shows(says("the shell breaks ."), "music")


def test_the_effect_is_the_slope_of_the_log_probability_along_every_direction(world):
    talks = st.world.dialogues("weather", 4, split="test")[:4]
    e = effect(world, talks)
    step = st.random_direction(world, axbench_methods.SITE, norm=1.0, seed=1)
    ahead, behind = (gain(world, talks, step, s) for s in (0.1, -0.1))
    assert (ahead - behind) / 0.2 == pytest.approx(float(e @ step.direction), rel=0.02)
    assert gain(world, talks, step, 0.0) == pytest.approx(-loss(world, talks), rel=1e-6)
