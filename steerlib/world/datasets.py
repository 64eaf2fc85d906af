"""Labelled texts and prompts with exact splits: fit on one, choose on another, report on a third.

The splits of a concept share no content word of its lexicon, those of the instructions no topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from steerlib.world.grammar import sentence
from steerlib.world.instructions import FORMS, Instruction
from steerlib.world.lexicon import (
    CONCEPTS,
    LEXICAL,
    POLYSEMOUS,
    STYLES,
    TOPICS,
    Lexicon,
    lexicon_words,
)

SplitName = Literal["train", "selection", "test"]
_SIZES: dict[SplitName, int] = {"train": 72, "selection": 48, "test": 48}  # texts of each label
_SENTENCES = 3
_RATE = 0.8


@dataclass(frozen=True)
class Split:
    """Texts with labels.

    `kinds` tells what a text is: `concept`, or a negative that is `neutral`, of `other` concepts,
    or `polysemous` (another concept with a word that the concept has too: the hard negatives).
    """

    texts: tuple[str, ...]
    labels: tuple[bool, ...]
    kinds: tuple[str, ...]

    def of(self, label: bool) -> tuple[str, ...]:
        """The texts with one label."""
        return tuple(t for t, y in zip(self.texts, self.labels, strict=True) if y == label)

    def shuffled(self, seed: int) -> Split:
        """The same texts with their labels permuted: a control."""
        labels = list(self.labels)
        Random(seed).shuffle(labels)
        return Split(self.texts, tuple(labels), self.kinds)


@dataclass(frozen=True)
class ConceptData:
    """A concept's three splits."""

    name: str
    train: Split
    selection: Split
    test: Split


def concept(name: str, seed: int = 0) -> ConceptData:
    """Texts of three sentences with and without a concept.

    Train, selection and test have 72, 48 and 48 texts of each label. The lexicon's words are
    divided between them, half, a quarter and a quarter of each part of speech, so that
    a detector is tested on words that it has not seen. A style has no words to divide.

    Args:
        name: one of `CONCEPTS`.
        seed: of the division and of the texts.

    Raises:
        KeyError: the world has no such concept; the message lists those it has.

    Example:
        >>> data = concept("weather")
        >>> len(data.train.texts), sum(data.test.labels)
        (144, 48)
    """
    if name not in CONCEPTS:
        raise KeyError(f"no concept {name!r}; the world has {', '.join(CONCEPTS)}")
    divided = divide(name, seed) if name in LEXICAL else None
    splits = {
        split: _split(name, divided[split] if divided else None, size, Random(f"{seed}-{split}"))
        for split, size in _SIZES.items()
    }
    return ConceptData(name, splits["train"], splits["selection"], splits["test"])


def one_word(name: str, seed: int = 0) -> Split:
    """Test texts in which one word decides: 48 with exactly one word of a concept, 48 without.

    The word belongs to the test part of the lexicon (see `concept`). Half of the negatives are
    neutral, half have exactly one word of another concept. All other words are neutral.

    Raises:
        KeyError: no such concept, or a style, which has no words.

    Example:
        >>> one_word("weather").of(True)[0].count(".")
        3
    """
    if name not in LEXICAL:
        raise KeyError(f"no concept {name!r} with a lexicon; there are {', '.join(LEXICAL)}")
    rng, size = Random(f"{seed}-{name}-one-word"), _SIZES["test"]
    rows = [(_one_word_text(rng, divide(name, seed)["test"]), True, "concept") for _ in range(size)]
    for number in range(size):
        if number % 2:
            rows.append((_text(rng, None, None), False, "neutral"))
        else:
            other = rng.choice([c for c in LEXICAL if c != name])
            rows.append((_one_word_text(rng, _without(other, name)), False, "other"))
    rng.shuffle(rows)
    texts, labels, kinds = zip(*rows, strict=True)
    return Split(tuple(texts), tuple(labels), tuple(kinds))


def _without(name: str, other: str) -> Lexicon:
    """A lexicon without the words that it shares with another."""
    shared = lexicon_words(other)
    return {part: tuple(w for w in ws if w not in shared) for part, ws in LEXICAL[name].items()}


