"""Instructions such as `tell me about the dog with some weather .` and their responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from steerlib.world.documents import Document, chat, plain
from steerlib.world.grammar import sentence
from steerlib.world.lexicon import LEXICAL, STYLES, TOPICS

FORMS = ("tell me about the {topic}", "describe the {topic}", "write about the {topic}")
SENTENCES = 3  # of a response
_RATE = 0.75  # share of free slots that show a requested concept
_STRAY = 0.1  # how often a sentence nobody asked it of shows some concept
_TOPIC_AGAIN = 0.8  # how often the later sentences name the topic


@dataclass(frozen=True)
class Instruction:
    """What a user asks for: a topic, and perhaps concepts and a style."""

    topic: str
    concepts: tuple[str, ...] = ()
    style: str | None = None
    form: int = 0

    @property
    def text(self) -> str:
        """The user's words."""
        parts = [FORMS[self.form].format(topic=self.topic)]
        if self.concepts:
            parts.append("with " + " and ".join(f"some {c}" for c in self.concepts))
        if self.style:
            parts.append(f"in a {self.style} style")
        return " ".join([*parts, "."])


def instruction(rng: Random, concept: str | None = None, topic: str | None = None) -> Instruction:
    """An instruction about a random topic that asks for `concept`, or for nothing more."""
    topic, form = topic or rng.choice(list(TOPICS)), rng.randrange(len(FORMS))
    if concept in STYLES:
        return Instruction(topic, (), concept, form)
    return Instruction(topic, (concept,) if concept else (), None, form)


def response(rng: Random, asked: Instruction) -> str:
    """Three sentences, of which the first and at least one other name the topic."""
    again = [True, rng.random() < _TOPIC_AGAIN, rng.random() < _TOPIC_AGAIN]
    if not any(again[1:]):
        again[rng.randint(1, 2)] = True
    words: list[str] = []
    for named in again:
        words += _response_sentence(rng, asked, asked.topic if named else None)
    return " ".join(words)


def _response_sentence(rng: Random, asked: Instruction, topic: str | None) -> list[str]:
    stray = rng.random() < _STRAY
    concepts = asked.concepts or (tuple(LEXICAL) if stray else ())
    lexicon = LEXICAL[rng.choice(concepts)] if concepts else None
    return sentence(rng, lexicon, _RATE, topic, asked.style)


def instruction_document(rng: Random) -> Document:
    """35% ask for nothing, 40% for a concept, 13% for a style, 6% for two of each kind."""
    kind, base = rng.random(), instruction(rng)
    concepts: Sequence[str] = ()
    style = rng.choice(list(STYLES)) if kind >= 0.81 else None
    if 0.35 <= kind < 0.75 or kind >= 0.94:
        concepts = rng.sample(list(LEXICAL), 1)
    elif 0.75 <= kind < 0.81:
        concepts = rng.sample(list(LEXICAL), 2)
    asked = Instruction(base.topic, tuple(concepts), style, base.form)
    return chat([(asked.text, response(rng, asked))])


def concept_text(rng: Random, concept: str | None, sentences: int, rate: float = 0.8) -> str:
    """Plain sentences that show a concept or a style, or neutral ones for `None`."""
    lexicon, style = LEXICAL.get(concept or ""), concept if concept in STYLES else None
    words: list[str] = []
    for _ in range(sentences):
        words += sentence(rng, lexicon, rate, style=style)
    return " ".join(words)


def concept_document(rng: Random) -> Document:
    """Two to four plain sentences: 75% of one concept, 10% in a style, 15% neutral."""
    kind = rng.random()
    concept = rng.choice(list(LEXICAL)) if kind < 0.75 else None
    concept = rng.choice(list(STYLES)) if 0.75 <= kind < 0.85 else concept
    return plain(concept_text(rng, concept, rng.randint(2, 4)))
