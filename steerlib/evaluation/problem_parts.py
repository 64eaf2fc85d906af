"""Real questions in three disjoint parts that are alike: to fit on, to choose on, to report on.

Chapter: mera. What is calibrated on one part holds on another only if both are drawn alike. So rows
are shuffled within each group and label before they are dealt out, and a text that a file has
several times counts once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import TypeVar, get_args

from steerlib.core.classification import Problem
from steerlib.world.datasets import SplitName

T = TypeVar("T")
_log = logging.getLogger(__name__)
# Of four in a row: in this order a cell of ten gives five to train, and two or three to the others.
_DEALT: tuple[SplitName, ...] = ("train", "selection", "train", "test")


def chosen(
    problems: Iterable[Problem],
    split: SplitName,
    n: int | None,
    seed: int,
    *,
    balanced: bool = False,
    group: str = "",
) -> list[Problem]:
    """The first n of a part, or all of it.

    Args:
        problems: all parts, each question once.
        group: only groups that begin so. A question is in the same part with and without it.
        balanced: as many of each label as of the others, but for one at most; some of the frequent
            labels are left out then.

    Raises:
        ValueError: an unknown split, n below 1, more than there are, or no such group.
    """
    if split not in _DEALT or (n is not None and n < 1):
        raise ValueError(f"split is one of {get_args(SplitName)}, n at least 1: {split!r}, {n}")
    every, rng = list(problems), Random(f"order-{split}-{seed}")
    if not any(p.group.startswith(group) for p in every):
        known = ", ".join(sorted({p.group for p in every}))
        raise ValueError(f"nothing begins with {group!r}; there are {known}")
    part = _part(every, split, Random(f"parts-{seed}"))
    own = _mixed([p for p in part if p.group.startswith(group)], rng)
    if balanced:
        own = list(_in_turn(own, rng))
    if len(own) < (n or 1):
        kind = "balanced problems" if balanced else "problems"
        raise ValueError(f"the {split} split has {len(own)} {kind}, asked for are {n or 'all'}")
    return own[:n]


def distinct(problems: Iterable[tuple[str, Problem]]) -> list[Problem]:
    """Of (key, problem) the first of each key, and none of a key whose labels disagree."""
    found: dict[str, list[Problem]] = {}
    for key, problem in problems:
        found.setdefault(key, []).append(problem)
    kept = [same[0] for same in found.values() if len({p.label for p in same}) == 1]
    _log.info("%d rows, %d questions", sum(map(len, found.values())), len(kept))
    return kept


def plain(text: str) -> str:
    """A key that leaves out what white space there is."""
    return " ".join(text.split())


def choice_prompt(question: str, options: str, letters: tuple[str, ...]) -> str:
    """A question with lettered options, after MERA's."""
    return (
        f"Question: {question.strip()}\nOptions:\n{options}\nPlease select the correct answer. "
        f"Only return one letter: {', '.join(letters[:-1])} or {letters[-1]}.\nAnswer:"
    )


def sms_problems(rows: Iterable[tuple[str, str]]) -> list[Problem]:
    """A question about each (label, text), after MERA's; texts with the same letters count once."""
    return distinct(
        (_letters(text), Problem(_sms(text), label, ("ham", "spam"), chat=False))
        for label, text in rows
    )


def _sms(text: str) -> str:
    return (
        f'This SMS (text message): "{text.strip()}" is classified as either spam or ham. Please '
        'evaluate the message and choose its class. Only return one word: "ham" or "spam". Answer:'
    )


def _letters(text: str) -> str:
    """A key that leaves out numbers, signs and case: mass messages differ in these only."""
    return "".join(c for c in text.casefold() if c.isalpha()) or plain(text)


def _part(problems: list[Problem], split: SplitName, rng: Random) -> list[Problem]:
    """Each group and label shuffled, all put in a row, and the row dealt out."""
    cells: dict[str, dict[str, list[Problem]]] = {}
    for problem in problems:
        cells.setdefault(problem.group, {}).setdefault(problem.label, []).append(problem)
    row = []
    for group in _mixed(sorted(cells), rng):
        # In a fixed order of labels the first one would get every odd place.
        for label in _mixed(sorted(cells[group]), rng):
            row += _mixed(cells[group][label], rng)
    return [p for place, p in enumerate(row) if _DEALT[place % len(_DEALT)] == split]


def _mixed(items: Sequence[T], rng: Random) -> list[T]:
    return rng.sample(items, len(items))


def _in_turn(problems: list[Problem], rng: Random) -> Iterator[Problem]:
    """One of each label, in any order, and again, while there are some of all."""
    labels = problems[0].classes if problems else ()
    for same in zip(*([p for p in problems if p.label == label] for label in labels), strict=False):
        yield from _mixed(same, rng)
