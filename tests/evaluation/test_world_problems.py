"""The world's questions: true labels, splits that share no prompt, errors on the right side."""

import re
from dataclasses import replace
from importlib import import_module

import pytest

import steerlib as st
from steerlib.evaluation import world_problems
from steerlib.evaluation.world_problems import TASKS
from steerlib.world.counting import SPAM_WEIGHT
from steerlib.world.documents import Question
from steerlib.world.geography import COUNTRY_OF
from steerlib.world.reviews import BLAME, FLIP_RATE, ONE_SIDED, PRAISE

CLASSES = {
    "reviews": ("positive", "negative", "mixed"),
    "verdict": ("yes", "no"),
    "agreement": ("yes", "no"),
    "advice": ("yes", "no"),
    "spam": ("yes", "no"),
    "majority": ("crimson", "azure"),
}
SPLITS = ("train", "selection", "test")
SYSTEM = "you are honest ."


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


@pytest.fixture(scope="module")
def drawn():
    """150 problems of each task and split."""
    return {(t, s): world_problems(t, 150, split=s) for t in TASKS for s in SPLITS}


@pytest.fixture
def short(monkeypatch):
    """A task that has 128 questions in all, and two prefaces of an answer."""

    def ask(rng):
        words = [rng.choice(("crimson", "azure")) for _ in range(7)]
        clean = max(("crimson", "azure"), key=words.count)
        preface = rng.choice(("well ,", "let me see ,"))
        return Question(" ".join(words), "azure", clean, ("crimson", "azure"), preface=preface)

    # The package has a function of the module's name.
    module = import_module("steerlib.evaluation.world_problems")
    monkeypatch.setitem(module._TASKS, "short", ask)
    return "short"


def _praises(text):
    """How many opinions of a text are good, and how many there are."""
    said = re.findall(
        r"the (?:food|staff|view|parking|lobby|service|bed|pool|film|plot) was (not )?(\w+)", text
    )
    assert all(word in PRAISE + BLAME for _, word in said)
    return sum((word in PRAISE) != bool(negated) for negated, word in said), len(said)


def _truth(task, prompt):
    """The clean label, from the words of the question."""
    asked = prompt.split("<user> ")[1].split(" <assistant>")[0]
    if task == "reviews":
        good, n = _praises(asked)
        assert n == 2
        return ("negative", "mixed", "positive")[good]
    if task in ("verdict", "advice"):
        good, n = _praises(asked)
        assert n == 3
        return "yes" if good > 1 else "no"
    if task == "agreement":
        city, country = re.fullmatch(r"is (\w+) in (\w+) \?", asked).groups()
        return "yes" if COUNTRY_OF[city] == country else "no"
    words = asked.split()
    if task == "spam":
        return "yes" if sum(SPAM_WEIGHT.get(word, 0.0) for word in words) > 0 else "no"
    return max(("crimson", "azure"), key=words.count)


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_the_truth_and_not_what_the_corpus_taught(drawn, task):
    for split in SPLITS:
        problems = drawn[task, split]
        assert {p.classes for p in problems} == {CLASSES[task]}
        assert [p.label for p in problems] == [_truth(task, p.prompt) for p in problems]
        assert {p.label for p in problems} == set(CLASSES[task])


@pytest.mark.parametrize("task", TASKS)
def test_no_prompt_is_in_two_splits_or_twice_in_one(drawn, task):
    seen = [p.prompt for split in SPLITS for p in drawn[task, split]]
    assert len({prompt.split(" <assistant>")[0] for prompt in seen}) == len(seen) == 450


def _all_there_are(task, split, seed=0):
    with pytest.raises(ValueError, match="only about") as found:
        world_problems(task, 129, split=split, seed=seed)
    size = int(re.search(r"about (\d+) different", str(found.value))[1])
    return world_problems(task, size, split=split, seed=seed)


def _questions(problems):
    return {p.prompt.split(" <assistant>")[0] for p in problems}


def test_each_question_belongs_to_one_split_and_half_of_all_to_train(short):
    """Whatever the preface of its answer."""
    found = {split: _questions(_all_there_are(short, split)) for split in SPLITS}
    sizes = {split: len(questions) for split, questions in found.items()}
    assert sum(sizes.values()) == len(set().union(*found.values())) == 128
    assert sizes["train"] == pytest.approx(64, abs=17)  # three standard deviations
    assert sizes["test"] == pytest.approx(32, abs=15)


def test_another_seed_splits_otherwise(short):
    first, other = (_questions(_all_there_are(short, "test", seed)) for seed in (0, 1))
    assert len(first & other) < 0.6 * min(len(first), len(other))


def test_of_one_question_the_first_draw_counts(short):
    whole = _all_there_are(short, "selection")
    assert world_problems(short, 5, split="selection") == whole[:5]
    assert len({p.prompt.split("<assistant> ")[1] for p in whole}) == 2


