"""The identities that define activation scaling, both sides computed, one of them from scratch."""

import json

import pytest
import torch
from safetensors import safe_open

import steerlib as st
from steerlib.core.answers import answer_ids, encode_choices, next_scores
from steerlib.methods.flipping import Objective, both_ways
from tests.methods.scaling_cases import (
    ENDS,
    margins,
    one_step,
    own_loss,
    scores,
    stacked,
    table,
    tensors,
)

# --- 1. the slope at 0 is gradient x input


class Plain:
    """The world's model in float64 with hooks of its own: no code of steerlib runs it."""

    def __init__(self):
        self.model = st.load("world", engine="hf", dtype=torch.float64)
        self.blocks = self.model.module.transformer.h

    def delta(self, choice, change=None):
        """Delta of one choice; `change(kind, layer, h)` gives a new h or None."""
        ids = [self.model.bos_id, *self.words(choice.prompt)]
        handles = []
        for layer, block in enumerate(self.blocks):
            handles += [
                block.attn.c_proj.register_forward_pre_hook(
                    lambda m, args, n=layer: self._new(change, "head", n, args[0])
                ),
                block.mlp.register_forward_hook(
                    lambda m, args, out, n=layer: self._new(change, "mlp_out", n, out)
                ),
            ]
        try:
            logits = self.model.module(torch.tensor([ids])).logits[0, -1]
        finally:
            for handle in handles:
                handle.remove()
        c, w = (self.words(a)[0] for a in (choice.positive, choice.negative))
        return logits[c] - logits[w]

    def words(self, text):
        return self.model.tokenizer(text, add_special_tokens=False).input_ids

    def _new(self, change, kind, layer, h):
        new = None if change is None else change(kind, layer, h)
        return None if new is None else ((new,) if kind == "head" else new)

    def gradient_times_input(self, choice):
        """<d Delta / d h, h> at each component and position (components, pos)."""
        kept = {}

        def keep(kind, layer, h):
            kept[kind, layer] = h if h.requires_grad else h.detach().requires_grad_(True)
            return kept[kind, layer]

        found = self.delta(choice, keep)
        gradients = torch.autograd.grad(found, list(kept.values()))
        rows = []
        for h, gradient in zip(kept.values(), gradients, strict=True):
            product = (h * gradient)[0]
            is_heads = len(rows) % 5 == 0
            parts = product.unflatten(-1, (4, 32)) if is_heads else product[:, None]
            rows += list(parts.sum(-1).T)
        return torch.stack(rows).detach()


@pytest.fixture(scope="module")
def plain():
    return Plain()


def test_components_are_heads_and_mlp_outputs_block_by_block(world, gpt2):
    names = [site.name for site in st.components(world)]
    assert len(names) == 25
    assert names[:6] == [*(f"blocks.0.attn.hook_z[{h}]" for h in range(4)),
                         "blocks.0.hook_mlp_out", "blocks.1.attn.hook_z[0]"]  # fmt: skip
    assert len(st.components(gpt2)) == 20


def test_the_slope_at_zero_is_gradient_times_input_from_scratch(world, train, plain):
    few = train[:3]
    expected = torch.stack([plain.gradient_times_input(choice) for choice in few]).mean(0)
    found = st.scale_gradients(world, few, st.components(world))
    assert list(found) == st.components(world)
    assert stacked(found).abs().max() > 1
    assert torch.allclose(stacked(found).double(), expected, atol=1e-4)


def test_the_slope_at_zero_is_that_of_finite_differences(world, train, plain):
    choice, sites = train[0], st.components(world)
    found = stacked(st.scale_gradients(world, [choice], sites))
    steepest = found.abs().flatten().topk(12).indices.tolist()
    for number, position in (divmod(place, found.shape[1]) for place in steepest):
        site = sites[number]

        def scaled(step, site=site, position=position):
            def change(kind, layer, h):
                if (kind, layer) != (site.kind, site.layer):
                    return None
                h = h.clone()
                part = h if site.index is None else h.unflatten(-1, (4, 32))[..., site.index, :]
                part[0, position] *= 1 + step
                return h

            with torch.no_grad():
                return plain.delta(choice, change).item()

        slope = (scaled(1e-4) - scaled(-1e-4)) / 2e-4
        assert found[number, position].item() == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_slopes_of_selections_are_sums_over_their_positions_and_batches_do_not_matter(world, train):
    few, sites = train[:5], st.components(world)
    each = stacked(st.scale_gradients(world, few, sites))
    both = stacked(st.scale_gradients(world, few, sites, at=ENDS, batch_size=2))
    assert torch.allclose(both[:, 0], each[:, -1], atol=1e-4)
    assert torch.allclose(both[:, 1], each[:, :-1].sum(1), atol=1e-4)


