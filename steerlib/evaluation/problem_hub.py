"""Problems from datasets of the Hugging Face hub, by name: those of the MERA paper.

Chapter: mera. They are read by the package `datasets`, which is not needed for anything else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steerlib.core.classification import Problem
from steerlib.evaluation.problem_parts import (
    choice_prompt,
    chosen,
    distinct,
    plain,
    sms_problems,
)
from steerlib.world.datasets import SplitName

_Rows = Iterable[Mapping[str, Any]]
_LETTERS = ("A", "B", "C", "D")
_FINANCE: Mapping[str, tuple[str, ...]] = {
    "sentiment_analysis": ("positive", "negative", "neutral"),
    "yes_no_question": ("yes", "no"),
}


@dataclass(frozen=True)
class _Dataset:
    """Where the rows of a dataset are and how they are read; its parts, the first by default.

    Without names of parts a part is how groups begin.
    """

    config: str | None
    rows: str
    read: Callable[[_Rows, str], Iterable[Problem]]
    parts: tuple[str, ...] = ()


def hub_problems(
    name: str,
    part: str | None = None,
    *,
    n: int | None = None,
    balanced: bool = False,
    split: SplitName = "train",
    seed: int = 0,
    revision: str | None = None,
) -> list[Problem]:
    """Problems of a dataset of the Hugging Face hub, in three parts as those of `sms_spam`.

    | name | part | classes |
    |---|---|---|
    | cais/mmlu | how the subjects begin, such as "high_school"; default: all | A, B, C, D |
    | sujet-ai/Sujet-Finance-Instruct-177k | "sentiment_analysis" (default) | positive, ... |
    | | "yes_no_question" | yes, no |
    | ucirvine/sms_spam | | ham, spam |

    Prompts are after those of MERA. Of Sujet-Finance only rows with one of these answers count (the
    data set also has bullish and bearish). A question that comes several times counts once, one
    with two labels not at all.

    Args:
        n: how many; default: all of the split.
        balanced: as many of each label as of the others.
        split: "train" a half, "selection" and "test" a quarter each, of the rows that the paper
            uses: MMLU's own test split, the training split (the only one) of the others.
        seed: of the split and of the order.
        revision: a commit of the dataset; without one it may change.

    Raises:
        ImportError: the package `datasets` is not installed. KeyError: another dataset.
        ValueError: no such part, an unknown split, or more than there are.

    Source: Hedstrom et al. 2025 (MERA), section 4: its datasets. Chapter: mera.

    Example:
        >>> hub_problems("cais/mmlu", "high_school", n=250)[0].group  # doctest: +SKIP
        'high_school_physics'
    """
    if name not in _DATASETS:
        raise KeyError(f"no dataset {name!r} is known here; there are {', '.join(_DATASETS)}")
    data = _DATASETS[name]
    part = (data.parts or ("",))[0] if part is None else part
    if data.parts and part not in data.parts:
        raise ValueError(f"the part of {name} is one of {data.parts}, got {part!r}")
    rows = _load()(name, data.config, split=data.rows, revision=revision)
    group = "" if data.parts else part
    return chosen(data.read(rows, part), split, n, seed, balanced=balanced, group=group)


def _load() -> Callable[..., _Rows]:
    # By name: it is no dependency of this package.
    try:
        return importlib.import_module("datasets").load_dataset
    except ImportError as error:
        raise ImportError(
            "datasets of the hub are read by the library datasets: pip install datasets"
        ) from error


def _mmlu(rows: _Rows, part: str) -> list[Problem]:
    return distinct(map(_four_options, rows))


def _four_options(row: Mapping[str, Any]) -> tuple[str, Problem]:
    texts = zip(_LETTERS, row["choices"], strict=True)
    options = "\n".join(f"({letter}) {text}" for letter, text in texts)
    prompt = choice_prompt(row["question"], options, _LETTERS)
    label = _LETTERS[row["answer"]]
    return plain(prompt), Problem(prompt, label, _LETTERS, chat=False, group=row["subject"])


def _finance(rows: _Rows, part: str) -> list[Problem]:
    return distinct(_answered((row for row in rows if row["task_type"] == part), _FINANCE[part]))


def _answered(rows: _Rows, classes: tuple[str, ...]) -> Iterator[tuple[str, Problem]]:
    for row in rows:
        prompt, label = row["inputs"] + " ", str(row["answer"]).strip(" .\n").lower()
        if label in classes:
            yield plain(prompt), Problem(prompt, label, classes, chat=False)


def _messages(rows: _Rows, part: str) -> list[Problem]:
    return sms_problems((("ham", "spam")[row["label"]], row["sms"]) for row in rows)


_DATASETS = {
    "cais/mmlu": _Dataset("all", "test", _mmlu),
    "sujet-ai/Sujet-Finance-Instruct-177k": _Dataset(None, "train", _finance, tuple(_FINANCE)),
    "ucirvine/sms_spam": _Dataset(None, "train", _messages, ("",)),
}
