"""Preferences from public files: BiPO's pairs of responses and CAA's two-option questions.

Chapter: bipo. Texts are as they are in the files, but for white space around them. Rows that make
no choice are left out, with a warning that counts them.
"""

from __future__ import annotations

from pathlib import Path

from steerlib.evaluation.preference_rows import (
    Part,
    bipo_rows,
    caa_choices,
    caa_rows,
    checked,
)
from steerlib.world.choices import Choice


def bipo_pairs(
    behaviour: str, folder: Path | str | None = None, *, split: Part = "train"
) -> list[Choice]:
    """BiPO's questions, each with a response that shows a behaviour and one that does not.

    | behaviour | train | test | left out |
    |---|---|---|---|
    | power-seeking | 638 of 642 | 199 of 200 | 2 without a question, 2 repeated; 1 in train too |
    | wealth-seeking | 618 of 623 | 200 | 1 without a question, 4 repeated |
    | hallucination | 700 | 200 | |

    The question that is in both splits of power-seeking stays in train. Oddities that are kept:
    "Answer" at the end of a question (one in each split of wealth-seeking), "Question:" in 30 of
    hallucination, and leavings of a file format such as <META_START> in 12 rows of the other two.
    In hallucination all positive responses but one begin with "Yes" and all negative ones with
    "No", so the style alone tells them apart.

    Args:
        behaviour: power-seeking, wealth-seeking or hallucination.
        folder: where `power-seeking/train.csv` and the like lie or go to; by default the user's
            cache.
        split: the authors' train or test. They have no part to choose on: take some of train.

    Raises:
        KeyError: no such behaviour, or the jailbreak set, which holds harmful text.
        ConnectionError: not there and not to be had. ValueError: an unknown split, or a file with
            another checksum.

    Warns:
        UserWarning: how many rows are left out, and why.

    Source: Cao et al. 2024 (BiPO), section 4.1, github.com/CaoYuanpu/BiPO (MIT). Chapter: bipo.

    Example:
        >>> bipo_pairs("hallucination", split="test")[0].negative[:27]  # doctest: +SKIP
        "No, that's not accurate. Th"
    """
    rows = bipo_rows(behaviour, folder, f"{checked(split)}.csv", "matching", "not_matching")
    return [Choice(question, positive, negative) for question, positive, negative in rows]


def bipo_options(behaviour: str, folder: Path | str | None = None) -> list[Choice]:
    """BiPO's test questions with both responses as options (A) and (B), in the form of CAA's.

    The behaviour is option A in 98 of 200 (power-seeking), 100 (wealth-seeking) and 113
    (hallucination) rows; the question that is in train too is left out.

    Args:
        behaviour, folder: as for `bipo_pairs`.

    Returns:
        Choices between "(A)" and "(B)", of which the positive one shows the behaviour.

    Raises:
        As `bipo_pairs`.

    Source: Cao et al. 2024 (BiPO), `test_infer.csv`, whose options are there shown to the judge as
    examples; the letters as answers are after Rimsky et al. 2024 (CAA). Chapter: bipo.

    Example:
        >>> bipo_options("power-seeking")[0].positive  # doctest: +SKIP
        '(A)'
    """
    found = []
    for question, a, b, letter in bipo_rows(
        behaviour, folder, "test_infer.csv", "A", "B", "matching"
    ):
        answers = ("(A)", "(B)") if letter == "A" else ("(B)", "(A)")
        found.append(Choice(f"{question}\n\nChoices:\n (A) {a}\n (B) {b}", *answers))
    return found


def caa_pairs(
    behaviour: str, folder: Path | str | None = None, *, split: Part = "train"
) -> list[Choice]:
    """CAA's questions with options; the answers are letters in brackets, such as "(A)".

    coordinate-other-ais 360 and 50 (train and test), corrigible-neutral-HHH 290 and 50,
    hallucination, sycophancy 1,000 and 50 each, myopic-reward 950 and 50, survival-instinct 903 and
    50. There the behaviour is option A in 558 of 903, and there are up to eight options.

    Args:
        behaviour: one of these.
        folder: where `generate` and `test` lie or go to; by default the user's cache.
        split: the authors' train or test.

    Raises:
        KeyError: no such behaviour, or the refusal set, which holds requests for harm.
        ConnectionError: not there and not to be had. ValueError: an unknown split, or a file with
            another checksum.

    Source: Rimsky et al. 2024 (CAA), github.com/nrimsky/CAA (MIT). Chapter: bipo.

    Example:
        >>> caa_pairs("sycophancy")[0].positive  # doctest: +SKIP
        '(A)'
    """
    rows = caa_choices(behaviour, folder, checked(split))
    return [Choice(question, positive, negative) for question, positive, negative in rows]


def caa_questions(behaviour: str, folder: Path | str | None = None) -> list[str]:
    """CAA's open-ended test questions: 50 for each behaviour, 53 for sycophancy.

    Args:
        behaviour, folder: as for `caa_pairs`.

    Raises:
        As `caa_pairs`.

    Source: Rimsky et al. 2024 (CAA), section 5. Chapter: bipo.

    Example:
        >>> len(caa_questions("sycophancy"))  # doctest: +SKIP
        53
    """
    return [row["question"].strip() for row in caa_rows(behaviour, folder, 2)]
