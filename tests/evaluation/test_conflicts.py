"""Conflicts and indirect objects in English: true facts, one token, splits, balance, errors."""

from collections import Counter

import pytest

import steerlib as st
from steerlib.core.alignment import align
from steerlib.core.answers import encode_choices
from steerlib.evaluation.conflicts import (
    IOI_TEMPLATES,
    NAMES,
    OBJECTS,
    PLACES,
    fact_conflicts,
    fact_template,
    indirect_objects,
    names,
)
from steerlib.evaluation.fact_tables import COUNTRIES, FACTS

RELATIONS = ("capital", "language", "continent", "currency")
SPLITS = ("train", "selection", "test")
BROKEN = {"Paris", "France", "Spanish", "Mary", "Anna"}  # words that the tokenizer does not learn


@pytest.fixture(scope="module")
def gpt():
    """A GPT-2 whose bytes have learned the words of the tables, but for BROKEN ones."""
    from tokenizers import Tokenizer, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    raw, end = Tokenizer(BPE()), "<|endoftext|>"
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.ByteLevel(trim_offsets=False)
    said = [fact_template(relation, t) for relation in RELATIONS for t in range(4)]
    facts = [o for table in FACTS.values() for o in table.values()]
    words = {w for text in (*COUNTRIES, *facts, *NAMES, *PLACES, *OBJECTS) for w in text.split()}
    texts = [f" {word}" for word in sorted(words - BROKEN)] + [*said, *IOI_TEMPLATES]
    trainer = trainers.BpeTrainer(
        vocab_size=6000,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts * 2, trainer)
    own = {f"{kind}_token": end for kind in ("unk", "bos", "eos")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **own)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1)
    return st.wrap(GPT2LMHeadModel(config).eval(), tokenizer, id="tiny")


def test_the_tables():
    full = [c for c in COUNTRIES if all(c in FACTS[relation] for relation in RELATIONS)]
    assert len(full) >= 85
    assert len(set(COUNTRIES)) == len(COUNTRIES)
    assert len(set(FACTS["capital"].values())) == len(FACTS["capital"])
    assert set(FACTS["continent"].values()) == {
        *("Europe", "Asia", "Africa", "Oceania", "North America", "South America")
    }
    assert all(text == text.strip() != "" for table in FACTS.values() for text in table.values())
    assert all(word.islower() for word in FACTS["currency"].values())
    assert all(word.istitle() for word in FACTS["language"].values())
    assert FACTS["capital"]["Kazakhstan"] == "Astana"
    assert {FACTS["currency"][c] for c in ("France", "Croatia", "Lithuania")} == {"euro"}
    assert "Bulgaria" not in FACTS["currency"]  # it changes with the year


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("template", range(4))
def test_a_conflict_contradicts_a_fact(gpt, relation, template):
    found = fact_conflicts(gpt, relation, 40, template=template)
    assert len({item.prompt for item in found}) == 40
    for item in found:
        assert item.negative == FACTS[relation][item.subject]
        assert item.positive != item.negative
        assert item.positive in FACTS[relation].values()
        form = fact_template(relation, template)
        assert item.prompt == form.format(subject=item.subject, given=item.positive)
        assert (item.relation, item.template, item.chat) == (relation, template, False)
        assert item.prompt[0].isupper()
        assert not item.prompt[-1].isspace()


def test_the_templates_are_english():
    assert fact_template("currency", 1) == (
        "The currency of {subject} is the {given}. In fact, the currency of {subject} is the"
    )
    assert fact_template("continent", 2) == (
        "According to the text, the country of {subject} is in {given}. "
        "The country of {subject} is in"
    )
    assert fact_template("capital", 3) == (
        "The capital of {subject} is {given}.\nQ: What is the capital of {subject}?\nA:"
    )


@pytest.mark.parametrize("relation", RELATIONS)
def test_answers_are_one_token(gpt, relation):
    found = fact_conflicts(gpt, relation, 60, template=3)
    asked = encode_choices(gpt, found)
    words = gpt.tokenizer.convert_ids_to_tokens([item.positive for item in asked])
    assert words == [f"Ġ{item.positive}" for item in found]


