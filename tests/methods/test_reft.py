"""Directions learned from text: the identities of ReFT-r1; both methods steer the world."""

from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.core.responses import Batch, encode_response, response_log_p
from steerlib.methods import reft
from steerlib.methods.reft import LatentMean, reft_r1, supervised_vector

SITE = st.resid(2)


def here(real, is_bos):
    return SimpleNamespace(real=real, is_bos=is_bos)


@pytest.fixture
def latents():
    """Activations of two texts (the second is left-padded), w, and where their tokens are."""
    random = torch.Generator().manual_seed(0)
    h, w = torch.randn(2, 7, 5, generator=random), torch.randn(5, generator=random)
    real = torch.ones(2, 7, dtype=torch.bool)
    real[1, :2] = False
    is_bos = torch.zeros(2, 7, dtype=torch.bool)
    is_bos[0, 0] = is_bos[1, 2] = True
    return h, w / w.norm(), here(real, is_bos)


def test_the_mean_of_the_largest_latents_is_added_to_every_token(latents):
    h, w, where = latents
    edit = LatentMean(w, k=3)
    change = edit.delta(h, where)
    for row, tokens in enumerate((h[0, 1:], h[1, 3:])):
        a = torch.relu(tokens @ w)
        m = a.sort(descending=True).values[:3].mean()
        assert torch.allclose(change[row], (m * w).expand(7, 5), atol=1e-6)
    rest = [torch.relu(t @ w).sort(descending=True).values[3:].sum() / len(t)
            for t in (h[0, 1:], h[1, 3:])]  # fmt: skip
    assert edit.rest.item() == pytest.approx(torch.stack(rest).mean().item(), abs=1e-6)


def test_with_all_tokens_in_the_mean_nothing_is_left_to_penalize(latents):
    h, w, where = latents
    edit = LatentMean(w, k=7)
    edit.delta(h, where)
    assert edit.rest == 0
    # Texts shorter than k are averaged over the tokens that they have.
    assert edit.mean[1].item() == pytest.approx(torch.relu(h[1, 3:] @ w).mean().item(), abs=1e-6)


def test_a_direction_that_reads_nothing_changes_nothing(latents):
    h, w, where = latents
    edit = LatentMean(w, k=3)
    assert edit.delta(-h.abs() * w.sign(), where).abs().max() == 0


def test_the_order_of_the_tokens_does_not_matter(latents):
    h, w, where = latents
    first, turned = LatentMean(w, k=3), LatentMean(w, k=3)
    first.delta(h[:1], here(where.real[:1], where.is_bos[:1]))
    mixed = torch.cat([h[:1, :1], h[:1, 1:].flip(1)], 1)
    turned.delta(mixed, here(where.real[:1], where.is_bos[:1]))
    assert torch.allclose(first.mean, turned.mean)


def test_twice_the_direction_is_four_times_the_change(latents):
    # Why the direction is kept at length 1.
    h, w, where = latents
    once, twice = LatentMean(w, 3).delta(h, where), LatentMean(2 * w, 3).delta(h, where)
    assert torch.allclose(twice, 4 * once, atol=1e-5)


def test_the_direction_stays_on_the_sphere_and_gradients_off_the_radius(monkeypatch):
    model, checked = st.load("world", engine="hf"), []
    inner = reft.fit

    def spied(parameters, loss, n, plan, *, before_step, after_step, **options):
        w = parameters["w"]

        def before():
            before_step()
            checked.append(abs((w.grad @ w).item()) / w.grad.norm().item())

        def after():
            after_step()
            checked.append(abs(w.norm().item() - 1))

        return inner(parameters, loss, n, plan, before_step=before, after_step=after, **options)

    monkeypatch.setattr(reft, "fit", spied)
    reft_r1(model, st.world.dialogues("weather", 12), SITE, plan=Plan(epochs=1))
    assert len(checked) == 8
    assert max(checked) < 1e-5


