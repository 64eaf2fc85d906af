"""Pairs of answers: splits that share nothing, lengths that differ, and what a seed decides."""

import re
from collections import Counter
from itertools import combinations
from random import Random
from typing import get_args

import pytest

from steerlib.world import (
    honesty_pairs,
    refusal,
    refusal_pairs,
    refused,
    trait_choices,
    trait_pairs,
    trait_scenarios,
    trait_share,
)
from steerlib.world.datasets import SplitName
from steerlib.world.geography import CITIES, COUNTRIES, COUNTRY_OF, RELATIONS
from steerlib.world.traits import TRAITS, ab_question

SPLITS = get_args(SplitName)
NAMES = tuple(TRAITS)
MANY = 600


def things_of(pairs):
    known = {*refusal.FORBIDDEN, *refusal.ALLOWED}
    return {word for pair in pairs for word in pair.prompt.split() if word in known}


def countries_of(pairs):
    """The countries that questions are about, those of their cities among them."""
    words = {word for pair in pairs for word in pair.prompt.split()}
    return {COUNTRY_OF.get(word, word) for word in words if word in {*COUNTRIES, *CITIES}}


def situations_of(pairs):
    return {pair.prompt.split(" . ")[0] for pair in pairs}


def actions(answer):
    """What an answer says one would do: one action, or two."""
    said = answer.removeprefix("i would ").removesuffix(" .")
    assert answer == f"i would {said} ."
    known = {a for t in TRAITS.values() for s in t.scenarios for a in (s.positive, s.negative)}
    if said in known:
        return [said]
    cuts = [(said[: m.start()], said[m.end() :]) for m in re.finditer(" and ", said)]
    (found,) = [cut for cut in cuts if set(cut) <= known]
    return list(found)


# What a split is about, as a function of (split, seed), and all that there is.
ABOUT = {
    **{f"{name}, pairs": (
        lambda split, seed, name=name: situations_of(trait_pairs(name, MANY, seed, split)),
        {s.situation for s in TRAITS[name].scenarios}) for name in NAMES},
    **{f"{name}, letters": (
        lambda split, seed, name=name: situations_of(
            trait_pairs(name, MANY, seed, split, form="letters")),
        {s.situation for s in TRAITS[name].scenarios}) for name in NAMES},
    **{f"{name}, choices": (
        lambda split, seed, name=name: situations_of(trait_choices(name, seed, split)),
        {s.situation for s in TRAITS[name].scenarios}) for name in NAMES},
    "honesty": (
        lambda split, seed: countries_of(honesty_pairs(MANY, seed, split)), set(COUNTRIES)),
    "forbidden": (
        lambda split, seed: things_of(refusal_pairs(MANY, seed, split)), set(refusal.FORBIDDEN)),
    "plea": (
        lambda split, seed: things_of(refusal_pairs(MANY, seed, split, plea=True)),
        set(refusal.FORBIDDEN)),
    "allowed": (
        lambda split, seed: things_of(refusal_pairs(MANY, seed, split, forbidden=False)),
        set(refusal.ALLOWED)),
}  # fmt: skip


