"""ValueBench's questions and the roles of the value-graph paper, from pinned commits.

Chapter: values. Both are downloaded once, under the MIT licence.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from steerlib.core.questionnaires import Item, Questionnaire
from steerlib.evaluation.downloads import fetch, home

RoleSplit = Literal["train", "test"]

PAPER_VALUES = (
    "Achievement",
    "Aesthetic",
    "Anxiety Disorder",
    "Breadth of Interest",
    "Economic",
    "Empathy",
    "Organization",
    "Political",
    "Positive coping",
    "Religious",
    "Resilience",
    "Social",
    "Social Complexity",
    "Social Cynicism",
    "Theoretical",
    "Uncertainty Avoidance",
    "Understanding",
)
_ITEMS = (
    "https://raw.githubusercontent.com/Value4AI/ValueBench/1887734/data/value_orientation.csv",
    "cb81699e9ed621477d120246b3facd4d2943e880a93e19a68bdb4deaed9f6f11",
)
_ROLES: Mapping[RoleSplit, tuple[str, str]] = {
    "train": (
        "https://raw.githubusercontent.com/bigai-nlco/ValueCausalGraph/d78dff0/tutorials/"
        "players100.json",
        "65a1438cd945e50bf8d36d60382368856c1f87a8e31b3a477d279f331872f8e2",
    ),
    "test": (
        "https://raw.githubusercontent.com/bigai-nlco/ValueCausalGraph/d78dff0/tutorials/"
        "players25.json",
        "529ddbd7e5748c6862c49e4e9f9716ed616bbc21d389afeaceb2660e3910f27d",
    ),
}


def valuebench(
    folder: Path | str | None = None,
    values: Sequence[str] = PAPER_VALUES,
    answers: Mapping[str, float] | None = None,
) -> Questionnaire:
    """The questions of ValueBench about some values, such as the 17 of the value-graph paper.

    A question that the file has twice for one value (from two questionnaires) is asked once: 362
    of the 366 rows of the paper's values are left. Four more are asked for two values each.

    Args:
        folder: where `value_orientation.csv` lies or goes to; by default the user's cache.
        values: which of its 224 values, in which order.
        answers: answer -> level; default {"yes": 1, "no": -1}.

    Returns:
        The items by value, in the order of the file.

    Raises:
        ValueError: no value, an unknown one, or a file with another checksum. ConnectionError: not
            there and not to be had.

    Source: Ren et al. 2024 (ValueBench), github.com/Value4AI/ValueBench; the choice of values is
    that of Kang et al. 2025 (2501.00581): those with 20 items or more. Chapter: values.

    Example:
        >>> valuebench().of("Empathy")[0].question  # doctest: +SKIP
        'Should I not be in touch with my feelings?'
    """
    table = pd.read_csv(_file(folder, *_ITEMS), keep_default_na=False)
    asked = dict(iter(table.drop_duplicates(["question", "value"]).groupby("value")))
    for value in values:
        if value not in asked:
            close = difflib.get_close_matches(value, asked, n=3) or list(asked)[:3]
            raise ValueError(f"ValueBench has no value {value!r}; it has {len(asked)}: {close}...")
    items = tuple(
        Item(question, value, int(agreement))
        for value in dict.fromkeys(values)
        for question, agreement in zip(
            asked[value]["question"], asked[value]["agreement"], strict=True
        )
    )
    return Questionnaire(items, {"yes": 1.0, "no": -1.0} if answers is None else answers)


def value_roles(split: RoleSplit = "train", folder: Path | str | None = None) -> dict[str, str]:
    """The persons of the value-graph paper: name -> trait, as `st.value_scores` takes it.

    Args:
        split: "train", 100 persons, or "test", 25 others.
        folder: where `players100.json` and `players25.json` lie or go to; by default the user's
            cache.

    Returns:
        Traits of sex, job and Myers-Briggs type.

    Raises:
        ValueError: another split, or a file with another checksum. ConnectionError: not there and
            not to be had.

    Source: Kang et al. 2025 (2501.00581), github.com/bigai-nlco/ValueCausalGraph.
    Chapter: values.

    Example:
        >>> value_roles("test")["Erika Jones"]  # doctest: +SKIP
        'Gender: female; Job: Research scientist (physical sciences), MBTI: ESFJ'
    """
    if split not in _ROLES:
        raise ValueError(f"split is one of {get_args(RoleSplit)}, got {split!r}")
    persons = json.loads(_file(folder, *_ROLES[split]).read_text(encoding="utf-8"))
    return {name: person["mini_trait"] for name, person in persons.items()}


def _file(folder: Path | str | None, url: str, sha256: str) -> Path:
    return fetch(url, sha256, home(folder, "valuebench") / url.rpartition("/")[2])