@pytest.fixture(scope="module")
def learned():
    """Both methods on the world's model, and what they are compared with."""
    model, talks = st.load("world", engine="hf"), st.world.dialogues("weather")
    vector = supervised_vector(model, talks, SITE, plan=Plan(epochs=6, lr=0.3))
    return model, {
        "supervised": vector,
        "reft": reft_r1(model, talks, SITE, plan=Plan(epochs=6, lr=0.03)),
        "random": st.random_direction(model, SITE, vector.direction.norm().item(), seed=0),
    }


def test_learned_directions_steer_and_a_random_one_does_not(learned):
    model, vectors = learned
    prompts = [p.text for p in st.world.instruction_prompts(12, split="test")]
    arms = [ev.Arm(name, v, (1.0,)) for name, v in vectors.items()]
    table = ev.score(model, arms, prompts, ev.world_judge("weather"), progress=False)
    means = ev.summary(table).set_index("arm")["score"]
    assert means["supervised"] > 1
    assert means["reft"] > 1
    assert means["random"] < 0.5


def test_they_make_unseen_responses_with_the_concept_likelier(learned):
    model, vectors = learned
    fresh = [d for d in st.world.dialogues("weather", 24, split="test") if d.label]
    batch = Batch.of(model, [encode_response(model, d) for d in fresh])

    def mean_log_p(vector, strength):
        with st.steer(model, vector, strength=strength):
            return response_log_p(model, batch)[0].mean().item()

    plain = mean_log_p(vectors["random"], 0)
    assert mean_log_p(vectors["supervised"], 1) > plain + 5
    assert mean_log_p(vectors["reft"], 1) > plain + 5
    assert mean_log_p(vectors["random"], 1) < plain + 1


def test_reft_detects_single_unseen_words(learned):
    model, vectors = learned
    data = st.world.one_word("weather")
    table = ev.detection(model, {"reft": vectors["reft"]}, data, pools=("max",))
    assert table[table["against"] == "all"]["auroc"].item() > 0.9


def test_several_factors_help_where_one_was_not_trained():
    model, talks = st.load("world", engine="hf"), st.world.dialogues("weather")
    plan, fresh = Plan(epochs=6, lr=0.3), st.world.dialogues("weather", 24, split="test")[:24]
    batch = Batch.of(model, [encode_response(model, d) for d in fresh])

    def at_half(vector):
        with st.steer(model, vector, strength=0.5):
            return response_log_p(model, batch)[0].mean().item()

    one = supervised_vector(model, talks, SITE, plan=plan)
    several = supervised_vector(model, talks, SITE, factors=(0.5, 0.5001), plan=plan)
    assert at_half(several) > at_half(one)


def test_a_fit_repeats_and_resumes(tmp_path):
    model, talks = st.load("world", engine="hf"), st.world.dialogues("weather", 12)
    path = str(tmp_path / "reft.safetensors")
    plan = Plan(epochs=2, lr=0.03)
    first = reft_r1(model, talks, SITE, plan=plan, checkpoint=path).direction
    assert torch.equal(first, reft_r1(model, talks, SITE, plan=plan).direction)
    assert torch.equal(first, reft_r1(model, talks, SITE, plan=plan, checkpoint=path).direction)


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen2"])
def test_they_run_on_other_architectures(models, name):
    model = models(name)
    talks = [
        SimpleNamespace(prompt="a dog", response="happy cat .", label=True),
        SimpleNamespace(prompt="a dog", response="sad rain .", label=False),
    ] * 3
    for fit in (supervised_vector, reft_r1):
        found = fit(model, talks, st.resid(1), plan=Plan(epochs=1))
        assert found.direction.shape == (32,)
        assert not found.direction.requires_grad
        assert all(p.grad is None for p in model.hf.parameters())


def test_bad_input_is_named(gpt2):
    talk = SimpleNamespace(prompt="a dog", response="happy cat .", label=True)
    with pytest.raises(ValueError, match="factors are positive numbers"):
        supervised_vector(gpt2, [talk], st.resid(1), factors=(1, 0))
    with pytest.raises(ValueError, match="label True; there are none"):
        supervised_vector(gpt2, [SimpleNamespace(**{**vars(talk), "label": False})], st.resid(1))
    with pytest.raises(ValueError, match="both labels"):
        reft_r1(gpt2, [talk], st.resid(1))
