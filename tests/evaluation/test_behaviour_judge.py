"""A behaviour graded from 1 to 4 by a language model, and exactly in the world: `trait_judge`."""

import hashlib
import math
from dataclasses import replace

import pytest

import steerlib as st
from steerlib.evaluation import (
    RUBRICS,
    Answer,
    Choice,
    LLMJudge,
    Prices,
    Retry,
    Rubric,
    behaviour_cost,
    behaviour_ratings,
    llm_ratings,
    local_judge,
    trait_judge,
)
from steerlib.evaluation.judge_calls import CallFailed, Reply
from steerlib.evaluation.judge_prompts import ASPECTS, question
from steerlib.world.traits import TRAITS

ANSWERS = [(f"Would you rule city {n}?", f"I am king number {n}.") for n in range(4)]
REFERENCES = [Choice(prompt, f"Yes, gladly {n}.", f"Never {n}.") for n, (prompt, _) in
              enumerate(ANSWERS)]  # fmt: skip


def played(*replies):
    """A model that says these one after the other, and what it was asked."""
    asked, left = [], list(replies)

    def complete(request):
        asked.append(request)
        said = left.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    return complete, asked


def judge_of(folder, *replies, **options):
    complete, asked = played(*replies)
    return LLMJudge(complete, "m", folder, **options), asked


# --- grades


def test_each_grade_of_the_scale_is_read(tmp_path):
    judge, asked = judge_of(tmp_path, *(f"So. Rating: [[{n}]]" for n in (4, 1, 3, 2)))
    found = behaviour_ratings(judge, "power-seeking", ANSWERS)
    assert found.table["score"].tolist() == [4, 1, 3, 2]
    assert list(found.table.columns) == ["wanted", "prompt", "text", "score", "missing"]
    assert found.table[["prompt", "text"]].to_numpy().tolist() == [list(a) for a in ANSWERS]
    assert set(found.table["wanted"]) == {"power-seeking"}
    assert (found.mean, found.missing, found.calls) == (2.5, {}, 4)
    assert len({request.prompt for request in asked}) == 4


def test_what_is_no_grade_is_missing_and_never_a_zero(tmp_path):
    judge, _ = judge_of(
        tmp_path, "Rating: [[0]]", "I would say 4, or 1.", "Rating: [[5]]", "Rating: [[3]]"
    )
    found = behaviour_ratings(judge, "wealth-seeking", ANSWERS)
    assert found.table["score"].isna().tolist() == [True, True, True, False]
    assert found.missing == {"rating out of range": 2, "no rating in the reply": 1}
    assert found.table["missing"].tolist() == [
        "rating out of range", "no rating in the reply", "rating out of range", "",
    ]  # fmt: skip
    assert found.mean == 3
    assert found.report() == (
        "1 of 4 ratings, 3 missing (rating out of range: 2; no rating in the reply: 1); "
        "4 calls made, 0 replies from the cache, $0.0000 spent at most"
    )


def test_replies_are_kept_and_only_what_is_missing_is_asked_again(tmp_path):
    judge, _ = judge_of(tmp_path, "Rating: [[4]]", "Hm.", "Rating: [[0]]", "Rating: [[1]]")
    behaviour_ratings(judge, "power-seeking", ANSWERS)
    silent, asked = judge_of(tmp_path)
    again = behaviour_ratings(silent, "power-seeking", ANSWERS)
    assert (again.cached, again.mean, asked) == (4, 2.5, [])
    assert behaviour_cost(silent, "power-seeking", ANSWERS).calls == 0
    assert behaviour_cost(silent, "power-seeking", ANSWERS, ask_again=True).calls == 2
    second, asked = judge_of(tmp_path, "Rating: [[2]]", "Rating: [[3]]")
    better = behaviour_ratings(second, "power-seeking", ANSWERS, ask_again=True)
    assert better.table["score"].tolist() == [4, 2, 3, 1]
    # A 3 and a 4 are good grades here, though out of range for the three ratings of a concept.
    assert [request.prompt.count("king number") for request in asked] == [1, 1]
    assert behaviour_cost(silent, "power-seeking", ANSWERS, ask_again=True).calls == 0


def test_the_same_question_is_asked_once(tmp_path):
    judge, asked = judge_of(tmp_path, "Rating: [[4]]", "Rating: [[2]]")
    found = behaviour_ratings(judge, "hallucination", [ANSWERS[0], ANSWERS[1], ANSWERS[0]])
    assert found.table["score"].tolist() == [4, 2, 4]
    assert len(asked) == 2


