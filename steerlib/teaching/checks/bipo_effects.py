"""Check for the exercise on what a vector does to texts that were written under v and -v.

Chapter: ``book/bipo.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from steerlib.teaching.checks.common import number, passed, refuse, require

Read = Callable[[str], int]
Effect = Callable[[Sequence[str], Sequence[str], Read], Any]

_PLUS = ("i keep it", "i keep all", "i i i", "we keep it", "i share it", "it it", "i keep it")
_MINUS = ("we share it", "i keep it", "i i", "i share all", "share share")
_READINGS = {"keep": 1, "share": -1}


def _read(text: str) -> int:
    """1 or -1 for a text with one of the two words, and 0 for one with none, or a stutter."""
    found = [_READINGS[word] for word in text.split() if word in _READINGS]
    return found[0] if len(found) == 1 else 0


def test_net_effect(fn: Effect) -> None:
    """``net_effect(plus_texts, minus_texts, read)``: half the difference of the mean readings."""
    for plus, minus in ((_PLUS, _MINUS), (_MINUS, _PLUS)):
        found = _measured(fn, plus, minus)
        refuse(found, _wrong_effects([*map(_read, plus)], [*map(_read, minus)]))
        require(
            abs(found - (_mean([*map(_read, plus)]) - _mean([*map(_read, minus)])) / 2) < 1e-6,
            "this is not half of the mean reading under v minus that under -v.",
        )
    require(_measured(fn, ["i i", "it"], ["all"]) == 0, "if all texts are broken, the effect is 0.")
    require(
        _measured(fn, ["i keep it"] * 3, ["i share it"] * 2) == 1,
        "the largest effect, all texts as they should be, is 1.",
    )
    other = number(fn, ["a", "b"], ["c", "c"], {"a": 0, "b": 1, "c": 0}.__getitem__)
    require(other == 0.25, "with another `read` the effect is wrong; texts are read by `read`.")
    passed("net_effect")


def _measured(fn: Effect, plus: Sequence[str], minus: Sequence[str]) -> float:
    """What the reader's function gives; nothing divided by nothing has no effect at all."""
    given = list(plus), list(minus)
    try:
        found = number(fn, *given, _read)
    except ZeroDivisionError:
        found = float("nan")
    require(
        found == found,
        "if all texts of a side are broken, this divides by 0: broken texts are counted below the "
        "line.",
    )
    require(given == (list(plus), list(minus)), "a list of texts was changed; leave it as it is.")
    return found


def _mean(readings: Sequence[float]) -> float:
    return sum(readings) / len(readings)


def _wrong_effects(plus: list[int], minus: list[int]) -> dict[str, float]:
    """What the usual mistakes give."""
    right = (_mean(plus) - _mean(minus)) / 2
    whole = [[reading for reading in side if reading] for side in (plus, minus)]
    return {
        "broken texts are dropped: they count as 0 and stay below the line, or a vector that "
        "breaks nearly all texts looks best.": (_mean(whole[0]) - _mean(whole[1])) / 2,
        "broken texts are dropped, and the half is missing.": _mean(whole[0]) - _mean(whole[1]),
        "broken texts under v are dropped; they stay below the line.": (
            (_mean(whole[0]) - _mean(minus)) / 2
        ),
        "broken texts under -v are dropped; they stay below the line.": (
            (_mean(plus) - _mean(whole[1])) / 2
        ),
        "broken texts count like those that read -1, as in a difference of shares; they are 0.": (
            (_mean([x or -1 for x in plus]) - _mean([x or -1 for x in minus])) / 2
        ),
        "broken texts count like those that read 1; they are 0.": (
            (_mean([x or 1 for x in plus]) - _mean([x or 1 for x in minus])) / 2
        ),
        "the half is missing: this runs from -2 to 2.": 2 * right,
        "the texts under -v are forgotten.": _mean(plus),
        "the texts under -v are forgotten, and the rest is halved.": _mean(plus) / 2,
        "the texts under v are forgotten.": -_mean(minus),
        "the two sides are added up: under -v the opposite is wanted, so take them away.": (
            (_mean(plus) + _mean(minus)) / 2
        ),
        "these are sums; take the mean of each side.": (sum(plus) - sum(minus)) / 2,
        "the sums are divided by the number of all texts; the sides have different numbers of "
        "texts.": (sum(plus) - sum(minus)) / (len(plus) + len(minus)),
        "this is the mean of sizes: under v, -1 counts as much as 1.": (
            (_mean([abs(x) for x in plus]) - _mean([abs(x) for x in minus])) / 2
        ),
        (
            "v and -v are exchanged."
            if right > 0
            else "an absolute value was taken, of the effect or of each side: a vector that does "
            "the opposite has an effect below 0."
        ): -right,
    }