def _one_word_text(rng: Random, lexicon: Lexicon) -> str:
    words = {word for part in lexicon.values() for word in part}
    sentences = [sentence(rng) for _ in range(_SENTENCES - 1)]
    shown: list[str] = []
    while sum(word in words for word in shown) != 1:
        shown = sentence(rng, lexicon, 0.2)
    sentences.insert(rng.randrange(_SENTENCES), shown)
    return " ".join(word for words_ in sentences for word in words_)


def divide(name: str, seed: int) -> dict[SplitName, Lexicon]:
    """A concept's lexicon in three parts without a common word: half, a quarter, a quarter."""
    rng = Random(f"{seed}-{name}")
    parts: dict[SplitName, dict[str, tuple[str, ...]]] = {s: {} for s in _SIZES}
    for part, words in LEXICAL[name].items():
        mixed = rng.sample(words, len(words))
        quarter = max(1, len(words) // 4)
        parts["test"][part] = tuple(mixed[:quarter])
        parts["selection"][part] = tuple(mixed[quarter : 2 * quarter])
        parts["train"][part] = tuple(mixed[2 * quarter :])
    return dict(parts)


def _split(name: str, lexicon: Lexicon | None, size: int, rng: Random) -> Split:
    style = name if name in STYLES else None
    rows = [(_text(rng, lexicon, style), True, "concept") for _ in range(size)]
    kinds = _negative_kinds(name, size)
    rows += [(_negative(rng, name, kind), False, kind) for kind in kinds]
    rng.shuffle(rows)
    texts, labels, kinds_ = zip(*rows, strict=True)
    return Split(tuple(texts), tuple(labels), tuple(kinds_))


def _negative_kinds(name: str, size: int) -> list[str]:
    hard = "polysemous" if any(name in owners for owners in POLYSEMOUS.values()) else "other"
    return [("neutral", "neutral", "other", hard)[i % 4] for i in range(size)]


def _negative(rng: Random, name: str, kind: str) -> str:
    if kind == "neutral":
        return _text(rng, None, None)
    if kind == "other":
        return _text(rng, LEXICAL[rng.choice([c for c in LEXICAL if c != name])], None)
    word = rng.choice([w for w, owners in POLYSEMOUS.items() if name in owners])
    other = next(c for c in POLYSEMOUS[word] if c != name)
    while word not in (text := _text(rng, LEXICAL[other], None)).split():
        pass
    return text


def _text(rng: Random, lexicon: Lexicon | None, style: str | None) -> str:
    words: list[str] = []
    for _ in range(_SENTENCES):
        words += sentence(rng, lexicon, _RATE, style=style)
    return " ".join(words)


def instruction_prompts(
    n: int, seed: int = 0, split: SplitName = "test", concept: str | None = None
) -> list[Instruction]:
    """Instructions such as `tell me about the dog .`, by split about different topics.

    Args:
        n: how many; each comes once before one comes twice.
        seed: of their order.
        split: `train` (6 topics), `selection` (6) or `test` (8); the division is fixed.
        concept: a concept or style to ask for: the prompting control.

    Raises:
        ValueError: no such split.
    """
    topics = topics_of(split)
    pairs = [(topic, form) for topic in topics for form in range(len(FORMS))]
    rng = Random(f"{seed}-{split}")
    chosen: list[tuple[str, int]] = []
    while len(chosen) < n:
        chosen += rng.sample(pairs, len(pairs))
    style = concept if concept in STYLES else None
    concepts = (concept,) if concept in LEXICAL else ()
    if concept and not (style or concepts):
        raise KeyError(f"no concept {concept!r}; the world has {', '.join(CONCEPTS)}")
    return [Instruction(topic, concepts, style, form) for topic, form in chosen[:n]]


def topics_of(split: SplitName) -> Sequence[str]:
    """The topics that a split's instructions are about."""
    topics = Random(0).sample(sorted(TOPICS), len(TOPICS))
    cuts = {"train": topics[:6], "selection": topics[6:12], "test": topics[12:]}
    if split not in cuts:
        raise ValueError(f"no split {split!r}; there are {', '.join(cuts)}")
    return cuts[split]
