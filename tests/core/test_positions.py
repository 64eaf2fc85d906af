"""Which tokens each selection selects, in prompts, with padding, and while decoding."""

import pytest
import torch

import steerlib as st
from steerlib.core import positions
from steerlib.core.where import Where

IDS = torch.tensor([[0, 0, 2, 7, 8, 9], [2, 7, 8, 7, 8, 9]])
PADDED = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


class _Tokenizer:
    unk_token_id = 1

    def __call__(self, text, add_special_tokens):
        words = {"a": 7, "b": 8, "c": 9}
        ids = [words.get(word, 1) for word in text.split()]
        return type("Encoding", (), {"input_ids": ids})


def _where(ids=IDS, attention=PADDED, past=0, prompt=None):
    known = None if prompt is None else torch.tensor(prompt)
    shape = (ids.shape[0], ids.shape[1])
    return Where(ids, attention, shape, past, known, _Tokenizer(), 2, ids.device)


def _rows(selection, where):
    selected = selection.select(where)
    return selected if isinstance(selected, bool) else selected.int().tolist()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (st.everywhere, [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]),
        (st.last, [[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]]),
        (st.bos, [[0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]),
        (st.prompt - st.bos, [[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]]),
        (st.generation, [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]),
        (st.after(1), [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]]),
        (st.ends(1, 2), [[0, 0, 0, 1, 1, 1], [0, 1, 0, 0, 1, 1]]),
        (st.ends(2, 0), [[0, 0, 0, 1, 1, 0], [0, 1, 1, 0, 0, 0]]),
        (st.ends(0, 1), [[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]]),
        (st.ends(5, 5), [[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]]),
        (st.tokens("a b"), [[0, 0, 0, 1, 1, 0], [0, 1, 1, 1, 1, 0]]),
        (st.tokens("c") | st.bos, [[0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 1]]),
        (st.after(1) & st.tokens("b"), [[0, 0, 0, 0, 1, 0], [0, 0, 1, 0, 1, 0]]),
        (st.mask(torch.tensor([False, True])), [[0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0]]),
        (
            st.mask(torch.tensor([[True, False, False], [False, False, True]])),
            [[0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]],
        ),
    ],
)
def test_positions_of_a_left_padded_prompt(selection, expected):
    assert _rows(selection, _where()) == expected


def test_without_a_mask_every_token_counts():
    assert _rows(st.after(3), _where(attention=None)) == [[0, 0, 0, 0, 1, 1]] * 2


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (st.everywhere, True),
        (st.generation, True),
        (st.last | st.generation, True),
        (st.last, False),
        (st.prompt, False),
        (st.tokens("a"), False),
        (st.ends(5, 5), False),
        (st.everywhere - st.generation, False),
        (st.everywhere & st.generation, True),
        (st.mask(torch.ones(9, dtype=torch.bool)), False),
        (st.after(3), [[1], [1]]),
        (st.after(4), [[0], [1]]),
        (st.after(4) | st.generation, [[1], [1]]),
        (st.after(4) | st.tokens("a"), [[0], [1]]),
        (st.after(3) & st.mask(torch.ones(9, dtype=torch.bool)), [[0], [0]]),
    ],
)
def test_a_decoding_step_counts_from_what_the_cache_holds(selection, expected):
    attention = torch.cat([PADDED, torch.ones(2, 1, dtype=torch.long)], 1)
    where = _where(torch.tensor([[7], [8]]), attention, past=6, prompt=[4, 6])
    assert _rows(selection, where) == expected


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (st.prompt, [[0, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]),
        (st.last, [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]),
        (st.ends(1, 1), [[0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0]]),
        (st.generation, [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]]),
        (st.last | st.generation, [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]]),
        (st.tokens("b"), [[0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0]]),
        (st.mask(torch.ones(9, dtype=torch.bool)), [[0, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]),
    ],
)
def test_a_response_that_is_read_with_its_prompt_is_what_is_generated(selection, expected):
    assert _rows(selection, _where(prompt=[2, 5])) == expected


def test_a_prompt_after_a_cached_prefix_goes_on_counting():
    where = _where(torch.tensor([[7, 8, 9]]), None, past=4)
    assert where.index.tolist() == [[4, 5, 6]]
    assert where.prompt_length.tolist() == [7]
    assert _rows(st.last, where) == [[0, 0, 1]]


@pytest.mark.parametrize(
    "selection",
    [
        *(st.last, st.everywhere, st.after(3), st.ends(5, 2), st.tokens("a b")),
        (st.prompt - st.bos) | st.after(2),
    ],
)
def test_a_selection_survives_json(selection):
    assert positions.from_json(positions.to_json(selection)) == selection


def test_a_mask_cannot_be_stored():
    with pytest.raises(ValueError, match="cannot be stored"):
        positions.to_json(st.mask(torch.tensor([True])))


def test_unknown_json_is_refused():
    with pytest.raises(ValueError, match="unknown positions"):
        positions.from_json({"before": 3})


def test_names_stand_for_selections():
    assert positions.as_positions("last") == st.last
    with pytest.raises(ValueError, match=r"'first'.*everywhere, last, prompt"):
        positions.as_positions("first")


@pytest.mark.parametrize("value", [3, None, [0]])
def test_something_else_than_a_selection_is_refused(value):
    with pytest.raises(TypeError, match=r"st\.last"):
        st.last | value


@pytest.mark.parametrize("text", ["", "  ", 3])
def test_tokens_needs_a_text(text):
    with pytest.raises(ValueError, match="needs a text"):
        st.tokens(text)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (-1, 3), (2, 1.5), ("a", 1)])
def test_ends_needs_two_numbers_of_tokens(first, last):
    with pytest.raises(ValueError, match=r"ends\(first, last\) needs"):
        st.ends(first, last)


def test_a_mask_is_boolean_and_has_a_row_for_each_sample():
    with pytest.raises(ValueError, match="a mask is boolean"):
        st.mask(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="3 rows, the batch 2"):
        st.mask(torch.ones(3, 2, dtype=torch.bool)).select(_where())


def test_tokens_needs_ids():
    where = Where(None, None, (1, 3), 0, None, _Tokenizer(), 2, torch.device("cpu"))
    with pytest.raises(ValueError, match="embeddings"):
        st.tokens("a").select(where)


def test_a_selection_prints_as_it_was_written():
    assert str((st.last | st.generation) - st.tokens("a")) == "((last | generation) - tokens('a'))"
    assert str(st.ends(5, 2)) == "ends(5, 2)"


def test_tokens_finds_a_word_within_a_real_text(gpt2, vector):
    text, site = "the dog saw the big dog .", st.resid(0)
    found = st.capture(gpt2, text, [site], at=st.tokens("dog"))[site]
    every = st.capture(gpt2, text, [site], at="prompt")[site]
    assert torch.equal(found, every[[1, 5]])
