"""Choices: two answers of one grammar, with the split's words, the same under every shift."""

from typing import get_args

import pytest

from steerlib.world import concept, concept_choices, instruction_prompts
from steerlib.world.choices import Shift
from steerlib.world.grammar import parses
from steerlib.world.lexicon import LEXICAL, NEUTRAL, TOPICS, lexicon_words

SHIFTS = get_args(Shift)
NEUTRAL_WORDS = {word for words in NEUTRAL.values() for word in words}


def differences(choice):
    """The pairs of words in which the two answers differ."""
    pairs = zip(choice.positive.split(), choice.negative.split(), strict=True)
    return [(a, b) for a, b in pairs if a != b]


@pytest.mark.parametrize("name", LEXICAL)
def test_answers_have_one_grammar_and_differ_in_words_of_the_concept(name):
    for choice in concept_choices(name, 30):
        assert parses(choice.positive.split())
        assert parses(choice.negative.split())
        pairs = differences(choice)
        assert pairs
        assert {a for a, _ in pairs} <= lexicon_words(name)
        assert {b for _, b in pairs} <= NEUTRAL_WORDS
        assert not set(choice.negative.split()) & lexicon_words(name)
        topics = {word for word in choice.prompt.split() if word in TOPICS}
        assert len(topics) == 1
        assert topics <= set(choice.positive.split()) & set(choice.negative.split())


def test_splits_share_no_word_of_the_concept_and_no_topic():
    words, topics = {}, {}
    for split in ("train", "selection", "test"):
        choices = concept_choices("weather", 100, split=split)
        words[split] = {a for choice in choices for a, _ in differences(choice)}
        topics[split] = {w for choice in choices for w in choice.prompt.split() if w in TOPICS}
        asked = {request.topic for request in instruction_prompts(60, split=split)}
        assert topics[split] == asked
        texts = getattr(concept("weather"), split).of(True)
        shown = {w for text in texts for w in text.split()} & lexicon_words("weather")
        assert words[split] == shown
    for found in (words, topics):
        assert not found["train"] & found["test"]
        assert not found["train"] & found["selection"]
        assert not found["selection"] & found["test"]


def test_the_seed_divides_the_lexicon_as_in_concept():
    for seed in (1, 2):
        shown = {w for text in concept("war", seed).test.of(True) for w in text.split()}
        choices = concept_choices("war", 60, seed)
        assert {a for choice in choices for a, _ in differences(choice)} <= shown


def test_a_shift_changes_prompts_and_not_answers():
    plain = concept_choices("music", 20)
    for shift in SHIFTS:
        choices = concept_choices("music", 20, shift=shift)
        answers = [(choice.positive, choice.negative) for choice in choices]
        assert answers == [(choice.positive, choice.negative) for choice in plain]
    for before, after in zip(plain, concept_choices("music", 20, shift="request"), strict=True):
        other = after.prompt.split()[-2]
        assert after.prompt == before.prompt.replace(" .", f" with some {other} .")
        assert other in set(LEXICAL) - {"music"}
    for before, after in zip(plain, concept_choices("music", 20, shift="raw"), strict=True):
        topic = next(word for word in before.prompt.split() if word in TOPICS)
        assert (after.chat, after.system) == (False, None)
        assert parses(after.prompt.split())
        assert topic in after.prompt.split()
    for before, after in zip(plain, concept_choices("music", 20, shift="system"), strict=True):
        assert (after.prompt, after.system) == (before.prompt, "you are honest .")


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_seed_repeats_another_does_not_and_nothing_comes_twice(shift):
    first = concept_choices("ocean", 200, 3, "train", shift)
    assert first == concept_choices("ocean", 200, 3, "train", shift)
    assert first != concept_choices("ocean", 200, 4, "train", shift)
    assert len({(c.prompt, c.positive, c.negative) for c in first}) == 200


@pytest.mark.parametrize("shift", SHIFTS)
def test_more_choices_begin_with_the_same(shift):
    more = concept_choices("love", 40, shift=shift)
    assert more[:10] == concept_choices("love", 10, shift=shift)


@pytest.mark.parametrize("name", ["pirate", "wether"])
def test_concepts_without_a_lexicon_are_refused(name):
    with pytest.raises(KeyError, match=f"no concept '{name}' with a lexicon; there are weather"):
        concept_choices(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shift": "other"}, "shift is one of .* got 'other'"),
        ({"n": 0}, "n at least 1, got 'none', 0"),
        ({"split": "dev"}, "no split 'dev'; there are train, selection, test"),
    ],
)
def test_bad_choices_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        concept_choices("weather", **change)
