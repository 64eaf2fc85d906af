"""Aligned prompts: which positions belong to which field, for every kind of tokenizer."""

import dataclasses

import pytest
import torch

import steerlib as st
from steerlib.core.alignment import align
from steerlib.core.prompts import encode
from steerlib.core.where import Where

CAPITAL = "The capital of {country} is {given}. The capital of {country} is"
CITIES = "Paris Rome Madrid Berlin".split()
LANDS = "France Italy Spain Germany".split()
ROWS = [{"country": c, "given": g} for c in LANDS for g in CITIES]
LONG = ({"country": "Liechtenstein", "given": "Paris"}, {"country": "Spain", "given": "Vaduz"})
FIXED = ["The", "capital", "of", "{country}", "is", "{given}", "."]
FIXED += ["The", "capital", "of", "{country}", "is"]


def _bytes(raw, trainer):
    from tokenizers import pre_tokenizers, processors

    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.ByteLevel(trim_offsets=trainer == "trimmed")
    return {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}


def _pieces(raw, trainer):
    from tokenizers import normalizers, pre_tokenizers

    mark, split = "\N{LOWER ONE EIGHTH BLOCK}", pre_tokenizers.Punctuation("isolated")
    if trainer == "gemma":  # no mark at the start of a text
        raw.normalizer = normalizers.Replace(" ", mark)
        words = pre_tokenizers.Split(mark, "merged_with_next")
    else:
        words = pre_tokenizers.Metaspace(mark, prepend_scheme="first")
    raw.pre_tokenizer = pre_tokenizers.Sequence([words, split])
    return {"initial_alphabet": list("LiechtnsVaduz")}


KINDS = {
    "gpt2": _bytes,  # the token of a word has the space in front of it
    "trimmed": _bytes,  # so it has here, but its characters are told without the space (Llama 3)
    "gemma": _pieces,
    "llama2": _pieces,
}


@pytest.fixture(scope="module", params=KINDS)
def learned(request, models):
    """A model whose tokenizer has learned the words of CAPITAL, and breaks up all others."""
    from tokenizers import Tokenizer, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(BPE())
    options = KINDS[request.param](raw, request.param)
    texts = [f"{CAPITAL.format(**row)} {row['given']} {row['country']}" for row in ROWS]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<pad>", "<eos>", "<bos>"], show_progress=False, **options
    )
    raw.train_from_iterator(texts, trainer)
    own = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", bos_token="<bos>")
    return dataclasses.replace(models("llama"), tokenizer=own)


def selected(model, prompt, positions, chat=False):
    """The positions of one prompt that a selection selects."""
    ids = torch.tensor(encode(model, prompt, chat))
    where = Where(ids, None, tuple(ids.shape), 0, None, model.tokenizer, model.bos_id, ids.device)
    return positions.select(where)[0].nonzero()[:, 0].tolist()


def test_labels_and_slots(learned):
    assert learned.tokenizer("The").input_ids[0] != learned.bos_id  # nobody else puts a BOS
    aligned = align(learned, CAPITAL, ROWS)
    assert aligned.labels == ("<bos>", *FIXED)
    assert aligned.slots == {"country": (4, 11), "given": (6,)}
    assert (aligned.kept, aligned.dropped) == (tuple(range(16)), 0)
    assert aligned.prompts == tuple(CAPITAL.format(**row) for row in ROWS)


def test_rows_of_another_layout_are_dropped(learned):
    aligned = align(learned, CAPITAL, [LONG[0], *ROWS[:3], LONG[1]])
    assert (aligned.kept, aligned.dropped, aligned.total) == ((1, 2, 3), 2, 5)
    assert aligned.labels == ("<bos>", *FIXED)


