"""Check for the detective's exercise: which mistakes a step of training has, and which it has not.

Chapter: ``book/bipo.md``. The step is in the notebook, on a toy model. The check counts what was
found and clears one that was wrongly accused; it names no mistake that is still to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from steerlib.teaching.checks.common import call, passed, require

PLANTED = frozenset({"sign", "prompt", "end", "reference", "schedule"})
# Why each of the others is innocent: how to see it.
INNOCENT = {
    "order": "a step with sign = 1 raises score(targets) - score(opposites), read with the new v "
    'in hook["push"].',
    "shift": "the prediction at one place goes with the token at the next: `[:, :-1]` beside "
    "`[:, 1:]`.",
    "padding": "put a column of zeros in front of the texts: `score` stays.",
    "gradient": "with one, Delta would have no gradient here, and v would not move at all.",
    "mean": "the loss at v = 0 is ln 2, that of one pair, however many pairs there are.",
    "beta": "the loss at v = 0 is ln 2 for each beta; in front of the logarithm it would not be.",
    "warmup": "print `rate` at the steps 0, 50 and 100.",
    "left_on": "print `hook` after a step.",
}


def test_mistakes(fn: Callable[[], Iterable[str]]) -> None:
    """``mistakes()``: the names of what is wrong with the step, out of the list of suspects."""
    answer = call(fn)
    require(
        isinstance(answer, set | frozenset | list | tuple)
        and all(isinstance(name, str) for name in answer),
        "mistakes returns a set of names from the list of suspects.",
    )
    named = set(answer)
    unknown = sorted(named - PLANTED - set(INNOCENT))
    require(not unknown, f"{', '.join(unknown)}: not on the list of suspects.")
    require(
        len(named) <= len(PLANTED),
        f"{len(named)} are accused, and there are {len(PLANTED)} mistakes; name those that you can "
        "prove with a number.",
    )
    count = f"{len(named & PLANTED)} of {len(PLANTED)} mistakes are found."
    accused = next((name for name in INNOCENT if name in named), None)
    require(accused is None, f"{count} {accused!r} is innocent: {INNOCENT.get(accused or '')}")
    require(
        named == PLANTED,
        f"{count} Nobody is accused wrongly. Go through the table line by line, and say which "
        "number you expect before you run it.",
    )
    passed("mistakes")
