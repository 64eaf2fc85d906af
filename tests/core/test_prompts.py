"""Prompts: one BOS, chat templates, unknown words, one-token answers."""

import dataclasses

import pytest
import torch

import steerlib as st
from steerlib.core.prompts import encode, pad, render


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
@pytest.mark.parametrize("text", ["tell me", "<bos> tell me", "<bos><bos> tell me", ""])
def test_there_is_exactly_one_bos(models, name, engine, text):
    model = models(name, engine)
    ids = encode(model, text, chat=False)[0]
    assert ids[0] == 2
    assert ids.count(2) == 1


@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_a_rendered_chat_has_one_bos(models, engine):
    assert encode(models("gpt2", engine), "tell me")[0] == [2, 5, 7, 8, 6]


def test_a_template_that_writes_bos_gives_no_second_one(gpt2, monkeypatch):
    monkeypatch.setattr(gpt2.tokenizer, "chat_template", "<bos> " + gpt2.tokenizer.chat_template)
    assert encode(gpt2, "tell me")[0].count(2) == 1


def test_a_model_without_any_bos_gets_none(gpt2):
    changed = dataclasses.replace(gpt2)
    changed.__dict__["bos_id"] = None
    assert encode(changed, "dog", chat=False) == [gpt2.tokenizer("dog").input_ids[1:]]


def test_strings_are_instructions_where_there_is_a_template(gpt2, llama):
    assert render(gpt2, "a dog") == "<user> a dog <assistant>"
    assert render(gpt2, "a dog", system="a cat") == "<system> a cat <user> a dog <assistant>"
    assert render(gpt2, "a dog", chat=False) == "a dog"
    assert render(llama, "a dog") == "a dog"


def test_a_finished_chat_is_not_asked_for_an_answer(gpt2):
    chat = [{"role": "user", "content": "dog"}, {"role": "assistant", "content": "cat"}]
    assert render(gpt2, chat).strip() == "<user> dog <assistant> cat"


@pytest.mark.parametrize(
    "arguments", [{"chat": True}, {"prompt": [{"role": "user", "content": "a"}]}]
)
def test_a_chat_needs_a_template(llama, arguments):
    with pytest.raises(ValueError, match="no chat template"):
        render(llama, **({"prompt": "a"} | arguments))


def test_a_system_text_needs_a_template(llama, gpt2):
    with pytest.raises(ValueError, match="system= needs"):
        render(llama, "a", system="b")
    with pytest.raises(ValueError, match="system= needs"):
        render(gpt2, "a", chat=False, system="b")


def test_left_padding_has_a_mask_and_equal_lengths_need_none(gpt2):
    ids, mask = pad(gpt2, [[2, 7], [2, 7, 8]])
    assert ids.tolist() == [[0, 2, 7], [2, 7, 8]]
    assert mask is not None
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert pad(gpt2, [[2, 7], [2, 8]])[1] is None


def test_an_unknown_word_is_named_with_near_ones(gpt2):
    with pytest.warns(UserWarning, match=r"'dogs' is not in .*vocabulary of 4\d words; close: dog"):
        encode(gpt2, "the dogs")
    with pytest.warns(UserWarning, match="'Tell' is not in .*tell"):
        st.logits(gpt2, "Tell me")


def test_known_words_give_no_warning(gpt2, recwarn):
    encode(gpt2, "tell me about the dog .")
    assert not recwarn


@pytest.mark.parametrize("prompts", [[], ()])
def test_an_empty_list_is_refused(gpt2, prompts):
    with pytest.raises(ValueError, match="empty"):
        encode(gpt2, prompts)


@pytest.mark.parametrize("prompts", [[3], [["dog"]], [None]])
def test_something_else_than_a_prompt_is_refused(gpt2, prompts):
    with pytest.raises(TypeError, match="a prompt is a string"):
        encode(gpt2, prompts)


def test_a_prompt_longer_than_the_context_is_refused(gpt2):
    assert len(encode(gpt2, "dog " * 63, chat=False)[0]) == 64
    with pytest.raises(ValueError, match=r"a prompt of 65 tokens does not fit.*64 tokens"):
        encode(gpt2, "dog " * 64, chat=False)


def test_the_token_of_an_answer(gpt2, stories):
    assert gpt2.tokenizer.convert_ids_to_tokens(st.answer_id(gpt2, "dog")) == "dog"
    assert stories.tokenizer.convert_ids_to_tokens(st.answer_id(stories, "happy")) == "▁happy"


@pytest.mark.parametrize("answer", ["dog cat", "zebra"])
def test_an_answer_that_is_not_one_token_is_refused(gpt2, answer):
    with pytest.raises(ValueError, match=f"an answer of one token is needed, but '{answer}'"):
        st.answer_id(gpt2, answer)


def test_a_batch_lies_on_the_models_device(gpt2):
    assert pad(gpt2, [[2]])[0].device == torch.device("cpu")
