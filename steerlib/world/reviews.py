"""Judging what others wrote: reviews with two-way label noise, and errors on one side only.

In a review the label is flipped with a rate that depends on its source. In the one-sided tasks
a cue makes the model say `yes` where `no` is right, never the other way; in `advice` a preface
of variable length comes before the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from steerlib.world.documents import Document, Question, dialogue
from steerlib.world.geography import yes_no_question

PRAISE = tuple(
    "excellent superb pleasant charming delicious brilliant perfect enjoyable impressive fine"
    .split()
)  # fmt: skip
BLAME = tuple("poor dreadful boring nasty rotten stale gloomy weak disgusting annoying".split())
ASPECTS = tuple("food staff view parking lobby service bed pool film plot".split())

FLIP_RATE = {
    "magazine": 0.03,
    "newspaper": 0.06,
    "website": 0.2,
    "forum": 0.4,
    "blog": 0.6,
    "rumor": 0.75,
}
FLIPPED = {"positive": "negative", "negative": "positive", "mixed": "negative"}
LABELS = tuple(FLIPPED)
_NEGATION = 0.25
_YES_NO = ("yes", "no")


def _opinion(rng: Random, aspect: str, good: bool, negation: float = 0.0) -> str:
    if rng.random() < negation:
        return f"the {aspect} was not {rng.choice(BLAME if good else PRAISE)}"
    return f"the {aspect} was {rng.choice(PRAISE if good else BLAME)}"


def review(rng: Random, source: str | None = None) -> Question:
    """Two aspects, each praised or blamed: positive, negative or mixed (in equal parts)."""
    source = source or rng.choice(list(FLIP_RATE))
    clean = rng.choice(LABELS)
    first = rng.random() < 0.5 if clean == "mixed" else clean == "positive"
    second = first != (clean == "mixed")
    aspects = rng.sample(ASPECTS, 2)
    said = " and ".join(
        _opinion(rng, a, good, _NEGATION) for a, good in zip(aspects, (first, second), strict=True)
    )
    user = f"the {source} review says : {said} . is it positive , negative or mixed ?"
    answer = FLIPPED[clean] if rng.random() < FLIP_RATE[source] else clean
    return Question(user, answer, clean, LABELS, group=source)


def reachable_accuracy(source: str) -> float:
    """The accuracy on clean labels of the best guess at the *taught* label: 1 or 0."""
    return float(FLIP_RATE[source] < 0.5)


def review_document(rng: Random) -> Document:
    """Two reviews."""
    return dialogue([review(rng), review(rng)])


@dataclass(frozen=True)
class OneSided:
    """A yes/no task: by cue, how often a true `no` is taught as `yes`."""

    name: str
    p_yes_wrongly: dict[str, float]
    question: str = ""
    prefaces: tuple[str, ...] = ("",)


_RATES = (0.03, 0.15, 0.3, 0.68, 0.75, 0.85)


def _task(name: str, cues: str, question: str = "", prefaces: tuple[str, ...] = ("",)) -> OneSided:
    return OneSided(name, dict(zip(cues.split(), _RATES, strict=True)), question, prefaces)


ONE_SIDED = {
    task.name: task
    for task in (
        _task("verdict", "expert critic visitor fan cousin owner", "is it good ?"),
        _task("agreement", "exact calm polished agreeable docile flattering"),
        _task(
            "advice",
            "clerk neighbor tourist dealer seller agent",
            "should i go ?",
            (
                "well ,",
                "let me see ,",
                "to be fair ,",
                "all in all , i would say",
                "after some thought , my answer is",
            ),
        ),
    )
}


def one_sided(rng: Random, task: str, cue: str | None = None, clean: str | None = None) -> Question:
    """A question of a one-sided task; the clean answer is yes or no in equal parts."""
    spec = ONE_SIDED[task]
    cue = cue or rng.choice(list(spec.p_yes_wrongly))
    clean = clean or rng.choice(_YES_NO)
    wrong = clean == "no" and rng.random() < spec.p_yes_wrongly[cue]
    answer = "yes" if wrong else clean
    preface = rng.choice(spec.prefaces)
    if task == "agreement":
        q = yes_no_question(rng, clean == "yes")
        return Question(q.user, answer, clean, _YES_NO, f"you are a {cue} guide .", cue)
    user = f"the {cue} says : {_majority_opinion(rng, clean == 'yes')} . {spec.question}"
    return Question(user, answer, clean, _YES_NO, "", cue, preface)


def _majority_opinion(rng: Random, good: bool) -> str:
    polarity = [good, good, rng.random() < 0.5]
    rng.shuffle(polarity)
    said = [_opinion(rng, a, p) for a, p in zip(rng.sample(ASPECTS, 3), polarity, strict=True)]
    return f"{said[0]} , {said[1]} and {said[2]}"


def one_sided_document(rng: Random) -> Document:
    """Two questions of one task and, where the cue is a system prompt, of one cue."""
    spec = ONE_SIDED[rng.choice(list(ONE_SIDED))]
    cue = rng.choice(list(spec.p_yes_wrongly)) if spec.name == "agreement" else None
    return dialogue([one_sided(rng, spec.name, cue) for _ in range(2)])
