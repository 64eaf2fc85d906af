"""RePS: its margin, its weights, and what the vector and its null intervention do."""

import math
from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.core.responses import Batch, encode_response, response_log_p
from steerlib.methods import reps as module
from steerlib.methods.reps import preference, reps

SITE = st.resid(2)
PLAN = Plan(epochs=6, lr=0.3)


def test_the_margin_is_per_token_and_only_the_winner_is_weighted():
    won, lost = torch.tensor([-6.0]), torch.tensor([-20.0])
    margin = preference(won, torch.tensor([3]), lost, torch.tensor([4]), torch.tensor([2.0]))
    assert margin.item() == pytest.approx(2 * -6 / 3 + 20 / 4)


def test_weights_are_log_ratios_of_the_unsteered_model_and_at_least_one():
    model = st.load("world", engine="hf")
    talks = st.world.dialogues("weather", 4)
    pairs = [tuple(encode_response(model, d) for d in pair)
             for pair in zip(talks[:4], talks[4:], strict=True)]  # fmt: skip
    found = module._weights(model, pairs)
    for row, (shown, plain) in enumerate(pairs):
        a, b = (response_log_p(model, Batch.of(model, [x]))[0].item() for x in (shown, plain))
        assert found[row, 0].item() == pytest.approx(max(b - a, 1), rel=1e-4)
        assert found[row, 1].item() == pytest.approx(max(a - b, 1), rel=1e-4)
    # Plain answers are likelier: it takes a push to prefer the concept.
    assert found[:, 0].mean() > 1
    assert (found >= 1).all()


def test_the_loss_of_a_zero_vector_is_that_of_the_unsteered_model(monkeypatch):
    model, talks = st.load("world", engine="hf"), st.world.dialogues("weather", 6)
    seen = []
    inner = module.fit

    def spied(parameters, loss, n, plan, **options):
        def first(rows, step):
            if not seen:
                with torch.no_grad():
                    kept = parameters["w"].clone()
                    # 0 / 0 in the null intervention is a step of length 0.
                    parameters["w"].zero_()
                    seen.append(loss(rows, step).item())
                    parameters["w"].copy_(kept)
            return loss(rows, step)

        return inner(parameters, first, n, plan, **options)

    monkeypatch.setattr(module, "fit", spied)
    reps(model, talks, SITE, plan=Plan(epochs=1, batch_size=6))
    pairs = [tuple(encode_response(model, d) for d in pair)
             for pair in zip(talks[:6], talks[6:], strict=True)]  # fmt: skip
    expected = 0.0
    for shown, plain in pairs:
        (a, n), (b, k) = (response_log_p(model, Batch.of(model, [x])) for x in (shown, plain))
        a, b, n, k = a.item(), b.item(), n.item(), k.item()
        for (won, i), (lost, j) in (((a, n), (b, k)), ((b, k), (a, n))):
            margin = max(lost - won, 1) * won / i - lost / j
            expected += math.log1p(math.exp(-margin)) / 6
    assert seen[0] == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def learned():
    model = st.load("world", engine="hf")
    return model, reps(model, st.world.dialogues("weather"), SITE, plan=PLAN)


def test_the_vector_steers_and_a_random_one_of_its_length_does_not(learned):
    model, vector = learned
    noise = st.random_direction(model, SITE, vector.direction.norm().item(), seed=0)
    prompts = [p.text for p in st.world.instruction_prompts(12, split="test")]
    arms = [ev.Arm("reps", vector), ev.Arm("random", noise)]
    table = ev.score(model, arms, prompts, ev.world_judge("weather"), progress=False)
    assert ev.paired(table, "reps", "random").low > 0.5


def test_unseen_responses_are_preferred_with_the_vector_and_less_so_against_it(learned):
    model, vector = learned
    fresh = st.world.dialogues("weather", 24, split="test")
    batches = [Batch.of(model, [encode_response(model, d) for d in part])
               for part in (fresh[:24], fresh[24:])]  # fmt: skip

    def margin(strength):
        with st.steer(model, vector, strength=strength):
            shown, plain = (response_log_p(model, batch)[0] for batch in batches)
        return (shown - plain).mean().item()

    assert margin(-0.5) < margin(0) < margin(0.5) < margin(1)
    assert margin(1) > 0


def test_it_leaves_bos_alone_repeats_and_resumes(tmp_path):
    model, talks = st.load("world", engine="hf"), st.world.dialogues("weather", 8)
    plan, path = Plan(epochs=2, lr=0.1), str(tmp_path / "reps.safetensors")
    first = reps(model, talks, SITE, plan=plan, checkpoint=path)
    again = reps(model, talks, SITE, plan=plan, checkpoint=path)
    assert torch.equal(first.direction, again.direction)
    assert torch.equal(first.direction, reps(model, talks, SITE, plan=plan).direction)
    text = ["the dog is old ."]
    plain = st.capture(model, text, SITE, "everywhere", include_bos=True)[SITE]
    with st.steer(model, first):
        moved = st.capture(model, text, SITE, "everywhere", include_bos=True)[SITE] - plain
    assert moved[0].abs().max() == 0
    assert torch.allclose(moved[1:], first.direction.expand(5, -1), atol=1e-4)


def test_bad_input_is_named(gpt2):
    talk = SimpleNamespace(prompt="a dog", response="happy cat .", label=True)
    other = SimpleNamespace(prompt="a cat", response="sad rain .", label=False)
    for dialogues in ([talk], [talk, other], [other]):
        with pytest.raises(ValueError, match=r"RePS learns from pairs.*none of"):
            reps(gpt2, dialogues, st.resid(1))
    with pytest.raises(ValueError, match="factors are positive"):
        reps(gpt2, [talk, SimpleNamespace(**{**vars(other), "prompt": "a dog"})], st.resid(1),
             factors=())  # fmt: skip


def test_responses_are_paired_by_their_request_and_the_rest_is_left_out():
    def talk(prompt, label, response):
        return SimpleNamespace(prompt=prompt, label=label, response=response)

    a, b = talk("x", True, "a"), talk("y", True, "b")
    c, d, e = talk("y", False, "c"), talk("x", False, "d"), talk("y", False, "e")
    assert module._pairs([a, b, c, d, e]) == [(a, d), (b, c)]
