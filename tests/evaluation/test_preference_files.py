"""BiPO's and CAA's files: the texts as they are, odd rows left out and counted, nothing harmful."""

import csv
import hashlib
import json
import re
from collections import Counter

import pytest

from steerlib.evaluation import bipo_options, bipo_pairs, caa_pairs, caa_questions, preference_rows

BIPO = ("power-seeking", "wealth-seeking", "hallucination")
CAA = (
    "coordinate-other-ais",
    "corrigible-neutral-HHH",
    "hallucination",
    "myopic-reward",
    "survival-instinct",
    "sycophancy",
)
TRAIN = [
    ("Rule?", "Yes.", "No."),
    (" Lead,\nthen?\nAnswer \n", '"Gladly", he said.', " Never. "),
    ("Rule?", "Of course.", "No."),
    ("Rule?", "Yes.", "No. "),
    ("", "Yes.", "No."),
    (" ", "Yes.", "Never."),
    ("Own?", "Yes.", " Yes."),
    ("Own?", "", "No."),
]
TEST = [
    ("Win?", "Yes.", "No."),
    ("Lead, then? Answer", "Gladly.", "Never."),
    ("Own more?", "I", "o"),
]
INFER = [
    ("Win?", "No.", "Yes.", "B"),
    ("Lead, then? Answer", "Gladly.", "Never.", "A"),
    ("Own more?", "I", "o", "A"),
]


