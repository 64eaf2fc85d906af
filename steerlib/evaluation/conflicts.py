"""Conflicts and indirect objects in plain English, for models that were trained on it.

Chapter: scaling. Both answers are one token of the model at hand. The splits share no country and
no name, whether it is asked about or is an answer. For the shipped models, whose words are others,
there are `st.world.conflicts` and `st.world.indirect_objects`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from random import Random
from typing import get_args

from steerlib.core.model import Model
from steerlib.evaluation.fact_tables import COUNTRIES, FACTS
from steerlib.world.contests import Contest
from steerlib.world.datasets import SplitName

# What is said (the object follows) and asked about a subject. No statement begins with the subject:
# there a name often has other tokens than after a space.
_SAID = {
    "capital": ("The capital of {subject} is", "What is the capital of {subject}?"),
    "language": ("The main language of {subject} is", "What is the main language of {subject}?"),
    "continent": ("The country of {subject} is in", "Which continent is {subject} in?"),
    "currency": ("The currency of {subject} is the", "Which currency is used in {subject}?"),
}
_CONFLICTS = (
    "{statement} {given}. {statement}",
    "{statement} {given}. In fact, {lower}",
    "According to the text, {lower} {given}. {statement}",
    "{statement} {given}.\nQ: {question}\nA:",
)
IOI_TEMPLATES = (
    "When {a} and {b} went to the {place}, {giver} gave a {object} to",
    "After {a} and {b} had met at the {place}, {giver} handed the {object} to",
    "Then {a} and {b} had lunch at the {place}. Afterwards {giver} gave a {object} to",
)
NAMES = tuple(
    "Mary John James Robert Michael David William Richard Joseph Thomas Charles Daniel Matthew "
    "Anthony Steven Paul Andrew Kevin Brian George Edward Jason Ryan Jacob Eric Jonathan Stephen "
    "Justin Benjamin Samuel Patrick Jack Peter Henry Adam Simon Jennifer Linda Elizabeth Susan "
    "Jessica Sarah Karen Lisa Nancy Margaret Emily Michelle Amanda Rebecca Laura Helen Amy Anna "
    "Emma Rachel Catherine Maria Kate Alice Julia Jane Kelly Martha".split()
)
PLACES = tuple("store park school office garden station library market hospital house".split())
OBJECTS = tuple("book drink ball letter key ring gift card bag phone".split())


def fact_template(relation: str = "capital", template: int = 0) -> str:
    """The prompt of a conflict with the fields {subject} and {given}, as `st.align` takes it.

    Raises:
        ValueError: an unknown relation or template.

    Chapter: scaling.

    Example:
        >>> fact_template("capital")
        'The capital of {subject} is {given}. The capital of {subject} is'
    """
    _check("relation", relation, list(_SAID))
    _check("template", template, range(len(_CONFLICTS)))
    said, question = _SAID[relation]
    lower = said[0].lower() + said[1:]
    return _CONFLICTS[template].format(
        statement=said, lower=lower, question=question, given="{given}"
    )


def fact_conflicts(
    model: Model,
    relation: str = "capital",
    n: int = 200,
    *,
    template: int = 0,
    split: SplitName = "train",
    seed: int = 0,
) -> list[Contest]:
    """Prompts whose context contradicts a fact of the real world: positive is the context's word.

    A country takes part where its object is one token after the prompt, and so does the object as
    the word of the context. The split of a country depends on the seed alone: it is the same for
    every relation, template and model.

    Args:
        relation: "capital", "language", "continent" or "currency".
        n: how many, no prompt twice.
        template: 0 repeats the statement; 1 goes on with "In fact, "; 2 starts with "According to
            the text, "; 3 is a question with "Q:" and "A:".
        split: half of the countries to fit on, a quarter to choose on, a quarter to report on.
        seed: of the split and of the draws.

    Raises:
        ValueError: an unknown name; more conflicts than this tokenizer leaves (the message counts
            countries and conflicts).

    Source: the country-capital conflicts of Stoehr et al. 2024, made anew. Chapter: scaling.

    Example:
        >>> fact_conflicts(gpt2, n=1)[0].relation  # doctest: +SKIP
        'capital'
    """
    form = fact_template(relation, template)
    table = {c: FACTS[relation][c] for c in _part(COUNTRIES, split, seed) if c in FACTS[relation]}
    kept = {
        country: true
        for country, true in table.items()
        if _is_one_token(model, form.format(subject=country, given=true), true)
    }
    objects = list(dict.fromkeys(kept.values()))
    pairs = [(country, o) for country in kept for o in objects if o != kept[country]]
    if not 1 <= n <= len(pairs):
        raise ValueError(
            f"{len(kept)} of {len(table)} countries of the {split} split have a {relation} that is "
            f"one token for {model.id}; they make {len(pairs)} conflicts, asked for are {n}. Take "
            "fewer, or another relation; the shipped models have st.world.conflicts"
        )
    return [
        Contest(
            form.format(subject=country, given=given), given, kept[country], chat=False,
            subject=country, relation=relation, template=template,
        )
        for country, given in Random(f"{seed}-{split}-{relation}").sample(pairs, n)
    ]  # fmt: skip


def names(model: Model) -> tuple[str, ...]:
    """The names that are one token of a model in the middle of a sentence."""
    return tuple(name for name in NAMES if _is_one_token(model, "When", name))


def indirect_objects(
    model: Model,
    n: int = 200,
    *,
    template: int = 0,
    split: SplitName = "train",
    seed: int = 0,
) -> list[Contest]:
    """`When Mary and John went to the store, John gave a drink to`: positive is the other name.

    The one who gives comes second in every other prompt and first in the rest.

    Args:
        n: how many, no prompt twice.
        template: 0, 1 or 2, a number of `IOI_TEMPLATES`.
        split: half of the names to fit on, a quarter to choose on, a quarter to report on; names
            that are not one token are then left out.
        seed: of the split and of the draws.

    Returns:
        Choices whose subject is the one who receives.

    Raises:
        ValueError: an unknown name of an argument; more prompts than this tokenizer leaves.

    Source: Wang et al. 2022. Chapter: scaling.

    Example:
        >>> indirect_objects(gpt2, n=1)[0].relation  # doctest: +SKIP
        'ioi'
    """
    _check("template", template, range(len(IOI_TEMPLATES)))
    known, part = set(names(model)), _part(NAMES, split, seed)
    people = [name for name in part if name in known]
    pool = list(product(permutations(people, 2), PLACES, OBJECTS))
    if not 1 <= n <= len(pool):
        raise ValueError(
            f"{len(people)} of {len(part)} names of the {split} split are one token for "
            f"{model.id}; they make {len(pool)} prompts, asked for are {n}. Take fewer; the "
            "shipped models have st.world.indirect_objects"
        )
    drawn = Random(f"{seed}-{split}-ioi").sample(pool, n)
    return [
        _handed(template, taker, giver, place, thing, number % 2 == 0)
        for number, ((taker, giver), place, thing) in enumerate(drawn)
    ]


def _handed(
    template: int, taker: str, giver: str, place: str, thing: str, taker_first: bool
) -> Contest:
    a, b = (taker, giver) if taker_first else (giver, taker)
    prompt = IOI_TEMPLATES[template].format(a=a, b=b, giver=giver, place=place, object=thing)
    return Contest(
        prompt, taker, giver, chat=False, subject=taker, relation="ioi", template=template
    )


def _part(values: Sequence[str], split: SplitName, seed: int) -> list[str]:
    """The values of a split: half, a quarter, a quarter of an order that the seed gives."""
    _check("split", split, get_args(SplitName))
    mixed, quarter = Random(seed).sample(values, len(values)), len(values) // 4
    parts = {"test": mixed[:quarter], "selection": mixed[quarter : 2 * quarter]}
    return parts.get(split, mixed[2 * quarter :])


def _is_one_token(model: Model, prompt: str, answer: str) -> bool:
    """Whether an answer adds one token to a prompt, and all words are known."""
    before, after = (
        list(model.tokenizer(text, add_special_tokens=False).input_ids)
        for text in (prompt, f"{prompt} {answer}")
    )
    unknown = model.tokenizer.unk_token_id
    # GPT-2 has a token for unknown words, which is in no text: it knows every byte.
    return after[:-1] == before and (unknown is None or unknown not in after)


def _check(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is one of {list(allowed)}, got {value!r}")
