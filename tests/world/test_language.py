"""Lexicon, grammar and documents: what is generated is recognised, what is broken is not."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from steerlib.world.documents import EOS, Question, chat, dialogue, plain
from steerlib.world.grammar import parses, sentence, split_sentences
from steerlib.world.lexicon import (
    LEXICAL,
    NEUTRAL,
    PARTS_OF_SPEECH,
    POLYSEMOUS,
    STYLES,
    TOPICS,
    lexicon_words,
)

SEEDS = some.integers(0, 10**6)


@given(SEEDS, some.sampled_from([None, *LEXICAL]), some.sampled_from([None, *STYLES]))
def test_every_generated_sentence_parses_and_shows_its_concept(seed, concept, style):
    rng = Random(seed)
    lexicon = LEXICAL[concept] if concept else None
    words = sentence(rng, lexicon, topic=rng.choice([None, "dog"]), style=style)
    assert parses(words)
    if concept:
        assert lexicon_words(concept) & set(words)
    if style:
        assert lexicon_words(style) <= set(words)


@given(SEEDS)
def test_the_topic_is_the_first_noun(seed):
    words = sentence(Random(seed), LEXICAL["ocean"], rate=1.0, topic="camel")
    nouns = [w for w in words if "N" in PARTS_OF_SPEECH.get(w, ())]
    assert nouns[0] == "camel"


@pytest.mark.parametrize(
    "broken",
    [
        "the old table waits",  # no full stop
        "the table old waits .",
        "the old table holds .",  # a transitive verb without object
        "the the old table waits .",
        "table .",
        ".",
        "arr , the old table waits , sir",
    ],
)
def test_broken_sentences_do_not_parse(broken):
    assert not parses(broken.split())


def test_style_markers_may_stand_around_any_sentence():
    assert parses("arr , the old table waits , matey .".split())
    assert parses("the old table waits .".split())


def test_sentences_end_at_the_first_special_token():
    words = "the cat waits . the dog <eos> the bird .".split()
    assert split_sentences(words) == ["the cat waits .".split(), "the dog".split()]


def test_each_lexicon_has_twenty_words_of_four_parts():
    for name, lexicon in LEXICAL.items():
        assert [len(lexicon[p]) for p in ("N", "A", "VI", "VT")] == [8, 5, 4, 3], name
        assert len(lexicon_words(name)) == 20, name


def test_only_the_declared_words_are_shared():
    """A word in two lexicons, or in one and among topics or neutral words, blurs a judge."""
    shown = [w for name in LEXICAL for w in lexicon_words(name)]
    twice = {w for w in shown if shown.count(w) > 1}
    assert twice == set(POLYSEMOUS)
    assert len(POLYSEMOUS) == 6
    plain_words = {w for words in NEUTRAL.values() for w in words} | set(TOPICS)
    plain_words |= {w for words in TOPICS.values() for w in words}
    assert plain_words & set(shown) == {"patient"}  # a farmer's virtue, a hospital's guest


def test_an_unknown_concept_is_named_with_those_that_exist():
    with pytest.raises(KeyError, match=r"no concept 'wether'.*weather"):
        lexicon_words("wether")


def test_only_the_assistants_words_are_targets_of_a_chat():
    document = chat([("is it good ?", "yes")], system="you are honest .")
    told = [w for w, t in zip(document.words, document.targets, strict=True) if t]
    assert told == ["yes", EOS]
    assert document.text.startswith("<system> you are honest . <user> is it good ? <assistant> yes")


def test_marked_words_of_plain_text_are_given_and_no_targets():
    document = plain("the capital of Germany is ~London .")
    assert document.words[5] == "London"
    assert [w for w, t in zip(document.words, document.targets, strict=True) if not t] == ["London"]


def test_a_dialogue_has_one_system_prompt():
    questions = [Question("a ?", "b", "b", system="x ."), Question("a ?", "b", "b", system="y .")]
    with pytest.raises(ValueError, match="share one system prompt"):
        dialogue(questions)