def first_gradient(path):
    """The gradient of the first step of a fit of one step: Adam's first moment is a tenth of it."""
    with safe_open(path, "pt") as file:
        return file.get_tensor("1/exp_avg")[..., 0] / 0.1, json.loads(file.metadata()["history"])


@pytest.mark.parametrize("m", [100.0, 0.5, 0.0])
def test_the_first_step_is_minus_the_slope_once_for_each_side_that_fails(world, train, tmp_path, m):
    few, sites, path = train[:8], st.components(world), tmp_path / "step.safetensors"
    st.activ_scalar(world, few, sites, plan=one_step(8), objective=Objective(margin=m),
                    checkpoint=str(path))  # fmt: skip
    gradient, _ = first_gradient(path)
    delta = margins(world, few)
    # Both sides fail where |Delta| < m; else the side that is right already asks for nothing.
    fails = (delta < m).float() + (-delta < m).float()
    assert set(fails.tolist()) == {100.0: {2.0}, 0.5: {1.0, 2.0}, 0.0: {1.0}}[m]
    slopes = torch.stack([stacked(st.scale_gradients(world, [choice], sites)) for choice in few])
    expected = -(fails[:, None, None] * slopes).mean(0)
    assert torch.allclose(gradient, expected, atol=1e-4)


def test_the_scalars_that_leave_zero_are_those_whose_slope_exceeds_minimality(world, train):
    few, sites = train[:6], st.components(world)
    slopes = 2 * stacked(st.scale_gradients(world, few, sites))
    lam = 0.03
    found = st.activ_scalar(
        world, few, sites, plan=one_step(6), objective=Objective(margin=100.0, minimality=lam)
    )
    expected = 0.1 * slopes.sign() * (1 - lam / slopes.abs()).relu()
    alpha = table(found, sites, slopes.shape[1])
    assert torch.equal(alpha != 0, slopes.abs() > lam)
    assert torch.allclose(alpha, expected, atol=1e-5)
    assert 10 < (alpha != 0).sum() < 100


# --- 2. values at 0


def test_the_loss_at_zero_is_twice_the_margin_or_margin_plus_delta(world, train, tmp_path):
    few, sites = train[:8], [st.mlp_out(0)]
    delta = margins(world, few).abs()
    for m in (0.5, 2.0, 100.0):
        path = str(tmp_path / f"{m}.safetensors")
        st.activ_scalar(world, few, sites, plan=one_step(8), checkpoint=path,
                        objective=Objective(margin=m, faithfulness=50.0))  # fmt: skip
        expected = torch.where(delta <= m, 2 * m, m + delta).mean().item()
        assert first_gradient(path)[1]["losses"] == [pytest.approx(expected, rel=1e-4)]


def test_the_loss_at_zero_with_cross_entropy_is_that_of_both_answers(world, train, tmp_path):
    few, path = train[:8], str(tmp_path / "entropy.safetensors")
    st.dyn_scalar(world, few, [st.mlp_out(2)], plan=one_step(8), checkpoint=path,
                  objective=Objective("cross_entropy", margin=9.0))  # fmt: skip
    log_p = scores(world, few).log_softmax(-1)
    c, w = answer_ids(encode_choices(world, few))
    rows = torch.arange(8)
    expected = -(log_p[rows, c] + log_p[rows, w]).mean().item()
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["history"])["losses"] == [pytest.approx(expected)]


# --- the loss


@pytest.mark.parametrize("objective", [Objective(), Objective(margin=1.0, faithfulness=3.0),
                                       Objective("cross_entropy"),
                                       Objective(faithfulness=0.0)])  # fmt: skip
def test_the_loss_is_that_of_the_chapter(world, train, dial, objective):
    few = train[:6]
    asked = encode_choices(world, few)
    with torch.no_grad():
        found = objective.smooth(next_scores(world, asked), *both_ways(world, asked, dial), asked)
        expected = own_loss(world, few, dial, objective)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_constants_on_the_answers_leave_faithfulness_alone_and_change_the_plain_kl(world, train):
    asked = encode_choices(world, train[:6])
    c, w = answer_ids(asked)
    rows = torch.arange(6)
    before = next_scores(world, asked)
    after = before + 0.5 * torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
    pushed = after.clone()
    pushed[rows, c] += 3.0
    pushed[rows, w] -= 2.0

    def faithfulness(plus, minus):
        on, off = (Objective(faithfulness=f).smooth(before, plus, minus, asked) for f in (1.0, 0.0))
        return (on - off).item()

    def plain_kl(x):
        p_0, p = before.log_softmax(-1), x.log_softmax(-1)
        return (p_0.exp() * (p_0 - p)).sum(-1).mean().item()

    assert faithfulness(before, before) == 0
    assert faithfulness(after, after) > 0.05
    assert faithfulness(pushed, pushed) == pytest.approx(faithfulness(after, after), abs=1e-5)
    # Half of it comes from each side.
    assert faithfulness(pushed, before) == pytest.approx(faithfulness(after, after) / 2, abs=1e-5)
    assert abs(plain_kl(pushed) - plain_kl(after)) > 0.1


