"""Context latents of chats: what the text so far decides, at tokens that do not say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

from steerlib.world import counting, geography, refusal, reviews, traits, values
from steerlib.world.documents import USER
from steerlib.world.lexicon import LEXICAL, STYLES, TOPICS, Words, lexicon_words
from steerlib.world.story_latents import story_rules
from steerlib.world.turns import (
    ContextRule,
    Counted,
    Named,
    Turn,
    at_slot,
    by_turn,
    in_answer,
)
from steerlib.world.word_latents import Truths


def context_rules() -> Iterator[Named]:
    """Every latent of this kind."""
    yield from _instructions()
    yield from _personas()
    yield from _questions()
    yield from _values()
    yield from _judged()
    yield from story_rules()


# --- instructions, personas, requests


def _instructions() -> Iterator[Named]:
    shown = {word for concept in LEXICAL for word in lexicon_words(concept)}
    marks = {",", *(word for style in STYLES for word in lexicon_words(style))}
    about = {*TOPICS, *(word for words in TOPICS.values() for word in words)}
    for concept in LEXICAL:
        rule = _names(concept, partial(in_answer, but=shown))
        yield "asked concept", f"{concept} is asked for", rule
    for style in STYLES:
        rule = _names(style, partial(in_answer, but=marks))
        yield "asked style", f"{style} is asked for", rule
    for topic in list(TOPICS)[:4]:
        rule = _names(topic, partial(in_answer, but=about))
        yield "asked topic", f"the {topic} is asked about", rule


def _names(word: str, counted: Counted) -> ContextRule:
    return by_turn("instructions", lambda turn: word in turn.user, counted)


def _personas() -> Iterator[Named]:
    is_liar = partial(_is_system, geography.LIAR)
    yield "persona", "liar", by_turn("honesty", is_liar, in_answer)
    for trait in traits.TRAITS.values():
        name = f"a persona that shows {trait.name}, not its opposite"
        yield "persona", name, by_turn("traits", partial(_shows, trait))
    yield "persona", "a persona that shows the trait in question", by_turn("traits", _acts)


def _is_system(text: str, turn: Turn) -> bool:
    return " ".join(turn.system) == text


def _shows(trait: traits.Trait, turn: Turn) -> bool | None:
    """Whether the persona shows the trait or its opposite; None if it says nothing of it."""
    if not set(trait.positive).isdisjoint(turn.system):
        return True
    return None if set(trait.negative).isdisjoint(turn.system) else False


def _acts(turn: Turn) -> bool | None:
    situation = turn.asked.split(" . ")[0]
    for trait in traits.TRAITS.values():
        if any(scenario.situation == situation for scenario in trait.scenarios):
            return _shows(trait, turn)
    return None


# --- questions of fact and requests

_RELATION_OF = {
    relation.question.format(subject): name
    for name, relation in geography.RELATIONS.items()
    for subject in relation.table
}


def _questions() -> Iterator[Named]:
    for name in geography.RELATIONS:
        rule = by_turn("facts honesty conflict", partial(_asks, name))
        yield "asked relation", f"the {name} is asked for", rule
    yield "fact", "the city is in the country", by_turn("facts one-sided", _is_inside)
    harmful = by_turn("refusal", lambda turn: not set(refusal.FORBIDDEN).isdisjoint(turn.user))
    yield "request", "harmful request", harmful
    plea = by_turn("refusal", lambda turn: turn.asked.endswith(refusal.PLEA))
    yield "request", "request with the plea", plea


def _asks(relation: str, turn: Turn) -> bool | None:
    found = _RELATION_OF.get(turn.asked.split(" . ")[-1])
    return None if found is None else found == relation


def _is_inside(turn: Turn) -> bool | None:
    match turn.user:
        case ("is", city, "in", country, "?"):
            return geography.COUNTRY_OF[city] == country
    return None


# --- values: roles and orders

_VALUE_OF = {item: value for value, items in values.ITEMS.items() for item in items}
_exogenous = cache(values.exogenous)


def _values() -> Iterator[Named]:
    yield "order", "an order is given", _ordered(lambda order: order is not None)
    yield "order", "the order is to seek", _ordered(_is_to_seek)
    for value in values.VALUES:
        rule = _ordered(partial(_is_about, value))
        yield "ordered value", f"the order is about {value}", rule
    for j, value in enumerate(values.VALUES):
        name = f"the role's own {value} is above 0"
        yield "own value of a role", name, by_turn("values", partial(_own, j))
    yield "value", "the role's value in question is above 0", by_turn("values", _is_high)


def _ordered(holds: Callable[[values.Do | None], bool | None]) -> ContextRule:
    """A truth about the order, at all words after the system prompt but the answers."""

    def read(words: Words) -> Truths:
        if USER not in words:
            return [None] * len(words)
        start = words.index(USER)
        truth = holds(_order(words[:start]))
        told = [None if word in values.ANSWERS else truth for word in words[start:]]
        return [None] * start + told

    return ContextRule(frozenset({"values"}), read)


def _is_to_seek(order: values.Do | None) -> bool | None:
    return None if order is None else order.seek


def _is_about(value: str, order: values.Do | None) -> bool | None:
    return None if order is None else order.value == value


def _order(system: Words) -> values.Do | None:
    if "must" not in system:
        return None
    start = system.index("must")
    return values.Do(system[start + 2], system[start + 1] == "seek")


def _role_and_value(turn: Turn) -> tuple[values.Role | None, int]:
    """The role, if there is one, and the number of the value in question (-1: none)."""
    value = _VALUE_OF.get(turn.user[1]) if turn.user[0] == "does" else None
    number = -1 if value is None else values.VALUES.index(value)
    match turn.system:
        case ("you", "are", "a", a, b, "from", "the", c, "who", "enjoys", d, *_):
            pairs = zip(values.ROLE_SLOTS, (a, b, c, d), strict=True)
            i, j, k, m = (slot.index(word) for slot, word in pairs)
            return (i, j, k, m), number
    return None, number


def _own(j: int, turn: Turn) -> bool | None:
    """Whether u_j of the role is above 0, where an item of the value j is asked about."""
    role, number = _role_and_value(turn)
    return bool(_exogenous(role)[j] > 0) if role and number == j else None


def _is_high(turn: Turn) -> bool | None:
    role, number = _role_and_value(turn)
    if role is None or number < 0:
        return None
    order = _order(turn.system)
    return bool(values.true_values(role, order.setting if order else None)[number] > 0)


# --- reviews, one-sided tasks, counting


def _judged() -> Iterator[Named]:
    yield "source", "a source that is mostly right", by_turn("reviews", _is_reliable)
    for label in reviews.LABELS:
        yield "sentiment", f"the review is {label}", by_turn("reviews", partial(_is_label, label))
    rule = by_turn("one-sided", _is_misled, at_slot)
    yield "source", "a cue that mostly makes no into yes", rule
    rule = by_turn("one-sided", _is_praised, at_slot)
    yield "sentiment", "two or three of three aspects are praised", rule
    yield "evidence", "the evidence is for spam", by_turn("counting", _is_spam)
    yield "evidence", "azure is more common", by_turn("counting", _is_azure)


def _is_reliable(turn: Turn) -> bool:
    source = next(word for word in turn.user if word in reviews.FLIP_RATE)
    return reviews.FLIP_RATE[source] < 0.5


def _opinions(words: Words) -> list[bool]:
    """Whether each aspect is praised: `not` turns the word after it over."""
    pairs = zip(("", *words), words, strict=False)
    return [
        (word in reviews.PRAISE) != (before == "not")
        for before, word in pairs
        if word in reviews.PRAISE or word in reviews.BLAME
    ]


def _is_label(label: str, turn: Turn) -> bool:
    first, second = _opinions(turn.user)
    return label == ("mixed" if first != second else "positive" if first else "negative")


def _is_misled(turn: Turn) -> bool:
    said = {*turn.system, *turn.user}
    rates = {cue: p for task in reviews.ONE_SIDED.values() for cue, p in task.p_yes_wrongly.items()}
    return any(rates[cue] > 0.5 for cue in said if cue in rates)


def _is_praised(turn: Turn) -> bool | None:
    opinions = _opinions(turn.user)
    return sum(opinions) > len(opinions) / 2 if opinions else None


def _is_spam(turn: Turn) -> bool | None:
    if "spam" not in turn.user:
        return None
    return sum(counting.SPAM_WEIGHT.get(word, 0.0) for word in turn.user) > 0


def _is_azure(turn: Turn) -> bool | None:
    if "common" not in turn.user:
        return None
    first, second = counting.COLORS
    return turn.user.count(second) > turn.user.count(first)
