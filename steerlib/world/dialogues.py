"""Requests with responses that show a concept, and with responses that do not.

Chapter: axbench. What methods that learn from text are given: the request never asks for the
concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from steerlib.world.datasets import SplitName, divide, topics_of
from steerlib.world.grammar import sentence
from steerlib.world.instructions import FORMS, SENTENCES, Instruction
from steerlib.world.lexicon import CONCEPTS, LEXICAL, POLYSEMOUS, STYLES, Lexicon

_RATE = 0.75  # share of free slots that show the concept, as in the corpus


@dataclass(frozen=True)
class Dialogue:
    """A request, a response, and whether the response shows the concept.

    `kind` tells what the response shows: the `concept`, nothing (`neutral`), or another concept,
    with a word that the concept has too (`polysemous`) or without (`other`).
    """

    prompt: str
    response: str
    label: bool
    kind: str = ""


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
    topics = _checked(name, n, split)
    rng = Random(f"{seed}-{split}-{name}-dialogues")
    lexicon = divide(name, seed)[split] if name in LEXICAL else None
    style = name if name in STYLES else None
    asked = [Instruction(rng.choice(topics), form=rng.randrange(len(FORMS))) for _ in range(n)]
    shown = [_dialogue(rng, a, lexicon, style, "concept") for a in asked]
    plain = [_dialogue(rng, a, None, None, "neutral") for a in asked]
    return shown + plain


def contrasts(name: str, n: int = 36, seed: int = 0, split: SplitName = "test") -> list[Dialogue]:
    """n dialogues that show another concept: negatives that are harder than plain ones.

    Where the concept shares words with others, the response shows one of these and has such a word:
    the hard negatives of AxBench (kind `polysemous`). Else it shows any other concept (`other`).

    Args:
        name: one of `CONCEPTS`.

    Raises:
        KeyError: no such concept; ValueError: no such split, or n below 1.

    Chapter: axbench.

    Example:
        >>> contrasts("music", 1)[0].kind, contrasts("weather", 1)[0].kind
        ('polysemous', 'other')
    """
    topics = _checked(name, n, split)
    rng = Random(f"{seed}-{split}-{name}-contrasts")
    shared = [word for word, owners in POLYSEMOUS.items() if name in owners]
    found = []
    for _ in range(n):
        asked = Instruction(rng.choice(topics), form=rng.randrange(len(FORMS)))
        if shared:
            word = rng.choice(shared)
            other = rng.choice([c for c in POLYSEMOUS[word] if c != name])
            made = _dialogue(rng, asked, LEXICAL[other], None, "polysemous")
            while word not in made.response.split():
                made = _dialogue(rng, asked, LEXICAL[other], None, "polysemous")
        else:
            other = rng.choice([c for c in LEXICAL if c != name])
            made = _dialogue(rng, asked, LEXICAL[other], None, "other")
        found.append(made)
    return found


def _checked(name: str, n: int, split: SplitName) -> Sequence[str]:
    """The topics of a split, once the question is known to make sense."""
    if name not in CONCEPTS:
        raise KeyError(f"no concept {name!r}; the world has {', '.join(CONCEPTS)}")
    if n < 1:
        raise ValueError(f"n is at least 1, got {n}")
    return topics_of(split)


def _dialogue(
    rng: Random, asked: Instruction, lexicon: Lexicon | None, style: str | None, kind: str
) -> Dialogue:
    response = _response(rng, asked.topic, lexicon, style)
    return Dialogue(asked.text, response, kind == "concept", kind)


def _response(rng: Random, topic: str, lexicon: Lexicon | None, style: str | None) -> str:
    """Sentences of which the first and one other name the topic."""
    again = rng.randint(1, SENTENCES - 1)
    words: list[str] = []
    for number in range(SENTENCES):
        named = topic if number in (0, again) else None
        words += sentence(rng, lexicon, _RATE, named, style)
    return " ".join(words)
