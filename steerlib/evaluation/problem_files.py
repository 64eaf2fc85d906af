"""Problems from public files: spam among text messages, and CAA's two-option questions.

Chapter: mera. Each comes in three parts, half to fit on, a quarter to choose or calibrate on, a
quarter to report on, the same shares of each group and label in all. Prompts are raw text and end
where the label begins; `dataclasses.replace(problem, chat=True)` asks by the chat template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from steerlib.core.classification import Problem
from steerlib.evaluation.downloads import fetch, home
from steerlib.evaluation.problem_parts import (
    choice_prompt,
    chosen,
    distinct,
    plain,
    sms_problems,
)
from steerlib.world.datasets import SplitName

_SMS = "SMSSpamCollection"
_SMS_SOURCE = "https://archive.ics.uci.edu/dataset/228/sms+spam+collection"
_CAA = "https://raw.githubusercontent.com/nrimsky/CAA"
_MMLU = (
    f"{_CAA}/e1fce128b6165a9926093c6abdf6ea9a24f4b5c4/datasets/test/mmlu/mmlu.json",
    "0d7292356978bdde9269b353a4c191521b72f71b849acd6798188fbf0f8936d8",
)
_TRUTHFULQA = (
    f"{_CAA}/0aec415b166171f84c7034bd0d9d1ddf5e6ebf46/datasets/test/truthfulqa/truthful_qa.json",
    "72d83605a8001c40c9d8c51e352ff19b8f168ba5b55b23e2fe35c7843eed88f3",
)
_OPTIONS = "\n\nChoices:\n"
_REQUEST = "Please help me answer the following question.\n"
_CLASSES = ("A", "B")


def sms_spam(
    folder: Path | str | None = None,
    *,
    n: int | None = None,
    balanced: bool = True,
    split: SplitName = "train",
    seed: int = 0,
) -> list[Problem]:
    """Is a text message spam or ham?

    Messages that differ in numbers, signs, spaces or case only count as one, since mass messages
    would lie in several splits: 5,087 of the 5,574 are left, 585 of them spam.

    Args:
        folder: where the file `SMSSpamCollection` lies; by default the user's cache.
        n: how many; default: all of the split.
        balanced: as many ham as spam. Else 88 of 100 are ham, and who always says ham is right in
            these.
        split: "train" a half, "selection" and "test" a quarter each.
        seed: of the split and of the order.

    Raises:
        FileNotFoundError: not there; it is part of an archive, which is not downloaded.
        ValueError: an unknown split, more than there are, or a line that is no labelled message.

    Source: Almeida, Hidalgo and Yamakami 2011, the UCI SMS Spam Collection (CC BY 4.0); the prompt
    is after that of Hedstrom et al. 2025 (MERA). Chapter: mera.

    Example:
        >>> sms_spam(n=250, split="test")[0].classes  # doctest: +SKIP
        ('ham', 'spam')
    """
    path = home(folder, "sms_spam") / _SMS
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there. Get the archive of the SMS Spam Collection from {_SMS_SOURCE} "
            f"(CC BY 4.0) and put its file {_SMS} there"
        )
    return chosen(sms_problems(_messages(path)), split, n, seed, balanced=balanced)


def mmlu(
    folder: Path | str | None = None,
    subject: str = "",
    *,
    n: int | None = None,
    split: SplitName = "train",
    seed: int = 0,
) -> list[Problem]:
    """Exam questions of 57 subjects, ten of each, with two options: CAA's subset of MMLU.

    Two of the four options are left, the right one and a wrong one, so that chance is .5 and not
    .25: accuracies do not compare with those of MMLU. `hub_problems("cais/mmlu")` has all four.

    Args:
        folder: where `mmlu.json` lies or goes to; by default the user's cache.
        subject: only subjects whose names begin so, such as "high_school" (140 questions). The
            splits are the same with and without it.
        n: how many; default: all of the split.
        split: "train" a half, "selection" and "test" a quarter each, of each subject and label.
        seed: of the split and of the order.

    Returns:
        Problems with the classes A and B, `group` is the subject.

    Raises:
        ConnectionError: not there and not to be had. ValueError: no such subject, an unknown split,
            more than there are, or a file with another checksum.

    Source: Hendrycks et al. 2021 (MMLU, MIT), in the form of Rimsky et al. 2024 (CAA),
    github.com/nrimsky/CAA. Chapter: mera.

    Example:
        >>> mmlu(subject="high_school", split="test")[0].classes  # doctest: +SKIP
        ('A', 'B')
    """
    return chosen(_two_options(folder, "mmlu.json", *_MMLU), split, n, seed, group=subject)


def truthfulqa(
    folder: Path | str | None = None,
    *,
    n: int | None = None,
    split: SplitName = "train",
    seed: int = 0,
) -> list[Problem]:
    """Questions that people often answer wrongly, with two options: CAA's subset of TruthfulQA.

    All 817 questions, each with a true answer and a false one out of several, so that chance is .5:
    accuracies do not compare with TruthfulQA's own scores.

    Args:
        folder: where `truthful_qa.json` lies or goes to; by default the user's cache.
        n: how many; default: all of the split.
        split: "train" a half, "selection" and "test" a quarter each, of each category and label.
        seed: of the split and of the order.

    Returns:
        Problems with the classes A and B, `group` is the category.

    Raises:
        ConnectionError: not there and not to be had. ValueError: an unknown split, more than there
            are, or a file with another checksum.

    Source: Lin, Hilton and Evans 2022 (TruthfulQA, Apache-2.0), in the form of Rimsky et al. 2024
    (CAA), github.com/nrimsky/CAA. Chapter: mera.

    Example:
        >>> truthfulqa(n=100)[0].classes  # doctest: +SKIP
        ('A', 'B')
    """
    return chosen(_two_options(folder, "truthful_qa.json", *_TRUTHFULQA), split, n, seed)


def _messages(path: Path) -> Iterator[tuple[str, str]]:
    """(label, text) of each line. Other editions of the file have other line ends."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            label, tab, text = line.partition("\t")
            if label not in ("ham", "spam") or not tab or not text.strip():
                raise ValueError(
                    f"line {number} of {path} is no label (ham or spam), tab and message: "
                    f"{line[:40]!r}"
                )
            yield label, text


def _two_options(folder: Path | str | None, name: str, url: str, sha256: str) -> list[Problem]:
    path = fetch(url, sha256, home(folder, "caa") / name)
    rows = json.loads(path.read_text(encoding="utf-8"))
    return distinct((plain(row["prompt"]), _two_option(row)) for row in rows)


def _two_option(row: dict[str, str]) -> Problem:
    question, _, options = row["prompt"].rpartition(_OPTIONS)
    prompt = choice_prompt(question.removeprefix(_REQUEST), options, _CLASSES)
    label = row["correct"].strip("()")
    return Problem(prompt, label, _CLASSES, chat=False, group=row["category"])
