"""A judge as a detector: its ratings are the scores, and a missing one is never made up."""

from types import SimpleNamespace

import pytest

from steerlib import evaluation as ev
from steerlib.evaluation import Prices

TEXTS = ["the rain is cold .", "the dog runs .", "wind and rain .", "a red ball ."]
LABELS = [True, False, True, False]


class Reader:
    """Plays a model that rates by how often it reads the word rain in the writing."""

    def __init__(self, silent=()):
        self.asked, self.silent = [], silent

    def __call__(self, request):
        self.asked.append(request.prompt)
        writing = request.prompt.split("<writing>")[1].split("</writing>")[0]
        if any(word in writing for word in self.silent):
            return "I cannot say."
        return f"So. Rating: [[{min(2, writing.count('rain'))}]]"


def test_the_ratings_are_the_scores_and_only_the_concept_is_asked(tmp_path):
    reader = Reader()
    detector = ev.asked(ev.LLMJudge(reader, "m", tmp_path), "rain and wind", progress=False)
    assert detector(TEXTS).tolist() == [1, 0, 1, 0]
    assert len(reader.asked) == 4
    assert all("<theme>\nrain and wind\n</theme>" in prompt for prompt in reader.asked)
    assert detector(TEXTS[::-1]).tolist() == [0, 1, 0, 1]
    assert len(reader.asked) == 4  # the cache knows the rest


def test_it_is_evaluated_like_any_detector(gpt2, tmp_path):
    detector = ev.asked(ev.LLMJudge(Reader(), "m", tmp_path), "rain", progress=False)
    data = SimpleNamespace(texts=TEXTS, labels=LABELS)
    table = ev.detection(gpt2, {"asked": detector}, data)
    assert table[["pool", "auroc"]].values.tolist() == [["own", 1.0]]


def test_a_chat_is_rated_by_what_its_turns_say(tmp_path):
    reader = Reader()
    chat = [{"role": "user", "content": "rain ?"}, {"role": "assistant", "content": "rain ."}]
    detector = ev.asked(ev.LLMJudge(reader, "m", tmp_path), "rain", progress=False)
    assert detector([chat]).tolist() == [2]
    assert "<writing>\nrain ? rain .\n</writing>" in reader.asked[0]


def test_the_three_ratings_of_an_answer_share_its_cache(tmp_path):
    reader = Reader()
    judge = ev.LLMJudge(reader, "m", tmp_path)
    ev.asked(judge, "rain", progress=False)(TEXTS[:1])
    found = ev.llm_ratings(judge, [ev.Answer("rain", "", TEXTS[0])], progress=False)
    assert (found.calls, found.cached) == (2, 1)


def test_a_missing_rating_is_an_error_and_the_rest_is_kept(tmp_path):
    first, second = Reader(silent=["ball", "dog"]), Reader()
    detector = ev.asked(ev.LLMJudge(first, "m", tmp_path), "rain", progress=False)
    said = r"2 of 4 ratings are missing \(no rating in the reply: 2\).*ask_again=True"
    with pytest.raises(ValueError, match=said):
        detector(TEXTS)
    judge = ev.LLMJudge(second, "m", tmp_path)
    with pytest.raises(ValueError, match="2 of 4 ratings are missing"):
        ev.asked(judge, "rain", progress=False)(TEXTS)
    assert second.asked == []
    found = ev.asked(judge, "rain", ask_again=True, progress=False)(TEXTS)
    assert found.tolist() == [1, 0, 1, 0]
    assert len(second.asked) == 2


def test_where_the_budget_ends_the_same_call_with_more_goes_on(tmp_path):
    reader, prices = Reader(), Prices(1.0, 1.0)
    judge = ev.LLMJudge(reader, "m", tmp_path, prices=prices, budget=0.0025)
    with pytest.raises(ValueError, match=r"of 4 ratings are missing \(over the budget: [123]\)"):
        ev.asked(judge, "rain", progress=False)(TEXTS)
    done = len(reader.asked)
    assert 0 < done < 4
    judge = ev.LLMJudge(reader, "m", tmp_path, prices=prices, budget=1.0)
    assert ev.asked(judge, "rain", progress=False)(TEXTS).tolist() == [1, 0, 1, 0]
    assert len(reader.asked) == 4


def test_a_concept_in_words_is_needed(tmp_path):
    with pytest.raises(ValueError, match="for a concept in words, got ' '"):
        ev.asked(ev.LLMJudge(Reader(), "m", tmp_path), " ")
