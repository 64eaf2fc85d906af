"""Sentences: ten templates over part-of-speech slots, made at random and recognised exactly."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from steerlib.world.lexicon import NEUTRAL, PARTS_OF_SPEECH, STYLES, TOPICS, Lexicon

TEMPLATES = tuple(
    tuple(line.split())
    for line in """the A N VI
the N VT the N
the A N VT the A N
this N VI near the N
the N is A
the N is very A
there is some A N near the N
the N VI and the N VI
when the N VI , the N VI
some people want the N and the A N""".splitlines()
)
_SLOTS = frozenset({"N", "A", "VI", "VT"})
_TOPIC_ADJECTIVE = 0.4  # how often a topic's own adjective fills a free adjective slot


def sentence(
    rng: Random,
    lexicon: Lexicon | None = None,
    rate: float = 0.8,
    topic: str | None = None,
    style: str | None = None,
) -> list[str]:
    """One random sentence.

    Each slot takes a word of `lexicon` with probability `rate`, else a neutral word; the first
    noun is the topic where there is one; a style puts its markers around the sentence. With a
    lexicon and a positive rate at least one slot shows it (drawn again until it does).
    """
    while True:
        words, shown = _fill(rng, rng.choice(TEMPLATES), lexicon, rate, topic)
        if shown or not lexicon or rate == 0:
            break
    if style:
        opening, closing = STYLES[style]
        words = [*opening, *words, *closing]
    return [*words, "."]


def _fill(
    rng: Random,
    template: Sequence[str],
    lexicon: Lexicon | None,
    rate: float,
    topic: str | None,
) -> tuple[list[str], bool]:
    words, shown, named = [], False, topic is None
    for slot in template:
        if slot not in _SLOTS:
            words.append(slot)
        elif slot == "N" and not named:
            words.append(str(topic))
            named = True
        elif lexicon and lexicon.get(slot) and rng.random() < rate:
            words.append(rng.choice(lexicon[slot]))
            shown = True
        elif slot == "A" and topic in TOPICS and rng.random() < _TOPIC_ADJECTIVE:
            words.append(rng.choice(TOPICS[str(topic)]))
        else:
            words.append(rng.choice(NEUTRAL[slot]))
    return words, shown


def split_sentences(words: Sequence[str]) -> list[list[str]]:
    """Cuts words after each full stop and ends at the first special token."""
    sentences: list[list[str]] = []
    current: list[str] = []
    for word in words:
        if word.startswith("<"):
            break
        current.append(word)
        if word == ".":
            sentences.append(current)
            current = []
    return [*sentences, current] if current else sentences


def parses(words: Sequence[str]) -> bool:
    """Whether the words, full stop included, are a sentence of the grammar (style allowed)."""
    if not words or words[-1] != ".":
        return False
    body = _without_style(list(words[:-1]))
    return any(_matches(body, template) for template in TEMPLATES)


def _without_style(words: list[str]) -> list[str]:
    for opening, closing in STYLES.values():
        if tuple(words[: len(opening)]) == opening:
            words = words[len(opening) :]
        if len(words) > len(closing) and tuple(words[-len(closing) :]) == closing:
            words = words[: -len(closing)]
    return words


def _matches(words: Sequence[str], template: Sequence[str]) -> bool:
    return len(words) == len(template) and all(
        slot in PARTS_OF_SPEECH.get(word, ()) if slot in _SLOTS else word == slot
        for word, slot in zip(words, template, strict=True)
    )