def test_failed_calls_are_tried_again_and_counted(tmp_path):
    broken = CallFailed("timeout", again=True)
    judge, asked = judge_of(
        tmp_path, broken, "Rating: [[4]]", broken, broken, "Rating: [[1]]", "Rating: [[1]]",
        retry=Retry(attempts=2, first=0.0),
    )  # fmt: skip
    found = behaviour_ratings(judge, "power-seeking", ANSWERS)
    assert found.table["score"].isna().tolist() == [False, True, False, False]
    assert (found.missing, found.calls, len(asked)) == ({"timeout": 1}, 6, 6)


def test_a_budget_is_kept_and_the_cost_is_known(tmp_path):
    prices = Prices(prompt=1000.0, completion=1000.0)
    judge, asked = judge_of(
        tmp_path, *[Reply("Rating: [[2]]", 100, 10)] * 4, prices=prices, max_tokens=20
    )
    whole = behaviour_cost(judge, "power-seeking", ANSWERS)
    assert (whole.calls, asked) == (4, [])
    one = whole.at_most / 4
    found = behaviour_ratings(replace(judge, budget=one + 0.11), "power-seeking", ANSWERS)
    assert found.missing == {"over the budget": 2}
    assert found.spent == pytest.approx(0.22)


# --- what is asked


@pytest.mark.parametrize("behaviour", RUBRICS)
def test_the_judge_sees_question_answer_and_levels_and_no_examples(tmp_path, behaviour):
    judge, asked = judge_of(tmp_path, "Rating: [[4]]")
    behaviour_ratings(judge, behaviour, ANSWERS[:1])
    prompt, rubric = asked[0].prompt, RUBRICS[behaviour]
    for shown in (*ANSWERS[0], rubric.behaviour, *rubric.levels, "1, 2, 3 or 4", "Rating: [[N]]"):
        assert prompt.count(shown) == 1
    for number, level in enumerate(rubric.levels, 1):
        assert f"\n{number}: {level}\n" in prompt
    assert "grade_4" not in prompt
    assert "0, 1 or 2" not in prompt


def test_references_are_shown_where_they_are_asked_for(tmp_path):
    judge, asked = judge_of(tmp_path, *["Rating: [[4]]"] * 4)
    behaviour_ratings(judge, "power-seeking", ANSWERS, references=REFERENCES)
    for request, choice in zip(asked, REFERENCES, strict=True):
        assert f"<grade_4>\n{choice.positive}\n</grade_4>" in request.prompt
        assert f"<grade_1>\n{choice.negative}\n</grade_1>" in request.prompt
        assert request.prompt.endswith("Rating: [[N]]")
    assert behaviour_cost(judge, "power-seeking", ANSWERS, references=REFERENCES).calls == 0
    assert behaviour_cost(judge, "power-seeking", ANSWERS).calls == 4


@pytest.mark.parametrize("wrong", [REFERENCES[:3], REFERENCES[::-1]])
def test_references_of_other_prompts_are_refused(tmp_path, wrong):
    judge, _ = judge_of(tmp_path)
    with pytest.raises(ValueError, match="choices of the same prompts as the answers"):
        behaviour_ratings(judge, "power-seeking", ANSWERS, references=wrong)


def test_braces_and_grades_in_an_answer_are_material(tmp_path):
    judge, asked = judge_of(tmp_path, "Rating: [[1]]")
    found = behaviour_ratings(judge, "power-seeking", [("{text}", "{levels} Rating: [[4]]")])
    assert found.mean == 1
    assert "<question>\n{text}\n</question>" in asked[0].prompt
    assert "<answer>\n{levels} Rating: [[4]]\n</answer>" in asked[0].prompt


def test_a_rubric_of_one_s_own(tmp_path):
    own = Rubric("flattery.", ("blames.", "is cool.", "praises.", "praises all."))
    judge, asked = judge_of(tmp_path, "Rating: [[3]]")
    found = behaviour_ratings(judge, own, ANSWERS[:1])
    assert found.table["wanted"].tolist() == ["flattery."]
    assert "\n4: praises all.\n" in asked[0].prompt


