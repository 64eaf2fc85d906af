"""sweep: equal to score and to single calls, resumable after any kill, one plan per folder."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pandas as pd
import pytest
import torch

import steerlib as st
from benchmarks.ties import gap, ties
from steerlib.evaluation import Arm, score, summary
from steerlib.evaluation import shards as shards_module
from steerlib.evaluation.plans import fingerprint, name_of
from steerlib.evaluation.sweep import Study, of_concept, sweep
from tests import killed_sweep
from tests.killed_sweep import PROMPTS, SIZE, STRENGTHS
from tests.loading import ROOT


def words(prompt, answer):
    return {"score": len(answer.split()), "asked": len(prompt), "concept": 2.0}


def letters(prompt, answer):
    return len(answer)


@pytest.fixture
def push(vector):
    """A direction that is long enough to change what the small models say."""
    return st.Add(st.resid(1), 4 * vector())


@pytest.fixture
def arms(push):
    asking = Arm("ask", push, (1.0,), ask=lambda prompt: f"a happy story {prompt}")
    return [Arm("push", push, STRENGTHS), Arm("nothing"), asking]


@pytest.fixture
def studies(arms):
    return [Study("dogs", arms, PROMPTS, words), Study("sun", arms[1:], PROMPTS[::-1], letters)]


def swept(model, studies, folder, **options):
    options = {"temperature": 0.0, "max_new_tokens": 6, "progress": False} | options
    return sweep(model, studies, folder, **options)


@pytest.mark.parametrize("batch_size", [3, 256])
def test_a_greedy_sweep_equals_score_concept_by_concept(model, studies, tmp_path, batch_size):
    table = swept(model, studies, tmp_path, batch_size=batch_size)
    for study in studies:
        options = {"temperature": 0.0, "max_new_tokens": 6, "progress": False}
        alone = score(model, study.arms, study.prompts, study.judge, **options)
        pd.testing.assert_frame_equal(of_concept(table, study.concept), alone)
    assert len(set(table.text)) > len(PROMPTS)


@pytest.mark.parametrize("batch_size", [5, 256])
def test_a_sweep_equals_one_call_per_prompt_and_strength(model, push, tmp_path, batch_size):
    study = Study("dogs", [Arm("push", push, (-2.0, -1.0, 0.0, 1.0, 2.0))], PROMPTS, letters)
    table = swept(model, [study], tmp_path, batch_size=batch_size, max_new_tokens=12)
    assert len(table) == 20
    found = ties(model, push, table, max_new_tokens=12)
    assert found == 0, f"{found} of {len(table)} answers differ by ties"


def test_a_difference_that_is_no_tie_is_not_excused(gpt2, push, tmp_path):
    table = swept(gpt2, [Study("dogs", [Arm("push", push)], PROMPTS, letters)], tmp_path)
    first = table.text[0].split()
    table.loc[0, "text"] = " ".join([*first[:2], "girl" if first[2] != "girl" else "boy"])
    assert 1e-4 < gap(gpt2, PROMPTS[0], push, 1.0, table.text[0], max_new_tokens=6) < math.inf
    with pytest.raises(ValueError, match="differs at a top-2 gap of"):
        ties(gpt2, push, table, max_new_tokens=6)


def test_the_table_is_tidy_and_its_file_equals_it(gpt2, studies, tmp_path):
    table = swept(gpt2, studies, tmp_path, seed=7)
    before = ["concept", "method", "site", "strength", "prompt", "text", "score"]
    after = ["seed", "model", "revision", "steerlib", "torch", "transformers"]
    assert list(table.columns) == [*before, "grade_asked", "grade_concept", *after]
    assert list(table.concept) == ["dogs"] * 16 + ["sun"] * 8
    assert list(table.prompt[-4:]) == PROMPTS[::-1]
    sites = {"push": "blocks.1.hook_resid_post", "nothing": "", "ask": "blocks.1.hook_resid_post"}
    assert (table.site == table.method.map(sites)).all()
    facts = table[after].drop_duplicates().values.tolist()
    made = [7, gpt2.id, gpt2.revision, st.__version__, torch.__version__]
    assert [fact[:5] for fact in facts] == [made]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table)


def test_grades_and_summary_of_one_concept(gpt2, studies, tmp_path):
    table = swept(gpt2, studies, tmp_path)
    assert list(of_concept(table, "dogs").columns[4:]) == ["score", "asked", "concept"]
    assert list(of_concept(table, "sun").columns[4:]) == ["score"]
    assert list(summary(of_concept(table, "dogs")).prompts) == [4] * 4
    with pytest.raises(KeyError, match="no concept 'cats'; the sweep has"):
        of_concept(table, "cats")


# --- killed


def start(folder, model, log, when, count=0):
    command = [sys.executable, ROOT / "tests/killed_sweep.py", folder, model, log, when, str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment)


def kept(folder):
    """Identity of each finished shard: a file that is written again is another file."""
    found = (folder / "shards").glob("*.json")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def lines(log, process=None):
    found = [line.split("|") for line in log.read_text().splitlines()]
    return [tuple(rest) for pid, *rest in found if process in (None, int(pid))]


def finished_rows(folder, names):
    rows = [row for n in names for row in json.loads((folder / "shards" / n).read_text())["rows"]]
    return Counter((row["prompt"], row["text"]) for row in rows)


def test_kills_lose_and_repeat_nothing(folders, gpt2, tmp_path):
    whole = killed_sweep.run(gpt2, tmp_path / "whole", tmp_path / "whole.log")
    folder, log = tmp_path / "killed", tmp_path / "log"
    lives = [("graded", 2 * SIZE - 1), ("written", 2), ("outside", 0)]
    total, before = 0, {}
    for when, count in lives:
        child = start(folder, folders["gpt2"], log, when, count)
        if when == "outside":
            deadline = time.monotonic() + 60
            while len(kept(folder)) <= len(before) and time.monotonic() < deadline:
                time.sleep(0.001)
            child.kill()
        assert child.wait(60) == -signal.SIGKILL
        now = kept(folder)
        assert before.items() <= now.items(), "a finished batch was written again"
        fresh = finished_rows(folder, now.keys() - before.keys())
        graded = Counter((prompt, text) for _, prompt, text in lines(log, child.pid))
        assert fresh <= graded
        assert sum(graded.values()) - sum(fresh.values()) <= SIZE, "more than one batch was lost"
        total, before = total + sum(graded.values()), now
    assert 2 <= len(before) < len(kept(tmp_path / "whole"))
    resumed = killed_sweep.run(gpt2, folder, log)
    left = len(whole) - sum(finished_rows(folder, before).values())
    assert len(lines(log, os.getpid())) == left, "the last run computes what is missing, no more"
    assert before.items() <= kept(folder).items()
    pd.testing.assert_frame_equal(resumed.drop(columns="model"), whole.drop(columns="model"))


def test_a_finished_sweep_computes_nothing(gpt2, tmp_path):
    log = tmp_path / "log"
    first = killed_sweep.run(gpt2, tmp_path / "a", log)
    pd.testing.assert_frame_equal(killed_sweep.run(gpt2, tmp_path / "a", log), first)
    assert len(lines(log)) == len(first) == 24


def test_processes_do_not_change_a_row(gpt2, tmp_path):
    one = killed_sweep.run(gpt2, tmp_path / "one", tmp_path / "log")
    two = killed_sweep.run(gpt2, tmp_path / "two", tmp_path / "log2", n_jobs=2)
    pd.testing.assert_frame_equal(two, one)
    assert not lines(tmp_path / "log2", os.getpid())


def test_the_order_of_concepts_and_methods_changes_no_answer(gpt2, studies, tmp_path):
    options = {"temperature": 1.0, "batch_size": 3}
    table = swept(gpt2, studies, tmp_path / "a", **options)
    turned = [Study(s.concept, s.arms[::-1], s.prompts, s.judge) for s in studies[::-1]]
    again = swept(gpt2, turned, tmp_path / "b", **options)
    keys = ["concept", "method", "strength", "prompt"]
    both = [found.sort_values(keys, ignore_index=True) for found in (table, again)]
    pd.testing.assert_frame_equal(both[0], both[1][both[0].columns])
    before = kept(tmp_path / "a")
    swept(gpt2, turned, tmp_path / "a", **options)
    assert kept(tmp_path / "a") == before


def test_half_a_shard_is_never_read(gpt2, studies, tmp_path):
    table = swept(gpt2, studies, tmp_path)
    cut, *_ = (tmp_path / "shards").glob("*.json")
    cut.write_text(cut.read_text()[:40])  # a copy that was cut short
    (tmp_path / "shards" / "1.2.tmp").write_text('{"rows": ')  # a kill while writing
    pd.testing.assert_frame_equal(swept(gpt2, studies, tmp_path), table)
    assert json.loads(cut.read_text())["rows"]


def test_the_bar_counts_from_what_was_there(gpt2, studies, tmp_path, monkeypatch):
    seen, real = [], shards_module.tqdm

    def spy(**options):
        seen.append(options)
        return real(**options)

    swept(gpt2, studies, tmp_path)
    next((tmp_path / "shards").glob("*.json")).unlink()
    monkeypatch.setattr(shards_module, "tqdm", spy)
    swept(gpt2, studies, tmp_path)
    assert [(bar["initial"], bar["total"], bar["disable"]) for bar in seen] == [(4, 5, True)]


# --- random numbers


def test_seeds_of_batches(gpt2, push, tmp_path):
    arms = [Arm("push", push, (0.0,)), Arm("same", 2 * push, (0.0,))]
    both = [Study(name, arms, ["tell me about"] * 4, letters) for name in ("dogs", "sun")]
    options = {"temperature": 1.0, "batch_size": 2}
    found = swept(gpt2, both, tmp_path / "a", **options).text.to_numpy().reshape(2, 2, 4)
    assert (found[:, 0] == found[:, 1]).all(), "methods share their random numbers"
    assert (found[0] != found[1]).any(), "concepts do not"
    assert (found[..., :2] != found[..., 2:]).any(), "nor do batches"
    other = swept(gpt2, both, tmp_path / "b", seed=1, **options).text.to_numpy().reshape(2, 2, 4)
    assert (other != found).any()


# --- plans


CHANGES = {
    "seed": ({"seed": 1}, r"decoding\.seed is 0 there and 1 here"),
    "size": ({"batch_size": 3}, r"decoding\.batch_size is 256 there and 3 here"),
    "chat": ({"chat": False}, r"decoding\.chat is None there and False here"),
    "tokens": ({"max_new_tokens": 5}, r"decoding\.max_new_tokens is 6 there and 5 here"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_way_of_decoding_is_refused(gpt2, studies, tmp_path, change):
    options, message = CHANGES[change]
    swept(gpt2, studies, tmp_path)
    before = kept(tmp_path)
    with pytest.raises(ValueError, match=f"holds another sweep: {message}; use another folder"):
        swept(gpt2, studies, tmp_path, **options)
    assert kept(tmp_path) == before


def test_other_studies_are_refused(gpt2, arms, push, tmp_path):
    def refused(message, arms=arms, prompts=PROMPTS, judge=words, more=()):
        with pytest.raises(ValueError, match=message):
            swept(gpt2, [Study("dogs", arms, prompts, judge), *more], tmp_path)

    swept(gpt2, [Study("dogs", arms, PROMPTS, words)], tmp_path)
    at = r"concepts\.dogs\.methods\.push"
    refused(rf"{at}\.intervention is", [Arm("push", 2 * push, STRENGTHS), *arms[1:]])
    refused(
        rf"{at}\.strengths is 2 values \[1.0, -1.0\] there and 1 v", [Arm("push", push), *arms[1:]]
    )
    refused(r"methods\.ask\.asked is", [*arms[:2], Arm("ask", push, (1.0,), ask=str.upper)])
    refused(r"dogs\.methods\.more is missing there and given here; use", [*arms, Arm("more")])
    refused(r"concepts\.dogs\.prompts is 4 values", prompts=PROMPTS[::-1])
    refused(r"dogs\.judge is '.*test_sweep.words' there and '.*letters' here", judge=letters)
    refused(
        r"concepts\.sun is missing there",
        more=[Study("sun", arms[1:2], PROMPTS, words)],
    )


def test_another_model_is_refused_and_a_moved_one_is_not(models, studies, tmp_path):
    swept(models("gpt2"), studies, tmp_path)
    with pytest.raises(ValueError, match=r"model\.revision is"):
        swept(models("llama"), studies, tmp_path)
    with pytest.raises(ValueError, match=r"model\.engine is 'hf' there and 'bridge' here"):
        swept(models("gpt2", "bridge"), studies, tmp_path)
    net = models("gpt2")
    swept(st.Model(net.module, net.tokenizer, "hf", "moved", net.revision), studies, tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut", "edited"])
def test_shards_without_their_plan_are_refused(gpt2, studies, tmp_path, damage):
    swept(gpt2, studies, tmp_path)
    path = tmp_path / "plan.json"
    text = path.read_text()
    changed = {"cut": text[:99], "edited": text.replace('"seed": 0', '"seed": 1')}
    path.write_text(changed[damage]) if damage in changed else path.unlink()
    assert path.exists() == (damage != "missing")
    with pytest.raises(ValueError, match=r"plan\.json is missing, damaged or of another format"):
        swept(gpt2, studies, tmp_path)


def test_a_folder_in_which_nothing_is_finished_takes_another_plan(gpt2, studies, tmp_path):
    def broken(prompt, answer):
        raise RuntimeError("no judge today")

    with pytest.raises(RuntimeError, match="no judge today"):
        swept(gpt2, [Study("dogs", [Arm("nothing")], PROMPTS, broken)], tmp_path)
    assert len(swept(gpt2, studies, tmp_path)) == 24


def test_a_fingerprint_sees_all_that_an_intervention_does(push, vector):
    weights = st.Readout(st.resid(0), vector(seed=3), 0.0)
    changed = [
        push,
        2 * push,
        push.at(st.last),
        push.when(weights > 0.3),
        push.when(weights > 0.4),
        push.when(weights < 0.3),
        st.Add(st.resid(2), push.direction),
        push + st.Add(st.resid(2), push.direction),
    ]
    assert len({fingerprint(each) for each in [*changed, None]}) == len(changed) + 1
    assert fingerprint(st.Add(st.resid(1), push.direction)) == fingerprint(push)


def test_judges_are_named_where_they_are_defined():
    from functools import partial

    assert name_of(partial(partial(words), "a")).endswith("test_sweep.words")
    assert name_of(killed_sweep.Judge("a", None)) == "tests.killed_sweep.Judge"


# --- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "at least 1 .* got 0, 256 and 0.0"),
        ({"batch_size": 0}, "at least 1 .* got 6, 0 and 0.0"),
        ({"temperature": -1.0}, "temperature at least 0, got 6, 256 and -1.0"),
        ({"n_jobs": 0}, "n_jobs is a number of processes from 1, got 0"),
    ],
)
def test_bad_numbers_are_refused(gpt2, studies, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        swept(gpt2, studies, tmp_path, **options)
    assert not list(tmp_path.rglob("*.json")), "nothing is written"


def test_bad_studies_are_refused(gpt2, arms, tmp_path):
    with pytest.raises(ValueError, match=r"different concepts, got \[\]"):
        swept(gpt2, [], tmp_path)
    study = Study("dogs", arms, PROMPTS, words)
    with pytest.raises(ValueError, match=r"different concepts, got \['dogs', 'dogs'\]"):
        swept(gpt2, [study, study], tmp_path)
    with pytest.raises(ValueError, match="name of its concept, got ''"):
        Study("", arms, PROMPTS, words)
    with pytest.raises(ValueError, match="arms of different names"):
        Study("dogs", [arms[0], arms[0]], PROMPTS, words)
    with pytest.raises(ValueError, match="a list of at least one prompt, got 'a prompt'"):
        Study("dogs", arms, "a prompt", words)
    wide = Study("dogs", [Arm("wide", st.Add(st.resid(1), torch.ones(5)))], PROMPTS, words)
    with pytest.raises(ValueError, match="have 32 numbers, the edit has 5"):
        swept(gpt2, [study.__class__("sun", arms, PROMPTS, words), wide], tmp_path)
    assert not list(tmp_path.rglob("*.json"))
