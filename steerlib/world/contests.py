"""Prompts whose context and memory, or whose two names, compete for the next word.

Chapter: scaling. Every answer is one word. The splits share no country and no name, whether it is
asked about or is an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import get_args

from steerlib.world.choices import Choice
from steerlib.world.completion import IOI_TEMPLATES, NAMES, OBJECTS, PLACES
from steerlib.world.datasets import SplitName
from steerlib.world.geography import (
    CITIES,
    CONFLICT_RELATIONS,
    CONFLICT_TEMPLATES,
    COUNTRIES,
    COUNTRY_OF,
    P_CONTEXT,
    RELATIONS,
    conflict,
)

# Of 36 countries and of 24 names.
_COUNTRIES: dict[SplitName, slice] = {
    "train": slice(0, 18),
    "selection": slice(18, 24),
    "test": slice(24, 36),
}
_NAMES: dict[SplitName, slice] = {
    "train": slice(0, 12),
    "selection": slice(12, 16),
    "test": slice(16, 24),
}


@dataclass(frozen=True)
class Contest(Choice):
    """A choice between two words, and where it comes from.

    Args:
        subject: what is asked about; the unit of an interval.
        relation: such as "capital", or "ioi".
        template: its number.
        cue: what the prompt says about its source, or nothing.
    """

    subject: str = ""
    relation: str = ""
    template: int = 0
    cue: str = ""


def conflicts(
    n: int = 100,
    *,
    relations: Sequence[str] = ("capital",),
    templates: Sequence[int] = (0,),
    cue: str = "",
    split: SplitName = "train",
    seed: int = 0,
) -> list[Contest]:
    """Prompts whose context says something else than memory: positive is the context's word.

    Args:
        n: how many; relations, templates and subjects are drawn alike, the same prompt at most
            once.
        relations: of `CONFLICT_RELATIONS`.
        templates: numbers of `CONFLICT_TEMPLATES`; the last one is a dialogue.
        cue: "", "book" (mostly right) or "liar" (mostly wrong).
        split: 18 countries to fit on, 6 to choose on, 12 to report on. A city belongs to the
            split of its country. What the context says comes from the same split.
        seed: of the split and of the draws.

    Raises:
        ValueError: an unknown name; more prompts than there are.

    Chapter: scaling.

    Example:
        >>> item = conflicts(1, relations=("city",))[0]
        >>> item.prompt.startswith(f"{item.subject} is in {item.positive} .")
        True
    """
    _check("relations", relations, CONFLICT_RELATIONS)
    _check("templates", templates, range(len(CONFLICT_TEMPLATES)))
    _check("cue", [cue], P_CONTEXT)
    countries = _part(COUNTRIES, _COUNTRIES, split, seed)

    def draw(rng: Random) -> Contest:
        relation = rng.choice(list(relations))
        is_city = relation == "city"
        subjects = [c for c in CITIES if COUNTRY_OF[c] in countries] if is_city else countries
        table = RELATIONS[relation].table
        subject = rng.choice(subjects)
        given = rng.choice(sorted({table[s] for s in subjects} - {table[subject]}))
        item = conflict(rng, relation, cue, rng.choice(list(templates)), subject, given)
        return Contest(
            item.prompt, given, item.true, chat=False, subject=subject, relation=relation,
            template=item.template, cue=cue,
        )  # fmt: skip

    return _distinct(draw, n, split, seed)


def indirect_objects(
    n: int = 100,
    *,
    templates: Sequence[int] = (0, 1),
    split: SplitName = "train",
    seed: int = 0,
) -> list[Contest]:
    """`when Anna and Ben went to the store , Ben gave a key to`: positive is the other name.

    Args:
        n: how many, the same prompt at most once; both orders of the names alike.
        templates: numbers of `IOI_TEMPLATES`.
        split: 12 names to fit on, 4 to choose on, 8 to report on.
        seed: of the split and of the draws.

    Raises:
        ValueError: an unknown template; more prompts than there are.

    Source: Wang et al. 2022. Chapter: scaling.

    Example:
        >>> indirect_objects(1)[0].relation
        'ioi'
    """
    _check("templates", templates, range(len(IOI_TEMPLATES)))
    names = _part(NAMES, _NAMES, split, seed)

    def draw(rng: Random) -> Contest:
        pair = rng.sample(names, 2)
        subject = rng.choice(pair)
        other = pair[1 - pair.index(subject)]
        template = rng.choice(list(templates))
        prompt = IOI_TEMPLATES[template].format(
            a=pair[0], b=pair[1], subject=subject,
            place=rng.choice(PLACES), object=rng.choice(OBJECTS),
        )  # fmt: skip
        return Contest(
            prompt, other, subject, chat=False, subject=other, relation="ioi", template=template
        )

    return _distinct(draw, n, split, seed)


def _part(
    values: Sequence[str], parts: dict[SplitName, slice], split: SplitName, seed: int
) -> list[str]:
    """The part of a split, of values that the seed has put in order."""
    _check("split", [split], get_args(SplitName))
    return Random(seed).sample(values, len(values))[parts[split]]


def _distinct(
    draw: Callable[[Random], Contest], n: int, split: SplitName, seed: int
) -> list[Contest]:
    """n different draws."""
    if n < 1:
        raise ValueError(f"at least one prompt is needed, got n={n}")
    rng, found = Random(f"{split}-{seed}"), dict[str, Contest]()
    for _ in range(50 * n + 1000):
        item = draw(rng)
        found.setdefault(item.prompt, item)
        if len(found) == n:
            return list(found.values())
    raise ValueError(
        f"the {split} split has only about {len(found)} different prompts of this kind, asked for "
        f"are {n}; take fewer, or more relations or templates"
    )


def _check(name: str, values: Sequence[object], allowed: Collection[object]) -> None:
    unknown = [value for value in values if value not in allowed]
    if isinstance(values, str) or unknown or not len(values):
        some = "" if len(values) else ", at least one"
        raise ValueError(f"{name}: allowed are {list(allowed)}{some}; got {values!r}")
