"""ValueBench's file and the paper's persons: nothing lost, nothing twice, anything wrong said."""

import hashlib
import json
from collections import Counter

import pandas as pd
import pytest

from steerlib.core.questionnaires import Item
from steerlib.evaluation import value_items as module
from steerlib.evaluation.value_items import PAPER_VALUES, value_roles, valuebench

# The rows of each of the paper's values, and how many of them are against it.
ROWS = {
    "Achievement": (22, 7),
    "Aesthetic": (20, 0),
    "Anxiety Disorder": (20, 5),
    "Breadth of Interest": (20, 10),
    "Economic": (20, 0),
    "Empathy": (27, 11),
    "Organization": (20, 7),
    "Political": (20, 0),
    "Positive coping": (28, 9),
    "Religious": (20, 0),
    "Resilience": (25, 0),
    "Social": (20, 0),
    "Social Complexity": (23, 5),
    "Social Cynicism": (20, 0),
    "Theoretical": (20, 0),
    "Uncertainty Avoidance": (21, 2),
    "Understanding": (20, 8),
}
TWICE = {  # for one value, from two questionnaires
    ("Should I maintain interest in things?", "Resilience"),
    ("Should I not enjoy going to art museums?", "Breadth of Interest"),
    ("Should I not like concerts?", "Breadth of Interest"),
    ("Should I love to learn new things?", "Breadth of Interest"),
}


@pytest.fixture(scope="module")
def folder(external):
    home = external / "data" / "value_causal_graph"
    if not home.exists():
        pytest.skip(f"{home} does not exist")
    return home


@pytest.fixture(scope="module")
def table(folder):
    return pd.read_csv(folder / "value_orientation.csv")


def test_the_file_has_the_rows_that_the_paper_counts(table):
    assert len(table) == 1988
    assert table["value"].nunique() == 224
    counts = table.groupby("value")["agreement"].agg(["size", lambda sign: (sign == -1).sum()])
    assert {value: tuple(counts.loc[value]) for value in PAPER_VALUES} == ROWS
    assert sum(rows for rows, _ in ROWS.values()) == 366
    assert sorted(counts.index[counts["size"] >= 20]) == sorted(PAPER_VALUES)


def test_each_question_is_asked_once_for_a_value(folder, table):
    asked = valuebench(folder)
    assert asked.values == PAPER_VALUES
    assert asked.answers == {"yes": 1, "no": -1}
    chosen = table[table["value"].isin(PAPER_VALUES)]
    rows = Counter(zip(chosen["question"], chosen["value"], chosen["agreement"], strict=True))
    assert {Item(*row) for row in rows} == set(asked.items)
    assert {row[:2] for row, count in rows.items() if count > 1} == TWICE
    assert len(asked) == 366 - len(TWICE)


def test_four_questions_are_asked_for_two_values_each(folder):
    """Their scores are correlated whatever the model; a graph of values should know."""
    counts = Counter(item.question for item in valuebench(folder).items)
    shared = {question for question, count in counts.items() if count > 1}
    assert len(shared) == 4
    assert "Should I feel little concern for others?" in shared


def test_values_and_answers_can_be_chosen(folder):
    asked = valuebench(folder, ("Social", "Empathy"), {"agree": 2, "neutral": 0, "disagree": -2})
    assert asked.values == ("Social", "Empathy")
    assert asked.answers == {"agree": 2, "neutral": 0, "disagree": -2}


def test_every_value_of_the_file_can_be_asked(folder, table):
    names = sorted(set(table["value"]))
    assert valuebench(folder, names).values == tuple(names)


def test_persons_are_those_of_the_paper(folder):
    train, test = value_roles("train", folder), value_roles("test", folder)
    assert (len(train), len(test)) == (100, 25)
    assert not set(train) & set(test)
    assert train["Richard Carson"] == "Gender: male; Job: Engineer, maintenance (IT), MBTI: ENFJ"
    traits = [*train.values(), *test.values()]
    assert len(set(traits)) == 125
    assert all(trait.startswith("Gender: ") for trait in traits)


# --- without the files

LINES = [
    ("Q1", "a", "First", 1, "Should I?"),
    ("Q1", "b", "Second", -1, "Must I?"),
    ("Q2", "c", "First", -1, "May I not?"),
    ("Q2", "d", "First", 1, "Should I?"),
]


@pytest.fixture
def download(monkeypatch, tmp_path):
    """A small file in ValueBench's format where a download would put it; what was asked for."""
    asked = []

    def pretend(url, sha256, path):
        asked.append((url, sha256, path))
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = ["questionnaire", "item", "value", "agreement", "question"]
        if path.suffix == ".csv":
            pd.DataFrame(LINES, columns=columns).to_csv(path, index=False)
        else:
            person = {"mini_trait": "Gender: male", "bio2": "You are.", "bio3": "He is."}
            path.write_text(json.dumps({"Ann Ü": person}), encoding="utf-8")
        return path

    monkeypatch.setattr(module, "fetch", pretend)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return asked


def test_items_come_by_value_and_each_once(download):
    asked = valuebench(values=("Second", "First"))
    assert asked.items == (
        Item("Must I?", "Second", -1),
        Item("Should I?", "First", 1),
        Item("May I not?", "First", -1),
    )


def test_files_come_from_pinned_commits_into_the_cache(download, tmp_path):
    valuebench(values=("First",))
    assert (
        value_roles("train") == value_roles("test", tmp_path / "own") == {"Ann Ü": "Gender: male"}
    )
    raw, cache = (
        "https://raw.githubusercontent.com/",
        tmp_path / "cache" / "steerlib" / "valuebench",
    )
    upstream = raw + "bigai-nlco/ValueCausalGraph/d78dff0/tutorials/"
    assert [(url, path) for url, _, path in download] == [
        (
            raw + "Value4AI/ValueBench/1887734/data/value_orientation.csv",
            cache / "value_orientation.csv",
        ),
        (upstream + "players100.json", cache / "players100.json"),
        (upstream + "players25.json", tmp_path / "own" / "players25.json"),
    ]


def test_pinned_checksums_are_those_of_the_files(download, folder):
    valuebench(values=("First",))
    value_roles("train")
    value_roles("test")
    for _, sha256, path in download:
        assert sha256 == hashlib.sha256((folder / path.name).read_bytes()).hexdigest()


def test_a_changed_file_is_refused(tmp_path):
    (tmp_path / "value_orientation.csv").write_text("questionnaire,item,value,agreement,question\n")
    with pytest.raises(ValueError, match=r"value_orientation\.csv has the sha256"):
        valuebench(tmp_path)


def test_what_is_unknown_is_named(download):
    with pytest.raises(ValueError, match=r"no value 'Frist'; it has 2: \['First'\]"):
        valuebench(values=("Second", "Frist"))
    with pytest.raises(ValueError, match="at least one item"):
        valuebench(values=())
    with pytest.raises(ValueError, match=r"split is one of \('train', 'test'\), got 'selection'"):
        value_roles("selection")
