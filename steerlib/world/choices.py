"""Two answers to one request, with and without a concept: what steerability is measured on.

Chapter: directions. The answers have the same grammar and the same number of words and differ
only in the words that show the concept. A shift changes the prompt and leaves the answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal, get_args

from steerlib.world.datasets import SplitName, divide, topics_of
from steerlib.world.geography import HONEST
from steerlib.world.grammar import TEMPLATES, sentence
from steerlib.world.instructions import FORMS, Instruction
from steerlib.world.lexicon import LEXICAL, NEUTRAL, PARTS, Lexicon

Shift = Literal["none", "request", "raw", "system"]


@dataclass(frozen=True)
class Choice:
    """A prompt with two answers, of which the positive one shows what is steered for.

    Args:
        prompt: what the model reads.
        positive, negative: the two answers, as they follow the prompt.
        chat: how the prompt is read (False: as raw text); None leaves it to the caller.
        system: a system text of its own; None leaves it to the caller.

    Raises:
        ValueError: an empty answer, or two answers that are the same.
    """

    prompt: str
    positive: str
    negative: str
    chat: bool | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        for answer in (self.positive, self.negative):
            if not answer.strip():
                raise ValueError(f"a choice needs two answers, got {answer!r} for {self.prompt!r}")
        if self.positive.strip() == self.negative.strip():
            raise ValueError(
                f"a choice needs two different answers, got {self.positive!r} twice for "
                f"{self.prompt!r}"
            )


def concept_choices(
    name: str, n: int = 48, seed: int = 0, split: SplitName = "test", shift: Shift = "none"
) -> list[Choice]:
    """Requests about a split's topics, each with a sentence that shows a concept and one that
    does not.

    Both sentences name the topic and have the same template; where one has a word of the
    concept (from the part of its lexicon that belongs to the split), the other has a neutral
    word. With the same n, seed and split the answers are the same under every shift.

    Args:
        name: a concept with a lexicon, one of `LEXICAL`.
        seed: of the lexicon's division (as in `concept`) and of the choices.
        shift: "none"; "request" (the prompt asks for another concept); "raw" (a plain neutral
            sentence about the topic instead of a chat); "system" (a system text that training
            never put before such a request).

    Raises:
        KeyError: no such concept, or a style, which has no words to exchange; ValueError: no such
            split or shift, or n below 1.

    Chapter: directions. Shifts of the prompt as in Tan et al. 2024, section 4.

    Example:
        >>> concept_choices("weather", 1)[0].prompt
        'tell me about the bird .'
    """
    if name not in LEXICAL:
        raise KeyError(f"no concept {name!r} with a lexicon; there are {', '.join(LEXICAL)}")
    if shift not in get_args(Shift) or n < 1:
        raise ValueError(f"shift is one of {get_args(Shift)} and n at least 1, got {shift!r}, {n}")
    topics = topics_of(split)
    rng = Random(f"{seed}-{split}-{name}-choices")
    chosen: dict[Choice, str] = {}  # to the topic; no choice comes twice
    while len(chosen) < n:
        topic = rng.choice(topics)
        asked = Instruction(topic, form=rng.randrange(len(FORMS)))
        chosen[Choice(asked.text, *_answers(rng, divide(name, seed)[split], topic))] = topic
    other = Random(f"{seed}-{split}-{shift}")
    return [_shifted(c, other, name, topic, shift) for c, topic in chosen.items()]


def _answers(rng: Random, lexicon: Lexicon, topic: str) -> tuple[str, str]:
    """The same sentence with the concept's words and with neutral ones."""
    positive, negative, named = [], [], False
    for slot in rng.choice(TEMPLATES):
        if slot == "N" and not named:
            words, named = (topic, topic), True
        elif slot in PARTS:
            words = (rng.choice(lexicon[slot]), rng.choice(NEUTRAL[slot]))
        else:
            words = (slot, slot)
        positive.append(words[0])
        negative.append(words[1])
    return " ".join([*positive, "."]), " ".join([*negative, "."])


def _shifted(choice: Choice, rng: Random, name: str, topic: str, shift: Shift) -> Choice:
    if shift == "request":
        other = rng.choice([concept for concept in LEXICAL if concept != name])
        return replace(choice, prompt=f"{choice.prompt.removesuffix(' .')} with some {other} .")
    if shift == "raw":
        return replace(choice, prompt=" ".join(sentence(rng, topic=topic)), chat=False)
    return replace(choice, system=HONEST) if shift == "system" else choice
