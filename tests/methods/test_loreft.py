"""LoReFT: identities of the edit that is learned, where it acts, and that it steers the world."""

from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.core.responses import encode_response, mean_loss
from steerlib.methods import loreft as home
from steerlib.methods.loreft import loreft, rotation

SITES = [st.resid(0), st.resid(2)]
TALKS = [
    SimpleNamespace(prompt="a dog", response="happy cat .", label=True),
    SimpleNamespace(prompt="tell me about the bird", response="sun and rain .", label=True),
    SimpleNamespace(prompt="a dog", response="sad rain .", label=False),
] * 2
PROMPT = "once upon a time there was a little girl who went to the park ."


@pytest.fixture(scope="module")
def learned():
    """Edits at two blocks of the world's model."""
    model, talks = st.load("world", engine="hf"), st.world.dialogues("weather", 24)
    return model, loreft(model, talks, [st.resid(1), st.resid(3)], plan=Plan(epochs=8, lr=0.02))


def tensors(intervention):
    return [tensor for term in intervention.terms for tensor in term.edit.tensors.values()]


def test_rows_of_a_rotation_are_orthonormal_and_span_the_columns():
    free = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    R = rotation(free)
    assert torch.allclose(R @ R.T, torch.eye(3), atol=1e-6)
    assert torch.allclose(R.T @ R @ free, free, atol=1e-5)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_rotation_does_not_jump_where_an_entry_changes_sign(k):
    free = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    below, above = free.clone(), free.clone()
    # Column k, made orthogonal to those before it, gets a zero at place k.
    R = rotation(free)
    below[:, k] = R[k] - R[k, k] * torch.eye(7)[k]
    above[:, k] = below[:, k]
    below[k, k] -= 1e-3
    above[k, k] += 1e-3
    assert torch.allclose(rotation(below), rotation(above), atol=0.05)


def test_learning_starts_from_the_model_as_it_is(model):
    found = loreft(model, TALKS, SITES, plan=Plan(epochs=1, lr=1e-30))
    with st.steer(model, found):
        steered = st.logits(model, PROMPT)
    assert torch.equal(steered, st.logits(model, PROMPT))
    # Only because W = R: the subspace has its four dimensions.
    assert all(term.edit.write.norm().item() == pytest.approx(2) for term in found.terms)


def test_what_is_learned_is_the_edit_of_the_paper(learned):
    _, found = learned
    assert found.sites == (st.resid(1), st.resid(3))
    h = torch.randn(5, 128, generator=torch.Generator().manual_seed(0))
    for term in found.terms:
        R, b = term.edit.write, term.edit.bias
        W = term.edit.read + R
        assert torch.allclose(R @ R.T, torch.eye(4), atol=1e-5)
        assert torch.allclose(term.edit.delta(h, None), (h @ W.T + b - h @ R.T) @ R, atol=1e-4)
        assert min(b.norm(), term.edit.read.norm()) > 0.01
    assert not any(tensor.requires_grad for tensor in tensors(found))


def test_only_the_ends_of_the_prompt_are_edited(gpt2):
    site = st.resid(0)
    found = loreft(gpt2, TALKS, site, plan=Plan(epochs=2, lr=0.1))
    plain = st.capture(gpt2, PROMPT, [site], at=st.everywhere, chat=False)[site]
    with st.steer(gpt2, found):
        steered = st.capture(gpt2, PROMPT, [site], at=st.everywhere, chat=False)[site]
    changed = (steered != plain).any(1).nonzero()[:, 0].tolist()
    n = len(PROMPT.split())  # what is captured leaves out BOS
    assert changed == [*range(5), *range(n - 5, n)]


