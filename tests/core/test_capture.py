"""capture: the right rows, in the right order, and no more work than needed."""

import pytest
import torch

import steerlib as st
from steerlib.core.prompts import encode
from steerlib.core.sites import attach, resolve

TEXTS = [
    "tell me about the dog",
    "sun",
    "a little girl went to the park and saw a big red ball",
    "a cat",
]
SITE = st.resid(1)


def _alone(model, text):
    """All activations of one text, without steerlib's batching; BOS included."""
    kept = []
    handle = attach(resolve(model, SITE), kept.append)
    model.hf(torch.tensor(encode(model, text, chat=False)))
    handle.remove()
    return kept[0][0].detach()


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_rows_are_the_last_tokens_in_the_order_of_the_texts(model, batch_size):
    rows = st.capture(model, TEXTS, [SITE], batch_size=batch_size)[SITE]
    expected = torch.stack([_alone(model, text)[-1] for text in TEXTS])
    assert rows.shape == (4, 32)
    assert torch.allclose(rows, expected, atol=1e-5)


def test_all_tokens_leave_out_bos_unless_asked(model):
    expected = [_alone(model, text) for text in TEXTS]
    rows = st.capture(model, TEXTS, [SITE], at="prompt", batch_size=2)[SITE]
    assert torch.allclose(rows, torch.cat([h[1:] for h in expected]), atol=1e-5)
    rows = st.capture(model, TEXTS, [SITE], at="prompt", include_bos=True)[SITE]
    assert torch.allclose(rows, torch.cat(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("reduce", "pool"), [("mean", lambda h: h.mean(0)), ("max", lambda h: h.amax(0))]
)
def test_pooling_gives_one_row_for_each_text(gpt2, reduce, pool):
    rows = st.capture(gpt2, TEXTS, [SITE], at="prompt", reduce=reduce, batch_size=3)[SITE]
    expected = torch.stack([pool(_alone(gpt2, text)[1:]) for text in TEXTS])
    assert torch.allclose(rows, expected, atol=1e-5)


def test_several_sites_and_names_are_read_in_one_pass(gpt2):
    both = st.capture(gpt2, TEXTS, [st.resid(2), "blocks.0.hook_attn_out"])
    assert list(both) == [st.resid(2), st.attn_out(0)]
    for site, rows in both.items():
        assert torch.equal(rows, st.capture(gpt2, TEXTS, site)[site])


def test_the_model_stops_after_the_last_wanted_layer(gpt2):
    ran = []
    handles = [
        block.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for layer, block in enumerate(gpt2.blocks)
    ]
    st.capture(gpt2, "a dog", [st.resid(0), st.attn_out(1)])
    for handle in handles:
        handle.remove()
    assert ran == [0]


def test_texts_are_batched_by_length(gpt2):
    shapes = []
    handle = gpt2.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    st.capture(gpt2, TEXTS, [SITE], batch_size=2)
    handle.remove()
    assert shapes == [(2, 3), (2, 14)]


def test_what_is_returned_holds_no_more_than_it_shows(gpt2):
    rows = st.capture(gpt2, TEXTS, [SITE])[SITE]
    assert rows.untyped_storage().nbytes() == rows.numel() * 4
    assert not rows.requires_grad


def test_capture_inside_steer_reads_after_steering(model, vector):
    plain = st.capture(model, TEXTS, [SITE])[SITE]
    with st.steer(model, st.Add(SITE, 3 * vector())):
        steered = st.capture(model, TEXTS, [SITE])[SITE]
    assert torch.allclose(steered, plain + 3 * vector(), atol=1e-5)


def test_a_model_in_half_precision_gives_float32(folders):
    model = st.load(folders["llama"], engine="hf", dtype=torch.bfloat16)
    assert st.capture(model, TEXTS, [SITE])[SITE].dtype == torch.float32


def test_chats_are_rendered_and_strings_are_not(gpt2):
    chat = [{"role": "user", "content": "tell me about the dog"}]
    as_chat = st.capture(gpt2, chat, SITE)[SITE]
    assert torch.equal(as_chat, st.capture(gpt2, "tell me about the dog", SITE, chat=True)[SITE])
    assert not torch.equal(as_chat, st.capture(gpt2, "tell me about the dog", SITE)[SITE])


def test_a_text_in_which_nothing_is_selected_is_named(gpt2):
    with pytest.raises(ValueError, match=r"tokens\('dog'\) match no token of text 1"):
        st.capture(gpt2, TEXTS, [SITE], at=st.tokens("dog"))


def test_no_hook_is_left_when_a_text_is_refused(gpt2):
    with pytest.raises(ValueError, match="has 4 layers"):
        st.capture(gpt2, TEXTS, [SITE, st.resid(7)])
    assert all(not m._forward_hooks for m in gpt2.hf.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": []}, "empty"),
        ({"sites": []}, "at least one site"),
        ({"reduce": "sum"}, "'sum'"),
        ({"texts": "dog " * 70}, "does not fit"),
    ],
)
def test_bad_input_is_refused(gpt2, arguments, message):
    with pytest.raises(ValueError, match=message):
        st.capture(gpt2, **({"texts": "a dog", "sites": [SITE]} | arguments))
