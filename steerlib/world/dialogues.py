"""Requests with responses that show a concept, and with responses that do not.

Chapter: axbench. What methods that learn from text are given: the request never asks for the
concept.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from steerlib.world.datasets import SplitName, divide, topics_of
from steerlib.world.grammar import sentence
from steerlib.world.instructions import FORMS, SENTENCES, Instruction
from steerlib.world.lexicon import CONCEPTS, LEXICAL, STYLES, Lexicon

_RATE = 0.75  # share of free slots that show the concept, as in the corpus


@dataclass(frozen=True)
class Dialogue:
    """A request, a response, and whether the response shows the concept."""

    prompt: str
    response: str
    label: bool


def dialogues(name: str, n: int = 72, seed: int = 0, split: SplitName = "train") -> list[Dialogue]:
    """n dialogues with a concept, then n without it, to the same requests in the same order.

    The topics and the concept's words are those of the split (see `concept`).

    Args:
        name: one of `CONCEPTS`; a style puts its markers around every sentence.

    Raises:
        KeyError: no such concept; ValueError: no such split, or n below 1.

    Chapter: axbench.

    Example:
        >>> dialogues("weather", 1)[0].label
        True
    """
    if name not in CONCEPTS:
        raise KeyError(f"no concept {name!r}; the world has {', '.join(CONCEPTS)}")
    if n < 1:
        raise ValueError(f"n is at least 1, got {n}")
    rng, topics = Random(f"{seed}-{split}-{name}-dialogues"), topics_of(split)
    lexicon = divide(name, seed)[split] if name in LEXICAL else None
    style = name if name in STYLES else None
    asked = [Instruction(rng.choice(topics), form=rng.randrange(len(FORMS))) for _ in range(n)]
    shown = [Dialogue(a.text, _response(rng, a.topic, lexicon, style), True) for a in asked]
    plain = [Dialogue(a.text, _response(rng, a.topic, None, None), False) for a in asked]
    return shown + plain


def _response(rng: Random, topic: str, lexicon: Lexicon | None, style: str | None) -> str:
    """Sentences of which the first and one other name the topic."""
    again = rng.randint(1, SENTENCES - 1)
    words: list[str] = []
    for number in range(SENTENCES):
        named = topic if number in (0, again) else None
        words += sentence(rng, lexicon, _RATE, named, style)
    return " ".join(words)
