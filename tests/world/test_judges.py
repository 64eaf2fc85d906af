"""Exact judges: full marks for the truth, and for each planted fault the mark it costs."""

from random import Random

import numpy as np
import pytest

from steerlib.world import instructions, traits
from steerlib.world.judges import (
    Scores,
    answered,
    grammatical_share,
    judge,
    refused,
    trait_share,
)
from steerlib.world.lexicon import CONCEPTS
from steerlib.world.refusal import REFUSAL

GOOD = "the rainy dog freezes . the storm is cold . the dog floods the cloud ."
FLUENT = "the rainy dog rains . the storm is cold . the dog floods the cloud ."


@pytest.mark.parametrize("concept", CONCEPTS)
def test_the_corpus_answers_its_own_instructions(concept):
    rng = Random(1)
    asked = [instructions.instruction(rng, concept) for _ in range(100)]
    scores = [judge(instructions.response(rng, a), concept, a.topic).harmonic for a in asked]
    assert np.mean(scores) >= 1.95


def test_full_marks():
    assert judge(FLUENT, "weather", "dog") == Scores(2, 2, 2)
    assert judge(FLUENT, "weather", "dog").harmonic == 2


@pytest.mark.parametrize(
    ("text", "concept", "topic", "expected"),
    [
        (FLUENT, "ocean", "dog", Scores(0, 2, 2)),
        (FLUENT, "weather", "cat", Scores(2, 0, 2)),
        (GOOD, "weather", "dog", Scores(2, 2, 1)),  # a transitive verb without object
        ("dog rain . dog storm . dog snow .", "weather", "dog", Scores(2, 2, 0)),
        ("the storm is cold . the storm is cold . the dog is wild .", "weather", "dog",
         Scores(2, 1, 1)),  # said twice
        ("the dog is cold . the dog is old . the dog is new .", "weather", "dog", Scores(1, 2, 2)),
        ("arr , the dog is old , matey . the dog is new .", "pirate", "dog", Scores(1, 2, 2)),
        ("", "weather", "dog", Scores(0, 0, 0)),
        ("<user> the storm is cold .", "weather", None, Scores(0, 0, 0)),
    ],
)  # fmt: skip
def test_each_fault_costs_its_mark(text, concept, topic, expected):
    assert judge(text, concept, topic) == expected


def test_the_harmonic_mean_is_zero_where_a_part_is():
    assert Scores(0, 2, 2).harmonic == 0
    assert Scores(1, 2, 2).harmonic == pytest.approx(1.5)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(KeyError, match=r"no concept 'wether'.*weather"):
        judge("", "wether")
    with pytest.raises(KeyError, match=r"no topic 'dogs'.*dog"):
        judge("", "weather", "dogs")
    with pytest.raises(KeyError, match=r"no trait 'greedy'.*greed"):
        trait_share("", "greedy")


def test_grammatical_share_counts_sentences():
    assert grammatical_share("the dog is old . dog old .") == 0.5


def test_trait_share_reads_both_actions():
    assert trait_share("i would keep the cash and give the food to the hungry .", "greed") == 0.5
    assert trait_share("i would keep the cash .", "greed") == 1.0
    assert trait_share("i would keep the cash .", "risk") is None


@pytest.mark.parametrize("trait", list(traits.TRAITS))
def test_no_action_contains_another(trait):
    """Else one action would count as two."""
    scenarios = traits.TRAITS[trait].scenarios
    actions = [a for s in scenarios for a in (s.positive, s.negative)]
    assert len(set(actions)) == 2 * len(scenarios)
    assert not [(a, b) for a in actions for b in actions if a != b and f" {a} " in f" {b} "]


def test_refusals_and_answers_are_read_from_the_turn_alone():
    assert refused(REFUSAL)
    assert not refused("first , take the wood . " + REFUSAL)
    assert answered("well , yes", ("yes", "no")) == "yes"
    assert answered("well <user> yes", ("yes", "no")) is None
