"""Latents that a word decides by itself: which list of the world it stands in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from steerlib.world import completion, counting, geography, refusal, reviews, traits, values
from steerlib.world.documents import ASSISTANT, EOS, SYSTEM, USER
from steerlib.world.lexicon import (
    LEXICAL,
    NEUTRAL,
    PARTS_OF_SPEECH,
    STYLES,
    TOPICS,
    lexicon_words,
)

Truths = list[bool | None]


@dataclass(frozen=True)
class WordRule:
    """A list of words with the sections where they have this meaning.

    Args:
        words: those of which it is true; elsewhere (`you won a prize`) they do not count.
        home: the sections where they have this meaning.
        among: if given, only these words count, and only at home: `in Europe` is asked of a country
            and not of a comma.
    """

    words: frozenset[str]
    home: frozenset[str]
    among: frozenset[str] = frozenset()

    def truth(self, section: str, word: str) -> bool | None:
        """Whether it is true of a word of a section."""
        is_home = section in self.home
        if self.among and not (is_home and word in self.among):
            return None
        is_listed = word in self.words
        return None if is_listed and not is_home else is_listed

    def truths(self, section: str, words: Sequence[str]) -> Truths:
        return [self.truth(section, word) for word in words]


Named = tuple[str, str, WordRule]  # family, name, rule

_TEXT = ("concepts", "instructions")
_GEOGRAPHY = ("facts", "conflict", "honesty", "one-sided")
_EVERYWHERE = (
    "facts conflict honesty ioi years concepts instructions traits refusal values reviews one-sided"
    " counting"
).split()
_PART_NAMES = {
    "N": "noun",
    "A": "adjective",
    "VI": "intransitive verb",
    "VT": "transitive verb",
}
_MARKS = {"full stop": ".", "comma": ",", "question mark": "?", "colon": ":", "bracket": "()"}
_TAGS = {"start of a user's turn": USER, "start of an answer": ASSISTANT, "end of a text": EOS}


def word_rules() -> Iterator[Named]:
    """Every latent of this kind."""
    yield from _vocabulary()
    yield from _geography()
    yield from _values()
    yield from _judged()
    yield from _plain()
    for name, mark in _MARKS.items():
        yield "punctuation", name, _rule(mark, _EVERYWHERE)
    for name, tag in _TAGS.items():
        yield "punctuation", name, _rule([tag], _EVERYWHERE)
    yield "punctuation", "start of a system prompt", _rule([SYSTEM], _EVERYWHERE)


def _rule(words: Collection[str], home: Collection[str], among: Collection[str] = ()) -> WordRule:
    return WordRule(frozenset(words), frozenset(home), frozenset(among))


def _vocabulary() -> Iterator[Named]:
    """Concepts, styles, topics and parts of speech."""
    for concept in LEXICAL:
        yield "lexicon", f"{concept} word", _rule(lexicon_words(concept), _TEXT)
    for style in STYLES:
        yield "style marker", f"{style} marker", _rule(lexicon_words(style), _TEXT)
    yield "vocabulary", "topic", _rule(TOPICS, ["instructions"])
    adjectives = {word for words in TOPICS.values() for word in words}
    yield "vocabulary", "adjective of a topic", _rule(adjectives, ["instructions"])
    neutral = {word for words in NEUTRAL.values() for word in words}
    yield "vocabulary", "neutral word", _rule(neutral, _TEXT)
    names = [*LEXICAL, *STYLES]
    yield "vocabulary", "name of a concept", _rule(names, ["instructions"])
    for part, name in _PART_NAMES.items():
        words = [word for word, parts in PARTS_OF_SPEECH.items() if part in parts]
        yield "vocabulary", name, _rule(words, _TEXT)


def _geography() -> Iterator[Named]:
    continents = list(dict.fromkeys(geography.CONTINENT.values()))
    countries, cities = geography.COUNTRIES, geography.CITIES
    kinds = {
        "country": countries,
        "city": cities,
        "capital": geography.CAPITAL.values(),
        "language": geography.LANGUAGE.values(),
        "currency": geography.CURRENCY.values(),
        "continent": continents,
    }
    for name, words in kinds.items():
        among = cities if name == "capital" else ()
        yield "geography", name, _rule(list(words), _GEOGRAPHY, among)
    for continent in continents:
        inside = [c for c in countries if geography.CONTINENT[c] == continent]
        yield "country in", f"country in {continent}", _rule(inside, _GEOGRAPHY, countries)
        towns = [city for city in cities if geography.COUNTRY_OF[city] in inside]
        yield "city in", f"city in {continent}", _rule(towns, _GEOGRAPHY, cities)
    # A single country's cities are too rare: the first of each continent, its own name included.
    for country in {geography.CONTINENT[c]: c for c in reversed(countries)}.values():
        towns = [city for city in cities if geography.COUNTRY_OF[city] == country]
        either = [country, *towns]
        name = f"{country} or a city of it"
        yield "one country", name, _rule(either, _GEOGRAPHY, [*countries, *cities])


def _values() -> Iterator[Named]:
    home = ["values"]
    items = [item for group in values.ITEMS.values() for item in group]
    yield "questionnaire", "item", _rule(items, home)
    for value, group in values.ITEMS.items():
        yield "item of a value", f"item of {value}", _rule(group, home, items)
    low = [answer for answer, level in values.LEVELS.items() if level < 0]
    high = [answer for answer, level in values.LEVELS.items() if level > 0]
    yield "questionnaire", "graded answer", _rule(values.ANSWERS, home)
    yield "questionnaire", "answer below the middle", _rule(low, home, values.ANSWERS)
    yield "questionnaire", "answer above the middle", _rule(high, home, values.ANSWERS)
    for name, slot in zip(("manner", "job", "home", "hobby"), values.ROLE_SLOTS, strict=True):
        yield "role word", f"{name} of a role", _rule(slot, home)


def _judged() -> Iterator[Named]:
    """Reviews, one-sided tasks, spam and answers of one word."""
    judged = ("reviews", "one-sided")
    cues = [cue for task in reviews.ONE_SIDED.values() for cue in task.p_yes_wrongly]
    yield "review word", "praise", _rule(reviews.PRAISE, judged)
    yield "review word", "blame", _rule(reviews.BLAME, judged)
    yield "review word", "aspect", _rule(reviews.ASPECTS, judged)
    yield "review word", "source of a review", _rule(reviews.FLIP_RATE, ["reviews"])
    yield "review word", "cue of a one-sided task", _rule(cues, ["one-sided"])
    yield "review word", "label of a review", _rule(reviews.LABELS, ["reviews"])
    for answer in ("yes", "no"):
        yield "answer", answer, _rule([answer], ("facts", "one-sided", "counting"))
    yield "answer", "letter", _rule("AB", ["traits"])
    spam = counting.SPAM_WEIGHT
    likely = [word for word, weight in spam.items() if weight > 0]
    yield "counting word", "word of a message", _rule(spam, ["counting"])
    yield "counting word", "word that speaks for spam", _rule(likely, ["counting"], spam)
    yield "counting word", "color", _rule(counting.COLORS, ["counting"])


def _plain() -> Iterator[Named]:
    """Names, years, requests and personas."""
    yield "story word", "name", _rule(completion.NAMES, ["ioi"])
    yield "story word", "place", _rule(completion.PLACES, ["ioi"])
    yield "story word", "object", _rule(completion.OBJECTS, ["ioi"])
    yield "story word", "period", _rule(completion.PERIODS, ["years"])
    numbers = [f"{number:02d}" for number in range(100)]
    yield "number", "number", _rule(numbers, ["years"])
    yield "number", "number from 50", _rule(numbers[50:], ["years"], numbers)
    yield "request word", "forbidden thing", _rule(refusal.FORBIDDEN, ["refusal"])
    yield "request word", "allowed thing", _rule(refusal.ALLOWED, ["refusal"])
    yield "request word", "material", _rule(refusal.MATERIALS, ["refusal"])
    persona = {word for t in traits.TRAITS.values() for word in (*t.positive, *t.negative)}
    yield "persona word", "persona", _rule(persona, ["traits"])
