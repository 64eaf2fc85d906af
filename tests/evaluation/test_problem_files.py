"""Problems of public files and of the hub: three parts that are alike and share no question."""

import hashlib
import json
import re
import sys
from collections import Counter
from itertools import product
from random import Random
from types import SimpleNamespace

import pytest

from steerlib.core.classification import Problem
from steerlib.evaluation import hub_problems, mmlu, problem_files, sms_spam, truthfulqa
from steerlib.evaluation.problem_parts import chosen

SPLITS = ("train", "selection", "test")
FINANCE = "sujet-ai/Sujet-Finance-Instruct-177k"


def parts(load, *args, **kwargs):
    return [load(*args, split=split, **kwargs) for split in SPLITS]


def text_of(problem):
    return re.search(r'message\): "(.*)" is classified', problem.prompt, re.DOTALL)[1]


def share(problems, label):
    return sum(p.label == label for p in problems) / len(problems)


# --- the parts, on problems of our own


def asked(n, groups=("",), labels=("yes", "no"), weights=(1, 1)):
    random = Random(0)
    return [
        Problem(f"{n}?", random.choices(labels, weights)[0], labels, group=groups[n % len(groups)])
        for n in range(n)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_every_question_is_in_one_part(seed):
    every = asked(203, ("b", "a", "c"))
    found = parts(lambda split: chosen(every, split, None, seed))
    assert [len(part) for part in found] == [102, 51, 50]
    assert Counter(p.prompt for part in found for p in part) == Counter(p.prompt for p in every)


@pytest.mark.parametrize("seed", range(4))
def test_each_group_and_label_is_dealt_out_in_the_same_shares(seed):
    every = asked(400, ("a", "b", "c"), weights=(1, 4))
    cells = Counter((p.group, p.label) for p in every)
    for split, wanted in zip(SPLITS, (0.5, 0.25, 0.25), strict=True):
        own = Counter((p.group, p.label) for p in chosen(every, split, None, seed))
        assert all(abs(own[cell] - wanted * n) < 1 for cell, n in cells.items())


def test_no_label_is_favoured_where_groups_are_small():
    """Two cells of five in each group: in a fixed order the first would get three to train."""
    every = [
        Problem(f"{group} {label} {k}?", label, ("yes", "no"), group=group)
        for group, label, k in product(map(str, range(60)), ("yes", "no"), range(5))
    ]
    for split in SPLITS:
        shares = [share(chosen(every, split, None, seed), "yes") for seed in range(20)]
        assert abs(sum(shares) / 20 - 0.5) < 0.015


def test_a_question_stays_in_its_part_where_only_some_groups_are_asked():
    every = asked(200, ("high_a", "low", "high_b"))
    for split in SPLITS:
        some = {p.prompt for p in chosen(every, split, None, 0, group="high")}
        assert some == {
            p.prompt for p in chosen(every, split, None, 0) if p.group.startswith("high")
        }


def test_n_takes_the_first_ones_of_a_shuffled_part():
    every = asked(200)
    whole = chosen(every, "train", None, 0)
    assert chosen(every, "train", 30, 0) == whole[:30]
    numbers = [int(p.prompt[:-1]) for p in whole]
    assert numbers != sorted(numbers)
    assert chosen(every, "train", None, 0) == whole
    other = chosen(every, "train", None, 1)
    assert {p.prompt for p in other} != {p.prompt for p in whole}


def test_balanced_means_as_many_of_each_label_at_any_n():
    every = asked(400, labels=("yes", "no", "maybe"), weights=(8, 1, 3))
    rarest = Counter(p.label for p in chosen(every, "train", None, 0))["no"]
    own = chosen(every, "train", None, 0, balanced=True)
    assert Counter(p.label for p in own) == dict.fromkeys(("yes", "no", "maybe"), rarest)
    for n in (1, 7, 30):
        counts = Counter(p.label for p in chosen(every, "train", n, 0, balanced=True))
        assert max(counts.values()) - min(counts[x] for x in ("yes", "no", "maybe")) <= 1
    assert len({tuple(p.label for p in own[i : i + 3]) for i in range(0, 3 * rarest, 3)}) > 2
    with pytest.raises(ValueError, match=f"has {3 * rarest} balanced problems, asked for are 99"):
        chosen(every, "train", 99, 0, balanced=True)


def test_a_balanced_part_without_a_label_is_empty_and_said_to_be_so():
    every = [p for p in asked(40) if p.label == "yes"]
    with pytest.raises(ValueError, match="has 0 balanced problems, asked for are all"):
        chosen(every, "test", None, 0, balanced=True)


@pytest.mark.parametrize(("split", "n"), [("dev", 1), ("train", 0), ("train", -3)])
def test_unknown_splits_and_no_problems_are_refused(split, n):
    with pytest.raises(ValueError, match=r"split is one of .*train.*selection.*test"):
        chosen(asked(40), split, n, 0)


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="the test split has 10 problems, asked for are 11"):
        chosen(asked(40), "test", 11, 0)
    with pytest.raises(ValueError, match="nothing begins with 'x'; there are a, b"):
        chosen(asked(40, ("b", "a")), "test", None, 0, group="x")


