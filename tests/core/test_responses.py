"""Log-probabilities of responses: token by token, padded or not, on both engines."""

from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib.core.prompts import encode, render
from steerlib.core.responses import Batch, about_fit, encode_response, response_log_p

TALKS = [
    SimpleNamespace(prompt="tell me about the dog", response="a happy dog ."),
    SimpleNamespace(prompt="tell me", response="the sad cat saw rain and sun"),
    SimpleNamespace(prompt="a bird", response="sun"),
]


def by_hand(model, talk):
    """The sum over response tokens and the end of the turn, one forward pass per text."""
    text = render(model, talk.prompt)
    start = len(encode(model, text, chat=False)[0])
    ids = [*encode(model, f"{text} {talk.response}", chat=False)[0], min(model.eos_ids)]
    with torch.no_grad():
        logits = model.runner(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    log_p = logits.float().log_softmax(-1)
    return sum(log_p[t - 1, ids[t]].item() for t in range(start, len(ids))), len(ids) - start


def test_each_response_is_scored_as_if_it_were_alone(model):
    encoded = [encode_response(model, talk) for talk in TALKS]
    total, count = response_log_p(model, Batch.of(model, encoded))
    for k, talk in enumerate(TALKS):
        expected, tokens = by_hand(model, talk)
        assert total[k].item() == pytest.approx(expected, abs=1e-3)
        assert count[k].item() == tokens
        alone, _ = response_log_p(model, Batch.of(model, encoded[k : k + 1]))
        assert alone[0].item() == pytest.approx(expected, abs=1e-3)


def test_both_engines_agree(models):
    found = []
    for engine in ("hf", "bridge"):
        model = models("llama", engine)
        encoded = [encode_response(model, talk) for talk in TALKS]
        found.append(response_log_p(model, Batch.of(model, encoded))[0])
    assert torch.allclose(found[0], found[1], atol=1e-4)


def test_the_mask_leaves_out_prompt_and_padding(gpt2):
    encoded = [encode_response(gpt2, talk) for talk in TALKS]
    batch = Batch.of(gpt2, encoded)
    for row, item in enumerate(encoded):
        assert batch.ids[row][batch.is_response[row]].tolist() == item.ids[item.start :]
        assert batch.is_response[row].sum() == len(item.ids) - item.start


def test_it_has_a_gradient_only_where_something_is_learned(gpt2, vector):
    batch = Batch.of(gpt2, [encode_response(gpt2, TALKS[0])])
    assert not response_log_p(gpt2, batch)[0].requires_grad
    w = vector().clone().requires_grad_()
    with st.steer(gpt2, st.Add(st.resid(1), w)):
        response_log_p(gpt2, batch)[0].sum().backward()
    assert w.grad.norm() > 0


def test_positions_mean_what_they_mean_in_generation(model, vector):
    encoded = [encode_response(model, talk) for talk in TALKS]
    batch, site = Batch.of(model, encoded), st.resid(1)
    assert batch.prompt_length.tolist() == [item.start for item in encoded]
    for at in (st.last, st.prompt, st.generation, st.ends(1, 1), st.last | st.generation):
        edit = (3 * st.Add(site, vector())).at(at)
        with st.steer(model, edit):
            together = response_log_p(model, batch)[0]
        for row, item in enumerate(encoded):
            assert together[row].item() == pytest.approx(step_by_step(model, item, edit), abs=1e-3)


def step_by_step(model, item, edit):
    """log p of a response under steering, read token by token after its prompt, with a cache."""
    total, ids = 0.0, torch.tensor([item.ids])
    with torch.no_grad(), st.steer(model, edit):
        out = model.runner(input_ids=ids[:, : item.start], use_cache=True)
        for t in range(item.start, len(item.ids)):
            total += out.logits[0, -1].float().log_softmax(-1)[item.ids[t]].item()
            cache = out.past_key_values
            out = model.runner(input_ids=ids[:, t : t + 1], past_key_values=cache, use_cache=True)
    return total


def test_a_condition_reads_the_prompt_and_not_the_response(gpt2, vector):
    site, edit = st.resid(1), 3 * st.Add(st.resid(2), vector())
    text = render(gpt2, TALKS[1].prompt)
    batch = Batch.of(gpt2, [encode_response(gpt2, TALKS[1])])
    readout = st.Readout(site, vector(seed=1))
    prompt, whole = readout.score(gpt2, [text, f"{text} {TALKS[1].response} <eos>"]).tolist()
    # Met by the prompt, not by prompt and response together.
    between = (prompt + whole) / 2
    condition = readout > between if prompt > whole else readout < between
    with st.steer(gpt2, edit):
        expected = response_log_p(gpt2, batch)[0]
    with st.steer(gpt2, edit.when(condition)):
        assert torch.equal(response_log_p(gpt2, batch)[0], expected)


def test_a_model_that_learns_has_gradients_and_others_build_no_graph(folders, gpt2):
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(folders["gpt2"]).eval()
    model = st.wrap(hf, gpt2.tokenizer)
    batch = Batch.of(model, [encode_response(model, talk) for talk in TALKS])
    assert not response_log_p(model, batch)[0].requires_grad
    response_log_p(model, batch, trains=True)[0].sum().backward()
    assert all(p.grad is not None for p in hf.parameters())
    with torch.no_grad():
        assert not response_log_p(model, batch, trains=True)[0].requires_grad
    assert not response_log_p(gpt2, batch, trains=True)[0].requires_grad


def test_gradients_agree_with_finite_differences(gpt2, vector):
    batch = Batch.of(gpt2, [encode_response(gpt2, talk) for talk in TALKS])
    site, w = st.resid(1), vector().clone().requires_grad_()

    def total(v):
        with st.steer(gpt2, st.Add(site, v)):
            return response_log_p(gpt2, batch)[0].double().sum()

    total(w).backward()
    direction = torch.randn(len(w), generator=torch.Generator().manual_seed(1))
    eps = 1e-2
    with torch.no_grad():
        slope = (total(w.detach() + eps * direction) - total(w.detach() - eps * direction)) / (
            2 * eps
        )
    assert slope.item() == pytest.approx((w.grad @ direction).item(), rel=2e-2)


def test_bad_dialogues_are_named(gpt2):
    with pytest.raises(ValueError, match="is empty"):
        encode_response(gpt2, SimpleNamespace(prompt="tell me", response="  "))
    with pytest.raises(ValueError, match="does not fit"):
        encode_response(gpt2, SimpleNamespace(prompt="tell me", response="dog " * 80))


def test_what_a_fit_is_about_is_the_model_the_dialogues_and_the_choices(gpt2, llama):
    encoded = [encode_response(gpt2, talk) for talk in TALKS]
    found = about_fit(gpt2, encoded, st.resid(1), (1.0,))
    assert found == about_fit(gpt2, list(encoded), st.resid(1), (1.0,))
    others = [
        about_fit(llama, encoded, st.resid(1), (1.0,)),
        about_fit(gpt2, encoded[:2], st.resid(1), (1.0,)),
        about_fit(gpt2, encoded, st.resid(0), (1.0,)),
        about_fit(gpt2, encoded, st.resid(1), (2.0,)),
    ]
    assert found not in others


def test_a_response_ends_with_the_token_of_its_template_and_not_with_the_smallest(folders):
    model = st.load(folders["gpt2"], engine="hf")
    ids = model.tokenizer.convert_tokens_to_ids(["<eos>", "<system>"])
    # The smallest one is neither the template's nor the tokenizer's.
    model.hf.generation_config.eos_token_id = [1, *ids]
    talk = SimpleNamespace(prompt="the dog", response="a cat")
    assert encode_response(model, talk).ids[-1] == ids[0]  # its template ends no turn
    model.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% else %}<bos> <system>{% endif %}"
    )
    assert encode_response(model, talk).ids[-1] == ids[1]
    assert encode_response(model, talk, chat=False).ids[-1] == ids[0]
