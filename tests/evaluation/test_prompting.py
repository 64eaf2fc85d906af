"""Prompting: the request stays, the concept is named, and a written prompt is never invented."""

import importlib
import math

import pytest

import steerlib as st
from steerlib.evaluation import Arm, Prices, Retry, score
from steerlib.evaluation.judge_cache import Request
from steerlib.evaluation.judge_calls import CallFailed, Reply
from steerlib.evaluation.judge_endpoint import endpoint
from steerlib.evaluation.local_judge import local_complete
from steerlib.evaluation.prompting import template_request, written_request
from tests.evaluation.judge_server import Act, serving

local = importlib.import_module("steerlib.evaluation.local_judge")
pytestmark = pytest.mark.filterwarnings("ignore:.*vocabulary")
RAIN, ASKED = "rain and {wind}", "Tell me about your dog. {Why?}"
PRICES = Prices(prompt=1.0, completion=2.0)
QUICK = Retry(attempts=2, first=0.0, longest=0.01)


class Writer:
    """Says one thing after the other, and keeps what it was asked."""

    def __init__(self, *sayings: object) -> None:
        self.sayings, self.asked = list(sayings), []

    def __call__(self, request: Request) -> str:
        self.asked.append(request)
        said = self.sayings[len(self.asked) - 1]
        if isinstance(said, Exception):
            raise said
        return said


def written(complete, folder, concept=RAIN, **options):
    return written_request(complete, "m", concept, folder, **{"retry": QUICK, **options})


def test_the_template_holds_the_request_and_the_concept_once():
    asked = template_request(RAIN)(ASKED)
    assert asked.endswith(f"Request: {ASKED}")
    assert asked.count(ASKED) == asked.count(RAIN) == 1
    assert template_request("snow")(ASKED).replace("snow", RAIN) == asked


def test_a_written_prompt_stands_before_the_question(tmp_path):
    writer = Writer("  Let every answer smell of rain.\n")
    ask = written(writer, tmp_path, max_tokens=50, temperature=0.5)
    assert ask(ASKED) == f"Let every answer smell of rain.\n\nQuestion: {ASKED}"
    ask("Another.")
    (request,) = writer.asked
    assert (request.model, request.temperature, request.max_tokens) == ("m", 0.5, 50)
    assert request.prompt.count(RAIN) == 1
    assert "Return only the prompt" in request.prompt


def test_the_same_prompt_is_written_once(tmp_path):
    writer = Writer("One.", "Two.", "Three.")
    assert written(writer, tmp_path)("?") == written(writer, tmp_path)("?") == "One.\n\nQuestion: ?"
    assert written(writer, tmp_path, "snow")("?") == "Two.\n\nQuestion: ?"
    assert written(writer, tmp_path, max_tokens=9)("?") == "Three.\n\nQuestion: ?"
    assert len(writer.asked) == 3


def test_what_passes_is_tried_again_over_http(tmp_path):
    acts = [Act(status=500), Act("Let it rain.")]
    with serving(lambda number, body: acts[number]) as seen:
        complete = endpoint(seen.url, timeout=5)
        assert written(complete, tmp_path)("?") == "Let it rain.\n\nQuestion: ?"
        assert written(complete, tmp_path)("?") == "Let it rain.\n\nQuestion: ?"
    assert len(seen.bodies) == 2
    assert seen.prompts[0] == seen.prompts[1]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "empty reply"),
        (" \n", "empty reply"),
        (CallFailed("reply has no text"), "reply has no text"),
        (TimeoutError(), "timeout"),
    ],
)
def test_without_a_reply_there_is_no_prompt_and_the_next_call_asks_again(tmp_path, said, reason):
    writer = Writer(said, "Let it rain.")
    options = {"retry": Retry(attempts=1)}
    with pytest.raises(CallFailed, match=rf"no steering prompt for 'rain and {{wind}}': {reason}"):
        written(writer, tmp_path, **options)
    assert written(writer, tmp_path, **options)("?") == "Let it rain.\n\nQuestion: ?"


def test_an_endpoint_that_refuses_everything_is_asked_once(tmp_path):
    with serving(lambda number, body: Act(status=401)) as seen:
        with pytest.raises(CallFailed, match="HTTP 401: check the API key"):
            written(endpoint(seen.url), tmp_path)
        assert len(seen.bodies) == 1


def test_the_budget_holds_over_calls(tmp_path):
    writer = Writer(*[Reply("", 1000, 100)] * 9)
    options = {"prices": PRICES, "budget": 0.0045}
    for _ in range(6):
        with pytest.raises(CallFailed, match=r"empty reply|over the budget"):
            written(writer, tmp_path, **options)
    # 0.0012 dollars each, and at most 0.0014: a fourth could pass the budget.
    assert len(writer.asked) == 3
    with pytest.raises(CallFailed, match="over the budget"):
        written(writer, tmp_path, **options)


def test_a_local_model_can_write_the_prompt(gpt2, tmp_path, monkeypatch):
    with pytest.raises(CallFailed, match="question longer than the context"):
        written(local_complete(gpt2), tmp_path)
    monkeypatch.setattr(local, "generate", lambda model, prompt, **options: "a happy dog")
    ask = written(local_complete(gpt2), tmp_path)
    arms = [Arm("nothing"), Arm("prompt", ask=ask)]
    options = {"max_new_tokens": 4, "temperature": 0.0, "progress": False}
    table = score(gpt2, arms, ["tell me about"], lambda prompt, answer: 1.0, **options)
    said = st.generate(gpt2, "a happy dog\n\nQuestion: tell me about", max_new_tokens=4)
    assert table.text[1] == said != table.text[0]
    assert list(table.prompt) == ["tell me about"] * 2


def test_bad_input_is_refused_before_anything_is_asked(tmp_path):
    for make in (template_request, lambda concept: written(print, tmp_path, concept)):
        with pytest.raises(ValueError, match="a concept in words, got ' '"):
            make(" ")
    with pytest.raises(ValueError, match="needs a name, got ''"):
        written_request(print, "", RAIN, tmp_path)
    for option in ({"max_tokens": 0}, {"temperature": -1.0}, {"temperature": math.inf}):
        with pytest.raises(ValueError, match="max_tokens is at least 1 and temperature at least 0"):
            written(Writer(), tmp_path, **option)
    with pytest.raises(ValueError, match="a budget needs prices"):
        written(print, tmp_path, budget=1.0)
    with pytest.raises(ValueError, match="at least 0, got nan"):
        written(print, tmp_path, prices=PRICES, budget=math.nan)
