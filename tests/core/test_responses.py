"""Log-probabilities of responses: token by token, padded or not, on both engines."""

from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib.core.prompts import encode, render
from steerlib.core.responses import Batch, encode_response, response_log_p

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
