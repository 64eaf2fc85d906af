"""Attribution: gradients are right, Integrated Gradients are complete, batches change nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import steerlib as st
from steerlib.core.fitting import Plan
from steerlib.methods.attribution import Attribution
from steerlib.methods.last_token import Head, fit_head
from steerlib.methods.rerun import reruns

SITE = st.resid(1)
TEXTS = [
    "a happy dog .",
    "the sad cat saw rain",
    "a happy little girl who went to the park and saw a big red ball",
    "rain",
    "happy sun and wind .",
    "the boy was sad . a bad story about rain",
]
DATA = SimpleNamespace(texts=TEXTS, labels=[True, False, True, False, True, False])


def head_of(d, seed=3):
    """A head that is unsure of everything, so that its gradients are not small."""
    random = torch.Generator().manual_seed(seed)
    shapes = ((d // 2, d), (d // 2,), (2, d // 2), (2,))
    return Head(*(0.2 * torch.randn(shape, generator=random) for shape in shapes))


def detector_on(model, site=SITE, **options):
    baseline = 0.3 * torch.randn(32, generator=torch.Generator().manual_seed(4))
    if site.kind == "head":
        baseline = baseline[: model.d_head]
    return Attribution(model, site, head_of(model.d_model), baseline, **options)


def p_with(detector, run, h):
    with torch.no_grad():
        return detector.head.probability(run.output(h))


# --- running again


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
def test_running_again_with_the_same_activations_changes_nothing(models, name, engine):
    model = models(name, engine)
    last = st.resid(model.n_layers - 1)
    expected = st.capture(model, TEXTS, last)[last]
    for site in (st.resid_pre(0), SITE, st.mlp_out(2), st.head(1, 2), last):
        for run in reruns(model, TEXTS, site, batch_size=4):
            assert torch.allclose(run.output(run.h), expected[run.rows], atol=1e-4)


@pytest.mark.parametrize("site", [st.resid_pre(1), SITE, st.attn_out(1), st.head(1, 2)])
def test_what_is_put_at_a_site_has_the_effect_of_steering(model, site):
    size = model.d_head if site.kind == "head" else model.d_model
    vector = torch.randn(size, generator=torch.Generator().manual_seed(1))
    last = st.resid(model.n_layers - 1)
    with st.steer(model, st.Add(site, vector)):
        expected = st.capture(model, TEXTS, last)[last]
    for run in reruns(model, TEXTS, site, batch_size=4):
        assert torch.allclose(run.output(run.h + vector), expected[run.rows], atol=1e-4)
    assert not model.decoder._forward_pre_hooks
    assert not any(block._forward_pre_hooks or block._forward_hooks for block in model.blocks)


@pytest.mark.parametrize("site", [st.resid_pre(1), st.attn_out(1), SITE])
def test_a_model_that_is_steered_is_run_again_as_it_is_steered(model, vector, site):
    last = st.resid(model.n_layers - 1)
    with st.steer(model, st.Add(st.resid_pre(1), vector()) + st.Add(SITE, vector(seed=1))):
        expected = st.capture(model, TEXTS, last)[last]
        for run in reruns(model, TEXTS, site, batch_size=4):
            assert torch.allclose(run.output(run.h), expected[run.rows], atol=1e-4)


def test_the_end_of_a_turn_is_cut_off(gpt2):
    chat = [{"role": "user", "content": "tell me"}, {"role": "assistant", "content": "a dog"}]
    (plain,) = reruns(gpt2, ["tell me about"], SITE)
    (ended,) = reruns(gpt2, ["tell me about <eos> <eos>"], SITE)
    assert torch.equal(plain.h, ended.h)
    (talk,) = reruns(gpt2, [chat], SITE)
    assert talk.tokens.sum() == len("<user> tell me <assistant> a dog".split())


# --- attributions


def test_input_x_gradient_agrees_with_finite_differences(model):
    detector, eps = detector_on(model, kind="ixg", signed=True), 1e-2
    (run,) = reruns(model, TEXTS[:2], SITE)
    scores = detector.tokens(TEXTS[:2])
    for row in (0, 1):
        first = int(run.tokens[row].int().argmax())
        for number in (0, len(scores[row]) - 1):
            # Token by token: the derivative along h itself.
            change = torch.zeros_like(run.h)
            change[row, first + number] = eps * run.h[row, first + number]
            slope = p_with(detector, run, run.h + change) - p_with(detector, run, run.h - change)
            expected = slope[row].item() / (2 * eps)
            assert scores[row][number].item() == pytest.approx(expected, abs=1e-4, rel=0.02)


def test_signed_attributions_of_a_text_sum_to_what_the_tokens_change(model):
    (run,) = reruns(model, TEXTS[1:3], SITE)
    detector = detector_on(model, signed=True)
    size = run.h[run.tokens].norm(dim=-1).mean() / detector.baseline.norm()
    detector = replace(detector, baseline=size * detector.baseline)
    empty = torch.where(run.tokens[..., None], detector.baseline, run.h)
    change = p_with(detector, run, run.h) - p_with(detector, run, empty)
    assert change.abs().max() > 0.02
    errors = []
    for steps in (25, 200):
        found = replace(detector, steps=steps).tokens(TEXTS[1:3])
        sums = torch.tensor([found[row].sum() for row in run.rows])
        errors.append((sums - change).abs().max().item())
    # The error of a left Riemann sum falls as 1 / steps.
    assert errors[1] < 0.02 * change.abs().max()
    assert errors[1] < errors[0] / 3


def test_one_step_is_the_gradient_at_the_baseline(gpt2):
    detector = detector_on(gpt2, steps=1)
    (run,) = reruns(gpt2, TEXTS[:1], SITE)
    empty = torch.where(run.tokens[..., None], detector.baseline, run.h).requires_grad_()
    detector.head.probability(run.output(empty)).sum().backward()
    terms = ((run.h - detector.baseline) * empty.grad).abs().sum(-1)
    assert torch.allclose(detector.tokens(TEXTS[:1])[0], terms[run.tokens], atol=1e-6)


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("kind", ["ig", "ixg"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
def test_a_text_has_the_same_scores_alone_and_in_a_padded_batch(models, name, kind, engine):
    detector = detector_on(models(name, engine), kind=kind, steps=3)
    together = detector.tokens(TEXTS)
    for text, scores in zip(TEXTS, together, strict=True):
        (alone,) = detector_on(models(name), kind=kind, steps=3).tokens([text])
        assert scores == pytest.approx(alone, rel=1e-3, abs=1e-5)
    assert detector(TEXTS) == pytest.approx([scores.max().item() for scores in together])


def test_sizes_are_no_smaller_than_signed_sums(gpt2):
    for kind in ("ig", "ixg"):
        sizes, sums = (
            torch.cat(detector_on(gpt2, kind=kind, signed=s, steps=4).tokens(TEXTS))
            for s in (False, True)
        )
        assert (sizes >= sums.abs() - 1e-7).all()
        assert (sums < 0).any()


def test_what_comes_after_the_last_block_cannot_see_earlier_tokens(gpt2):
    for scores in detector_on(gpt2, st.resid(gpt2.n_layers - 1), kind="ixg").tokens(TEXTS):
        assert scores[-1] > 0
        assert (scores[:-1] == 0).all()


# --- the head and the fit


def test_a_head_learns_a_rule_that_is_not_linear():
    random = torch.Generator().manual_seed(0)
    hidden, axis = torch.randn(400, generator=random), torch.randn(16, generator=random)
    noise = torch.randn(400, 16, generator=random)
    rows, truth = 5 + 100 * torch.outer(hidden, axis) + 10 * noise, hidden.abs() > 0.67
    head = fit_head(rows[:300], truth[:300], Plan(epochs=60, batch_size=30, lr=1e-2))
    right = (head.probability(rows[300:]) > 0.5) == truth[300:]
    assert right.float().mean() > 0.85


def test_heads_of_scaled_rows_agree():
    rows = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    truth = rows[:, 0] > 0
    plain, scaled = fit_head(rows, truth), fit_head(100 * rows + 7, truth)
    found = scaled.probability(100 * rows + 7)
    assert torch.allclose(plain.probability(rows), found, atol=1e-3)


def test_the_baseline_is_the_mean_token_of_the_texts_without_the_concept(gpt2):
    negatives = [text for text, label in zip(TEXTS, DATA.labels, strict=True) if not label]
    expected = st.capture(gpt2, negatives, SITE, at="prompt")[SITE].mean(0)
    found = st.attribution(gpt2, DATA, SITE, plan=Plan(epochs=1), batch_size=2)
    assert torch.allclose(found.baseline, expected, atol=1e-5)


def test_a_fit_repeats_and_leaves_the_model_alone(gpt2):
    before = {name: p.clone() for name, p in gpt2.hf.named_parameters()}
    first, second = (st.attribution(gpt2, DATA, SITE, steps=2) for _ in range(2))
    assert np.array_equal(first(TEXTS), second(TEXTS))
    assert all(p.grad is None and torch.equal(p, before[n])
               for n, p in gpt2.hf.named_parameters())  # fmt: skip


def test_it_detects_unseen_words_of_the_world():
    model, data = st.load("world", engine="hf"), st.world.concept("weather")
    detector = st.attribution(model, data.train, st.resid(2), signed=True, steps=5)
    columns = {"ig": detector, "head": detector.probability}
    table = st.evaluation.detection(model, columns, data.test)
    areas = table[table["against"] == "all"].set_index("detector")["auroc"]
    assert areas["ig"] > 0.95
    assert areas["head"] > 0.95


def test_bad_input_is_named(gpt2):
    with pytest.raises(ValueError, match=r"kind is 'ig' .* got 'lrp' and 20"):
        detector_on(gpt2, kind="lrp")
    with pytest.raises(ValueError, match="steps at least 1, got 'ig' and 0"):
        detector_on(gpt2, steps=0)
    with pytest.raises(ValueError, match="text 1 has no token besides BOS"):
        detector_on(gpt2)(["a dog", ""])
    with pytest.raises(ValueError, match="both classes"):
        st.attribution(gpt2, SimpleNamespace(texts=TEXTS, labels=[True] * 6), SITE)
    same = SimpleNamespace(texts=["a dog", "a dog"], labels=[True, False])
    with pytest.raises(ValueError, match="same last activation"):
        st.attribution(gpt2, same, SITE)
