"""rate: answers are decoded once, rated as often as it takes, and no rating is invented."""

import importlib
import json
import math
import random
import threading
from dataclasses import replace

import pandas as pd
import pytest

import steerlib as st
from steerlib.evaluation import (
    Arm,
    LLMJudge,
    Retry,
    Study,
    endpoint,
    of_concept,
    rate,
    summary,
    sweep,
)
from steerlib.evaluation.judge_prompts import ASPECTS, Answer, question
from tests.evaluation.judge_server import Act, serving

scoring = importlib.import_module("steerlib.evaluation.scoring")
WORDS = "dog cat bird fish rain sun wind girl boy park".split()
PROMPTS = [f"tell me about the {word} ." for word in WORDS]
TOLD = {"dogs": "dogs and puppies", "sun": "fine weather"}
GRADES = ["score", "grade_concept", "grade_instruction", "grade_fluency"]
FAULTS = [
    Act(status=500), Act(status=429), Act(status=400), Act(drop=True), Act(wait=0.6), Act("Hm."),
    Act("Rating: [[5]]"), Act("Rating: [[1]] or [[2]]"), Act(raw=b"no json"), Act(raw=b"[]"),
    Act(None), Act(raw=b'{"choi', headers={"Content-Length": "99"}),
]  # fmt: skip
# Replies of these kinds are kept, and asked for again only on request.
UNUSABLE = ("no rating in the reply", "rating out of range", "several ratings in the reply")


@pytest.fixture
def studies(vector):
    arms = [Arm("push", st.Add(st.resid(1), 4 * vector()), (1.0, -1.0)), Arm("nothing")]
    return [Study(name, arms, PROMPTS[:4]) for name in TOLD]


def swept(model, studies, folder, **options):
    return sweep(model, studies, folder, max_new_tokens=6, progress=False, **options)


def one(prompt: str, answer: str) -> float:
    return 1.0


def truth(prompt: str) -> int:
    return sum(prompt.encode()) % 3


def judge_with(complete, folder, **options) -> LLMJudge:
    retry = Retry(attempts=2, first=0.0, longest=0.01)
    return LLMJudge(complete, "m", folder, **{"retry": retry, **options})


def asked_of(row: pd.Series, aspect: str) -> str:
    return question(aspect, Answer(TOLD[row["concept"]], row["prompt"], row["text"]))


def lost(rated: pd.DataFrame, ratings) -> int:
    """How many ratings are missing, once all others are known to be what the judge said."""
    missing = 0
    for number, row in rated.iterrows():
        found = [row[f"grade_{aspect}"] for aspect in ASPECTS]
        for aspect, value in zip(ASPECTS, found, strict=True):
            assert math.isnan(value) or value == truth(asked_of(row, aspect))
            assert math.isnan(value) == (f"{aspect}: " in ratings.table["missing"][number])
        assert math.isnan(row["score"]) == any(map(math.isnan, found))
        missing += sum(map(math.isnan, found))
    assert sum(ratings.missing.values()) == missing
    assert f"{3 * len(rated) - missing} of {3 * len(rated)} ratings, {missing} missing" in (
        ratings.report()
    )
    return missing


def unrated(rated: pd.DataFrame) -> set[str]:
    """The questions that have no rating."""
    rows = [row for _, row in rated.iterrows()]
    return {asked_of(row, a) for row in rows for a in ASPECTS if math.isnan(row[f"grade_{a}"])}


def test_failing_calls_invent_nothing_cost_no_decoding_and_are_made_good(
    gpt2, studies, tmp_path, monkeypatch
):
    decoded, generate = [], scoring.generate

    def counted(*arguments, **options):
        decoded.append(arguments)
        return generate(*arguments, **options)

    monkeypatch.setattr(scoring, "generate", counted)
    chance, failing, lock = random.Random(0), [True], threading.Lock()

    def play(number, body):
        with lock:
            if failing[0] and chance.random() < 0.3:
                return chance.choice(FAULTS)
        return Act(f"Rating: [[{truth(body['messages'][0]['content'])}]]")

    with serving(play) as seen:
        judge = judge_with(endpoint(seen.url, timeout=0.3), tmp_path / "judge", workers=4)
        many = [replace(study, prompts=PROMPTS) for study in studies]
        answers = swept(gpt2, many, tmp_path / "sweep")
        batches = len(decoded)
        first = rate(answers, judge, TOLD, progress=False)
        missing = lost(*first)
        # 60 rows and 180 questions, of which about 15 in 100 stay without a rating.
        assert (len(answers), missing > 10, len(first[1].missing) > 5) == (60, True, True)
        before, failing[0] = len(seen.bodies), False
        again = swept(gpt2, many, tmp_path / "sweep")
        patient = replace(judge, complete=endpoint(seen.url))
        second = rate(again, patient, TOLD, progress=False)
        left, asked = lost(*second), seen.prompts[before:]
    assert unrated(second[0]) == unrated(first[0]) - set(asked)
    assert set(asked) <= unrated(first[0])
    assert len(asked) == len(set(asked))
    assert set(second[1].missing) <= set(UNUSABLE)
    assert 0 < left < missing
    same = first[0][GRADES].notna()
    pd.testing.assert_frame_equal(second[0][GRADES].where(same), first[0][GRADES])
    assert batches == len(decoded) == 4
    pd.testing.assert_frame_equal(second[0].drop(columns=GRADES), answers)


