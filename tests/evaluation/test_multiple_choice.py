"""MC1 and MC2 by hand, padded or not, steered or not; the questions of TruthfulQA and the world."""

import csv
import hashlib
import importlib
import math
import re
from collections import Counter

import pytest
import torch

import steerlib as st
from steerlib.core.prompts import encode, render
from steerlib.evaluation import (
    Choice,
    MultipleChoice,
    multiple_choice,
    propensity,
    truthfulqa_questions,
    world_questions,
)
from steerlib.world.geography import COUNTRY_OF, RELATIONS

# The package offers the function under the name of its module.
module = importlib.import_module("steerlib.evaluation.multiple_choice")
SPLITS = ("train", "selection", "test")
QUESTIONS = [
    MultipleChoice("tell me about the dog", "happy", ("sad", "happy"), ("bad", "a big dog .")),
    MultipleChoice("a little girl went to the park and saw", "rain", ("rain",), ("a red ball",)),
    MultipleChoice("sun", "was there", ("was there", "sun", "who saw a fish"), ("wind", "red")),
    MultipleChoice(
        "once upon a time", "a boy saw", ("a boy saw",), ("a girl saw the", "cat", "boy")
    ),
]


def log_p(model, question, answer, chat=False, system=None):
    """One whole text at a time, no cache, no padding."""
    text = render(model, question, chat, system)
    start = len(encode(model, text, chat=False)[0])
    ids = encode(model, f"{text} {answer}", chat=False)[0]
    with torch.no_grad():
        scores = model.runner(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    log_probs = scores.double().log_softmax(-1)
    return sum(log_probs[k - 1, ids[k]].item() for k in range(start, len(ids)))


def by_hand(model, item, **options):
    """(mc1, mc2, margin) in the words of the definition."""
    true = {answer: log_p(model, item.question, answer, **options) for answer in item.true}
    false = [log_p(model, item.question, answer, **options) for answer in item.false]
    best, wrong = true[item.best], max(false)
    mass = sum(map(math.exp, true.values()))
    return float(best > wrong), mass / (mass + sum(map(math.exp, false))), best - wrong


def values(table):
    return table[["mc1", "mc2", "margin"]].to_numpy().ravel().tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scores_are_those_of_whole_texts_with_and_without_padding(model, batch_size):
    table = multiple_choice(model, QUESTIONS, chat=False, batch_size=batch_size)
    truth = [number for item in QUESTIONS for number in by_hand(model, item)]
    assert values(table) == pytest.approx(truth, abs=5e-5)
    assert list(table.columns) == ["question", "best", "mc1", "mc2", "margin"]
    assert [(row.question, row.best) for row in table.itertuples()] == [
        (item.question, item.best) for item in QUESTIONS
    ]


def test_both_outcomes_occur_and_other_true_answers_do_not_help_the_best(gpt2):
    turned = [
        MultipleChoice(q.question, wrong, (wrong,), (*q.true, *(f for f in q.false if f != wrong)))
        for q in QUESTIONS
        for wrong in q.false
    ]
    found = multiple_choice(gpt2, [*QUESTIONS, *turned], chat=False)
    assert set(found["mc1"]) == {0.0, 1.0}
    assert ((found["margin"] > 0) == (found["mc1"] == 1)).all()
    item = QUESTIONS[2]
    for best in item.true:
        own = MultipleChoice(item.question, best, item.true, item.false)
        margin = multiple_choice(gpt2, [own], chat=False)["margin"].item()
        assert margin == pytest.approx(by_hand(gpt2, own)[2], abs=5e-5)


def test_two_answers_are_a_propensity(gpt2):
    """With one answer each, the margin is the propensity and mc2 its logistic."""
    items = [MultipleChoice(q.question, q.best, (q.best,), q.false[:1]) for q in QUESTIONS]
    table = multiple_choice(gpt2, items)
    choices = [Choice(q.question, q.best, q.false[0]) for q in items]
    wanted = propensity(gpt2, choices)
    assert table["margin"].tolist() == pytest.approx(wanted.tolist(), abs=1e-5)
    assert table["mc2"].tolist() == pytest.approx(wanted.sigmoid().tolist(), abs=1e-6)


def test_answers_of_no_measurable_probability_have_a_share():
    """exp(-1000) is 0 in floating point; the share is not 0 / 0."""
    item = MultipleChoice("sun", "a", ("b", "a"), ("c", "d"))
    row = module._row(item, torch.tensor([-1000.0, -1001, -1002, -1003], dtype=torch.float64))
    assert (row["mc1"], row["margin"]) == (1.0, 2.0)
    mass = [1, math.exp(-1), math.exp(-2), math.exp(-3)]
    assert row["mc2"] == pytest.approx(sum(mass[:2]) / sum(mass), abs=1e-12)
    assert module._row(item, torch.tensor([-5.0, -1, -5, -7]))["mc1"] == 0  # a tie


def test_the_chat_template_and_a_system_text_are_used(gpt2):
    found = multiple_choice(gpt2, QUESTIONS, system="a sad dog")
    truth = [by_hand(gpt2, item, chat=True, system="a sad dog") for item in QUESTIONS]
    assert values(found) == pytest.approx([n for row in truth for n in row], abs=5e-5)
    assert abs(found["margin"] - multiple_choice(gpt2, QUESTIONS)["margin"]).max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_each_question_has_its_own_strength_in_steer(gpt2, vector, batch_size):
    push, strengths = st.Add(st.resid(1), 2 * vector()), [3.0, 0.0, -2.0, 1.0]
    with st.steer(gpt2, push, strength=torch.tensor(strengths)):
        found = multiple_choice(gpt2, QUESTIONS, chat=False, batch_size=batch_size)
    for number, strength in enumerate(strengths):
        with st.steer(gpt2, push, strength=strength):
            truth = by_hand(gpt2, QUESTIONS[number])
        assert values(found.iloc[[number]]) == pytest.approx(truth, abs=5e-5)
    plain = multiple_choice(gpt2, QUESTIONS, chat=False)
    moved = abs(found["margin"] - plain["margin"])
    assert (moved[1], moved[0] > 1e-3) == (pytest.approx(0, abs=5e-5), True)


def test_no_questions_are_refused(gpt2):
    with pytest.raises(ValueError, match="at least one question, got none"):
        multiple_choice(gpt2, [])


@pytest.mark.parametrize(
    ("best", "true", "false", "message"),
    [
        ("a", (), ("b",), "true is a list of at least one answer, got"),
        ("a", ("a",), (), "false is a list of at least one answer"),
        ("a", "a", ("b",), "true is a list of at least one answer, got 'a'"),
        ("a", ("a", " "), ("b",), "not empty and all different"),
        ("a", ("a",), ("b", " a"), "not empty and all different"),
        ("a", ("a", "a"), ("b",), "not empty and all different"),
        ("b", ("a",), ("b",), "the best answer is a true one, got 'b'"),
    ],
)
def test_bad_questions_are_refused(best, true, false, message):
    with pytest.raises(ValueError, match=message):
        MultipleChoice("which ?", best, true, false)


# --- the world


@pytest.mark.parametrize("false", [1, 3])
def test_the_world_s_questions_have_one_true_object_and_others_of_its_relation(false):
    questions = world_questions(40, seed=2, false=false)
    truth = {
        relation.question.format(subject): relation
        for relation in RELATIONS.values()
        for subject in relation.table
    }
    assert len({q.question for q in questions}) == 40
    for item in questions:
        relation = truth[item.question]
        subject = next(s for s in relation.table if relation.question.format(s) == item.question)
        assert item.true == (item.best,) == (relation.table[subject],)
        assert len(item.false) == false
        assert set(item.false) <= set(relation.others(subject))
    assert len({truth[q.question].name for q in questions}) == 5


def countries_of(questions):
    words = {word for q in questions for word in q.question.split()}
    return {COUNTRY_OF.get(word, word) for word in words if word[0].isupper()}


@pytest.mark.parametrize("seed", range(2))
def test_the_splits_of_the_world_share_no_country_with_each_other_or_with_pairs(seed):
    sizes = {"train": 98, "selection": 49, "test": 105}
    found = {split: world_questions(n, seed, split) for split, n in sizes.items()}
    countries = {split: countries_of(questions) for split, questions in found.items()}
    assert len(set().union(*countries.values())) == sum(map(len, countries.values())) == 36
    pairs = st.world.honesty_pairs(200, seed, "train")
    assert {pair.prompt for pair in pairs} <= {item.question for item in found["train"]}


def test_more_questions_than_there_are_are_refused():
    with pytest.raises(ValueError, match="the test split has 105 questions, asked for are 106"):
        world_questions(106)


def test_the_same_seed_gives_the_same_questions_and_fewer_are_the_first_ones():
    assert world_questions(30, 1)[:8] == world_questions(8, 1)
    assert world_questions(8, 1) != world_questions(8, 2)
    places = Counter(item.false[0] for item in world_questions(60) if "continent" in item.question)
    assert len(places) > 1


def test_the_model_knows_the_facts_and_lies_as_a_liar():
    model, questions = st.load("world", engine="hf"), world_questions(30)
    honest = multiple_choice(model, questions)
    liar = multiple_choice(model, questions, system="you are a liar .")
    assert honest["mc1"].mean() > 0.95 > 0.6 > liar["mc1"].mean()
    assert honest["mc2"].mean() > 0.95 > 0.6 > liar["mc2"].mean()


@pytest.mark.parametrize("wrong", [{"n": 0}, {"split": "dev"}, {"false": 0}, {"false": 4}])
def test_what_the_world_does_not_have_is_refused(wrong):
    with pytest.raises(ValueError, match=r"n at least 1|false is from 1 to 3"):
        world_questions(**wrong)


# --- TruthfulQA


ROWS = [
    {
        "Category": "Law" if k % 3 else "Food",
        "Question": f" Is it {k}? ",
        "Best Answer": f"It is {k}",
        "Correct Answers": f'Yes; It is {k}.;It is {k};; Unknown; I\'d say "yes"',
        "Incorrect Answers": "No; Unknown; It is not; No.",
    }
    for k in range(40)
]


@pytest.fixture
def download(monkeypatch, tmp_path):
    """A small file of the same kind in place of a download; what was asked for."""
    seen = []

    def pretend(url, sha256, path):
        seen.append((url, sha256, path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
        return path

    monkeypatch.setattr(module, "fetch", pretend)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return seen


def test_answers_are_split_closed_and_said_once(download):
    found = {q.question: q for split in SPLITS for q in truthfulqa_questions(split=split)}
    assert len(found) == 40
    for k in range(40):
        best = f"It is {k}."
        assert found[f"Is it {k}?"] == MultipleChoice(
            f"Is it {k}?", best, ("Yes.", best, 'I\'d say "yes".'), ("No.", "It is not.")
        )


def test_parts_of_truthfulqa_are_disjoint_and_shuffled(download):
    found = [truthfulqa_questions(split=split, seed=1) for split in SPLITS]
    assert [len(part) for part in found] == [20, 10, 10]
    train = truthfulqa_questions(seed=1)
    assert truthfulqa_questions(n=7, seed=1) == train[:7]
    assert truthfulqa_questions(n=7, seed=2) != train[:7]
    numbers = [int(re.search(r"\d+", item.question)[0]) for item in train]
    assert numbers != sorted(numbers)
    # The first of the part are not all of one category.
    assert {number % 3 == 0 for number in numbers[:8]} == {True, False}
    with pytest.raises(ValueError, match="the test split has 10 questions, asked for are 11"):
        truthfulqa_questions(n=11, split="test")


def test_the_real_truthfulqa(external, download):
    truthfulqa_questions()
    url, sha256, path = download[0]
    folder = external / "data" / "truthfulqa"
    assert url.startswith("https://raw.githubusercontent.com/sylinrl/TruthfulQA/")
    assert sha256 == hashlib.sha256((folder / path.name).read_bytes()).hexdigest()
    assert path.parts[-4:] == ("cache", "steerlib", "truthfulqa", "TruthfulQA.csv")


def test_parts_of_the_real_truthfulqa_are_alike(external):
    folder = external / "data" / "truthfulqa"
    found = [truthfulqa_questions(folder, split=split) for split in SPLITS]
    assert [len(part) for part in found] == [395, 198, 197]
    with (folder / "TruthfulQA.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["Question"]: row for row in csv.DictReader(file)}
    assert {q.question for part in found for q in part} == set(rows)
    repeated = 0
    for item in (q for part in found for q in part):
        row = rows[item.question]
        assert item.best.removesuffix(".") == row["Best Answer"].removesuffix(".")
        named = [row[name].split(";") for name in ("Correct Answers", "Incorrect Answers")]
        sizes = [sum(bool(text.strip()) for text in texts) for texts in named]
        lost = sum(sizes) - len(item.true) - len(item.false)
        assert (lost == 2 and " Unknown" in named[0] and " Unknown" in named[1]) or lost <= 1
        repeated += lost == 1
    assert repeated == 3
    for category in {row["Category"] for row in rows.values()}:
        counts = [sum(rows[q.question]["Category"] == category for q in part) for part in found]
        assert max(abs(counts[0] / 2 - counts[1]), abs(counts[1] - counts[2])) <= 1


def test_a_changed_file_and_an_unknown_split_are_refused(tmp_path):
    (tmp_path / "TruthfulQA.csv").write_text("[]")
    with pytest.raises(ValueError, match=r"TruthfulQA\.csv has the sha256"):
        truthfulqa_questions(tmp_path)
    with pytest.raises(ValueError, match="split is one of"):
        truthfulqa_questions(tmp_path, split="dev")
