"""The world's questions whose answers the model often gets wrong, with exact labels.

Chapter: mera. In `reviews` labels are flipped both ways, by source; in `verdict`, `agreement` and
`advice` a cue makes the model say yes where no is right, never the other way; in `spam` and
`majority` the evidence is thin. No prompt is in two splits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import get_args

from steerlib.core.classification import Problem
from steerlib.world.counting import majority, spam
from steerlib.world.datasets import SplitName
from steerlib.world.documents import Question
from steerlib.world.reviews import one_sided, review

_TASKS: dict[str, Callable[[Random], Question]] = {
    "reviews": review,
    "verdict": lambda rng: one_sided(rng, "verdict"),
    "agreement": lambda rng: one_sided(rng, "agreement"),
    "advice": lambda rng: one_sided(rng, "advice"),
    "spam": spam,
    "majority": majority,
}
TASKS = tuple(_TASKS)
# Of four parts: which prompts belong to a split.
_PARTS: dict[SplitName, tuple[int, ...]] = {"train": (0, 1), "selection": (2,), "test": (3,)}


def world_problems(
    task: str,
    n: int = 1000,
    *,
    split: SplitName = "train",
    seed: int = 0,
    preface: bool = True,
    system: str | None = None,
) -> list[Problem]:
    """Different questions of one task, drawn alike; the label is the clean one.

    Args:
        task: "reviews" (positive, negative, mixed), "verdict", "agreement", "advice" and "spam"
            (yes, no), or "majority" (crimson, azure).
        split: half of all prompts to fit on, a quarter to choose or calibrate on, a quarter to
            report on.
        seed: of the split and of the draws.
        preface: whether the answer's preface is part of the prompt (`advice` only); without it the
            model writes its own, and the answer comes later.
        system: a system text in place of the question's own; the prompting control.

    Raises:
        KeyError: no such task. ValueError: an unknown split, n below 1, or more than there are.

    Chapter: mera.

    Example:
        >>> world_problems("spam", 1)[0].classes
        ('yes', 'no')
    """
    if task not in _TASKS:
        raise KeyError(f"no task {task!r}; there are {', '.join(TASKS)}")
    if split not in _PARTS or n < 1:
        raise ValueError(f"split is one of {get_args(SplitName)}, n at least 1: {split!r}, {n}")
    rng, found = Random(f"{task}-{split}-{seed}"), dict[str, Problem]()
    for _ in range(200 * n + 1000):
        question = _TASKS[task](rng)
        plain = question if preface else replace(question, preface="")
        # The split is that of the question without its preface, so that both forms agree.
        key = replace(question, preface="").prompt
        if zlib.crc32(f"{seed}-{key}".encode()) % 4 in _PARTS[split] and key not in found:
            asked = plain if system is None else replace(plain, system=system)
            found[key] = Problem(
                asked.prompt, question.clean, question.choices, chat=False, group=question.group
            )
            if len(found) == n:
                return list(found.values())
    raise ValueError(
        f"the {split} split of {task} has only about {len(found)} different questions, asked for "
        f"are {n}; take fewer"
    )