def test_both_directions_of_a_batch_are_the_two_strengths(world, train, dial):
    asked = encode_choices(world, train[:4])
    with torch.no_grad():
        plus, minus = both_ways(world, asked, dial)
    assert torch.allclose(plus, scores(world, train[:4], dial, 1.0), atol=1e-4)
    assert torch.allclose(minus, scores(world, train[:4], dial, -1.0), atol=1e-4)


# --- 3. the edit is linear in beta


def test_the_activations_of_beta_and_minus_beta_average_to_the_plain_one(world, train):
    site, text = st.mlp_out(1), [train[0].prompt]
    random = torch.Generator().manual_seed(0)
    edits = [
        st.Scale(site, torch.randn(13, generator=random)),
        st.Add(site, torch.randn(13, 128, generator=random)),
        st.Scale(site, 1.0, read=torch.randn(128, generator=random), bias=0.3),
    ]

    def at_site():
        return st.capture(world, text, site, "everywhere", chat=False, include_bos=True)[site]

    h = at_site()
    for edit in edits:
        moved = {}
        for beta in (0.7, -0.7):
            with st.steer(world, edit, beta):
                moved[beta] = at_site()
        assert (moved[0.7] - h).abs().max() > 0.1
        assert torch.allclose((moved[0.7] + moved[-0.7]) / 2, h, atol=1e-5)


# --- 5. the last residual


def normalized(model, text, intervention=None):
    """The last token's stream after the final norm, without its bias, and the logits."""
    norm = model.decoder.ln_f if hasattr(model.decoder, "ln_f") else model.decoder.norm
    seen = []
    handle = norm.register_forward_hook(lambda m, args, out: seen.append(out[0, -1].detach()))
    try:
        if intervention is None:
            logits = st.logits(model, text, chat=False)
        else:
            with st.steer(model, intervention):
                logits = st.logits(model, text, chat=False)
    finally:
        handle.remove()
    bias = getattr(norm, "bias", None)
    return seen[0] - (0 if bias is None else bias), logits[0, -1]


@pytest.mark.parametrize("name", ["world", "llama", "gemma2"])
def test_the_size_of_the_last_residual_does_nothing_and_its_sign_turns_it(name, models, world):
    model = world if name == "world" else models(name)
    text = "the dog is" if name == "world" else "tell me about the dog ."
    site = st.resid(model.n_layers - 1)
    x, logits = normalized(model, text)
    assert x.abs().max() > 0.1
    for alpha in (-0.5, 0.5, 3.0):
        y, moved = normalized(model, text, st.Scale(site, alpha).at(st.last))
        assert torch.allclose(y, x, rtol=1e-3, atol=1e-3)
        assert torch.allclose(moved, logits, rtol=1e-3, atol=1e-3)
    for alpha in (-1.5, -2.0, -4.0):
        y, moved = normalized(model, text, st.Scale(site, alpha).at(st.last))
        assert torch.allclose(y, -x, rtol=1e-3, atol=1e-3)
        assert (moved - logits).abs().max() > 0.1
        if name != "world":  # RMSNorm has no bias: the logits turn over as well
            assert torch.allclose(moved, -logits, rtol=1e-3, atol=1e-3)
    zero, _ = normalized(model, text, st.Scale(site, -1.0).at(st.last))
    assert zero.abs().max() < 1e-5
    with st.steer(model, st.Scale(site, -1.0)):
        stream = st.capture(model, text, site, "everywhere", chat=False, include_bos=True)[site]
    assert stream.abs().max() == 0
    # A block earlier the size counts: it is weighed against what the last block writes.
    _, moved = normalized(model, text, st.Scale(st.resid(model.n_layers - 2), 3.0).at(st.last))
    assert (moved - logits).abs().max() > 0.05


def test_nothing_is_learned_at_the_last_residual(world, train):
    site = st.resid(4)
    slopes = st.scale_gradients(world, train[:6], site)[site]
    assert slopes.abs().max() < 1e-3
    with pytest.warns(UserWarning, match="every number of activ_scalar is 0"):
        found = st.activ_scalar(world, train[:6], site, plan=one_step(6))
    assert not tensors(found)[0].any()