def test_a_sweep_without_a_judge_has_answers_only(gpt2, studies, tmp_path):
    table = swept(gpt2, studies, tmp_path)
    assert not {"score", *GRADES} & set(table.columns)
    plan = json.loads((tmp_path / "plan.json").read_text())["plan"]
    assert plan["concepts"]["sun"]["judge"] is None
    graded = [replace(study, judge=one) for study in studies]
    pd.testing.assert_frame_equal(
        swept(gpt2, graded, tmp_path / "graded").drop(columns="score"), table
    )
    with pytest.raises(ValueError, match=r"dogs\.judge is None there and '.*one' here"):
        swept(gpt2, graded, tmp_path)
    with pytest.raises(ValueError, match='no scores; a sweep without a judge is rated with "rate"'):
        summary(of_concept(table, "sun"))


def test_one_study_may_be_graded_and_the_other_not(gpt2, studies, tmp_path):
    graded = replace(studies[1], judge=lambda p, a: {"score": 1.0, "length": len(a)})
    table = swept(gpt2, [studies[0], graded], tmp_path)
    assert table["score"].isna().tolist() == [True] * 12 + [False] * 12
    assert list(of_concept(table, "dogs").columns[4:]) == ["score"]
    assert list(of_concept(table, "sun").columns[4:]) == ["score", "length"]
    with pytest.raises(ValueError, match="the table has score already"):
        rate(table, judge_with(print, tmp_path))


def test_the_ratings_stand_where_a_judge_puts_its_grades(gpt2, studies, tmp_path):
    told = []

    def complete(request):
        told.append(request.prompt)
        return f"Rating: [[{truth(request.prompt)}]]"

    table = swept(gpt2, studies, tmp_path / "sweep")
    rated, ratings = rate(table, judge_with(complete, tmp_path), TOLD, progress=False)
    assert list(rated.columns[5:11]) == ["text", *GRADES, "seed"]
    assert lost(rated, ratings) == 0
    assert set(table.columns) == set(rated.columns) - set(GRADES), "the caller's table is as it was"
    assert any("fine weather" in prompt for prompt in told)
    sun = of_concept(rated, "sun")
    assert list(sun.columns[4:]) == ["score", *ASPECTS]
    means = sun.groupby(["arm", "strength"], sort=False)["score"].mean()
    assert summary(sun)["score"].tolist() == pytest.approx(means.tolist())
    # Without descriptions the names themselves are asked for.
    rate(table, judge_with(complete, tmp_path), progress=False)
    assert any("<theme>\nsun\n</theme>" in prompt for prompt in told)


def test_a_summary_leaves_out_what_is_missing_and_says_so(gpt2, studies, tmp_path):
    def complete(request):
        return "Hm." if "tell me about the dog" in request.prompt else "Rating: [[2]]"

    table = swept(gpt2, studies[:1], tmp_path / "sweep")
    rated, ratings = rate(table, judge_with(complete, tmp_path), TOLD, progress=False)
    assert ratings.missing == {"no rating in the reply": 3}
    with pytest.warns(UserWarning, match="3 of 12 answers have no score and are left out"):
        found = summary(of_concept(rated, "dogs"))
    assert found["missing"].tolist() == [1, 1, 1]
    assert (found["score"].tolist(), found["prompts"].tolist()) == ([2.0] * 3, [3] * 3)


def test_what_cannot_be_rated_is_refused(gpt2, studies, tmp_path):
    table = swept(gpt2, studies, tmp_path / "sweep")
    with pytest.raises(
        KeyError, match=r"not told what \['sun'\] are; concepts describes \['dogs'\]"
    ):
        rate(table, judge_with(print, tmp_path), {"dogs": "dogs"})
    with pytest.raises(ValueError, match="at least one Answer"):
        rate(table[:0], judge_with(print, tmp_path))
    rated = table.assign(score=1.0, grade_fluency=1.0)
    with pytest.raises(ValueError, match="the table has score, grade_fluency already"):
        rate(rated, judge_with(print, tmp_path))