def test_an_entity_of_several_tokens_has_all_of_them(learned):
    (row, _), entity = LONG, "Liechtenstein"
    aligned = align(learned, CAPITAL, [row])
    size = len(learned.tokenizer(f" {entity}", add_special_tokens=False).input_ids)
    assert size > 1
    first, second = aligned.slots["country"][:size], aligned.slots["country"][size:]
    assert first == tuple(range(4, 4 + size))
    assert second == tuple(range(10 + size, 10 + 2 * size))
    pieces = [f"{{country}}[{number}]" for number in range(size)]
    assert [aligned.labels[p] for p in first] == [aligned.labels[p] for p in second] == pieces
    ids = encode(learned, aligned.prompts[0], chat=False)[0]
    text = "".join(learned.tokenizer.convert_ids_to_tokens([ids[p] for p in first]))
    assert text[1:] == entity  # and the space in front of it, a token of its own


@pytest.mark.parametrize("row", [*ROWS[:3], *LONG])
def test_slots_are_what_tokens_selects(learned, row):
    aligned = align(learned, CAPITAL, [row])
    for name, text in row.items():
        found = selected(learned, aligned.prompts[0], st.tokens(text))
        assert found == list(aligned.slots[name])
        assert selected(learned, aligned.prompts[0], aligned.mask(name)) == found


def test_a_lone_space_belongs_to_the_entity(models):
    # These bytes have not learned " 7": the space is a token of its own.
    aligned = align(models("qwen2"), "tell the {x} about the {y}", [{"x": "7", "y": "dog"}])
    labels = ("tell", "the", "{x}[0]", "{x}[1]", "about", "the", "{y}")
    assert aligned.labels[1:] == labels
    words = align(models("qwen2"), "{x} saw the {x}", [{"x": "7 7"}])
    assert words.slots == {"x": (1, 2, 3, 6, 7, 8, 9)}


@pytest.mark.parametrize("chat", [False, None])
def test_every_architecture(model, chat):
    rows = [{"who": w, "what": v} for w in ("girl", "boy") for v in ("ball", "park")]
    aligned = align(model, "tell the {who} about the {what} and the {who}", rows, chat=chat)
    assert aligned.dropped == 0
    for row, prompt in zip(rows, aligned.prompts, strict=True):
        assert len(encode(model, prompt, chat)[0]) == len(aligned.labels)
        for name, text in row.items():
            assert selected(model, prompt, st.tokens(text), chat) == list(aligned.slots[name])
    shift = 1 if chat is None and model.tokenizer.chat_template else 0
    assert aligned.slots["who"] == (3 + shift, 9 + shift)
    if shift:
        assert aligned.labels[:2] == ("<bos>", "<user>")
        assert aligned.labels[-1] == "<assistant>"


def test_a_real_model(stories):
    rows = [{"name": "Tim"}, {"name": "Lily"}, {"name": "Zzyx"}, {"name": "École"}]
    aligned = align(stories, "Once upon a time {name} saw a dog.\nThen {name} ran", rows)
    assert aligned.kept == (0, 1)
    assert [aligned.labels[p] for p in aligned.slots["name"]] == ["{name}", "{name}"]
    assert "\\n" in aligned.labels
    for prompt, name in zip(aligned.prompts, ("Tim", "Lily"), strict=True):
        assert selected(stories, prompt, st.tokens(name)) == list(aligned.slots["name"])


def test_the_world():
    world = st.load("world", engine="hf")
    template = "the capital of {country} is {given} . the capital of {country} is"
    aligned = align(world, template, ROWS)
    assert (aligned.dropped, aligned.slots) == (0, {"country": (4, 11), "given": (6,)})
    assert aligned.labels[:6] == ("<bos>", "the", "capital", "of", "{country}", "is")
    asked = align(world, template, ROWS, chat=True)
    assert asked.slots == {"country": (5, 12), "given": (7,)}


def test_a_bos_in_the_text_is_not_counted_twice(gpt2):
    for start, text in enumerate(("the {x}", "<bos> the {x}", "<bos> <bos> the {x}")):
        aligned = align(gpt2, text, [{"x": "dog"}])
        assert aligned.labels == ("<bos>", "the", "{x}"), start
        assert aligned.slots == {"x": (2,)}


def test_without_any_bos_the_first_token_is_at_0(gpt2):
    changed = dataclasses.replace(gpt2)
    changed.__dict__["bos_id"] = None
    assert align(changed, "{x} saw the dog", [{"x": "cat"}]).slots == {"x": (0,)}


