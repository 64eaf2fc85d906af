"""Conflicts and indirect objects of the world: splits, balance, truth, tokens, errors."""

from collections import Counter
from random import Random

import pytest

import steerlib as st
from steerlib.core.answers import encode_choices
from steerlib.world import Contest, conflicts, indirect_objects
from steerlib.world.completion import IOI_TEMPLATES, NAMES, OBJECTS, PLACES
from steerlib.world.geography import (
    COUNTRIES,
    COUNTRY_OF,
    P_CONTEXT,
    RELATIONS,
    conflict,
)

KINDS = ("capital", "language", "currency", "city")
SPLITS = {"train": 18, "selection": 6, "test": 12}
PEOPLE = {"train": 12, "selection": 4, "test": 8}
TEMPLATES = tuple(range(5))


def country(item):
    """The country that a conflict is about."""
    return COUNTRY_OF.get(item.subject, item.subject)


def apart(parts):
    """Whether no two sets share anything."""
    return sum(map(len, parts)) == len(set().union(*parts))


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


# --- conflicts


@pytest.mark.parametrize("relation", KINDS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_context_says_what_is_not_true(relation, split):
    table = RELATIONS[relation].table
    for item in conflicts(20, relations=(relation,), split=split, templates=TEMPLATES):
        assert item.negative == table[item.subject]
        assert item.positive != item.negative
        assert item.relation == relation
        assert item.chat is False


@pytest.mark.parametrize("cue", P_CONTEXT)
def test_prompts_are_those_of_the_corpus(cue):
    for relation in KINDS:
        found = conflicts(50, relations=(relation,), templates=TEMPLATES, cue=cue)
        assert {item.template for item in found} == set(TEMPLATES)
        for item in found:
            written = conflict(Random(0), relation, cue, item.template, item.subject, item.positive)
            assert item.prompt == written.prompt
            assert item.negative == written.true
            assert item.cue == cue


def test_a_prompt_in_words():
    item = conflicts(1, relations=("city",), templates=(2,), cue="liar")[0]
    said = f"{item.subject} is in"
    assert item.prompt == f"the liar says : {said} {item.positive} . in fact {said}"
    asked = conflicts(1, relations=("city",), templates=(4,))[0]
    question = f"which country is {asked.subject} in ?"
    assert asked.prompt == (
        f"<user> {asked.subject} is in {asked.positive} . {question} <assistant>"
    )


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_splits_share_no_country(seed):
    parts = []
    for split, size in SPLITS.items():
        found = [
            item
            for relation in KINDS
            for item in conflicts(
                15 * size, relations=(relation,), templates=TEMPLATES, split=split, seed=seed
            )
        ]
        parts.append({country(item) for item in found})
        assert len(parts[-1]) == size
    assert apart(parts)
    assert set().union(*parts) == set(COUNTRIES)


@pytest.mark.parametrize("split", SPLITS)
def test_what_the_context_says_comes_from_the_same_split(split):
    many = {"train": 200, "selection": 25, "test": 100}
    own = {country(item) for item in conflicts(many[split], split=split, seed=3)}
    assert len(own) == SPLITS[split]
    for relation in KINDS:
        table = RELATIONS[relation].table
        said = {table[place] for place in table if COUNTRY_OF.get(place, place) in own}
        found = conflicts(60, relations=(relation,), templates=TEMPLATES, split=split, seed=3)
        assert {item.positive for item in found} <= said
        assert {item.negative for item in found} <= said
    # Capitals and countries belong to one split each: no answer is seen in another one.
    mine = {item.positive for item in conflicts(many[split], split=split, seed=3)}
    others = {
        answer
        for other in SPLITS
        if other != split
        for item in conflicts(many[other], split=other, seed=3)
        for answer in (item.positive, item.negative)
    }
    assert not mine & others


def test_relations_templates_and_subjects_are_balanced():
    found = conflicts(1200, relations=KINDS, templates=TEMPLATES)
    for name, allowed in (("relation", KINDS), ("template", TEMPLATES)):
        counts = Counter(getattr(item, name) for item in found)
        assert set(counts) == set(allowed)
        # Languages and currencies have few different prompts, of which some are drawn again.
        assert min(counts.values()) > 0.7 * 1200 / len(allowed)
    subjects = Counter(country(item) for item in found)
    assert min(subjects.values()) > 0.4 * 1200 / 18
    assert max(subjects.values()) < 2.0 * 1200 / 18


def test_a_common_answer_is_not_said_more_often():
    # The context's word is drawn from the different words: with this seed 4 countries of the test
    # split speak Spanish, 8 have languages of their own.
    found = conflicts(200, relations=("language",), templates=TEMPLATES, split="test", seed=67)
    counts = Counter(item.positive for item in found)
    speak = Counter({item.subject: item.negative for item in found}.values())
    assert (speak["Spanish"], len(speak), len(counts)) == (4, 9, 9)
    assert counts["Spanish"] < 1.5 * 200 / 9


# --- indirect objects


@pytest.mark.parametrize("template", range(len(IOI_TEMPLATES)))
def test_the_one_who_gives_is_named_twice(template):
    for item in indirect_objects(60, templates=(template,)):
        words = item.prompt.split()
        assert words.count(item.negative) == 2
        assert words.count(item.positive) == 1
        assert words[-1] == "to"
        assert item.subject == item.positive
        assert (item.relation, item.template, item.chat) == ("ioi", template, False)
        first, second = [word for word in words if word in NAMES][:2]
        place, thing = (next(word for word in words if word in kind) for kind in (PLACES, OBJECTS))
        assert item.prompt == IOI_TEMPLATES[template].format(
            a=first, b=second, subject=item.negative, place=place, object=thing
        )


def test_both_orders_and_templates_are_alike():
    found = indirect_objects(600)
    first = sum(
        item.prompt.split().index(item.positive) < item.prompt.split().index(item.negative)
        for item in found
    )
    assert 240 < first < 360
    assert 240 < sum(item.template for item in found) < 360
    takers = Counter(item.positive for item in found)
    assert min(takers.values()) > 25
    assert max(takers.values()) < 100


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_splits_share_no_name(seed):
    parts = []
    for split, size in PEOPLE.items():
        found = indirect_objects(250, split=split, seed=seed)
        parts.append({name for item in found for name in (item.positive, item.negative)})
        assert len(parts[-1]) == size
    assert apart(parts)


# --- both


MAKE = {
    "conflicts": lambda n, **options: conflicts(n, relations=KINDS, **options),
    "indirect objects": indirect_objects,
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_seed_repeats_another_does_not_and_nothing_comes_twice(make):
    found = make(200)
    assert found == make(200)
    assert len({item.prompt for item in found}) == len(found) == 200
    assert make(20, seed=1) != make(20, seed=2)
    assert make(20, split="test") != make(20)
    assert all(isinstance(item, Contest) for item in found)


def test_the_seed_decides_the_split_and_the_draws():
    for make in (conflicts, indirect_objects):
        shown = [{item.subject for item in make(300, templates=(0, 1), seed=n)} for n in (1, 2)]
        assert shown[0] != shown[1]
    drawn = [conflicts(30, relations=KINDS, templates=TEMPLATES, seed=n) for n in (1, 2)]
    orders = [[(item.relation, item.template) for item in found] for found in drawn]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_more_begin_with_the_same(make):
    assert make(80)[:30] == make(30)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("split", SPLITS)
def test_the_model_knows_every_word_and_answers_are_tokens(world, make, split):
    found = [*make(150, split=split, templates=(0, 1))]
    found += conflicts(60, relations=KINDS, templates=TEMPLATES, cue="book", split=split)
    found += conflicts(60, relations=KINDS, templates=TEMPLATES, cue="liar", split=split)
    unknown = world.tokenizer.unk_token_id
    for item, asked in zip(found, encode_choices(world, found), strict=True):
        assert unknown not in (*asked.ids, asked.positive, asked.negative)
        words = world.tokenizer.convert_ids_to_tokens([asked.positive, asked.negative])
        assert words == [item.positive, item.negative]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relations": ("anthem",)}, r"relations: allowed are \['capital', .*'city'\].*'anthem'"),
        ({"relations": ("continent",)}, "relations: allowed are"),
        ({"relations": ()}, r"at least one; got \(\)"),
        ({"relations": "capital"}, "got 'capital'"),
        ({"templates": (5,)}, r"templates: allowed are \[0, 1, 2, 3, 4\]; got \(5,\)"),
        ({"templates": (-1,)}, "templates: allowed"),
        ({"templates": ()}, "templates: allowed"),
        ({"cue": "priest"}, r"cue: allowed are \['', 'book', 'liar'\].*'priest'"),
        ({"split": "dev"}, r"split: allowed are \['train', 'selection', 'test'\].*'dev'"),
        ({"n": 0}, "at least one prompt is needed, got n=0"),
        ({"n": -3}, "got n=-3"),
        ({"n": 31, "split": "selection"}, "the selection split has only about 30 .* are 31"),
    ],
)
def test_bad_arguments_of_conflicts(options, message):
    with pytest.raises(ValueError, match=message):
        conflicts(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"templates": (2,)}, r"templates: allowed are \[0, 1\]"),
        ({"templates": ()}, "templates: allowed"),
        ({"split": "dev"}, "split: allowed"),
        ({"n": 0}, "got n=0"),
        # 12 ordered pairs of names, either of whom gives, 8 places, 8 objects.
        (
            {"n": 1537, "split": "selection", "templates": (0,)},
            "the selection split has only about 1536 different prompts .* are 1537",
        ),
    ],
)
def test_bad_arguments_of_indirect_objects(options, message):
    with pytest.raises(ValueError, match=message):
        indirect_objects(**options)


def test_all_there_are_can_be_had():
    # 6 countries, 5 other capitals each.
    found = conflicts(30, split="selection")
    assert len({(item.subject, item.positive) for item in found}) == 30