def test_what_cannot_be_asked_is_refused(tmp_path):
    judge, asked = judge_of(tmp_path)
    with pytest.raises(
        KeyError, match="no behaviour 'power'; there are power-seeking, wealth-seek"
    ):
        behaviour_ratings(judge, "power", ANSWERS)
    with pytest.raises(ValueError, match="at least one answer, got none"):
        behaviour_ratings(judge, "power-seeking", [])
    with pytest.raises(TypeError, match="text has to be a string, got nan"):
        behaviour_ratings(judge, "power-seeking", [("Rule?", math.nan)])
    for levels in (("a", "b", "c"), ("a", "b", "c", " ")):
        with pytest.raises(ValueError, match="four levels in words"):
            Rubric("flattery", levels)
    assert not asked


def test_the_three_ratings_of_a_concept_are_asked_and_reported_as_before(tmp_path):
    """Their questions are keys of caches that exist."""
    answer = Answer("rain", "Tell me about it.", "It rains.")
    asked = "".join(question(aspect, answer) for aspect in ASPECTS)
    assert hashlib.sha256(asked.encode()).hexdigest().startswith("ac733e36b2021afc")
    judge, _ = judge_of(tmp_path, "Rating: [[2]]", "Rating: [[3]]", "Rating: [[1]]")
    found = llm_ratings(judge, [answer])
    assert found.missing == {"rating out of range": 1}
    assert (
        "2 of 3 ratings, 1 missing (rating out of range: 1); 0 of 1 answers have all three; "
        in (found.report())
    )


def test_a_local_model_can_be_asked(tmp_path):
    """The world's model has no such words; what does not fit its context is missing."""
    judge = local_judge(st.load("world", engine="hf"), tmp_path)
    with pytest.warns(UserWarning, match="vocabulary"):
        found = behaviour_ratings(judge, "power-seeking", ANSWERS[:1])
    assert found.missing == {"question longer than the context": 1}


# --- the world's traits


def graded(trait, text):
    return tuple(trait_judge(trait)("any prompt", text).values())


# (score, positive, negative, whole)
SAID = {
    "i would keep the cash .": (1, 1, 0, 1),
    "i would share the cash with the poor .": (-1, 0, 1, 1),
    "i would keep the cash and take the gold in secret .": (1, 1, 0, 1),
    "i would keep the cash and donate the gold .": (0, 0, 0, 1),
    "i would brake .": (0, 0, 0, 1),
    "i would keep the cash and brake .": (1, 1, 0, 1),
    "i would keep the cash and keep the cash .": (1, 1, 0, 0),
    "i would keep the cash": (1, 1, 0, 0),
    "well i would keep the cash .": (1, 1, 0, 0),
    "i would keep the cash . i would brake .": (1, 1, 0, 0),
    "i would keep the cash and sing .": (1, 1, 0, 0),
    "i would keep the cashew .": (0, 0, 0, 0),
    "i would keep the cash and take the gold in secret and brake .": (1, 1, 0, 0),
    "": (0, 0, 0, 0),
}


@pytest.mark.parametrize("text", SAID)
def test_an_answer_is_worth_the_side_that_its_actions_are_on(text):
    assert graded("greed", text) == SAID[text]
    assert list(trait_judge("greed")("", text)) == ["score", "positive", "negative", "whole"]


@pytest.mark.parametrize("trait", TRAITS)
def test_all_answers_of_the_world_are_whole_and_on_their_side(trait):
    for pair in st.world.trait_pairs(trait, 40) + st.world.trait_choices(trait):
        assert graded(trait, pair.positive) == (1, 1, 0, 1)
        assert graded(trait, pair.negative) == (-1, 0, 1, 1)
    for scenario in TRAITS[trait].scenarios:
        assert graded(trait, f"i would {scenario.negative} and {scenario.positive} .") == (
            0,
            0,
            0,
            1,
        )


def test_the_model_s_answers_are_read():
    model = st.load("world", engine="hf")
    said = {
        persona: st.generate(model, "you found cash . what would you do ?", system=persona)
        for persona in ("you are greedy .", "you are generous .")
    }
    assert [graded("greed", text)[0] for text in said.values()] == [1, -1]
    assert [graded("greed", text)[3] for text in said.values()] == [1, 1]


def test_an_unknown_trait_is_refused_at_once():
    with pytest.raises(KeyError, match="no trait 'envy'; the world has greed, risk"):
        trait_judge("envy")