# --- spam


LINES = [
    ("ham", 'Ok "lar"...\x85 ü'),
    ("spam", "WIN 100 now! Call 0123"),
    ("spam", "Win 250 NOW, call 0987!"),
    ("ham", ":-)"),
    ("ham", "645"),
    ("ham", "Ok lar ü"),
    ("ham", "twofold"),
    ("spam", "Twofold 2"),
    *(("ham", f"hello {'a' * k}") for k in range(1, 30)),
    *(("spam", f"prize {'b' * k}") for k in range(1, 9)),
]


def write_sms(folder, end="\n", lines=LINES):
    text = "".join(f"{label}\t{text}{end}" for label, text in lines)
    (folder / "SMSSpamCollection").write_bytes(text.encode())
    return folder


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_messages_that_differ_in_numbers_and_signs_only_count_once(tmp_path, end):
    folder = write_sms(tmp_path, end)
    every = [p for part in parts(sms_spam, folder, balanced=False) for p in part]
    texts = Counter(text_of(p) for p in every)
    wanted = {text for _, text in LINES} - {
        "Ok lar ü", "Win 250 NOW, call 0987!", "twofold", "Twofold 2",  # two labels: neither
    }  # fmt: skip
    assert texts == dict.fromkeys(wanted, 1)
    labels = {text: label for label, text in LINES}
    assert all(p.label == labels[text_of(p)] for p in every)
    assert all(p.classes == ("ham", "spam") and p.chat is False for p in every)


def test_the_prompt_of_spam_is_mera_s(tmp_path):
    found = sms_spam(write_sms(tmp_path), balanced=False)
    for problem in found:
        assert problem.prompt.startswith('This SMS (text message): "')
        assert '" is classified as either spam or ham. Please evaluate ' in problem.prompt
        assert problem.prompt.endswith('Only return one word: "ham" or "spam". Answer:')


def test_spam_is_balanced_unless_told_otherwise(tmp_path):
    folder = write_sms(tmp_path)
    assert share(sms_spam(folder), "spam") == 0.5
    assert share(sms_spam(folder, balanced=False), "spam") < 0.3
    assert len(sms_spam(folder, n=3)) == 3


def test_where_to_get_the_messages_is_said(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"archive\.ics\.uci\.edu.*SMSSpamCollection there"):
        sms_spam(tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = re.escape(str(tmp_path / "steerlib" / "sms_spam" / "SMSSpamCollection"))
    with pytest.raises(FileNotFoundError, match=own):
        sms_spam()


@pytest.mark.parametrize("line", ["eggs\thello", "ham hello", "spam\t  ", "\tspam"])
def test_a_line_that_is_no_message_is_named(tmp_path, line):
    write_sms(tmp_path)
    with (tmp_path / "SMSSpamCollection").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=f"line {len(LINES) + 1} of .* is no label"):
        sms_spam(tmp_path)


def test_no_message_of_the_real_file_is_in_two_splits(external):
    folder = external / "data" / "sms_spam"
    if not folder.exists():
        pytest.skip(f"{folder} does not exist")
    found = parts(sms_spam, folder, balanced=False)
    assert [len(part) for part in found] == [2544, 1272, 1271]
    assert [sum(p.label == "spam" for p in part) for part in found] == [293, 146, 146]
    lines = (folder / "SMSSpamCollection").read_text(encoding="utf-8").split("\n")
    truth = {text.strip(): label for label, _, text in (line.partition("\t") for line in lines)}
    words = [{re.sub(r"[\W\d_]", "", text_of(p).lower()) for p in part} - {""} for part in found]
    assert not words[0] & words[1] | words[0] & words[2] | words[1] & words[2]
    assert all(p.label == truth[text_of(p)] for part in found for p in part)
    equal = parts(sms_spam, folder)
    assert [(len(part), share(part, "spam")) for part in equal] == [
        (586, 0.5), (292, 0.5), (292, 0.5),
    ]  # fmt: skip


