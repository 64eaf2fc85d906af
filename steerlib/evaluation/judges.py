"""Judges grade the answer to a prompt; the world's judges are exact.

Chapter: directions. A judge is any function of prompt and answer: a program, a classifier or a
person's table. Higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from itertools import permutations

from steerlib.world.judges import judge, trait_share
from steerlib.world.lexicon import CONCEPTS, STYLES, TOPICS
from steerlib.world.traits import TRAITS

Grades = Mapping[str, float]
Judge = Callable[[str, str], float | Grades]
Ask = Callable[[str], str]


def world_judge(concept: str) -> Judge:
    """A judge for one concept of the world: AxBench's three ratings and their harmonic mean.

    The topic that an answer has to keep is the first one that the prompt names.

    Args:
        concept: one of `st.world.CONCEPTS`.

    Returns:
        A function (prompt, answer) -> {"score": harmonic mean, "concept", "instruction",
        "fluency"}, each from 0 to 2.

    Raises:
        KeyError: the world has no such concept.

    Source: Wu et al. 2025 (AxBench), section 3.2. Chapter: hooks.

    Example:
        >>> world_judge("weather")("tell me about the dog .", "the old rain falls .")["score"]
        0.0
    """
    _known(concept)

    def grade(prompt: str, answer: str) -> Grades:
        topic = next((word for word in prompt.split() if word in TOPICS), None)
        scores = judge(answer, concept, topic)
        return {
            "score": scores.harmonic,
            "concept": float(scores.concept),
            "instruction": float(scores.instruction),
            "fluency": float(scores.fluency),
        }

    return grade


def trait_judge(trait: str) -> Judge:
    """A judge for one trait of the world: which actions does an answer name?

    positive: it names actions that show the trait, and none of its opposite; negative: the other
    way round; whole: it is "i would A ." or "i would A and B ." with two different actions of any
    trait, and nothing else; score = positive - negative, so 0 where both or none are named.

    Args:
        trait: one of `st.world.traits.TRAITS`.

    Returns:
        A function (prompt, answer) -> {"score" (-1, 0 or 1), "positive", "negative", "whole" (0 or
        1)}. The prompt does not matter.

    Raises:
        KeyError: the world has no such trait.

    Chapter: bipo.

    Example:
        >>> trait_judge("greed")("you found cash . what would you do ?", "i would keep the cash .")
        {'score': 1.0, 'positive': 1.0, 'negative': 0.0, 'whole': 1.0}
    """
    trait_share("", trait)  # it knows the trait

    def grade(prompt: str, answer: str) -> Grades:
        share = trait_share(answer, trait)
        positive, negative = float(share == 1), float(share == 0)
        return {
            "score": positive - negative,
            "positive": positive,
            "negative": negative,
            "whole": float(" ".join(answer.split()) in _whole_answers()),
        }

    return grade


@cache
def _whole_answers() -> frozenset[str]:
    """Every answer that names one action, or two different ones, of any traits."""
    scenarios = [scenario for trait in TRAITS.values() for scenario in trait.scenarios]
    actions = [action for s in scenarios for action in (s.positive, s.negative)]
    said = actions + [f"{a} and {b}" for a, b in permutations(actions, 2)]
    return frozenset(f"i would {actions} ." for actions in said)


def world_request(concept: str) -> Ask:
    """A function that adds the wish for a concept to a request: the prompting control.

    Raises:
        KeyError: the world has no such concept; in the function ValueError: a prompt that is no
            request of the world, which ends with " .".

    Chapter: hooks.

    Example:
        >>> world_request("weather")("tell me about the dog .")
        'tell me about the dog with some weather .'
    """
    _known(concept)
    wish = f"in a {concept} style" if concept in STYLES else f"with some {concept}"

    def ask(prompt: str) -> str:
        if not prompt.endswith(" ."):
            raise ValueError(f"a request of the world ends with ' .', got {prompt!r}")
        return f"{prompt.removesuffix(' .')} {wish} ."

    return ask


def grades(judge: Judge, prompt: str, answer: str) -> dict[str, float]:
    """What a judge says as finite numbers by name, "score" first.

    Raises:
        TypeError: neither a number nor a mapping; ValueError: no "score", or a grade that is not
            finite.
    """
    said = judge(prompt, answer)
    named = dict(said) if isinstance(said, Mapping) else {"score": said}
    if "score" not in named:
        raise ValueError(
            f'a judge\'s grades need a "score" (higher is better), got {sorted(named)}; '
            'add {"score": ...} or return one number'
        )
    first = {"score": named["score"]}
    return {name: _number(value, name, answer) for name, value in (first | named).items()}


def _number(value: object, name: str, answer: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(
            f"a judge returns a number or a mapping of numbers, got {name} = {value!r}"
        ) from None
    if not math.isfinite(number):
        raise ValueError(
            f"the judge gave {name} = {number} to {answer[:60]!r}; a grade is a finite number, "
            "so decide what an answer without a grade is worth"
        )
    return number


def _known(concept: str) -> None:
    if concept not in CONCEPTS:
        raise KeyError(f"no concept {concept!r}; the world has {', '.join(CONCEPTS)}")