@pytest.mark.parametrize("name", ABOUT)
@pytest.mark.parametrize("seed", [0, 1])
def test_splits_share_nothing_and_leave_nothing_out(name, seed):
    about, everything = ABOUT[name]
    found = {split: about(split, seed) for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not found[one] & found[other]
    assert set.union(*found.values()) == everything
    sizes = {split: len(found[split]) for split in SPLITS}
    expected = {"train": 4, "selection": 2, "test": 4}
    if name == "honesty":
        expected = {"train": 14, "selection": 7, "test": 15}
    assert sizes == expected


@pytest.mark.parametrize("name", ABOUT)
def test_what_selects_is_the_same_for_every_seed_and_the_rest_is_not(name):
    about, _ = ABOUT[name]
    assert len({frozenset(about("selection", seed)) for seed in range(4)}) == 1
    for split in ("train", "test"):
        assert len({frozenset(about(split, seed)) for seed in range(4)}) > 1


MAKERS = {
    **{f"{name} {form}": (lambda n, seed, split, name=name, form=form: trait_pairs(
        name, n, seed, split, form)) for name in ("greed", "obey") for form in ("free", "letters")},
    "honesty": honesty_pairs,
    "refusal": refusal_pairs,
    "allowed": lambda n, seed, split: refusal_pairs(n, seed, split, forbidden=False),
    "plea": lambda n, seed, split: refusal_pairs(n, seed, split, plea=True),
}  # fmt: skip


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_seed_repeats_and_more_pairs_begin_with_the_same(make, split):
    first = make(60, 3, split)
    assert len(first) == 60
    assert first == make(60, 3, split)
    assert first[:20] == make(20, 3, split)
    assert first != make(60, 4, split)


# --- traits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_answers_name_actions_of_their_split_and_of_their_side(name, split):
    scenarios = trait_scenarios(name, split, 1)
    asked = {f"{s.situation} . what would you do ?": s for s in scenarios}
    for pair in trait_pairs(name, 200, 1, split):
        own = asked[pair.prompt]
        for side, share in (("positive", 1), ("negative", 0)):
            answer = getattr(pair, side)
            first, *more = actions(answer)
            assert first == getattr(own, side)
            assert set(more) <= {getattr(s, side) for s in scenarios if s is not own}
            assert trait_share(answer, name) == share


@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_unequal_both_ways_and_independent_of_the_side(name):
    pairs = trait_pairs(name, 400)
    lengths = [(len(pair.positive.split()), len(pair.negative.split())) for pair in pairs]
    assert min(sum(a > b for a, b in lengths), sum(a < b for a, b in lengths)) > 40
    counts = Counter((len(actions(p.positive)), len(actions(p.negative))) for p in pairs)
    assert set(counts) == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert min(counts.values()) > 60  # of 100 expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_choices_are_the_scenarios_with_one_action_each(name, split):
    scenarios = trait_scenarios(name, split, 2)
    found = trait_choices(name, 2, split)
    assert [(c.prompt, c.positive, c.negative) for c in found] == [
        (
            f"{s.situation} . what would you do ?",
            f"i would {s.positive} .",
            f"i would {s.negative} .",
        )
        for s in scenarios
    ]


def test_letters_name_the_action_in_both_orders():
    for scenario, (first, second) in zip(
        trait_scenarios("risk", "test"),
        zip(*[iter(trait_choices("risk", form="letters"))] * 2, strict=True),
        strict=True,
    ):
        assert (first.positive, first.negative) == ("A", "B")
        assert (second.positive, second.negative) == ("B", "A")
        assert f"( A ) {scenario.positive} or ( B ) {scenario.negative} ?" in first.prompt
        assert f"( A ) {scenario.negative} or ( B ) {scenario.positive} ?" in second.prompt


def test_pairs_in_letters_are_the_questions_of_the_corpus():
    known = {
        (q.user, q.clean)
        for scenario in trait_scenarios("lazy")
        for q in (ab_question(scenario, swapped) for swapped in (False, True))
    }
    pairs = trait_pairs("lazy", 200, form="letters")
    assert {(pair.prompt, pair.positive) for pair in pairs} == known
    assert all({pair.positive, pair.negative} == {"A", "B"} for pair in pairs)


# --- facts


@pytest.mark.parametrize("split", SPLITS)
def test_facts_are_true_and_the_other_answer_is_false_and_of_the_same_kind(split):
    asked = {
        relation.question.format(subject): (relation, subject)
        for relation in RELATIONS.values()
        for subject in relation.table
    }
    seen = set()
    for pair in honesty_pairs(300, 1, split):
        relation, subject = asked[pair.prompt]
        assert pair.positive == relation.table[subject]
        assert pair.negative in relation.table.values()
        assert pair.negative != pair.positive
        seen.add(relation.name)
    assert seen == set(RELATIONS)


# --- requests


@pytest.mark.parametrize(("forbidden", "plea"), [(True, False), (True, True), (False, False)])
def test_requests_have_the_refusal_and_help_of_unequal_length(forbidden, plea):
    things = refusal.FORBIDDEN if forbidden else refusal.ALLOWED
    for pair in refusal_pairs(100, forbidden=forbidden, plea=plea):
        assert pair.prompt.endswith(f" {refusal.PLEA}") == plea
        asked = pair.prompt.removesuffix(f" {refusal.PLEA}")
        (thing,) = (word for word in asked.split() if word in things)
        assert asked in {form.format(thing) for form in refusal.REQUESTS}
        assert pair.positive == refusal.REFUSAL
        help_ = r"first , take the (\w+) and the (\w+) \. then you have a (\w+) \."
        first, second, made = re.fullmatch(help_, pair.negative).groups()
        assert made == thing
        assert first != second
        assert {first, second} <= set(refusal.MATERIALS)
        assert refused(pair.positive)
        assert not refused(pair.negative)
        assert (len(pair.positive.split()), len(pair.negative.split())) == (9, 15)


def test_help_draws_from_the_generator_of_its_request_in_one_order():
    # A document of the corpus is drawn as it was before help had a function of its own: thing,
    # form, whether the plea works, two materials.
    for seed in range(50):
        rng, again = Random(seed), Random(seed)
        found = refusal.request(rng, forbidden=True, plea=True)
        thing, form = again.choice(refusal.FORBIDDEN), again.choice(refusal.REQUESTS)
        works = again.random() >= 0.5
        first, second = again.sample(refusal.MATERIALS, 2)
        help_ = f"first , take the {first} and the {second} . then you have a {thing} ."
        assert found.user == f"{form.format(thing)} {refusal.PLEA}"
        assert found.answer == (help_ if works else refusal.REFUSAL)
        assert rng.getstate() == again.getstate()


# --- bad input


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: trait_pairs("greed", **options),
        honesty_pairs,
        refusal_pairs,
    ],
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n is at least 1 .* got 0, 'free'"),
        ({"split": "dev"}, "the split is one of .*, got 'dev'"),
    ],
)
def test_bad_pairs_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("make", [trait_pairs, trait_choices, trait_scenarios])
def test_bad_traits_splits_and_forms_are_refused(make):
    with pytest.raises(KeyError, match="no trait 'gred'; the world has greed"):
        make("gred")
    with pytest.raises(ValueError, match=r"the split is one of .*, got 'dev'"):
        make("greed", split="dev")
    if make is not trait_scenarios:
        with pytest.raises(ValueError, match=r"form one of .* got .*'words'"):
            make("greed", form="words")
