"""Arms of an experiment and their graded answers.

Chapter: directions. An arm is one way to get an answer: an intervention at some strengths, other
words in the prompt, another model (a fine-tuned copy), some of these, or nothing. All arms answer
the same prompts and are graded by the same judge on the prompt as it was before anything was added
to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from steerlib.core.generation import generate
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.steering import steer
from steerlib.evaluation.judges import Ask, Judge, grades

Row = dict[str, Any]
Job = tuple[float, str]  # a strength and a prompt
_COLUMNS = ("arm", "strength", "prompt", "text")


@dataclass(frozen=True)
class Arm:
    """One way to get an answer.

    Args:
        name: its name in tables.
        intervention: what changes inside the model; None for nothing.
        strengths: where it is tried. An arm without an intervention has one: 0, or 1 with a model.
        ask: rewrites a prompt before the model reads it; the judge sees the original.
        model: answers instead of the model of the experiment, such as `st.lora(...).model`.

    Raises:
        ValueError: no name, no strengths, one twice or not finite, or several without an
            intervention.
        TypeError: a model that is no `Model`.

    Chapter: directions.

    Example:
        >>> Arm("weather", weather, strengths=(0.5, 1.0, 1.5))
    """

    name: str
    intervention: Intervention | None = None
    strengths: tuple[float, ...] = (1.0,)
    ask: Ask | None = None
    model: Model | None = None

    def __post_init__(self) -> None:
        strengths = tuple(float(s) for s in self.strengths)
        if not isinstance(self.model, Model | None):
            raise TypeError(
                f"the model of arm {self.name!r} is a Model, such as st.lora(...).model; "
                f"got {type(self.model).__name__}"
            )
        if not self.name:
            raise ValueError("an arm needs a name, got ''")
        if not strengths or not all(map(math.isfinite, strengths)):
            raise ValueError(f"arm {self.name!r} needs finite strengths, got {self.strengths}")
        if len(set(strengths)) != len(strengths):
            raise ValueError(f"arm {self.name!r} has a strength twice: {strengths}")
        if self.intervention is None:
            if len(strengths) > 1:
                raise ValueError(
                    f"arm {self.name!r} has no intervention, so it cannot have the strengths "
                    f"{strengths}; leave them out"
                )
            strengths = (0.0,) if self.model is None else (1.0,)
        object.__setattr__(self, "strengths", strengths)


def score(
    model: Model,
    arms: Sequence[Arm],
    prompts: Sequence[str],
    judge: Judge,
    *,
    max_new_tokens: int = 36,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
    chat: bool | None = None,
    system: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The graded answers of all arms at all their strengths to all prompts.

    All strengths of an arm share batches, with one strength per sample. Every arm samples with
    the same seed; the same call gives the same table.

    Args:
        judge: (prompt, answer) -> a grade, or several by name with one called "score".
        max_new_tokens, temperature, chat, system: as in `st.generate`.
        batch_size: answers decoded at once.
        progress: show a bar where it takes more than two seconds.

    Returns:
        One row per arm, strength and prompt: arm, strength, prompt, text, score, other grades.

    Raises:
        ValueError: no arms or prompts, two arms of one name, a judge without a finite "score".

    Source: the protocol of Wu et al. 2025 (AxBench), section 3.2. Chapter: directions.

    Example:
        >>> score(model, [Arm("weather", weather)], prompts, world_judge("weather"))
    """
    asked = checked(arms, prompts)
    decoding: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "chat": chat,
        "system": system,
        "batch_size": batch_size,
    }
    total = len(asked) * sum(len(arm.strengths) for arm in arms)
    with tqdm(total=total, desc="answers", delay=2, leave=False, disable=not progress) as bar:
        rows = [row for arm in arms for row in _arm(model, arm, asked, judge, seed, decoding, bar)]
    return as_table(rows)


def _arm(
    model: Model,
    arm: Arm,
    prompts: list[str],
    judge: Judge,
    seed: int,
    decoding: dict[str, Any],
    bar: tqdm,
) -> list[Row]:
    """All rows of one arm, by strength and then by prompt."""
    found: dict[int, Row] = {}
    for numbers, jobs in batches(arm, prompts, decoding["batch_size"]):
        # Another stream of random numbers for each batch of the arm.
        rows = answers(model, arm, jobs, judge, seed=seed + len(found), decoding=decoding)
        found |= zip(numbers, rows, strict=True)
        bar.update(len(rows))
    return [found[number] for number in range(len(found))]


def answers(
    model: Model,
    arm: Arm,
    jobs: Sequence[Job],
    judge: Judge | None,
    *,
    seed: int,
    decoding: Mapping[str, Any],
) -> list[Row]:
    """The answers of one arm to one batch of strengths and prompts, in its order, with grades."""
    asked = [arm.ask(prompt) if arm.ask else prompt for _, prompt in jobs]
    net = arm.model or model
    with as_arm(net, arm, torch.tensor([strength for strength, _ in jobs])):
        texts = generate(net, asked, seed=seed, **decoding)
    return [
        dict(zip(_COLUMNS, (arm.name, strength, prompt, text), strict=True))
        | _graded(judge, prompt, text)
        for (strength, prompt), text in zip(jobs, texts, strict=True)
    ]


def checked(arms: Sequence[Arm], prompts: Sequence[str]) -> list[str]:
    """The prompts, once they and the arms are known to be usable."""
    names = [arm.name for arm in arms]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"needed are arms of different names, got {names}")
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"needed is a list of at least one prompt, got {prompts!r}")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise TypeError(f"needed are prompts as strings, got {prompt!r}; use system=, chat=")
    return list(prompts)


def batches(arm: Arm, prompts: Sequence[str], size: int) -> Iterator[tuple[list[int], list[Job]]]:
    """Numbers of the arm's rows, with strength and prompt of each, by length of the prompt."""
    jobs = list(product(arm.strengths, prompts))
    order = sorted(range(len(jobs)), key=lambda number: len(jobs[number][1]))
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        yield numbers, [jobs[number] for number in numbers]


def as_arm(model: Model, arm: Arm, strength: Any) -> AbstractContextManager[object]:
    """A context in which a model is steered as an arm says, at one strength or one per sample."""
    if arm.intervention is None:
        return nullcontext()
    return steer(model, arm.intervention, strength=strength)


def _graded(judge: Judge | None, prompt: str, text: str) -> dict[str, float]:
    found = {} if judge is None else grades(judge, prompt, text)
    if taken := set(found).intersection(_COLUMNS):
        raise ValueError(f"a grade cannot be called {sorted(taken)}: the table has such a column")
    return found


def as_table(rows: list[Row]) -> pd.DataFrame:
    """Rows as a table, once all of them are known to have the same grades."""
    for row in rows:
        if row.keys() != rows[0].keys():
            raise ValueError(
                f"the judge gave the grades {list(rows[0])[4:]} to one answer and "
                f"{list(row)[4:]} to another; it has to give the same ones to all"
            )
    return pd.DataFrame(rows)
