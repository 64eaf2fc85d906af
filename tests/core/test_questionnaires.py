"""Questionnaires: what is in them, how they are split, and what is refused."""

import pytest

from steerlib.core.questionnaires import Item, Questionnaire
from steerlib.world import values

YES_NO = {"yes": 1, "no": -1}
TRIPLES = [
    ("Should I help?", "social", 1),
    ("Should I win?", "power", 1),
    ("Should I avoid people?", "social", -1),
    ("Should I obey?", "power", -1),
]


@pytest.fixture
def world_items():
    return Questionnaire.from_triples(values.questions(), values.LEVELS)


def test_values_and_items_keep_their_order():
    asked = Questionnaire.from_triples(TRIPLES, YES_NO)
    assert len(asked) == 4
    assert asked.values == ("social", "power")
    assert asked.of("power") == (
        Item("Should I win?", "power"),
        Item("Should I obey?", "power", -1),
    )
    assert asked == Questionnaire(tuple(Item(*triple) for triple in TRIPLES), YES_NO)


def test_a_questionnaire_does_not_change_with_what_it_was_made_of():
    items, answers = [Item(*triple) for triple in TRIPLES], dict(YES_NO)
    asked = Questionnaire(items, answers)
    items.clear()
    answers["no"] = 5
    assert len(asked) == 4
    assert asked.answers == YES_NO


def test_the_world_has_three_questions_for_each_of_its_values(world_items):
    assert world_items.values == values.VALUES
    assert len(world_items) == 30
    for name in values.VALUES:
        assert [item.question for item in world_items.of(name)] == [
            f"does {word} matter ?" for word in values.ITEMS[name]
        ]
    assert {item.agreement for item in world_items.items} == {1}


def test_the_worlds_levels_are_symmetric_and_grow_with_the_value(world_items):
    levels = list(world_items.answers.values())
    assert levels == sorted(levels)
    assert levels == [-level for level in reversed(levels)]
    truths = (-3.0, -1.5, -0.6, 0.0, 0.6, 1.5, 3.0)
    given = [values.ANSWERS[values.answer_level(truth)] for truth in truths]
    assert [world_items.answers[answer] for answer in given] == levels


# --- splitting


def test_a_split_divides_the_items_of_each_value(world_items):
    first, second = world_items.split(0.67, seed=3)
    assert set(first.items) | set(second.items) == set(world_items.items)
    assert not set(first.items) & set(second.items)
    assert first.values == second.values == world_items.values
    for part, size in ((first, 2), (second, 1)):
        assert {len(part.of(name)) for name in part.values} == {size}
        assert part.answers == world_items.answers
        order = [world_items.items.index(item) for item in part.items]
        assert order == sorted(order)


@pytest.mark.parametrize(("share", "size"), [(0.01, 1), (0.5, 2), (0.99, 2)])
def test_no_value_is_left_out_of_a_part(world_items, share, size):
    first, second = world_items.split(share)
    assert {len(first.of(name)) for name in values.VALUES} == {size}
    assert {len(second.of(name)) for name in values.VALUES} == {3 - size}


def test_a_split_depends_on_the_seed_and_on_nothing_else(world_items):
    assert world_items.split(0.5, seed=1) == world_items.split(0.5, seed=1)
    assert len({world_items.split(0.5, seed=seed)[0].items for seed in range(4)}) > 1
    alone = Questionnaire(world_items.of("power"), values.LEVELS)
    assert alone.split(0.5, seed=1)[0].items == world_items.split(0.5, seed=1)[0].of("power")


def test_items_of_different_values_are_drawn_apart(world_items):
    """Not the first item of all values, or the second of all."""
    first, _ = world_items.split(0.34)
    drawn = {world_items.of(name).index(first.of(name)[0]) for name in values.VALUES}
    assert len(drawn) > 1


# --- what is refused


@pytest.mark.parametrize(
    ("triple", "said"),
    [
        (("", "social", 1), "the question of an item is a text, got ''"),
        (("Should I help?", " ", 1), "the value of an item is a text, got ' '"),
        (("Should I help?", None, 1), "got None"),
        (("Should I help?", "social", 0), r"'Should I help\?' is \+1 .* or -1 .*got 0"),
        (("Should I help?", "social", 2), "got 2"),
    ],
)
def test_a_wrong_item_is_named(triple, said):
    with pytest.raises(ValueError, match=said):
        Item(*triple)


@pytest.mark.parametrize(
    ("triples", "answers", "said"),
    [
        ([], YES_NO, "at least one item, got none"),
        ([*TRIPLES, TRIPLES[0]], YES_NO, r"1 questions .* 'Should I help\?' for 'social'"),
        ([*TRIPLES, ("Should I win?", "power", -1)], YES_NO, r"'Should I win\?' for 'power'"),
        (TRIPLES, {}, r"two answers in words, got \[\]"),
        (TRIPLES, {"yes": 1}, r"two answers in words, got \['yes'\]"),
        (TRIPLES, {"yes": 1, " ": 0}, r"got \['yes', ' '\]"),
        (TRIPLES, {"yes": 1, "no": 1}, r"not all the same; got \{'yes': 1.0, 'no': 1.0\}"),
        (TRIPLES, {"yes": 1, "no": float("nan")}, "finite numbers.*nan"),
    ],
)
def test_a_wrong_questionnaire_is_refused(triples, answers, said):
    with pytest.raises(ValueError, match=said):
        Questionnaire.from_triples(triples, answers)


def test_one_question_may_ask_for_two_values():
    both = [("Should I read?", "breadth", 1), ("Should I read?", "understanding", 1)]
    assert Questionnaire.from_triples(both, YES_NO).values == ("breadth", "understanding")


def test_triples_are_no_items():
    with pytest.raises(TypeError, match=r"class Item, got \('Should I help\?'.*from_triples"):
        Questionnaire(tuple(TRIPLES), YES_NO)


def test_an_unknown_value_is_named_with_those_that_there_are():
    with pytest.raises(KeyError, match=r"'wealth'; the values are \('social', 'power'\)"):
        Questionnaire.from_triples(TRIPLES, YES_NO).of("wealth")


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_leaves_something_for_both_parts(world_items, share):
    with pytest.raises(ValueError, match=rf"between 0 and 1 .*got {share}"):
        world_items.split(share)


def test_a_single_item_cannot_be_split():
    with pytest.raises(ValueError, match="'power' has a single item"):
        Questionnaire.from_triples(TRIPLES[:3], YES_NO).split(0.5)