def test_the_commonest_layout_wins_and_of_two_the_shorter(gpt2):
    one, two = {"x": "dog"}, {"x": "big dog"}
    assert align(gpt2, "the {x}", [one, two, two]).slots == {"x": (2, 3)}
    tie = align(gpt2, "the {x}", [two, one])
    assert (tie.kept, tie.slots) == ((1,), {"x": (2,)})


def test_a_mask_steers_the_slots_and_nothing_else(gpt2):
    rows = [{"a": "dog", "b": "cat"}, {"a": "cat", "b": "fish"}]
    aligned = align(gpt2, "the {a} saw the {b} and the {a}", rows)
    site = st.resid(1)
    prompts, size = list(aligned.prompts), len(aligned.labels)
    rest = st.mask(torch.ones(size, dtype=torch.bool))
    plain = st.capture(gpt2, prompts, [site], at=rest, reduce=None, chat=False)[site]
    for fields in (("a",), ("b",), ("a", "b")):
        edit = st.Scale(site, 0.5).at(aligned.mask(*fields))
        with st.steer(gpt2, edit):
            found = st.capture(gpt2, prompts, [site], at=rest, reduce=None, chat=False)[site]
        ratio = (found / plain).reshape(2, size - 1, -1)  # without BOS
        slots = {p for field in fields for p in aligned.slots[field]}
        want = torch.tensor([1.5 if p in slots else 1.0 for p in range(1, size)])
        assert torch.allclose(ratio, want[None, :, None].expand_as(ratio), atol=1e-5)


@pytest.mark.parametrize(
    ("template", "rows", "error", "message"),
    [
        ("the {x}", [], ValueError, "needs rows"),
        ("the dog", [{"x": "a"}], ValueError, "'the dog' has no field such as {country}"),
        ("the {{x}}", [{"x": "a"}], ValueError, "has no field"),
        ("the {}", [{"": "a"}], ValueError, "a field is a name in braces, got ''"),
        ("the {x:>5}", [{"x": "a"}], ValueError, "a field is a name in braces, got 'x'"),
        ("the {x}{y}", [{"x": "a", "y": "b"}], ValueError, "two fields touch"),
        ("the {x}-{y}", [{"x": "a", "y": "b"}], ValueError, "'a-b' of 'the a-b' belongs to two"),
        ("{x}", [{"x": "a"}, {}], KeyError, "row 1 lacks field 'x'; fields are x"),
        ("{x}", [{"x": "a", "y": "b"}], KeyError, "row 0 has an unknown field 'y'; fields are x"),
        ("{x}", ["dog"], TypeError, "a row is a mapping of field -> text, got 'dog' as row 0"),
        ("{x}", [{"x": 3}], TypeError, "is a string, got 3 in row 0"),
        ("{x}", [{"x": ""}], ValueError, "field 'x' of row 0 is ''"),
        ("{x}", [{"x": " dog"}], ValueError, "white space at its ends belongs to the template"),
        ("the {x}", [{"x": "dog " * 70 + "dog"}], ValueError, "does not fit"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*vocabulary")
def test_what_is_refused(gpt2, template, rows, error, message):
    with pytest.raises(error, match=message):
        align(gpt2, template, rows)


def test_a_chat_template_that_changes_the_prompt_is_refused(gpt2, llama, monkeypatch):
    with pytest.raises(ValueError, match="no chat template"):
        align(llama, "the {x}", [{"x": "dog"}], chat=True)
    loud = gpt2.tokenizer.chat_template.replace("m['content']", "m['content'] | upper")
    monkeypatch.setattr(gpt2.tokenizer, "chat_template", loud)
    with pytest.raises(ValueError, match="does not show 'the dog' exactly once"):
        align(gpt2, "the {x}", [{"x": "dog"}], chat=True)


def test_a_mask_needs_a_field_of_the_template(gpt2):
    aligned = align(gpt2, "the {x}", [{"x": "dog"}])
    with pytest.raises(ValueError, match="needs a field; there are x"):
        aligned.mask()
    with pytest.raises(KeyError, match="no field 'y'; there are x"):
        aligned.mask("x", "y")
