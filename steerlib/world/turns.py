"""The exchanges of a chat, and truths that a turn decides for some of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from steerlib.world.documents import ASSISTANT, SYSTEM, USER
from steerlib.world.lexicon import Words
from steerlib.world.reviews import ONE_SIDED
from steerlib.world.word_latents import Truths

Read = Callable[[Words], Truths]


@dataclass(frozen=True)
class ContextRule:
    """How the words of a document of some sections are read; nothing looks ahead.

    The truth at a word follows from the words up to it.
    """

    sections: frozenset[str]
    read: Read

    def truths(self, section: str, words: Words) -> Truths:
        return self.read(words) if section in self.sections else [None] * len(words)


Named = tuple[str, str, ContextRule]  # family, name, rule


@dataclass(frozen=True)
class Turn:
    """One exchange of a chat, between two tags; `tag` is where `<assistant>` stands."""

    system: Words
    user: Words
    tag: int
    answer: Words  # with its `<eos>`

    @property
    def asked(self) -> str:
        """The user's words as text."""
        return " ".join(self.user)


Holds = Callable[[Turn], bool | None]
Counted = Callable[[Turn], Iterable[int]]


def turns(words: Words) -> list[Turn]:
    """The exchanges of a chat that have come to an answer; none in plain text."""
    starts = [i for i, word in enumerate(words) if word == USER]
    if not starts:
        return []
    system = words[1 : starts[0]] if words[0] == SYSTEM else ()
    found = []
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        turn = words[start:end]
        if ASSISTANT in turn:
            tag = turn.index(ASSISTANT)
            found.append(Turn(system, turn[1:tag], start + tag, turn[tag + 1 :]))
    return found


def at_tag(turn: Turn) -> list[int]:
    """The token after which the answer begins."""
    return [turn.tag]


def in_answer(turn: Turn, but: Collection[str] = ()) -> list[int]:
    """The tag and the answer, without words that would tell."""
    places = enumerate((ASSISTANT, *turn.answer), turn.tag)
    return [place for place, word in places if word not in but]


def at_slot(turn: Turn) -> list[int]:
    """Where an answer of one word is decided: at the tag, or at the end of the preface."""
    prefaces = [tuple(preface.split()) for preface in ONE_SIDED["advice"].prefaces]
    if "should" not in turn.user:
        return [turn.tag]
    said = [len(preface) for preface in prefaces if turn.answer[: len(preface)] == preface]
    return [turn.tag + length for length in said]


def by_turn(sections: str, holds: Holds, counted: Counted = at_tag) -> ContextRule:
    """The same truth at all tokens of a turn that count."""

    def read(words: Words) -> Truths:
        found: Truths = [None] * len(words)
        for turn in turns(words):
            truth = holds(turn)
            for place in counted(turn):
                found[place] = truth
        return found

    return ContextRule(frozenset(sections.split()), read)
