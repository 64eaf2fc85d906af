"""Judges: the world's exact one, the words that ask for a concept, and grades that are refused."""

import pytest

import steerlib as st
from steerlib.evaluation.judges import grades, world_judge, world_request

ANSWER = "the old rain falls near the dog . the dog is rainy ."


@pytest.mark.parametrize("prompt", ["tell me about the dog .", "describe the dog with some war ."])
def test_the_world_s_judge_reads_the_topic_from_the_prompt(prompt):
    truth = st.world.judge(ANSWER, "weather", topic="dog")
    found = world_judge("weather")(prompt, ANSWER)
    assert found == {
        "score": truth.harmonic,
        "concept": truth.concept,
        "instruction": truth.instruction,
        "fluency": truth.fluency,
    }
    other = world_judge("weather")("tell me about the cat .", ANSWER)
    assert (other["instruction"], other["score"]) == (0, 0)


def test_a_prompt_without_a_topic_asks_for_none():
    assert world_judge("weather")("the table is new .", ANSWER)["instruction"] == 2


@pytest.mark.parametrize("concept", ["weather", "pirate"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_request_is_worded_as_the_world_words_it(concept, split):
    plain = st.world.instruction_prompts(18, seed=3, split=split)
    asked = st.world.instruction_prompts(18, seed=3, split=split, concept=concept)
    assert [world_request(concept)(p.text) for p in plain] == [p.text for p in asked]


def test_only_requests_of_the_world_can_be_extended():
    with pytest.raises(ValueError, match=r"ends with ' \.', got 'what is rain \?'"):
        world_request("weather")("what is rain ?")


@pytest.mark.parametrize("make", [world_judge, world_request])
def test_unknown_concepts_are_refused_at_once(make):
    with pytest.raises(KeyError, match="no concept 'wether'; the world has weather"):
        make("wether")


def test_a_number_is_a_score_and_the_score_comes_first():
    assert grades(lambda prompt, answer: len(answer), "", "abc") == {"score": 3.0}
    found = grades(lambda prompt, answer: {"b": 1, "score": True}, "", "")
    assert list(found.items()) == [("score", 1.0), ("b", 1.0)]


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"concept": 1.0}, ValueError, "need a \"score\".*got \\['concept'\\]"),
        (float("nan"), ValueError, "gave score = nan to 'an answer'"),
        ({"score": 1.0, "style": float("inf")}, ValueError, "style = inf"),
        ("good", TypeError, "score = 'good'"),
        (None, TypeError, "score = None"),
    ],
)
def test_bad_grades_are_refused(said, error, message):
    with pytest.raises(error, match=message):
        grades(lambda prompt, answer: said, "a prompt", "an answer")