def written(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def caa(question, letter):
    other = "(B)" if letter == "(A)" else "(A)"
    names = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
    return dict(zip(names, (question, letter, other), strict=True))


CAA_FILES = {
    "generate_dataset.json": [caa(" Go?\n\nChoices:\n (A) Yes\n (B) No ", "(A)")]
    + [caa(f"{k}?\n\nChoices:\n (A) Yes\n (B) No", "(B)") for k in range(3)],
    "test_dataset_ab.json": [
        caa("1? Choices: (A) Yes (B) No", "(B)"),
        caa("9?\n\nChoices:\n (A) Yes\n (B) No", "(A)"),
    ],
    "test_dataset_open_ended.json": [{"question": " Why? \n"}, {"question": "How?"}],
}


@pytest.fixture
def download(monkeypatch, tmp_path):
    """Small files of the same kind in place of a download; what was asked for."""
    seen = []

    def pretend(url, sha256, path):
        seen.append((url, sha256, path))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "test_infer.csv":
            written(path, ("question", "A", "B", "matching"), INFER)
        elif path.suffix == ".csv":
            rows = TRAIN if path.name == "train.csv" else TEST
            written(path, ("question", "matching", "not_matching"), rows)
        else:
            path.write_text(json.dumps(CAA_FILES[path.name]))
        return path

    monkeypatch.setattr(preference_rows, "fetch", pretend)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return seen


def triples(choices):
    return [(choice.prompt, choice.positive, choice.negative) for choice in choices]


# --- rows


def test_texts_are_those_of_the_file_and_odd_rows_are_counted(download):
    counted = (
        "5 of 8 rows of power-seeking/train.csv left out: 1 said before, 2 without a question, "
        "2 without two different responses"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(counted)}$") as told:
        found = bipo_pairs("power-seeking")
    assert triples(found) == [
        ("Rule?", "Yes.", "No."),
        ("Lead,\nthen?\nAnswer", '"Gladly", he said.', "Never."),
        ("Rule?", "Of course.", "No."),
    ]
    assert all(choice.chat is None and choice.system is None for choice in found)
    assert [warning.filename for warning in told] == [__file__]


def test_a_question_of_train_is_left_out_of_test(download):
    with pytest.warns(UserWarning, match="1 of 3 rows .*test.csv left out: 1 with a question of"):
        found = bipo_pairs("power-seeking", split="test")
    assert triples(found) == [("Win?", "Yes.", "No."), ("Own more?", "I", "o")]


def test_options_say_which_letter_shows_the_behaviour(download):
    with pytest.warns(UserWarning, match="1 of 3 rows of power-seeking/test_infer.csv left out"):
        found = bipo_options("power-seeking")
    assert triples(found) == [
        ("Win?\n\nChoices:\n (A) No.\n (B) Yes.", "(B)", "(A)"),
        ("Own more?\n\nChoices:\n (A) I\n (B) o", "(A)", "(B)"),
    ]


@pytest.mark.filterwarnings("error")
def test_caa_s_answers_are_letters(download):
    found = triples(caa_pairs("sycophancy"))
    assert found[0] == ("Go?\n\nChoices:\n (A) Yes\n (B) No", "(A)", "(B)")
    assert [(positive, negative) for _, positive, negative in found[1:]] == [("(B)", "(A)")] * 3
    assert caa_questions("sycophancy") == ["Why?", "How?"]


def test_a_question_of_caa_s_train_is_left_out_of_test(download):
    with pytest.warns(UserWarning, match=r"1 of 2 rows of sycophancy \(test\) left out"):
        found = caa_pairs("sycophancy", split="test")
    assert triples(found) == [("9?\n\nChoices:\n (A) Yes\n (B) No", "(A)", "(B)")]


# --- where files come from


def all_of(load, names, **options):
    return [load(name, **options) for name in names]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_come_from_pinned_commits_and_checksums_are_those_of_the_files(
    download, tmp_path, external
):
    for split in ("train", "test"):
        all_of(bipo_pairs, BIPO, split=split)
        all_of(caa_pairs, CAA, split=split)
    all_of(bipo_options, BIPO)
    all_of(caa_questions, CAA)
    raw = r"https://raw\.githubusercontent\.com/"
    address = re.compile(
        raw + r"(?:CaoYuanpu/BiPO/a5774184\w{32}/data|nrimsky/CAA/\w{40}/datasets)/(.*)"
    )
    files = {}
    for url, sha256, path in download:
        at = path.relative_to(tmp_path / "cache" / "steerlib")
        files[at] = sha256
        assert address.fullmatch(url)[1] == at.relative_to(at.parts[0]).as_posix()
        assert ("BiPO" in url, "CAA" in url) == (at.parts[0] == "bipo", at.parts[0] == "caa")
        real = (external / "data" / at).read_bytes()
        assert sha256 == hashlib.sha256(real).hexdigest()
    assert Counter(at.parts[0] for at in files) == {"bipo": 9, "caa": 18}
    assert len(set(files.values())) == 27


def test_a_changed_file_is_refused(tmp_path):
    for path in (
        tmp_path / "power-seeking" / "train.csv",
        tmp_path / "generate" / "sycophancy" / "generate_dataset.json",
        tmp_path / "test" / "sycophancy" / "test_dataset_open_ended.json",
    ):
        path.parent.mkdir(parents=True)
        path.write_text("[]")
    for load in (
        lambda: bipo_pairs("power-seeking", tmp_path),
        lambda: caa_pairs("sycophancy", tmp_path),
        lambda: caa_questions("sycophancy", str(tmp_path)),
    ):
        with pytest.raises(ValueError, match="has the sha256"):
            load()


@pytest.mark.parametrize("load", [bipo_pairs, bipo_options])
def test_the_jailbreak_set_is_not_offered(download, load):
    with pytest.raises(KeyError, match=r"'jailbreak' is not offered, as the set holds harmful .*"):
        load("jailbreak")
    with pytest.raises(KeyError, match="no behaviour 'power'; there are power-seeking, wealth"):
        load("power")
    assert not download


@pytest.mark.parametrize("load", [caa_pairs, caa_questions])
def test_the_refusal_set_is_not_offered(download, load):
    with pytest.raises(
        KeyError, match=r"'refusal' is not offered, .* requests for harm; there are"
    ):
        load("refusal")
    with pytest.raises(KeyError, match=r"no behaviour 'power-seeking'; there are coordinate-other"):
        load("power-seeking")
    assert not download


@pytest.mark.parametrize("load", [bipo_pairs, caa_pairs])
def test_the_authors_have_no_part_to_choose_on(download, load):
    with pytest.raises(ValueError, match=r"one of \('train', 'test'\), got 'selection'"):
        load("hallucination", split="selection")


# --- the real files


# (train, test, options where the behaviour is A); what is left out, in words
REAL = {
    "power-seeking": (638, 199, 98, "2 said before, 2 without a question"),
    "wealth-seeking": (618, 200, 100, "4 said before, 1 without a question"),
    "hallucination": (700, 200, 113, ""),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("behaviour", BIPO)
def test_the_real_files_of_bipo(external, behaviour, recwarn):
    folder = external / "data" / "bipo"
    train = bipo_pairs(behaviour, folder)
    test = bipo_pairs(behaviour, folder, split="test")
    options = bipo_options(behaviour, folder)
    *sizes, why = REAL[behaviour]
    assert [len(train), len(test), sum(c.positive == "(A)" for c in options)] == sizes
    assert len(options) == len(test)
    told = [str(warning.message) for warning in recwarn]
    assert ([t.partition(": ")[2] for t in told if "/train.csv" in t] or [""]) == [why]
    assert not {c.prompt for c in train} & {c.prompt for c in test}
    with (folder / behaviour / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = {tuple(map(str.strip, row)) for row in list(csv.reader(file))[1:]}
    assert {t for t in rows if t[0]} == set(triples(train))
    for choice, option in zip(test, options, strict=True):
        letters = re.fullmatch(r"(.*)\n\nChoices:\n \(A\) (.*)\n \(B\) (.*)", option.prompt, re.S)
        texts = dict(zip(("(A)", "(B)"), letters.groups()[1:], strict=True))
        assert (letters[1], texts[option.positive], texts[option.negative]) == triples([choice])[0]


@pytest.mark.filterwarnings("error")
def test_the_real_files_of_caa(external):
    folder = external / "data" / "caa"
    train = {name: caa_pairs(name, folder) for name in CAA}
    assert [len(choices) for choices in train.values()] == [360, 290, 1000, 950, 903, 1000]
    for name in CAA:
        assert len(caa_pairs(name, folder, split="test")) == 50
        assert len(caa_questions(name, folder)) == (53 if name == "sycophancy" else 50)
    every = [choice for choices in train.values() for choice in choices]
    assert all(f" {answer}" in c.prompt for c in every for answer in (c.positive, c.negative))
    assert sum(c.positive == "(A)" for c in train["survival-instinct"]) == 558
