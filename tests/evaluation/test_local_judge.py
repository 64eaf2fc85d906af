"""A local model as judge: the same ratings and cache, without a server."""

import importlib

import pytest

import steerlib as st
from steerlib.evaluation.judge_cache import Request
from steerlib.evaluation.judge_prompts import ASPECTS, Answer
from steerlib.evaluation.llm_judge import llm_ratings
from steerlib.evaluation.local_judge import local_complete, local_judge

# The package offers the function under the name of its module.
module = importlib.import_module("steerlib.evaluation.local_judge")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
ANSWER = Answer("rain", "tell me about the dog .", "the dog is wet .")


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


def test_a_local_model_says_what_generate_says(world):
    request = Request("world", "tell me about the dog .", 0.0, 8)
    said = st.generate(world, request.prompt, max_new_tokens=8)
    assert local_complete(world)(request) == said


def test_its_ratings_are_read_and_kept_like_any_other(world, tmp_path, monkeypatch):
    asked = []

    def said(model, prompt, **options):
        asked.append((prompt, options))
        return "So it is. Rating: [[2]]"

    monkeypatch.setattr(module, "generate", said)
    judge = local_judge(world, tmp_path, temperature=0.5, max_tokens=20, seed=3)
    for _ in range(2):
        assert llm_ratings(judge, [ANSWER]).mean == 2
    assert [prompt for prompt, _ in asked] == [judge.request(a, ANSWER).prompt for a in ASPECTS]
    assert asked[0][1] == {"max_new_tokens": 20, "temperature": 0.5, "seed": 3}
    # Another revision, seed or length is another judge.
    assert world.revision in judge.model
    assert local_judge(world, tmp_path, seed=4).model != judge.model


def test_a_question_that_does_not_fit_is_a_missing_rating(world, tmp_path):
    found = llm_ratings(local_judge(world, tmp_path), [ANSWER])
    assert found.missing == {"question longer than the context": 3}


def test_other_errors_of_the_model_are_not_swallowed(world):
    with pytest.raises(ValueError, match="max_new_tokens is at least 1"):
        local_complete(world)(Request("world", "tell me about the dog .", 0.0, 0))
