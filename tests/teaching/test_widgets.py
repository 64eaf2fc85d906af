"""The slider writes what `generate` writes under the same strength."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import steerlib as st
from steerlib.teaching import widgets
from steerlib.world.tokenizer import build_tokenizer

PROMPT = "tell me about the dog ."


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return st.wrap(GPT2LMHeadModel(config).eval(), tokenizer)


@pytest.fixture
def push(model):
    return st.random_direction(model, st.resid(0), norm=20.0)


def shown(box):
    return box.children[2].value


def test_moving_the_slider_steers_the_text(model, push):
    box = widgets.strength_slider(model, push, PROMPT, max_new_tokens=8)
    plain = st.generate(model, PROMPT, max_new_tokens=8)
    assert plain in shown(box)
    box.children[0].value = 4.0
    with st.steer(model, 4 * push):
        steered = st.generate(model, PROMPT, max_new_tokens=8)
    assert steered != plain
    assert steered in shown(box)


def test_the_prompt_can_be_changed(model, push):
    box = widgets.strength_slider(model, push, PROMPT, max_new_tokens=8)
    before = shown(box)
    box.children[1].value = "describe the river ."
    assert shown(box) != before


def test_an_empty_range_is_refused(model, push):
    with pytest.raises(ValueError, match="swap them"):
        widgets.strength_slider(model, push, PROMPT, low=2.0, high=-2.0)