# --- CAA's two options


def rows(n=40, request=""):
    return [
        {
            "prompt": f"{request} Who is number {k}?\n\nChoices:\n(A) Ann\n(B) Bob {k}",
            "correct": "(A)" if k % 3 else "(B)",
            "incorrect": "(B)" if k % 3 else "(A)",
            "category": ("high_school_art", "law", "high_school_law")[k % 3],
        }
        for k in range(n)
    ]


@pytest.fixture
def download(monkeypatch, tmp_path):
    """Small files of the same kind in place of a download; what was asked for."""
    seen = []

    def pretend(url, sha256, path):
        seen.append((url, sha256, path))
        path.parent.mkdir(parents=True, exist_ok=True)
        request = "Please help me answer the following question.\n" * ("truth" in url)
        path.write_text(json.dumps(rows(request=request)))
        return path

    monkeypatch.setattr(problem_files, "fetch", pretend)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return seen


@pytest.mark.parametrize("load", [mmlu, truthfulqa])
def test_a_question_its_options_and_its_letter(download, load):
    every = {p.prompt: p for part in parts(load) for p in part}
    assert len(every) == 40
    for k, row in enumerate(rows()):
        prompt = (
            f"Question: Who is number {k}?\nOptions:\n(A) Ann\n(B) Bob {k}\nPlease select the "
            "correct answer. Only return one letter: A or B.\nAnswer:"
        )
        problem = every[prompt]
        assert (problem.label, problem.classes) == (row["correct"][1], ("A", "B"))
        assert (problem.group, problem.chat) == (row["category"], False)


def test_files_come_from_pinned_commits_into_the_cache(download, tmp_path):
    mmlu()
    truthfulqa(tmp_path / "own")
    source, cache = "https://raw.githubusercontent.com/nrimsky/CAA/", tmp_path / "cache"
    assert [(url, path) for url, _, path in download] == [
        (
            source + "e1fce128b6165a9926093c6abdf6ea9a24f4b5c4/datasets/test/mmlu/mmlu.json",
            cache / "steerlib" / "caa" / "mmlu.json",
        ),
        (
            source + "0aec415b166171f84c7034bd0d9d1ddf5e6ebf46/datasets/test/truthfulqa/"
            "truthful_qa.json",
            tmp_path / "own" / "truthful_qa.json",
        ),
    ]


def test_pinned_checksums_are_those_of_the_files(download, external):
    mmlu()
    truthfulqa()
    for (_, sha256, path), place in zip(download, ("mmlu", "truthfulqa"), strict=True):
        file = external / "data" / "caa" / "test" / place / path.name
        assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_changed_file_is_refused(tmp_path):
    for load, name in ((mmlu, "mmlu.json"), (truthfulqa, "truthful_qa.json")):
        (tmp_path / name).write_text("[]")
        with pytest.raises(ValueError, match=f"{name} has the sha256"):
            load(tmp_path)


def test_a_subject_is_how_names_begin(download):
    groups = {p.group for p in mmlu(subject="high_school")}
    assert groups == {"high_school_art", "high_school_law"}
    with pytest.raises(ValueError, match="nothing begins with 'maths'; there are high_school_art"):
        mmlu(subject="maths")


def test_parts_of_the_real_mmlu_are_alike(external):
    """Unshuffled, calibration would be on world history and the test on another subject."""
    found = parts(mmlu, external / "data" / "caa" / "test" / "mmlu")
    assert [len(part) for part in found] == [285, 143, 142]
    assert len({p.prompt for part in found for p in part}) == 570
    for part, sizes in zip(found, ({5}, {2, 3}, {2, 3}), strict=True):
        groups = Counter(p.group for p in part)
        assert len(groups) == 57
        assert set(groups.values()) == sizes
        assert abs(share(part, "A") - 299 / 570) < 0.06
    few = mmlu(external / "data" / "caa" / "test" / "mmlu", "high_school", split="test")
    assert few
    assert {p.prompt for p in few} <= {p.prompt for p in found[2]}


