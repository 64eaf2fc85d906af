"""generate and logits on their own: stopping, sampling, the context's end, chats."""

import dataclasses
import warnings

import pytest
import torch

import steerlib as st

PROMPTS = ["tell me about the dog", "a little girl went to the park and saw a big red ball", "sun"]


def _ending_with(model, eos_id):
    """The model with another end-of-sequence token."""
    changed = dataclasses.replace(model)
    changed.__dict__["eos_ids"] = frozenset({eos_id})
    return changed


def _ids(model, text):
    return model.tokenizer(text, add_special_tokens=False).input_ids


def test_a_string_gives_a_string_and_a_list_a_list(gpt2):
    one = st.generate(gpt2, PROMPTS[0], max_new_tokens=4)
    assert isinstance(one, str)
    assert st.generate(gpt2, [PROMPTS[0]], max_new_tokens=4) == [one]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_texts_come_back_in_their_order(model, batch_size):
    texts = st.generate(model, PROMPTS, max_new_tokens=8, batch_size=batch_size)
    assert texts == [st.generate(model, prompt, max_new_tokens=8) for prompt in PROMPTS]


def test_logits_are_left_padded(gpt2):
    scores = st.logits(gpt2, PROMPTS, chat=False)
    assert scores.shape == (3, 14, gpt2.d_vocab)
    alone = st.logits(gpt2, PROMPTS[2], chat=False)[0]
    assert torch.allclose(scores[2, -2:], alone, atol=1e-5)
    assert not scores.requires_grad


def test_generation_stops_at_the_end_of_sequence_token_and_each_sample_for_itself(llama):
    free = st.generate(_ending_with(llama, -1), PROMPTS, max_new_tokens=20)
    words = [text.split() for text in free]
    eos = _ids(llama, words[0][3])[0]
    stopped = st.generate(_ending_with(llama, eos), PROMPTS, max_new_tokens=20)
    word = words[0][3]
    expected = [w[: w.index(word)] if word in w else w for w in words]
    assert [text.split() for text in stopped] == expected
    assert len(expected[0]) < 20


def test_all_configured_end_tokens_count(gpt2):
    changed = dataclasses.replace(gpt2)
    gpt2.hf.generation_config.eos_token_id, before = [3, 9], gpt2.hf.generation_config.eos_token_id
    try:
        assert changed.eos_ids == {3, 9}
    finally:
        gpt2.hf.generation_config.eos_token_id = before


def test_sampling_repeats_with_its_seed_and_leaves_torchs_own_alone(gpt2):
    state = torch.random.get_rng_state()
    first, again, other = (
        st.generate(gpt2, PROMPTS, max_new_tokens=12, temperature=1.0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert torch.equal(state, torch.random.get_rng_state())


def test_samples_follow_the_models_distribution(gpt2):
    p = st.logits(gpt2, PROMPTS[0])[0, -1].softmax(-1)
    texts = st.generate(
        gpt2, [PROMPTS[0]] * 2000, max_new_tokens=1, temperature=1.0, batch_size=2000
    )
    p[gpt2.tokenizer.all_special_ids] = 0  # they leave no text
    best = gpt2.tokenizer.decode([int(p.argmax())])
    assert texts.count(best) / 2000 == pytest.approx(p.max().item(), abs=0.03)


def test_a_low_temperature_approaches_the_most_likely_text(gpt2):
    cold = st.generate(gpt2, PROMPTS, max_new_tokens=6, temperature=1e-4)
    assert cold == st.generate(gpt2, PROMPTS, max_new_tokens=6)


def test_the_end_of_the_context_stops_a_generation_with_a_warning(model):
    endless = _ending_with(model, -1)
    with pytest.warns(UserWarning, match="2 generation.*context of 64 tokens"):
        texts = st.generate(endless, ["dog cat " * 29, "cat", "dog cat " * 28], max_new_tokens=30)
    alone = st.generate(endless, "cat", max_new_tokens=30)
    assert texts[1] == alone


def test_no_warning_where_the_answer_fits(gpt2):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        st.generate(_ending_with(gpt2, -1), "dog " * 30, max_new_tokens=20)


def test_chats_and_system_texts_are_read(gpt2):
    chat = [
        {"role": "system", "content": "a cat ."},
        {"role": "user", "content": PROMPTS[0]},
    ]
    plain = st.logits(gpt2, PROMPTS[0])
    assert torch.equal(st.logits(gpt2, chat), st.logits(gpt2, PROMPTS[0], system="a cat ."))
    assert plain.shape[1] == st.logits(gpt2, PROMPTS[0], chat=False).shape[1] + 2
    assert st.generate(gpt2, [chat, chat], max_new_tokens=3)[1] == st.generate(
        gpt2, PROMPTS[0], system="a cat .", max_new_tokens=3
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": []}, "empty"),
        ({"prompts": "dog " * 63}, "a prompt of 64 tokens .* the answer included"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"temperature": -1.0}, "at least 0"),
    ],
)
def test_bad_input_is_refused(gpt2, arguments, message):
    with pytest.raises(ValueError, match=message):
        st.generate(gpt2, **({"prompts": "a dog", "chat": False} | arguments))


def test_logits_of_nothing_are_refused(gpt2):
    with pytest.raises(ValueError, match="empty"):
        st.logits(gpt2, [])
