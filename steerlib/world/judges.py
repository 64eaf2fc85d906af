"""Exact judges: programs that read a generation and need no other model's opinion."""

from __future__ import annotations

from dataclasses import dataclass

from steerlib.world.grammar import parses, split_sentences
from steerlib.world.lexicon import CONCEPTS, STYLES, TOPICS, lexicon_words
from steerlib.world.refusal import REFUSAL
from steerlib.world.traits import TRAITS

_STYLE_SHARE = 0.6  # of sentences that must carry a style's marker for the full score


@dataclass(frozen=True)
class Scores:
    """AxBench's three ratings of a generation, each 0, 1 or 2, and their harmonic mean."""

    concept: int
    instruction: int
    fluency: int

    @property
    def harmonic(self) -> float:
        """3 / (1/c + 1/i + 1/f), and 0 where one of them is 0."""
        parts = (self.concept, self.instruction, self.fluency)
        return 0.0 if min(parts) == 0 else 3 / sum(1 / part for part in parts)


def judge(text: str, concept: str, topic: str | None = None) -> Scores:
    """Rates a generation (Wu et al. 2025, AxBench, section 3.2; chapter `hooks`).

    Concept: 2 for at least one lexicon word per sentence on average (a style: a marker in 60%
    of the sentences), 1 for any. Instruction: 2 if two sentences name the topic (one, if there
    is only one sentence), 1 if one does; 2 without a topic. Fluency: 2 if every sentence parses
    and none comes twice, 1 if half of them do. An empty generation gets 0 throughout.

    Example:
        >>> judge("the old rain falls . the dog is rainy .", "weather", topic="dog").harmonic
        1.5
    """
    if concept not in CONCEPTS:
        raise KeyError(f"no concept {concept!r}; the world has {', '.join(CONCEPTS)}")
    if topic is not None and topic not in TOPICS:
        raise KeyError(f"no topic {topic!r}; the world has {', '.join(TOPICS)}")
    sentences = split_sentences(text.split())
    if not sentences:
        return Scores(0, 0, 0)
    return Scores(_concept(sentences, concept), _topic(sentences, topic), _fluency(sentences))


def _concept(sentences: list[list[str]], concept: str) -> int:
    words = lexicon_words(concept)
    if concept in STYLES:
        found = sum(any(w in words for w in s) for s in sentences)
        enough = found >= _STYLE_SHARE * len(sentences)
    else:
        found = sum(w in words for s in sentences for w in s)
        enough = found >= len(sentences)
    return 2 if enough else int(found > 0)


def _topic(sentences: list[list[str]], topic: str | None) -> int:
    named = sum(topic in s for s in sentences)
    return 2 if topic is None or named >= min(2, len(sentences)) else int(named > 0)


def _fluency(sentences: list[list[str]]) -> int:
    good = {tuple(s) for s in sentences if parses(s)}  # a set: a repetition counts once
    share = len(good) / len(sentences)
    return 2 if share == 1 else int(share >= 0.5)


def grammatical_share(text: str) -> float:
    """The share of the sentences of a generation that parse (1.0 for an empty one)."""
    sentences = split_sentences(text.split())
    return sum(map(parses, sentences)) / len(sentences) if sentences else 1.0


def trait_share(text: str, trait: str) -> float | None:
    """The share of the trait's positive actions among its actions named in a text.

    `None` where the text names no action of the trait.
    """
    if trait not in TRAITS:
        raise KeyError(f"no trait {trait!r}; the world has {', '.join(TRAITS)}")
    said = f" {' '.join(text.replace('<', ' <').split())} "
    scenarios = TRAITS[trait].scenarios
    positive = sum(f" {s.positive} " in said for s in scenarios)
    negative = sum(f" {s.negative} " in said for s in scenarios)
    return positive / (positive + negative) if positive + negative else None


def refused(text: str) -> bool:
    """Whether a generation is the refusal."""
    return text.split()[: len(REFUSAL.split())] == REFUSAL.split()


def answered(text: str, choices: tuple[str, ...]) -> str | None:
    """The first of the choices that a generation names before its turn ends, if any."""
    for word in text.split():
        if word.startswith("<"):
            return None
        if word in choices:
            return word
    return None
