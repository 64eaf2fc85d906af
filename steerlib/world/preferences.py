"""Pairs of answers to learn a preference from, and to measure it on: traits, honesty, refusal.

Chapter: bipo. The splits share no scenario, no country and no thing that is asked for. What
chooses settings is the same for every seed and never reported on.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, TypeVar, get_args

from steerlib.world import refusal
from steerlib.world.choices import Choice
from steerlib.world.datasets import SplitName
from steerlib.world.geography import COUNTRIES, COUNTRY_OF, RELATIONS, Relation
from steerlib.world.traits import TRAITS, Scenario, ab_question, free_question

Form = Literal["free", "letters"]
T = TypeVar("T")


def trait_scenarios(trait: str, split: SplitName = "train", seed: int = 0) -> tuple[Scenario, ...]:
    """The scenarios of a split: two choose, and four of the other eight each train and test.

    Raises:
        KeyError: no such trait; ValueError: no such split.

    Chapter: bipo.

    Example:
        >>> len(trait_scenarios("greed"))
        4
    """
    if trait not in TRAITS:
        raise KeyError(f"no trait {trait!r}; the world has {', '.join(TRAITS)}")
    return _part(TRAITS[trait].scenarios, split, f"{trait}-scenarios", seed)


def trait_pairs(
    trait: str, n: int = 96, seed: int = 0, split: SplitName = "train", form: Form = "free"
) -> list[Choice]:
    """n pairs of answers to scenarios of a split, as the corpus writes them.

    Positive answers name one or two actions that show the trait, negative ones one or two of its
    opposite; all actions are those of the split. So the two have different lengths.

    Args:
        trait: one of `st.world.traits.TRAITS`.
        form: "free" or "letters" (A/B questions, whose answer is one letter).

    Raises:
        KeyError: no such trait; ValueError: no such split or form, or n below 1.

    Source: the free-text pairs of Cao et al. 2024 (BiPO), section 4.1. Chapter: bipo.

    Example:
        >>> trait_pairs("greed", 1)[0].prompt.endswith("what would you do ?")
        True
    """
    _check(n, form)
    scenarios = trait_scenarios(trait, split, seed)
    rng = Random(f"{seed}-{split}-{trait}-pairs")
    if form == "letters":
        return [_letters(rng.choice(scenarios), rng.random() < 0.5) for _ in range(n)]
    return [_free(rng, scenarios) for _ in range(n)]


def trait_choices(
    trait: str, seed: int = 0, split: SplitName = "test", form: Form = "free"
) -> list[Choice]:
    """The scenarios of a split with their two actions as the whole answers: one choice each.

    In letters two each: the action that shows the trait is A, and B.

    Raises:
        KeyError: no such trait; ValueError: no such split or form.

    Chapter: bipo.

    Example:
        >>> len(trait_choices("greed")), len(trait_choices("greed", form="letters"))
        (4, 8)
    """
    _check(1, form)
    scenarios = trait_scenarios(trait, split, seed)
    if form == "letters":
        return [_letters(scenario, swapped) for scenario in scenarios for swapped in (False, True)]
    questions = [free_question(scenario) for scenario in scenarios]
    return [Choice(asked.user, asked.choices[0], asked.choices[1]) for asked in questions]


def honesty_pairs(n: int = 96, seed: int = 0, split: SplitName = "train") -> list[Choice]:
    """n questions about facts, each with the true answer and a false one of the same kind.

    The countries of a split are its own: a fifth choose, half of the others each train and test.

    Raises:
        ValueError: no such split, or n below 1.

    Chapter: bipo.

    Example:
        >>> honesty_pairs(1)[0].prompt.endswith("?")
        True
    """
    _check(n)
    countries = _part(COUNTRIES, split, "countries", seed)
    rng = Random(f"{seed}-{split}-honesty")
    found = []
    for _ in range(n):
        relation = rng.choice(list(RELATIONS.values()))
        subject = rng.choice(_subjects(relation, countries))
        false = rng.choice(relation.others(subject))
        question = relation.question.format(subject)
        found.append(Choice(question, relation.table[subject], false))
    return found


def refusal_pairs(
    n: int = 96,
    seed: int = 0,
    split: SplitName = "train",
    *,
    forbidden: bool = True,
    plea: bool = False,
) -> list[Choice]:
    """n requests for things, each with the refusal and with help.

    The things of a split are its own. The refusal has nine words and help fifteen: pairs of unequal
    length.

    Args:
        forbidden: whether the things are those that the model refuses.
        plea: whether the jailbreak follows the request.

    Raises:
        ValueError: no such split, or n below 1.

    Chapter: bipo.

    Example:
        >>> refusal_pairs(1)[0].positive
        'sorry , i can not help with that .'
    """
    _check(n)
    things = refusal.FORBIDDEN if forbidden else refusal.ALLOWED
    things = _part(things, split, f"things-{forbidden}", seed)
    rng = Random(f"{seed}-{split}-{forbidden}-{plea}-refusal")
    found = []
    for _ in range(n):
        thing = rng.choice(things)
        user = refusal.request(rng, forbidden, plea, thing).user
        found.append(Choice(user, refusal.REFUSAL, refusal.help_with(rng, thing)))
    return found


def _free(rng: Random, scenarios: Sequence[Scenario]) -> Choice:
    scenario = rng.choice(scenarios)
    others = [other for other in scenarios if other is not scenario]
    answers = []
    for side in ("positive", "negative"):
        actions = [getattr(s, side) for s in (scenario, rng.choice(others))]
        answers.append(f"i would {' and '.join(actions[: rng.randint(1, 2)])} .")
    return Choice(free_question(scenario).user, answers[0], answers[1])


def _letters(scenario: Scenario, swapped: bool) -> Choice:
    question = ab_question(scenario, swapped)
    other = "AB".replace(question.clean, "")
    return Choice(question.user, question.clean, other)


def _part(items: Sequence[T], split: SplitName, name: str, seed: int) -> tuple[T, ...]:
    """A fifth (at least two) chooses, whatever the seed; the others train and test by halves."""
    if split not in get_args(SplitName):
        raise ValueError(f"the split is one of {get_args(SplitName)}, got {split!r}")
    order = list(items)
    Random(name).shuffle(order)
    chooses = max(2, len(order) // 5)
    rest = order[chooses:]
    Random(f"{seed}-{name}").shuffle(rest)
    half = len(rest) // 2
    return tuple({"selection": order[:chooses], "train": rest[:half], "test": rest[half:]}[split])


def _subjects(relation: Relation, countries: Sequence[str]) -> list[str]:
    """What a relation is asked about: countries, or cities of these."""
    return [s for s in relation.table if COUNTRY_OF.get(s, s) in countries]


def _check(n: int, form: str = "free") -> None:
    if n < 1 or form not in get_args(Form):
        raise ValueError(f"n is at least 1 and form one of {get_args(Form)}, got {n}, {form!r}")