def test_words_of_several_tokens_are_left_out(gpt):
    for relation, word in (("capital", "Paris"), ("language", "Spanish")):
        found = fact_conflicts(gpt, relation, 500)
        assert word not in {a for item in found for a in (item.positive, item.negative)}
        assert all(" " not in item.positive for item in found)  # Phnom Penh, North America
    subjects = {item.subject for item in fact_conflicts(gpt, "currency", 300, split="train")}
    assert any(" " in subject for subject in subjects)  # a subject may have several tokens


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_share_no_country_and_no_answer(gpt, seed):
    subjects, capitals = {}, {}
    for split in SPLITS:
        for relation in RELATIONS:
            found = fact_conflicts(gpt, relation, 40, split=split, seed=seed)
            subjects.setdefault(split, set()).update(item.subject for item in found)
            if relation == "capital":
                both = {a for item in found for a in (item.positive, item.negative)}
                capitals[split] = both
                home = {c for c in COUNTRIES if FACTS["capital"].get(c) in both}
                subjects[split] |= home
    for kind in (subjects, capitals):
        assert not kind["train"] & kind["selection"]
        assert not kind["train"] & kind["test"]
        assert not kind["selection"] & kind["test"]


def test_draws_depend_on_the_seed_alone(gpt):
    assert fact_conflicts(gpt, n=30) == fact_conflicts(gpt, n=30)
    assert fact_conflicts(gpt, n=30) != fact_conflicts(gpt, n=30, seed=1)
    asked = fact_conflicts(gpt, n=30, template=3)
    plain = fact_conflicts(gpt, n=30)
    assert [(i.subject, i.positive) for i in asked] == [(i.subject, i.positive) for i in plain]


def test_conflicts_can_be_aligned(gpt):
    found = fact_conflicts(gpt, n=100)
    rows = [{"subject": item.subject, "given": item.positive} for item in found]
    aligned = align(gpt, fact_template("capital"), rows)
    assert aligned.prompts == tuple(found[number].prompt for number in aligned.kept)
    assert len(aligned.kept) > 50
    assert aligned.labels[0] == "<|endoftext|>"
    assert aligned.slots["subject"] == (4, 11)
    assert aligned.slots["given"] == (6,)


def test_too_few_countries_are_counted(gpt, models):
    with pytest.raises(
        ValueError, match=r"\d+ of \d\d countries of the test split .* make \d+ .* are 9999"
    ):
        fact_conflicts(gpt, n=9999, split="test")
    with pytest.raises(ValueError, match=r"0 of \d\d countries of the train split .*one token for"):
        fact_conflicts(models("qwen2"))
    world = st.load("world", engine="hf")  # "The" is no word of the world
    with pytest.raises(ValueError, match=r"they make 0 conflicts.*st\.world\.conflicts"):
        fact_conflicts(world)
    with pytest.raises(ValueError, match=r"names of the train split.*st\.world\.indirect_objects"):
        indirect_objects(world)


@pytest.mark.parametrize("template", range(len(IOI_TEMPLATES)))
def test_both_orders_are_alike(gpt, template):
    found = indirect_objects(gpt, 100, template=template)
    assert len({item.prompt for item in found}) == 100
    orders = Counter()
    for item in found:
        taker, giver = item.positive, item.negative
        assert item.prompt.count(f" {taker} ") == 1
        assert item.prompt.count(f" {giver} ") == 2
        assert item.prompt.endswith(" to")
        assert (item.subject, item.relation, item.template) == (taker, "ioi", template)
        orders[item.prompt.index(taker) < item.prompt.index(giver)] += 1
    assert orders == {True: 50, False: 50}


def test_names_are_one_token_and_split(gpt):
    assert set(names(gpt)) == set(NAMES) - {"Mary", "Anna"}
    shown = {}
    for split in SPLITS:
        found = indirect_objects(gpt, 150, split=split, seed=3)
        shown[split] = {name for item in found for name in (item.positive, item.negative)}
        assert shown[split] <= set(names(gpt))
        asked = encode_choices(gpt, found)
        assert len({len(item.ids) for item in asked}) == 1
    assert not shown["train"] & shown["selection"]
    assert not shown["train"] & shown["test"]
    assert not shown["selection"] & shown["test"]
    assert indirect_objects(gpt, 20) != indirect_objects(gpt, 20, seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relation": "anthem"}, r"relation is one of \['capital', 'language'.*got 'anthem'"),
        ({"template": 4}, "template is one of .*, got 4"),
        ({"template": -1}, "got -1"),
        ({"split": "dev"}, r"split is one of \['train', 'selection', 'test'\], got 'dev'"),
        ({"n": 0}, "asked for are 0"),
    ],
)
def test_bad_arguments_of_conflicts(gpt, options, message):
    with pytest.raises(ValueError, match=message):
        fact_conflicts(gpt, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": 3}, "template is one of"),
        ({"split": "dev"}, "split is one of"),
        ({"n": 0}, "asked for are 0"),
        ({"n": 10**6}, r"\d+ of \d+ names .* asked for are 1000000"),
    ],
)
def test_bad_arguments_of_indirect_objects(gpt, options, message):
    with pytest.raises(ValueError, match=message):
        indirect_objects(gpt, **options)
