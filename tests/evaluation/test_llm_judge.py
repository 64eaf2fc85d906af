"""The judge over HTTP: ratings, what is missing, retries, the cache, the budget, a kill."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from steerlib.evaluation.judge_cache import Cache, Record, Request
from steerlib.evaluation.judge_calls import CallFailed, Prices, Reply, Retry
from steerlib.evaluation.judge_endpoint import endpoint, from_client
from steerlib.evaluation.judge_prompts import ASPECTS, Answer, parse_rating, question
from steerlib.evaluation.judge_report import harmonic
from steerlib.evaluation.llm_judge import LLMJudge, judge_cost, llm_ratings
from tests.evaluation.judge_server import USAGE, Act, serving
from tests.loading import ROOT

KEY = "sk-quite-secret-123"
PRICES = Prices(prompt=1.0, completion=2.0)
CALL = PRICES.of(USAGE["prompt_tokens"], USAGE["completion_tokens"])
QUICK = Retry(attempts=3, first=0.01, longest=0.05)
ANSWERS = [Answer("rain", f"Tell me about dog {n}.", f"Dog {n} is wet.") for n in range(4)]


# What a client may find in the environment; nobody listens on port 9.
ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-environment",
    "OPENAI_ADMIN_KEY": "sk-environment",
    "OPENAI_ORG_ID": "org-environment",
    "OPENAI_PROJECT_ID": "proj-environment",
    "OPENAI_CUSTOM_HEADERS": "X-Mine: header-environment",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    "http_proxy": "http://127.0.0.1:9",
    "all_proxy": "http://127.0.0.1:9",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Every test of this file runs with it."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def judge_at(url: str, folder: Path, timeout: float = 5.0, **options: object) -> LLMJudge:
    complete = endpoint(url, api_key=KEY, timeout=timeout)
    return LLMJudge(complete, "m", folder, **{"retry": QUICK, **options})


def own_client(url: str, **options: object) -> openai.OpenAI:
    web = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=url, api_key=KEY, http_client=web, **options)


def aspect_of(prompt: str) -> str:
    return next(a for a in ASPECTS if prompt.startswith(_OPENING[a]))


_OPENING = {a: question(a, ANSWERS[0]).partition("\n")[0] for a in ASPECTS}


def numbers_on(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()]


# The questions and the reading of a reply


def test_each_question_shows_what_its_rating_needs_and_nothing_else():
    answer = Answer("CONCEPT {x}", "PROMPT {text}", "TEXT {prompt}")
    shown = {a: {p for p in ("CONCEPT {x}", "PROMPT {text}", "TEXT {prompt}")
                 if p in question(a, answer)} for a in ASPECTS}  # fmt: skip
    assert shown == {
        "concept": {"CONCEPT {x}", "TEXT {prompt}"},
        "instruction": {"PROMPT {text}", "TEXT {prompt}"},
        "fluency": {"TEXT {prompt}"},
    }
    with pytest.raises(KeyError, match="no aspect 'style'; a judge rates concept"):
        question("style", answer)


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Good. Rating: [[2]]", 2),
        ("Rating: [[0]]", 0),
        ("rating: 1", 1),
        ("**Rating**: **[[1]]**", 1),
        ("**Rating:** [1].", 1),
        ('Rating: "2".', 2),
        ("Rating: [[2.0]] because it reads well", 2),
        ("Rating: [[0]] was my first thought.\nRating: [[2]]", 2),
        ("Rating:\n[[1]]", 1),
        ("", "no rating in the reply"),
        ("[[2]]", "no rating in the reply"),
        ("Rating: [[", "no rating in the reply"),
        ("Rating: [[N]]", "no rating in the reply"),
        ("Rating: [[]]", "no rating in the reply"),
        ("Rating: two", "no rating in the reply"),
        ("Rating: 1 or 2", "no rating in the reply"),
        ("Rating: 2/2", "no rating in the reply"),
        ("Rating: [[²]]", "no rating in the reply"),
        ("Rating: [[2]] Rating:", "no rating in the reply"),
        ("Rating: [[1]] or [[2]]", "several ratings in the reply"),
        ("Rating: [[3]]", "rating out of range"),
        ("Rating: [[-1]]", "rating out of range"),
        ("Rating: [[1.5]]", "rating out of range"),
        ("Rating: 10", "rating out of range"),
        ("Rating: [[" + "9" * 400 + "]]", "rating out of range"),
    ],
)
def test_the_last_marker_counts_and_a_bad_rating_is_no_number(reply, rating):
    assert parse_rating(reply) == rating
    assert type(parse_rating(reply)) is type(rating)


def test_the_harmonic_mean_is_of_complete_ratings_only():
    means = [harmonic(r) for r in ([2, 2, 2], [1, 2, 2], [1, 1, 2], [1, 1, 1], [2, 0, 2])]
    assert means == pytest.approx([2, 1.5, 1.2, 1, 0])
    assert math.isnan(harmonic([2, 2, math.nan]))
    assert math.isnan(harmonic([0, 2, math.nan]))


# Well


def test_three_independent_calls_rate_each_answer(tmp_path):
    marks = {"concept": 1, "instruction": 2, "fluency": 2}

    def play(number, body):
        return Act(f"So. Rating: [[{marks[aspect_of(body['messages'][0]['content'])]}]]")

    with serving(play) as seen:
        found = llm_ratings(judge_at(seen.url, tmp_path, prices=PRICES), ANSWERS)
    assert found.table[list(ASPECTS)].to_dict("records") == [marks] * 4
    assert found.table["score"].tolist() == pytest.approx([1.5] * 4)
    assert found.mean == pytest.approx(1.5)
    assert (found.missing, found.calls, found.cached) == ({}, 12, 0)
    assert found.spent == pytest.approx(12 * CALL)
    assert found.report().startswith("12 of 12 ratings, 0 missing; 4 of 4 answers have all three")
    assert set(seen.keys) == {f"Bearer {KEY}"}
    assert [set(body) for body in seen.bodies] == [
        {"model", "messages", "temperature", "max_tokens"}
    ] * 12
    assert all(len(body["messages"]) == 1 for body in seen.bodies)


def test_a_second_run_and_a_repeated_answer_cost_nothing(tmp_path):
    with serving(lambda number, body: Act()) as seen:
        judge = judge_at(seen.url, tmp_path, prices=PRICES)
        first = llm_ratings(judge, [*ANSWERS, ANSWERS[0]])
        second = llm_ratings(judge, [*ANSWERS, ANSWERS[0]])
        assert len(seen.bodies) == 12
        # Another model, or other settings, is another question.
        llm_ratings(replace(judge, model="other"), ANSWERS[:1])
        llm_ratings(replace(judge, temperature=1.0), ANSWERS[:1])
    assert len(seen.bodies) == 18
    assert first.table.equals(second.table)
    assert (second.calls, second.cached, second.spent) == (0, 12, pytest.approx(first.spent))


def test_parallel_calls_give_the_same_table(tmp_path):
    together = threading.Barrier(4, timeout=5)

    def play(number, body):
        together.wait()
        return Act()

    with serving(play) as seen:
        found = llm_ratings(judge_at(seen.url, tmp_path, workers=4), ANSWERS)
    assert (found.mean, found.missing, len(seen.bodies)) == (2.0, {}, 12)


# Badly


@pytest.mark.parametrize(
    ("act", "reason", "calls"),
    [
        (Act("I would rather not say."), "no rating in the reply", 1),
        (Act("Rating: [[7]]"), "rating out of range", 1),
        (Act(None), "reply has no text", 1),
        (Act(raw=b"<html>busy</html>"), "reply is not JSON", 1),
        (Act(raw=b"\xff\xfe"), "reply is not JSON", 1),
        (Act(raw=b"[" * 100_000), "reply is not JSON", 1),
        (Act(raw=b"{}"), "reply has another shape", 1),
        (Act(raw=b"[1]"), "reply has another shape", 1),
        (Act(raw=b'{"choices": []}'), "reply has another shape", 1),
        (Act(raw=b'{"choices": [{"text": "Rating: [[2]]"}]}'), "reply has another shape", 1),
        (Act(raw=b"x" * 4_100_000), "reply too large", 1),
        (Act(raw=b'{"choi', headers={"Content-Length": "99"}), "connection failed", 3),
        (Act(status=500), "HTTP 500", 3),
        (Act(status=429), "HTTP 429", 3),
        (Act(status=400), "HTTP 400", 1),
        (Act(drop=True), "connection failed", 3),
        (Act(wait=0.3), "timeout", 3),
        (Act(drip=True), "timeout", 3),
    ],
)
def test_a_bad_answer_is_a_missing_rating_with_its_reason(tmp_path, act, reason, calls):
    def play(number, body):
        return act if aspect_of(body["messages"][0]["content"]) == "concept" else Act()

    with serving(play) as seen:
        limits = {"timeout": 0.15 if reason == "timeout" else 5.0}
        judge = judge_at(seen.url, tmp_path, **limits, retry=replace(QUICK, longest=0.01))
        found = llm_ratings(judge, ANSWERS[:1])
    row = found.table.iloc[0]
    assert math.isnan(row["concept"])
    assert math.isnan(row["score"])
    assert math.isnan(found.mean)
    assert (row["instruction"], row["fluency"]) == (2, 2)
    assert found.missing == {reason: 1}
    assert row["missing"] == f"concept: {reason}"
    assert f"2 of 3 ratings, 1 missing ({reason}: 1); 0 of 1 answers" in found.report()
    assert len(seen.bodies) == found.calls == calls + 2


def test_the_body_of_an_error_is_not_waited_for():
    act = Act(status=400, raw=b"x" * 500, drip=True)  # ten seconds
    with serving(lambda number, body: act) as seen:
        start = time.monotonic()
        with pytest.raises(CallFailed, match="HTTP 400"):
            endpoint(seen.url)(Request("m", "p", 0.0, 5))
        assert time.monotonic() - start < 5


def test_what_passes_is_tried_again(tmp_path):
    acts = [Act(status=500), Act(drop=True), Act()]
    with serving(lambda number, body: acts[number % 3]) as seen:
        found = llm_ratings(judge_at(seen.url, tmp_path), ANSWERS)
    assert (found.missing, found.mean, len(seen.bodies)) == ({}, 2.0, 36)


@pytest.mark.parametrize(("asked", "low", "high"), [("0.2", 0.2, 0.4), ("999", 0.4, 0.7)])
def test_the_wait_that_the_server_asks_for_is_kept_up_to_the_longest(tmp_path, asked, low, high):
    acts = [Act(status=429, headers={"Retry-After": asked}), Act(), Act(), Act()]
    with serving(lambda number, body: acts[number]) as seen:
        judge = judge_at(seen.url, tmp_path, retry=Retry(2, first=0.0, longest=0.4))
        assert not llm_ratings(judge, ANSWERS[:1]).missing
    assert low <= seen.times[1] - seen.times[0] < high


def test_the_wait_doubles_and_ignores_nonsense():
    waits = [Retry(9, 1.0, 10.0).wait(attempt, None) for attempt in range(6)]
    for wait, whole in zip(waits, [1, 2, 4, 8, 10, 10], strict=True):
        assert whole / 2 <= wait <= whole
    assert Retry().wait(0, -5.0) == 0
    assert Retry().wait(0, math.nan) <= 1


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("status", [401, 403, 404, 302, 307])
def test_an_endpoint_that_refuses_everything_ends_the_run(tmp_path, status, workers):
    headers = {"Location": "http://127.0.0.1:9/stolen"}

    def play(number, body):
        return Act() if number < 3 else Act(status=status, headers=headers)

    with serving(play) as seen:
        judge = judge_at(seen.url, tmp_path, workers=workers, prices=PRICES)
        with pytest.raises(CallFailed, match=f"HTTP {status}: .*(key|base_url)"):
            llm_ratings(judge, ANSWERS)
        assert len(seen.bodies) <= 3 + workers
    # What was rated is kept, and the refused call is free.
    assert judge_cost(judge, ANSWERS).cached == 3
    assert judge_cost(judge, ANSWERS).spent == pytest.approx(3 * CALL)


def test_an_unusable_reply_is_asked_again_only_on_request(tmp_path):
    say = ["Rating: [[9]]"]
    with serving(lambda number, body: Act(say[0])) as seen:
        judge = judge_at(seen.url, tmp_path, prices=PRICES)
        assert llm_ratings(judge, ANSWERS[:1]).missing == {"rating out of range": 3}
        say[0] = "Rating: [[1]]"
        assert llm_ratings(judge, ANSWERS[:1]).missing == {"rating out of range": 3}
        assert len(seen.bodies) == 3
        found = llm_ratings(judge, ANSWERS[:1], ask_again=True)
        llm_ratings(judge, ANSWERS[:1], ask_again=True)
    assert (found.missing, found.mean, len(seen.bodies)) == ({}, pytest.approx(1), 6)
    assert found.spent == pytest.approx(6 * CALL)


def test_a_third_of_failures_invents_nothing_and_the_run_resumes(tmp_path):
    faults = [
        Act(status=500), Act(status=429), Act(drop=True), Act(wait=1.5), Act("Hm."),
        Act("Rating: [[5]]"), Act(raw=b"no json"), Act(raw=b"[]"),
    ]  # fmt: skip
    chance, failing, lock = random.Random(0), [True], threading.Lock()
    answers = [Answer("rain", f"Tell me about {n}.", f"{n} is wet.") for n in range(40)]

    def truth(prompt: str) -> int:
        return sum(prompt.encode()) % 3

    def play(number, body):
        with lock:
            if failing[0] and chance.random() < 0.3:
                return chance.choice(faults)
        return Act(f"Rating: [[{truth(body['messages'][0]['content'])}]]")

    def check(found):
        lost = 0
        for answer, (_, row) in zip(answers, found.table.iterrows(), strict=True):
            for aspect in ASPECTS:
                lost += math.isnan(row[aspect])
                assert math.isnan(row[aspect]) or row[aspect] == truth(question(aspect, answer))
            complete = not any(math.isnan(row[a]) for a in ASPECTS)
            assert math.isnan(row["score"]) != complete
        assert sum(found.missing.values()) == lost
        assert f"{120 - lost} of 120 ratings, {lost} missing" in found.report()
        return lost

    with serving(play) as seen:
        retry = Retry(2, first=0.0, longest=0.01)
        judge = judge_at(seen.url, tmp_path, timeout=0.5, retry=retry, workers=4)
        first = llm_ratings(judge, answers)
        lost = check(first)
        assert 10 < lost < 60
        assert len(first.missing) >= 4
        before, failing[0] = len(seen.bodies), False
        second = llm_ratings(judge, answers)
        unusable = first.missing["no rating in the reply"] + first.missing["rating out of range"]
        assert check(second) == unusable
        assert len(seen.bodies) - before == lost - unusable
        assert check(llm_ratings(judge, answers, ask_again=True)) == 0
        assert len(seen.bodies) - before == lost


# The budget


def spent_really(seen, acts) -> float:
    """What the server would bill: its usage for each answer of its own."""
    return CALL * sum(acts[n % len(acts)].status == 200 for n in range(len(seen.bodies)))


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("tenths", range(0, 40, 7))
def test_the_budget_is_never_passed_and_what_was_done_is_kept(tmp_path, workers, tenths):
    acts = [Act(), Act(status=500), Act(), Act(wait=0.02), Act("Rating: [[8]]")]
    budget = tenths / 10 * CALL * 3
    with serving(lambda number, body: acts[number % 5]) as seen:
        judge = judge_at(seen.url, tmp_path, prices=PRICES, budget=budget, workers=workers)
        found = llm_ratings(judge, ANSWERS)
        assert spent_really(seen, acts) <= found.spent + 1e-12
        assert found.spent <= budget
        assert found.spent == pytest.approx(judge_cost(judge, ANSWERS).spent)
        left = found.missing.get("over the budget", 0)
        assert left == sum("over the budget" in m for r in found.table["missing"]
                           for m in r.split(";"))  # fmt: skip
        done, kept = len(seen.bodies), found.table
        again = llm_ratings(judge, ANSWERS)
        # The same budget is for both runs together.
        assert again.spent <= budget
        more = llm_ratings(replace(judge, budget=1.0), ANSWERS)
    same = kept[list(ASPECTS)].notna()
    assert (
        (more.table[list(ASPECTS)].where(same) == kept[list(ASPECTS)]).where(same, True).all().all()
    )
    assert "over the budget" not in more.missing
    assert done <= len(seen.bodies)


def test_a_budget_below_one_call_makes_no_call(tmp_path):
    with serving(lambda number, body: Act()) as seen:
        judge = judge_at(seen.url, tmp_path, prices=PRICES, budget=1e-6)
        found = llm_ratings(judge, ANSWERS)
    assert (len(seen.bodies), found.calls, found.spent) == (0, 0, 0)
    assert found.missing == {"over the budget": 12}


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": -1, "completion_tokens": -9}, {"prompt_tokens": "1"}, [3]],
)
def test_a_call_whose_tokens_are_not_told_costs_the_most_that_it_can(tmp_path, usage):
    with serving(lambda number, body: Act(usage=usage)) as seen:
        judge = judge_at(seen.url, tmp_path, prices=PRICES)
        before = judge_cost(judge, ANSWERS)
        found = llm_ratings(judge, ANSWERS)
    assert found.spent == pytest.approx(before.at_most)


def test_a_call_that_broke_off_counts_and_one_that_was_refused_does_not(tmp_path):
    for number, (act, billed) in enumerate(
        [(Act(drop=True), 1), (Act(wait=0.3), 1), (Act(status=500), 1), (Act(status=429), 0)]
    ):
        with serving(lambda _, body, act=act: act) as seen:
            folder = tmp_path / str(number)
            judge = judge_at(seen.url, folder, 0.1, prices=PRICES, retry=Retry(1))
            most = judge_cost(judge, ANSWERS[:1]).at_most
            assert llm_ratings(judge, ANSWERS[:1]).spent == pytest.approx(billed * most)


def test_the_estimate_comes_before_the_first_call(tmp_path, caplog):
    caplog.set_level("INFO")
    with serving(lambda number, body: Act()) as seen:
        judge = judge_at(seen.url, tmp_path, prices=PRICES)
        first = judge_cost(judge, ANSWERS)
        assert (first.calls, first.cached, first.spent) == (12, 0, 0)
        sizes = [len(judge.request(a, b).prompt) for b in ANSWERS for a in ASPECTS]
        assert first.at_most == pytest.approx(PRICES.of(sum(sizes) + 1200, 12 * 200))
        assert 0 < first.about < first.at_most
        assert not seen.bodies
        llm_ratings(judge, ANSWERS[:1])
        rest = judge_cost(judge, ANSWERS)
    assert (rest.calls, rest.cached, rest.spent) == (9, 3, pytest.approx(3 * CALL))
    assert "3 calls, 0 cached; about $0.0" in caplog.text


# Kills


PROGRAM = """
import sys
from steerlib.evaluation.judge_calls import Prices, Retry
from steerlib.evaluation.judge_endpoint import endpoint
from steerlib.evaluation.judge_prompts import Answer
from steerlib.evaluation.llm_judge import LLMJudge, llm_ratings
url, folder = sys.argv[1:]
answers = [Answer("rain", f"Tell me about dog {n}.", f"Dog {n} is wet.") for n in range(4)]
judge = LLMJudge(endpoint(url, timeout=60), "m", folder, prices=Prices(1.0, 2.0), workers=2)
llm_ratings(judge, answers, progress=False)
"""


def test_after_a_kill_no_stored_rating_is_asked_for_again(tmp_path):
    killed = threading.Event()

    def play(number, body):
        if number >= 6:
            killed.wait(60)
        return Act(f"Rating: [[{sum(body['messages'][0]['content'].encode()) % 3}]]")

    with serving(play) as seen:
        command = [sys.executable, "-c", PROGRAM, seen.url, str(tmp_path)]
        child = subprocess.Popen(command, cwd=ROOT)
        end = time.monotonic() + 60
        # Six replies are stored and both threads wait for one more.
        while len(seen.bodies) < 8 or judge_done(tmp_path) < 6:
            assert time.monotonic() < end
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait(20) == -signal.SIGKILL
        killed.set()
        started = len(seen.bodies)
        stored = judge_done(tmp_path)
        assert stored == 6
        judge = judge_at(seen.url, tmp_path, prices=PRICES)
        found = llm_ratings(judge, ANSWERS)
    assert (found.calls, found.cached, found.missing) == (6, 6, {})
    assert not set(seen.prompts[started:]) & set(seen.prompts[:6])
    # The calls that were under way may have been billed: they count as if they had been.
    lost = [judge_most(judge, p) for p in seen.prompts[6:started]]
    assert found.spent == pytest.approx(12 * CALL + sum(lost))
    assert len(lost) == 2


def judge_done(folder: Path) -> int:
    return sum(json.loads(p.read_text())["reply"] is not None for p in folder.rglob("*.json"))


def judge_most(judge: LLMJudge, prompt: str) -> float:
    return judge.prices.most(Request("m", prompt, judge.temperature, judge.max_tokens))


def test_an_unreadable_record_is_no_rating(tmp_path):
    cache = Cache(tmp_path)
    cache.put("ab", Record(0.5, "Rating: [[1]]"))
    path = next(tmp_path.rglob("*.json"))
    halves = ['{"spent": NaN, "reply": "Rating: [[1]]"}', '{"spent": -1, "reply": "x"}']
    for text in ["", "{", "[]", '{"spent": 1}', '{"spent": 1, "reply": 2}', *halves]:
        path.write_text(text)
        assert cache.get("ab") == Record()


def test_a_write_that_fails_leaves_the_record_before(tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    cache.put("ab", Record(0.5, "Rating: [[1]]"))

    def broken(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        cache.put("ab", Record(1.0, "other"))
    assert cache.get("ab") == Record(0.5, "Rating: [[1]]")
    assert len(numbers_on(tmp_path)) == 1


# Secrets, addresses, clients


def test_a_server_without_keys_needs_none(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    with serving(lambda number, body: Act()) as seen:
        endpoint(seen.url)(Request("m", "p", 0.0, 5))
    assert seen.keys == [None]


@pytest.mark.parametrize("own", [False, True])
def test_the_key_is_in_no_file_and_no_error(tmp_path, caplog, own):
    caplog.set_level("DEBUG")
    told = json.dumps({"error": {"message": f"{KEY} is no key"}}).encode()
    acts = [Act(f"You sent Bearer {KEY}. Rating: [[2]]"), Act(status=400, raw=KEY.encode()),
            Act(raw=KEY.encode()), Act(status=401, raw=told)]  # fmt: skip
    with serving(lambda number, body: acts[min(number, 3)]) as seen:
        judge = judge_at(seen.url, tmp_path)
        judge = replace(judge, complete=from_client(own_client(seen.url))) if own else judge
        with pytest.raises(CallFailed) as caught:
            llm_ratings(judge, ANSWERS)
        assert len(seen.bodies) == 4
    assert numbers_on(tmp_path)
    shown = [*numbers_on(tmp_path), repr(judge), repr(caught.value), caplog.text]
    shown += [repr(caught.value.__cause__), repr(caught.value.__context__)]
    assert not any(KEY in text for text in shown)


def test_a_key_that_no_header_may_carry_is_not_shown():
    for bad in (f"{KEY}\n{KEY}", f"{KEY} {KEY}", f"{KEY}é"):
        with pytest.raises(ValueError, match="API key") as refused:
            endpoint("http://localhost/v1", api_key=bad)
        assert KEY not in str(refused.value)


def test_the_key_of_a_local_server_may_be_a_word_of_a_reply():
    with serving(lambda number, body: Act("The plate is EMPTY.")) as seen:
        said = endpoint(seen.url, api_key="EMPTY")(Request("m", "p", 0.0, 5))
    assert (said, seen.keys) == (Reply("The plate is EMPTY.", 300, 40), ["Bearer EMPTY"])


@pytest.mark.parametrize("key", [None, KEY])
def test_nothing_of_the_environment_is_sent(key):
    with serving(lambda number, body: Act()) as seen:
        endpoint(seen.url, api_key=key)(Request("m", "p", 0.0, 5))
    sent = "content-type content-length host accept connection x-stainless-raw-response".split()
    assert set(seen.headers[0]) <= {*sent, "authorization"}
    assert seen.keys == [key and f"Bearer {key}"]
    assert not any("environment" in value for value in seen.headers[0].values())


def test_the_key_comes_from_a_named_variable_only(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "mine\n")
    monkeypatch.delenv("NO_KEY", raising=False)
    request = Request("m", "p", 0.0, 5)
    with serving(lambda number, body: Act()) as seen:
        endpoint(seen.url)(request)
        endpoint(seen.url, key_variable="MY_KEY", limit_name="max_completion_tokens")(request)
    assert seen.keys == [None, "Bearer mine"]
    assert seen.bodies[1]["max_completion_tokens"] == 5
    with pytest.raises(KeyError, match="NO_KEY"):
        endpoint(seen.url, key_variable="NO_KEY")


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/x", "https://me:pw@host/v1", ""])
def test_an_address_is_http_and_holds_no_password(url):
    with pytest.raises(ValueError, match="base_url looks like") as refused:
        endpoint(url)
    assert "pw" not in str(refused.value)


def test_no_server_at_all_is_a_failure_that_costs_nothing(tmp_path):
    with serving(lambda number, body: Act()) as seen:
        pass
    judge = judge_at(seen.url, tmp_path, prices=PRICES)
    found = llm_ratings(judge, ANSWERS[:1])
    assert (found.missing, found.spent) == ({"connection failed": 3}, 0)


def test_a_client_of_your_own_can_take_the_place_of_the_address(tmp_path):
    acts = [
        Act(status=429, headers={"Retry-After": "0"}), Act(drop=True), Act("Rating: [[2]]"),
        Act(wait=0.3), Act("Rating: [[1]]"), Act("Rating: [[1]]"),
    ]  # fmt: skip
    with serving(lambda number, body: acts[number]) as seen:
        client = own_client(seen.url, max_retries=2)
        judge = LLMJudge(from_client(client, timeout=0.15), "m", tmp_path, retry=QUICK)
        found = llm_ratings(judge, ANSWERS[:1])
        # Each attempt is the judge's own, none the client's.
        assert found.calls == len(seen.bodies) == 6
    assert found.table[list(ASPECTS)].to_numpy().tolist() == [[2, 1, 1]]
    assert set(seen.bodies[0]) == {"model", "messages", "temperature", "max_tokens"}
    assert client.max_retries == 2


def test_a_fault_that_is_no_failed_call_is_not_swallowed():
    unsendable = Request("m", object(), 0.0, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="serializ"):
        from_client(own_client("http://127.0.0.1:9/v1"))(unsendable)


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r'pip install "steerlib\[judge\]"'):
        endpoint("http://localhost/v1")


def test_any_function_is_a_judge_and_what_it_returns_is_checked(tmp_path):
    outcomes = iter([TimeoutError(), "Rating: [[1]]", Reply("Rating: [[2]]", 10, 5), 7])

    def complete(request):
        if isinstance(outcome := next(outcomes), Exception):
            raise outcome
        return outcome

    judge = LLMJudge(complete, "m", tmp_path, prices=PRICES, retry=QUICK)
    with pytest.raises(TypeError, match="a string or a Reply, got <class 'int'>"):
        llm_ratings(judge, ANSWERS[:1])
    assert judge_cost(judge, ANSWERS[:1]).cached == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "name of its model"),
        ({"budget": 1.0}, "a budget needs prices"),
        ({"budget": -1.0, "prices": PRICES}, "at least 0, got -1"),
        ({"budget": math.nan, "prices": PRICES}, "at least 0, got nan"),
        ({"workers": 0}, "workers are at least 1"),
        ({"max_tokens": 0}, "max_tokens and workers"),
        ({"temperature": math.nan}, "temperature at least 0"),
    ],
)
def test_a_judge_that_cannot_work_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        LLMJudge(**{"complete": print, "model": "m", "cache": tmp_path, **options})


def test_other_bad_input_is_refused(tmp_path):
    judge = LLMJudge(print, "m", tmp_path)
    for bad in ([], ANSWERS[0]):
        with pytest.raises(ValueError, match="at least one Answer"):
            llm_ratings(judge, bad)
    with pytest.raises(TypeError, match="text has to be a string, got None"):
        Answer("rain", "p", None)
    with pytest.raises(ValueError, match="got ' '"):
        Answer(" ", "p", "t")
    with pytest.raises(ValueError, match="at least 0"):
        Prices(-1.0, 0.0)
    with pytest.raises(ValueError, match="at least 1 attempt"):
        Retry(0)
    with pytest.raises(ValueError, match="above 0, got 0"):
        endpoint("http://localhost/v1", timeout=0)
