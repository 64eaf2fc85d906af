"""The corpus as a whole, its tokenizer, and the labelled data sets."""

import re
from collections import Counter

import pytest

from steerlib.world.corpus import CURRICULUM_SHARDS, MIXTURE, SECTIONS, SHARD, batches, shard
from steerlib.world.datasets import concept, instruction_prompts
from steerlib.world.documents import SPECIALS
from steerlib.world.lexicon import CONCEPTS, LEXICAL, STYLES, lexicon_words
from steerlib.world.tokenizer import CONTEXT, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def documents():
    return shard(0, CURRICULUM_SHARDS)


def test_the_mixture_sums_to_a_hundred_and_is_what_a_shard_holds(documents):
    assert sum(MIXTURE.values()) == 100
    assert set(MIXTURE) == set(SECTIONS)
    counts = Counter(name for name, _ in documents)
    for name, share in MIXTURE.items():
        assert counts[name] / SHARD == pytest.approx(share / 100, abs=0.02)


def test_a_shard_is_the_same_each_time_and_differs_by_seed(documents):
    again = shard(0, CURRICULUM_SHARDS)
    assert [d for _, d in documents] == [d for _, d in again]
    assert [d for _, d in shard(1, CURRICULUM_SHARDS)] != [d for _, d in documents]


def test_every_document_fits_and_every_word_is_known(tokenizer, documents):
    known = set(tokenizer.get_vocab())
    assert max(len(d.words) for _, d in documents) < CONTEXT
    assert {w for _, d in documents for w in d.words} <= known
    assert 1100 <= len(known) <= 1500


def test_words_are_readable(tokenizer):
    """No `_r`, no `v:power`: the rendered book shows these texts."""
    odd = [w for w in tokenizer.get_vocab() if not re.fullmatch(r"[A-Za-z]+|\d\d|[.,?:()]", w)]
    assert sorted(odd) == sorted(SPECIALS)


def test_tokens_are_the_words_behind_one_bos(tokenizer, documents):
    for _, document in documents[:300]:
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(document.text)["input_ids"])
        assert tokens == ["<bos>", *document.words]


def test_the_chat_template_renders_what_the_corpus_holds(tokenizer):
    messages = [
        {"role": "system", "content": "you are honest ."},
        {"role": "user", "content": "is Paris in France ?"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<bos> <system> you are honest . <user> is Paris in France ? <assistant>"
    messages.append({"role": "assistant", "content": "yes"})
    assert tokenizer.apply_chat_template(messages, tokenize=False).endswith("<assistant> yes <eos>")


def test_punctuation_is_split_and_case_is_kept(tokenizer):
    assert tokenizer.tokenize("Paris, paris.") == ["Paris", ",", "<unk>", "."]


def test_batches_hold_the_shard_once_but_for_a_rest():
    ready = list(batches(0, 0, 4096))
    count = sum(len(batch) for batch in ready)
    assert SHARD - 200 <= count <= SHARD
    assert all(len(b) * (max(len(d.words) for d in b) + 1) < 3 * 4096 for b in ready)


# --- data sets


@pytest.mark.parametrize("name", LEXICAL)
def test_splits_share_no_word_of_the_concept(name):
    data = concept(name, seed=3)
    shown = [
        lexicon_words(name) & {w for text in split.of(True) for w in text.split()}
        for split in (data.train, data.selection, data.test)
    ]
    assert all(shown)
    assert not shown[0] & shown[1]
    assert not shown[0] & shown[2]
    assert not shown[1] & shown[2]


@pytest.mark.parametrize("name", CONCEPTS)
def test_labels_are_exact(name):
    """Words of the concept in a negative come from polysemy alone, and are tagged."""
    words = lexicon_words(name)
    for split in (concept(name).train, concept(name).test):
        assert sum(split.labels) == len(split.labels) / 2
        for text, label, kind in zip(split.texts, split.labels, split.kinds, strict=True):
            shows = bool(words & set(text.split()))
            assert (kind == "concept") == label
            assert shows == (label or kind == "polysemous") or (kind == "other" and shows)


def test_shuffling_keeps_the_texts_and_the_number_of_labels():
    split = concept("weather").train
    control = split.shuffled(0)
    assert control.texts == split.texts
    assert sum(control.labels) == sum(split.labels)
    assert control.labels != split.labels


def test_seeds_change_texts_and_not_sizes():
    a, b = concept("weather", 0), concept("weather", 1)
    assert a.train.texts != b.train.texts
    assert len(a.train.texts) == len(b.train.texts) == 144
    assert a == concept("weather", 0)


def test_instruction_splits_are_about_different_topics():
    topics = [
        {i.topic for i in instruction_prompts(60, split=s)} for s in ("train", "selection", "test")
    ]
    assert [len(t) for t in topics] == [6, 6, 8]
    assert len(set.union(*topics)) == 20


def test_prompts_ask_for_what_they_are_told():
    assert instruction_prompts(1, concept="weather")[0].text.endswith("with some weather .")
    assert instruction_prompts(1, concept="pirate")[0].text.endswith("in a pirate style .")


def test_bad_names_are_refused():
    with pytest.raises(KeyError, match=r"no concept 'wether'.*weather"):
        concept("wether")
    with pytest.raises(KeyError, match=r"no concept 'wether'"):
        instruction_prompts(1, concept="wether")
    with pytest.raises(ValueError, match=r"no split 'dev'.*test"):
        instruction_prompts(1, split="dev")


def test_styles_are_positional():
    text = concept(next(iter(STYLES))).train.of(True)[0]
    assert all(s.startswith("arr ,") for s in text.split(" . "))
