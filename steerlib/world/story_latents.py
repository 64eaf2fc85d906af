"""Context latents of statements, stories and periods: what came before in plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from steerlib.world.completion import NAMES
from steerlib.world.documents import USER
from steerlib.world.geography import RELATIONS
from steerlib.world.lexicon import Words
from steerlib.world.turns import ContextRule, Named, Read
from steerlib.world.word_latents import Truths

_TRUE_OBJECT = {
    relation.statement.format(subject): true
    for relation in RELATIONS.values()
    for subject, true in relation.table.items()
}
_START = 8  # words of `the siege lasted from the year 17 32`


def story_rules() -> Iterator[Named]:
    """Every latent of plain text, and of conflicts in a chat."""
    for cue in ("book", "liar"):
        read = partial(_after_statement, partial(_says, cue))
        yield "source", f"the {cue} says so", _rule("conflict", read)
    yield "fact", "the statement is true", _rule("conflict", partial(_after_statement, _is_true))
    yield "place in the text", "second half of a conflict", _rule("conflict", _repeats)
    yield "place in the text", "second mention of a name", _rule("ioi", _named_again)
    yield "place in the text", "after the repeated name", _rule("ioi", _after_repeated)
    yield "story", "the first of the two gives", _rule("ioi", _first_gives)
    yield "number before", "the period starts from 50", _rule("years", _late_start)


def _rule(section: str, read: Read) -> ContextRule:
    return ContextRule(frozenset({section}), read)


# --- conflicts: a statement, and the same once more


def _first_half(words: Words) -> int:
    """The length of the first statement, full stop included."""
    return words.index(".") + 1 if "." in words else len(words)


def _after_statement(holds: Callable[[Words], bool], words: Words) -> Truths:
    """A truth about the first statement, at the words after it."""
    end = _first_half(words)
    rest = len(words) - end
    return [None] * end + ([holds(words[:end])] * rest if rest else [])


def _says(cue: str, statement: Words) -> bool:
    return f"the {cue} says :" in " ".join(statement)


def _is_true(statement: Words) -> bool:
    start = max((i + 1 for i, word in enumerate(statement) if word in (":", USER)), default=0)
    *known, given, _ = statement[start:]
    return _TRUE_OBJECT[" ".join(known)] == given


def _repeats(words: Words) -> Truths:
    """False in the first half, True at those words of the second that stand in the first too."""
    end = _first_half(words)
    return [False] * end + [True if word in words[:end] else None for word in words[end:]]


# --- stories of two people, in which one gives something to the other: four names each


def _names_before(words: Words) -> list[Words]:
    """For each word the names of its story before it."""
    found: list[Words] = []
    names: Words = ()
    for word in words:
        if word in NAMES and len(names) == 4:  # the next story
            names = ()
        found.append(names)
        if word in NAMES:
            names = (*names, word)
    return found


def _named_again(words: Words) -> Truths:
    pairs = zip(words, _names_before(words), strict=True)
    return [word in names if word in NAMES else None for word, names in pairs]


def _after_repeated(words: Words) -> Truths:
    """At `to` and `the`, which stand on both sides of the repeated name."""
    pairs = zip(words, _names_before(words), strict=True)
    return [
        len(names) == 3 if word in ("to", "the") and len(names) in (2, 3) else None
        for word, names in pairs
    ]


def _first_gives(words: Words) -> Truths:
    """Between the repeated name and the last one."""
    pairs = zip(words, _names_before(words), strict=True)
    return [
        names[2] == names[0] if len(names) == 3 and word not in NAMES else None
        for word, names in pairs
    ]


def _late_start(words: Words) -> Truths:
    """Between the two years, the second century included."""
    between = range(_START, min(len(words), _START + 4))
    return [int(words[_START - 1]) >= 50 if i in between else None for i in range(len(words))]