def test_parts_of_the_real_truthfulqa_are_alike(external):
    found = parts(truthfulqa, external / "data" / "caa" / "test" / "truthfulqa")
    assert [len(part) for part in found] == [409, 204, 204]
    assert len({p.prompt for part in found for p in part}) == 817
    assert not any("Please help me" in p.prompt for p in found[0])
    counts = [Counter(p.group for p in part) for part in found]
    for group in set().union(*counts):
        assert abs(counts[1][group] - counts[2][group]) <= 2
        assert abs(counts[0][group] - counts[1][group] - counts[2][group]) <= 2


# --- the hub


HUB = {
    "cais/mmlu": [
        {
            "question": f" Which is number {k}?",
            "choices": [f"{k}", "b", "c", "d"],
            "answer": k % 4,
            "subject": "high_school_art" if k % 2 else "law",
        }
        for k in range(40)
    ],
    FINANCE: [
        {
            "inputs": f"How is {'profit' * (k // 2 + 1)}?",
            "answer": ("Positive", "negative.", "neutral", "Bullish")[k // 2 % 4],
            "task_type": "sentiment_analysis",
        }
        for k in range(80)
    ]
    + [
        {"inputs": f"Is it {k}?", "answer": (" Yes", "no")[k % 2], "task_type": "yes_no_question"}
        for k in range(40)
    ]
    + [{"inputs": f"{kind}?", "answer": "yes", "task_type": kind} for kind in ("qa", "topic")],
    "ucirvine/sms_spam": [
        {"sms": f"{text}\n", "label": int(label == "spam")} for label, text in LINES
    ],
}


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the package that reads the hub; what was asked of it."""
    seen = []

    def load_dataset(name, config=None, *, split, revision):
        seen.append((name, config, split, revision))
        return HUB[name]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return seen


def test_mmlu_of_the_hub_has_four_options(hub):
    every = {p.prompt: p for part in parts(hub_problems, "cais/mmlu") for p in part}
    assert len(every) == 40
    for k in range(40):
        prompt = (
            f"Question: Which is number {k}?\nOptions:\n(A) {k}\n(B) b\n(C) c\n(D) d\nPlease "
            "select the correct answer. Only return one letter: A, B, C or D.\nAnswer:"
        )
        assert every[prompt].label == "ABCD"[k % 4]
        assert every[prompt].classes == ("A", "B", "C", "D")
    some = hub_problems("cais/mmlu", "high_school", n=5, revision="abc")
    assert {p.group for p in some} == {"high_school_art"}
    assert hub[-1] == ("cais/mmlu", "all", "test", "abc")
    assert hub[0] == ("cais/mmlu", "all", "test", None)


def test_finance_has_two_parts_and_leaves_out_other_answers(hub):
    every = [p for part in parts(hub_problems, FINANCE) for p in part]
    assert Counter(p.label for p in every) == {"positive": 10, "negative": 10, "neutral": 10}
    assert {p.classes for p in every} == {("positive", "negative", "neutral")}
    assert all(p.prompt.endswith("? ") for p in every)
    assert len({p.prompt for p in every}) == 30  # each is there twice
    asked = [p for part in parts(hub_problems, FINANCE, "yes_no_question") for p in part]
    truth = {row["inputs"] + " ": row["answer"].strip().lower() for row in HUB[FINANCE]}
    assert len(asked) == 40
    assert all(p.label == truth[p.prompt] and p.classes == ("yes", "no") for p in asked)
    assert set(hub) == {(FINANCE, None, "train", None)}


def test_spam_of_the_hub_is_that_of_the_file(hub, tmp_path):
    folder = write_sms(tmp_path)
    for split in SPLITS:
        for balanced in (True, False):
            found = hub_problems("ucirvine/sms_spam", split=split, balanced=balanced, seed=3)
            assert found == sms_spam(folder, split=split, balanced=balanced, seed=3)


def test_what_the_hub_has_not_is_named(hub):
    with pytest.raises(KeyError, match=r"no dataset 'mmlu'.*cais/mmlu, sujet-ai/"):
        hub_problems("mmlu")
    with pytest.raises(ValueError, match=r"is one of \('sentiment_analysis', 'yes_no_question'\)"):
        hub_problems(FINANCE, "qa")
    with pytest.raises(ValueError, match="nothing begins with 'x'; there are high_school_art, law"):
        hub_problems("cais/mmlu", "x")
    with pytest.raises(ValueError, match="the part of ucirvine/sms_spam is one of"):
        hub_problems("ucirvine/sms_spam", "x")
    with pytest.raises(ValueError, match="asked for are 999"):
        hub_problems("cais/mmlu", n=999)


def test_without_the_package_its_installation_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="pip install datasets"):
        hub_problems("cais/mmlu")