def test_in_learning_the_ends_are_those_of_the_prompt_and_not_of_the_response(gpt2, monkeypatch):
    seen = []

    def spied(model, encoded):
        loss = mean_loss(model, encoded)
        (session,) = st.core.session.sessions(model)
        seen.append((session._selected[0].sum(1).tolist(), [item.start for item in encoded]))
        return loss

    monkeypatch.setattr(home, "mean_loss", spied)
    loreft(gpt2, TALKS, st.resid(0), at=st.ends(9, 9), plan=Plan(epochs=1))
    for selected, prompts in seen:
        assert selected == [length - 1 for length in prompts]
    assert len(seen) == 1


def test_strength_zero_changes_no_bit(learned):
    model, found = learned
    with st.steer(model, found, strength=0):
        steered = st.logits(model, "tell me about the dog .")
    assert torch.equal(steered, st.logits(model, "tell me about the dog ."))


def test_it_makes_unseen_responses_with_the_concept_likelier(learned):
    model, found = learned
    fresh = [d for d in st.world.dialogues("weather", 24, split="test") if d.label]
    encoded = [encode_response(model, talk) for talk in fresh]
    losses = []
    for strength in (0, 0.5, 1):
        with torch.no_grad(), st.steer(model, found, strength=strength):
            losses.append(mean_loss(model, encoded).item())
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < losses[0] - 0.3


def test_it_steers_the_world(learned):
    model, found = learned
    prompts = [p.text for p in st.world.instruction_prompts(12, split="test")]
    arms = [ev.Arm("plain"), ev.Arm("loreft", found)]
    table = ev.score(model, arms, prompts, ev.world_judge("weather"), progress=False)
    means = ev.summary(table).set_index("arm")["score"]
    assert means["loreft"] > 1.2
    assert means["plain"] < 0.5


def test_it_survives_a_file(learned, gpt2, tmp_path):
    model, found = learned
    found.save(tmp_path / "loreft.safetensors")
    again = st.load_intervention(tmp_path / "loreft.safetensors", model)
    assert all(map(torch.equal, tensors(again), tensors(found)))
    assert [term.positions for term in again.terms] == [st.ends(5, 5)] * 2
    with pytest.raises(ValueError, match="was made for"):
        st.load_intervention(tmp_path / "loreft.safetensors", gpt2)


def test_a_fit_that_was_killed_goes_on_to_the_bit(gpt2, tmp_path, monkeypatch):
    plan, path = Plan(epochs=3, batch_size=2), str(tmp_path / "loreft.safetensors")
    expected = loreft(gpt2, TALKS, SITES, plan=plan)
    calls = []

    def killed(model, encoded):
        calls.append(encoded)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return mean_loss(model, encoded)

    with monkeypatch.context() as patch:
        patch.setattr(home, "mean_loss", killed)
        with pytest.raises(KeyboardInterrupt):
            loreft(gpt2, TALKS, SITES, plan=plan, checkpoint=path)
    found = loreft(gpt2, TALKS, SITES, plan=plan, checkpoint=path)
    assert all(map(torch.equal, tensors(found), tensors(expected)))


def test_it_runs_on_every_architecture_and_leaves_the_model_alone(model):
    before = [p.clone() for p in model.hf.parameters()]
    found = loreft(model, TALKS, [st.resid(1), "blocks.3.attn.hook_z[1]"], rank=3)
    assert [term.edit.read.shape for term in found.terms] == [(3, 32), (3, 8)]
    assert all(map(torch.equal, before, model.hf.parameters()))
    assert all(p.grad is None for p in model.hf.parameters())


def test_bad_input_is_named(gpt2):
    with pytest.raises(ValueError, match="label True; there are none"):
        loreft(gpt2, TALKS[2:3], SITES)
    for rank in (0, 33):
        with pytest.raises(ValueError, match=f"between 1 and 32; got {rank}"):
            loreft(gpt2, TALKS, SITES, rank=rank)
    for sites in ([], [st.resid(1), "blocks.1.hook_resid_post"]):
        with pytest.raises(ValueError, match="different sites, at least one"):
            loreft(gpt2, TALKS, sites)
    with pytest.raises(ValueError, match="has 4 layers"):
        loreft(gpt2, TALKS, st.resid(9))