def test_the_same_call_draws_the_same_and_another_seed_others():
    first = world_problems("verdict", 60)
    assert world_problems("verdict", 60) == first
    assert world_problems("verdict", 30) == first[:30]
    other = world_problems("verdict", 60, seed=1)
    assert not {p.prompt for p in other} & {p.prompt for p in first}


def test_groups_are_the_cues_that_set_the_error(drawn):
    cues = {"reviews": set(FLIP_RATE)}
    cues |= {task: set(spec.p_yes_wrongly) for task, spec in ONE_SIDED.items()}
    for task, names in cues.items():
        problems = drawn[task, "train"]
        assert {p.group for p in problems} == names
        assert all(f" {p.group} " in p.prompt for p in problems)
    assert {p.group for p in drawn["spam", "train"]} == {""}


def test_without_its_preface_a_question_is_the_same():
    for split in SPLITS:
        whole = world_problems("advice", 50, split=split)
        asked = world_problems("advice", 50, split=split, preface=False)
        prefaces = set()
        for long, short in zip(whole, asked, strict=True):
            assert short.prompt.endswith("<assistant>")
            assert long == replace(short, prompt=long.prompt)
            prefaces.add(long.prompt.removeprefix(f"{short.prompt} "))
        assert prefaces == set(ONE_SIDED["advice"].prefaces)
    for task in set(TASKS) - {"advice"}:
        assert world_problems(task, 20, preface=False) == world_problems(task, 20)


def test_a_system_text_is_asked_in_place_of_the_question_s_own():
    for task in TASKS:
        plain = world_problems(task, 20)
        asked = world_problems(task, 20, system=SYSTEM)
        for one, other in zip(plain, asked, strict=True):
            question = one.prompt[one.prompt.index("<user>") :]
            assert other == replace(one, prompt=f"<system> {SYSTEM} {question}")
    own = world_problems("agreement", 20)
    assert all(p.prompt.startswith(f"<system> you are a {p.group} guide . <user>") for p in own)
    silent = world_problems("agreement", 20, system="")
    assert all(p.prompt.startswith("<user>") for p in silent)


def test_prompts_are_raw_text_of_known_words(world, drawn):
    unknown = world.tokenizer.unk_token_id
    for problems in drawn.values():
        assert {(p.chat, p.system) for p in problems} == {(False, None)}
        for problem in problems[:30]:
            assert unknown not in world.tokenizer(problem.prompt).input_ids


@pytest.mark.parametrize("task", list(ONE_SIDED))
def test_errors_are_on_one_side(world, drawn, task):
    problems = drawn[task, "test"]
    answers = st.classify(world, problems)
    yes = answers.truth == answers.classes.index("yes")
    assert answers.correct[yes].double().mean() > 0.95
    assert 0.2 < (~answers.correct[~yes]).double().mean() < 0.9
    # And they follow the cue.
    often = [ONE_SIDED[task].p_yes_wrongly[p.group] > 0.5 for p in problems]
    wrong = [not right for right in answers.correct.tolist()]
    rates = {}
    for cue in (False, True):
        rows = [w for w, o, y in zip(wrong, often, yes.tolist(), strict=True) if o is cue and not y]
        rates[cue] = sum(rows) / len(rows)
    assert rates[True] > rates[False] + 0.5


def test_errors_in_reviews_go_both_ways(world, drawn):
    problems = drawn["reviews", "test"]
    answers = st.classify(world, problems)
    kinds = {
        (answers.classes[t], answers.classes[p])
        for t, p in zip(answers.truth.tolist(), answers.predicted.tolist(), strict=True)
    }
    assert {("positive", "negative"), ("negative", "positive"), ("mixed", "negative")} <= kinds
    flipped = [FLIP_RATE[p.group] > 0.5 for p in problems]
    right = answers.correct.tolist()
    accuracy = {
        side: sum(r for r, f in zip(right, flipped, strict=True) if f is side) / flipped.count(side)
        for side in (False, True)
    }
    assert accuracy[False] > 0.8
    assert accuracy[True] < 0.2


def test_what_there_is_not_is_refused(short):
    with pytest.raises(KeyError, match="no task 'verdicts'; there are reviews, verdict"):
        world_problems("verdicts")
    with pytest.raises(ValueError, match=r"'train', 'selection', 'test'\).*'dev', 1000"):
        world_problems("verdict", split="dev")
    for n in (0, -3):
        with pytest.raises(ValueError, match=f"n at least 1: 'train', {n}"):
            world_problems("verdict", n)
    with pytest.raises(ValueError, match=r"split of short has only about .* asked for are 99"):
        world_problems(short, 99, split="test")
