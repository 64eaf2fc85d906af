"""Activation scaling: the identities that define it, a known optimum, and what it does and costs.

The derivations are in the chapter; here both sides of each are computed, one of them from scratch.
"""

import gc
import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.answers import answer_ids, encode_choices, margin, next_scores
from steerlib.core.fitting import Plan
from steerlib.methods import flipping
from steerlib.methods.flipping import Objective, both_ways
from tests.planted import _tokenizer as tokenizer_of_words

QUICK = Plan(epochs=8, batch_size=18, lr=0.1)
ENDS = [st.last, st.prompt - st.last]
FEW = [st.mlp_out(2), st.head(3, 3), st.head(0, 1)]


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


@pytest.fixture(scope="module")
def train():
    return st.world.conflicts(36)


@pytest.fixture(scope="module")
def dial(world, train):
    """A scalar for each component and position of the world's model."""
    return st.activ_scalar(world, train, st.components(world), plan=QUICK)


@pytest.fixture(scope="module")
def dynamic(world):
    """DynScalar, learned from prompts of three lengths."""
    mixed = st.world.conflicts(36, templates=(0, 1, 2))
    return st.dyn_scalar(world, mixed, st.components(world), plan=replace(QUICK, epochs=5))


def one_step(n, lr=0.1):
    return Plan(epochs=1, batch_size=n, lr=lr)


def table(intervention, sites, slots):
    """What was learned, as (sites, slots); 0 where there is no term."""
    found = torch.zeros(len(sites), slots)
    for term in intervention.terms:
        found[sites.index(term.site)] = term.edit.alpha
    return found


def stacked(gradients):
    return torch.stack(list(gradients.values()))


def scores(model, choices, intervention=None, strength=1.0):
    """The logits after each prompt, read alone."""
    found = []
    for item in encode_choices(model, choices):
        if intervention is None:
            found.append(next_scores(model, [item]))
            continue
        with st.steer(model, intervention, strength):
            found.append(next_scores(model, [item]))
    return torch.cat(found)


def margins(model, choices, intervention=None, strength=1.0):
    found = scores(model, choices, intervention, strength)
    return margin(found, *answer_ids(encode_choices(model, choices)))


def tensors(intervention):
    return [tensor for term in intervention.terms for tensor in term.edit.tensors.values()]


def same(a, b):
    """Whether two interventions are equal to the bit."""
    return a.sites == b.sites and all(map(torch.equal, tensors(a), tensors(b)))


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


def own_loss(model, choices, intervention, objective):
    """L_E + lambda_F L_F as the chapter writes it, one direction at a time."""
    asked = encode_choices(model, choices)
    c, w = answer_ids(asked)
    rows, keep = torch.arange(len(asked)), torch.ones(len(asked), model.d_vocab, dtype=torch.bool)
    keep[rows, c] = keep[rows, w] = False
    total, p_0 = 0.0, others(next_scores(model, asked), keep)
    for beta in (1.0, -1.0):
        with st.steer(model, intervention, beta):
            logits = next_scores(model, asked)
        log_p, target = logits.log_softmax(-1), c if beta > 0 else w
        if objective.effectiveness == "cross_entropy":
            total = total - log_p[rows, target].mean()
        else:
            delta = beta * (log_p[rows, c] - log_p[rows, w])
            total = total + (objective.margin - delta).clamp(min=0).mean()
        p = others(logits, keep)
        kl = (p_0 * (p_0.log() - p.log())).sum(1).mean()
        total = total + objective.faithfulness * kl / 2
    return total


def others(logits, keep):
    """p over all tokens but the answers (n, d_vocab - 2)."""
    p = logits.softmax(-1)[keep].view(len(logits), -1)
    return p / p.sum(1, keepdim=True)


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


# --- 6. vectors and scalars


def test_a_vector_alpha_h_is_a_scalar_on_its_own_prompt_and_on_no_other(world, train):
    site, alpha = st.mlp_out(0), torch.linspace(-1, 1, 13)
    own, other = [train[0]], [train[1]]
    h = st.capture(world, [own[0].prompt], site, "everywhere", chat=False, include_bos=True)[site]
    scalar, vector = st.Scale(site, alpha), st.Add(site, alpha[:, None] * h)
    assert (scores(world, own, scalar) - scores(world, own)).abs().max() > 0.1
    for beta in (1.0, -1.0, 0.3):
        a, b = scores(world, own, scalar, beta), scores(world, own, vector, beta)
        assert torch.allclose(a, b, atol=1e-4)
    gap = scores(world, other, scalar) - scores(world, other, vector)
    assert gap.abs().max() > 0.1


def test_one_scalar_for_all_heads_of_a_layer_scales_what_attention_writes_without_its_bias(
    world, train
):
    layer, alpha = 1, 0.7
    heads = [st.Scale(st.head(layer, h), alpha) for h in range(4)]
    found = scores(world, train[:3], sum(heads[1:], heads[0]))
    attention = world.module.transformer.h[layer].attn
    bias = attention.c_proj.bias
    assert bias.abs().max() > 1e-3

    def change(module, args, output):
        return (output[0] + alpha * (output[0] - bias), *output[1:])

    handle = attention.register_forward_hook(change)
    try:
        expected = scores(world, train[:3])
    finally:
        handle.remove()
    assert torch.allclose(found, expected, atol=1e-4)
    assert (found - scores(world, train[:3])).abs().max() > 0.1


# --- a known optimum

C, W = "w4", "w5"


def wired(given, memory):
    """Four heads and no norms: Delta = given - memory, from heads 0 and 1 at the last token.

    Head 0 reads the first word and raises C over W by `given`, head 1 reads the second and lowers
    it by `memory`; head 2 raises both answers alike and head 3 writes nothing.
    """
    config = GPT2Config(n_embd=8, n_layer=1, n_head=4, n_positions=8, vocab_size=12,
                        bos_token_id=2, eos_token_id=3, pad_token_id=0)  # fmt: skip
    network = GPT2LMHeadModel(config).eval()
    network.transformer.ln_f = nn.Identity()
    (block,) = network.transformer.h
    block.ln_1 = block.ln_2 = nn.Identity()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.transformer.wte.weight[4:] = torch.eye(8)
        # Attention is uniform over three tokens; the values are columns 16 to 23, two per head.
        for head, word in ((0, 0), (1, 1), (2, 1)):
            block.attn.c_attn.weight[word, 16 + 2 * head] = 3.0
        block.attn.c_proj.weight[0, 4:6] = torch.tensor([given / 2, -given / 2])
        block.attn.c_proj.weight[2, 4:6] = torch.tensor([-memory / 2, memory / 2])
        block.attn.c_proj.weight[4, 4:6] = 1.0
    network.requires_grad_(False)
    return st.wrap(network, tokenizer_of_words(8)), [st.world.Choice("w0 w1", C, W, False)]


HEADS = [st.head(0, h) for h in range(4)]
LONG = Plan(epochs=300, batch_size=1, lr=0.1)


def test_the_slopes_of_the_wired_model_are_what_its_heads_write():
    model, choices = wired(1.5, 2.0)
    assert margins(model, choices).item() == pytest.approx(-0.5)
    found = stacked(st.scale_gradients(model, choices, HEADS))
    expected = torch.zeros(4, 3)
    expected[0, -1], expected[1, -1] = 1.5, -2.0
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("minimality", "wanted"), [(0.5, 2.5 / 1.5), (2.0, 1.5 / 1.5), (2.6, 1.5 / 1.5), (3.1, 0.0)]
)
def test_the_scalar_is_the_one_that_the_objective_asks_for(minimality, wanted):
    # relu(2 + .5 - 1.5 alpha) + relu(2 - .5 - 1.5 alpha) falls by 3 per unit up to alpha = 1, then
    # by 1.5 up to alpha = 2.5 / 1.5: it pays while that exceeds lambda.
    model, choices = wired(1.5, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = st.activ_scalar(model, choices, [HEADS[0], *HEADS[2:]], plan=LONG,
                                objective=Objective(minimality=minimality))  # fmt: skip
    alpha = table(found, HEADS, 3)
    assert alpha[0, -1].item() == pytest.approx(wanted, abs=2e-2)
    alpha[0, -1] = 0
    assert not alpha.any()


def test_of_two_heads_the_one_that_does_more_per_unit_is_scaled_alone():
    model, choices = wired(1.5, 2.0)
    found = st.activ_scalar(model, choices, HEADS, plan=LONG, objective=Objective(minimality=0.5))
    expected = torch.zeros(4, 3)
    expected[1, -1] = -2.5 / 2
    assert torch.allclose(table(found, HEADS, 3), expected, atol=2e-2)
    found = st.places(found)
    assert found[["site", "at"]].values.tolist() == [["blocks.0.attn.hook_z[1]", 2]]


def test_the_vector_is_the_shortest_that_reaches_the_margin():
    model, choices = wired(1.5, 2.0)
    found = st.steer_vec(model, choices, HEADS[0], at=st.last, plan=LONG,
                         objective=Objective(minimality=0.5))  # fmt: skip
    # One unit along the first coordinate of head 0's z, which is 1, gives 1.5.
    assert torch.allclose(found.direction, torch.tensor([2.5 / 1.5, 0.0]), atol=2e-2)


# --- optimality on the world

EXACT = Plan(epochs=150, batch_size=4, lr=0.1)
SMOOTH = Objective("cross_entropy", minimality=0.1)  # the margin has kinks, where slopes jump


def check_optimal(model, choices, found, build, shape):
    """|slope| <= lambda where a place is 0, = -lambda x / ||x|| elsewhere."""
    value = torch.zeros(shape)
    for index, row in found:
        value[index] = row
    value.requires_grad_(True)
    (slope,) = torch.autograd.grad(own_loss(model, choices, build(value), SMOOTH), value)
    length = value.detach().norm(dim=-1)
    is_zero, lam = length == 0, SMOOTH.minimality
    assert is_zero.any()
    assert not is_zero.all()
    assert (slope[is_zero].norm(dim=-1) <= lam + 1e-3).all()
    wanted = -lam * (value.detach() / length[..., None])[~is_zero]
    assert torch.allclose(slope[~is_zero], wanted, atol=5e-3)


def joined(terms):
    first, *rest = terms
    return sum(rest, first)


def test_scalars_end_where_the_conditions_of_an_optimum_hold(world, train):
    few, sites = train[:4], st.components(world)
    found = st.activ_scalar(world, few, sites, objective=SMOOTH, plan=EXACT)
    rows = [(sites.index(t.site), t.edit.alpha[:, None]) for t in found.terms]

    def build(value):
        return joined(st.Scale(s, row[:, 0]) for s, row in zip(sites, value, strict=True))

    check_optimal(world, few, rows, build, (25, 13, 1))
    assert 2 <= len(st.places(found)) <= 30


def test_vectors_end_where_the_conditions_of_an_optimum_hold_and_vanish_whole(world, train):
    few, sites = train[:4], [st.head(layer, h) for layer in (0, 3) for h in range(4)]
    found = st.steer_vec(world, few, sites, objective=SMOOTH, plan=EXACT)
    rows = [(sites.index(t.site), t.edit.vectors) for t in found.terms]
    for _, vectors in rows:
        is_zero = vectors == 0
        assert torch.equal(is_zero.all(1), is_zero.any(1))

    def build(value):
        return joined(st.Add(s, row) for s, row in zip(sites, value, strict=True))

    check_optimal(world, few, rows, build, (8, 13, 32))


def test_functions_end_where_the_conditions_of_an_optimum_hold(world, train):
    few, sites = train[:4], [st.head(layer, h) for layer in (0, 3) for h in range(4)]
    found = st.dyn_scalar(world, few, sites, objective=SMOOTH, plan=EXACT)
    rows = [(sites.index(t.site), torch.cat([t.edit.read, t.edit.bias[None]])) for t in found.terms]

    def build(value):
        return joined(
            st.Scale(s, 1.0, row[:-1], row[-1]) for s, row in zip(sites, value, strict=True)
        )

    check_optimal(world, few, rows, build, (8, 33))


# --- what the terms of the objective do


def test_more_minimality_means_fewer_places_and_above_all_slopes_none(world, train):
    few, sites = train[:6], st.components(world)
    counts = []
    for lam in (0.0, 0.05, 0.5):
        found = st.activ_scalar(world, few, sites, plan=replace(QUICK, batch_size=6),
                                objective=Objective(minimality=lam))  # fmt: skip
        counts.append(len(st.places(found)))
    assert counts[0] > 200 > 60 > counts[1] > counts[2] > 0
    steepest = 2 * stacked(st.scale_gradients(world, few, sites)).abs().max().item()
    objective = Objective(margin=100.0, minimality=1.01 * steepest)
    with pytest.warns(UserWarning, match=r"every number of activ_scalar is 0.*minimality=") as seen:
        found = st.activ_scalar(world, few, sites, plan=replace(QUICK, batch_size=6),
                                objective=objective)  # fmt: skip
    assert seen[0].filename == __file__
    assert st.places(found).empty
    with st.steer(world, found):
        assert torch.equal(scores(world, few), scores(world, few, found))
    below = replace(objective, minimality=0.99 * steepest)
    assert (
        len(st.places(st.activ_scalar(world, few, sites, plan=one_step(6), objective=below))) == 1
    )


def test_more_faithfulness_means_less_change_of_the_others(world, train):
    kl = [
        ev.flips(world, train, st.activ_scalar(world, train, st.components(world), at=st.last,
                                               plan=replace(QUICK, epochs=5),
                                               objective=Objective(faithfulness=f))).kl.mean()
        for f in (0.0, 10.0)
    ]  # fmt: skip
    assert kl[1] < 0.5 * kl[0]


def test_cross_entropy_keeps_the_answers_likely_and_flips_both_ways(world, train):
    found = st.activ_scalar(world, train, st.components(world), plan=QUICK,
                            objective=Objective("cross_entropy"))  # fmt: skip
    rows = ev.flips(world, st.world.conflicts(30, split="test"), found)
    assert rows.both.mean() > 0.9
    assert min(rows.first_plus.mean(), rows.first_minus.mean()) > 0.9
    assert min(rows.mass_plus.mean(), rows.mass_minus.mean()) > 0.9


# --- what it does on the world


def test_a_few_scalars_flip_the_answer_both_ways_for_unseen_countries(world, train, dial):
    fresh = st.world.conflicts(30, split="test")
    assert not {c.subject for c in fresh} & {c.subject for c in train}
    rows, before = ev.flips(world, fresh, dial), ev.flips(world, fresh, None)
    assert (rows.margin_plus > 0).mean() >= 0.9
    assert (rows.margin_minus < 0).mean() >= 0.9
    assert before.effect.mean() == 0.5
    assert len(st.places(dial)) < 0.05 * 25 * 13


def test_the_same_scalars_at_other_places_do_not(world, dial):
    fresh, sites = st.world.conflicts(30, split="test"), st.components(world)
    alpha = table(dial, sites, 13)
    for seed in range(3):
        order = torch.randperm(alpha.numel(), generator=torch.Generator().manual_seed(seed))
        shuffled = alpha.flatten()[order].view_as(alpha)
        control = joined(st.Scale(s, row) for s, row in zip(sites, shuffled, strict=True))
        assert ev.flips(world, fresh, control).both.mean() < 0.5


def test_the_other_sign_steers_to_the_other_answer(world, dial):
    fresh = st.world.conflicts(30, split="test")
    a, b = ev.flips(world, fresh, dial), ev.flips(world, fresh, -1 * dial)
    assert a.margin_plus.tolist() == pytest.approx(b.margin_minus.tolist(), abs=1e-4)
    assert a.margin_minus.tolist() == pytest.approx(b.margin_plus.tolist(), abs=1e-4)


# --- DynScalar


@pytest.mark.parametrize("learn", [st.activ_scalar, st.steer_vec, st.dyn_scalar])
def test_learning_starts_from_the_model_as_it_is(model, learn):
    found = learn(model, WORDS, MIXED, ENDS, plan=one_step(2, lr=1e-15),
                  objective=Objective(minimality=0.0))  # fmt: skip
    assert len(found.terms) == 6
    assert torch.equal(scores(model, WORDS, found), scores(model, WORDS))


def test_dyn_scalar_flips_prompts_of_lengths_that_it_never_saw(world, dynamic):
    fresh = st.world.conflicts(30, templates=(0, 1, 2), split="test")
    assert len({len(c.prompt.split()) for c in fresh}) > 1
    rows, before = ev.flips(world, fresh, dynamic), ev.flips(world, fresh, None)
    assert rows.both.mean() > 0.8
    assert before.both.mean() == 0


def test_its_factor_lies_between_0_and_2_for_whatever_activation(world, dynamic):
    random = torch.Generator().manual_seed(0)
    for term in dynamic.terms:
        size = 32 if term.site.kind == "head" else 128
        h = 1000 * torch.randn(4, 5, size, generator=random)
        factor = 1 + term.edit.delta(h, None) / h
        assert factor.min() >= 0
        assert factor.max() <= 2
        u, b = term.edit.read, term.edit.bias
        expected = 1 + torch.tanh((h / h.norm(dim=-1, keepdim=True)) @ u + b)
        assert torch.allclose(factor.mean(-1), expected, atol=1e-4)
        assert factor.std(-1).max() < 1e-4
    assert len({term.positions for term in dynamic.terms}) == 1


# --- the same numbers on every path


def test_both_engines_have_the_same_slopes_and_learn_the_same(world, train):
    bridge, few = st.load("world"), train[:6]
    sites, plan = st.components(world), one_step(3, lr=0.1)
    slopes = [stacked(st.scale_gradients(m, few, sites)) for m in (world, bridge)]
    assert torch.allclose(*slopes, atol=1e-3)
    found = [st.activ_scalar(m, few, sites, plan=plan) for m in (world, bridge)]
    alpha = [table(f, sites, 13) for f in found]
    assert torch.allclose(*alpha, atol=1e-3)
    rows = [ev.flips(m, few, f) for m, f in zip((world, bridge), found, strict=True)]
    assert rows[0].margin_plus.tolist() == pytest.approx(rows[1].margin_plus.tolist(), abs=1e-2)


def test_steering_is_what_hooks_of_transformerlens_do(train):
    bridge = st.load("world")
    alpha = {site: torch.linspace(-1, 1, 13) * (1 + site.index) for site in
             (st.head(0, 1), st.head(0, 2), st.head(3, 3))}  # fmt: skip
    scaled = joined(st.Scale(site, row) for site, row in alpha.items())

    def scale(site, beta):
        def change(z, hook):
            assert z.ndim == 4
            z = z.clone()
            z[:, :, site.index] *= 1 + beta * alpha[site][:, None]
            return z

        return f"blocks.{site.layer}.attn.hook_z", change

    (item,) = encode_choices(bridge, train[:1])
    for beta in (1.0, -1.0):
        hooks = [scale(site, beta) for site in alpha]
        with torch.no_grad():
            logits = bridge.module.run_with_hooks(torch.tensor([item.ids]), fwd_hooks=hooks)[0, -1]
        assert torch.allclose(scores(bridge, train[:1], scaled, beta)[0], logits, atol=1e-4)


def test_padding_and_batches_change_nothing(world, dial, dynamic):
    mixed = st.world.conflicts(9, templates=(0, 1, 2), split="test")
    asked = encode_choices(world, mixed)
    assert len({len(item.ids) for item in asked}) > 1
    for found in (dial, dynamic):
        for beta in (1.0, -1.0):
            with torch.no_grad(), st.steer(world, found, beta):
                batched = next_scores(world, asked)
            assert torch.allclose(batched, scores(world, mixed, found, beta), atol=1e-4)


def test_the_slopes_of_padded_prompts_are_those_of_each_alone(world):
    mixed = st.world.conflicts(6, templates=(0, 1, 2))
    sites = st.components(world)
    found = stacked(st.scale_gradients(world, mixed, sites, at=ENDS))
    alone = [stacked(st.scale_gradients(world, [choice], sites, at=ENDS)) for choice in mixed]
    assert torch.allclose(found, torch.stack(alone).mean(0), atol=1e-4)


# --- repeatable, resumable, storable

WORDS = [st.world.Choice("tell me about the dog", "cat", "bird", False),
         st.world.Choice("a story about the", "ball", "dog", False)]  # fmt: skip
EQUAL = [WORDS[0], st.world.Choice("once upon a time there", "was", "saw", False)] * 2
MIXED = [st.head(0, 1), st.mlp_out(1), st.head(2, 3)]
SHORT = Plan(epochs=3, batch_size=2, lr=0.05)
ALL = Objective(minimality=0.0)


@pytest.mark.parametrize("learn", [st.activ_scalar, st.steer_vec, st.dyn_scalar])
def test_a_fit_repeats_and_its_seed_matters(gpt2, learn):
    choices = [*EQUAL[:2], replace(EQUAL[0], positive="sun"), replace(EQUAL[1], positive="rain")]
    options = {"at": st.everywhere, "objective": ALL}
    first = learn(gpt2, choices, MIXED, plan=SHORT, **options)
    assert same(first, learn(gpt2, choices, MIXED, plan=SHORT, **options))
    other = learn(gpt2, choices, MIXED, plan=replace(SHORT, seed=1), **options)
    assert not same(first, other)
    assert first.origin == st.Origin(gpt2.id, gpt2.revision, learn.__name__, 0)
    assert not any(tensor.requires_grad for tensor in tensors(first))
    # A clipped gradient would weigh the loss anew against the proximal step.
    assert same(first, learn(gpt2, choices, MIXED, plan=replace(SHORT, clip=None), **options))


@pytest.mark.parametrize("learn", [st.activ_scalar, st.steer_vec, st.dyn_scalar])
def test_a_fit_that_was_killed_goes_on_to_the_bit(gpt2, tmp_path, monkeypatch, learn):
    path, options = str(tmp_path / "fit.safetensors"), {"at": ENDS, "plan": SHORT}
    expected = learn(gpt2, EQUAL, MIXED, **options)
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return both_ways(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(flipping, "both_ways", killed)
        with pytest.raises(KeyboardInterrupt):
            learn(gpt2, EQUAL, MIXED, checkpoint=path, **options)
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(flipping, "both_ways", lambda *a: calls.append(a) or both_ways(*a))
        found = learn(gpt2, EQUAL, MIXED, checkpoint=path, **options)
    assert len(calls) == 4  # of six steps, two were in the file
    assert same(found, expected)


def test_a_checkpoint_of_another_fit_is_refused(gpt2, tmp_path):
    usual = {"sites": MIXED[:2], "at": ENDS, "objective": ALL, "choices": EQUAL}
    swapped = [replace(c, positive=c.negative, negative=c.positive) for c in EQUAL]
    assert_refused(
        gpt2, tmp_path, usual,
        {"objective": replace(ALL, margin=1.0)},
        {"objective": replace(ALL, faithfulness=2.0)},
        {"objective": replace(ALL, effectiveness="cross_entropy")},
        {"objective": replace(ALL, minimality=0.1)},
        {"at": ENDS[::-1]},
        {"at": [st.last, st.prompt]},
        {"at": None},
        {"choices": swapped},
        {"method": st.steer_vec},
    )  # fmt: skip


def test_a_checkpoint_of_other_places_of_the_same_number_is_refused(gpt2, tmp_path):
    usual = {"sites": [st.mlp_out(1), st.mlp_out(2)], "at": ENDS, "choices": EQUAL}
    others = ({"sites": [st.mlp_out(0), st.mlp_out(2)]}, {"sites": [st.mlp_out(2), st.mlp_out(1)]})
    assert_refused(gpt2, tmp_path, usual, *others)


def assert_refused(model, folder, usual, *changes):
    """A checkpoint of the usual fit serves that one and none that is changed."""
    path = str(folder / "fit.safetensors")

    def learn(choices, sites, method=st.activ_scalar, **options):
        return method(model, choices, sites, plan=SHORT, checkpoint=path, **options)

    assert same(learn(**usual), learn(**usual))
    for change in changes:
        with pytest.raises(ValueError, match="belongs to another fit"):
            learn(**usual | change)


def test_what_is_learned_survives_a_file(world, train, dial, dynamic, gpt2, tmp_path):
    vectors = st.steer_vec(world, train[:6], FEW, plan=one_step(6))
    shared = st.steer_vec(world, train[:6], FEW, at=ENDS, plan=one_step(6))
    for number, found in enumerate((dial, vectors, shared, dynamic)):
        path = tmp_path / f"{number}.safetensors"
        found.save(path)
        again = st.load_intervention(path, world)
        assert same(again, found)
        assert [t.positions for t in again.terms] == [t.positions for t in found.terms]
        assert again.origin == found.origin
        assert st.places(again).equals(st.places(found))
        assert torch.equal(scores(world, train[:2], again), scores(world, train[:2], found))
    with pytest.raises(ValueError, match="was made for"):
        st.load_intervention(path, gpt2)


@pytest.mark.parametrize("learn", [st.activ_scalar, st.steer_vec, st.dyn_scalar])
def test_memory_does_not_grow_with_steps(gpt2, monkeypatch, learn):
    calls, alive = [], []

    def counted(*arguments):
        calls.append(None)
        if len(calls) in (4, 12):
            gc.collect()
            alive.append(sum(type(o) in (torch.Tensor, nn.Parameter) for o in gc.get_objects()))
        return both_ways(*arguments)

    monkeypatch.setattr(flipping, "both_ways", counted)
    learn(gpt2, EQUAL, MIXED, at=ENDS, plan=replace(SHORT, epochs=6))
    assert len(calls) == 12
    assert alive[0] == alive[1]


@pytest.mark.parametrize("learn", [st.activ_scalar, st.steer_vec, st.dyn_scalar])
def test_the_model_is_left_alone(model, learn):
    before = [p.clone() for p in model.hf.parameters()]
    learn(model, WORDS, MIXED, at=ENDS, plan=SHORT, objective=ALL)
    assert all(map(torch.equal, before, model.hf.parameters()))
    assert all(p.grad is None for p in model.hf.parameters())
    assert st.core.session.sessions(model) == []


def test_a_prompt_is_read_as_its_choice_says_and_else_as_the_caller_says(gpt2):
    raw, chat, open_ = (replace(WORDS[0], chat=chat) for chat in (False, True, None))
    slopes = {
        key: st.scale_gradients(gpt2, [choice], MIXED[0], at=st.last, chat=caller)[MIXED[0]]
        for key, choice, caller in (
            ("raw", raw, True), ("chat", chat, False), ("open", open_, False),
            ("asked", open_, True),
        )
    }  # fmt: skip
    assert torch.equal(slopes["raw"], slopes["open"])
    assert torch.equal(slopes["chat"], slopes["asked"])
    assert not torch.equal(slopes["raw"], slopes["chat"])


# --- places


def test_places_lists_what_is_not_zero():
    mix = (
        st.Scale(st.head(0, 1), [0.0, -0.5, 0.0, 2.0])
        + st.Add(st.mlp_out(1), [[3.0, 4.0], [0.0, 0.0]])
        + st.Scale(st.mlp_out(2), 0.25).at(st.last)
        + st.Scale(st.mlp_out(2), 0.0)
        + st.Add(st.resid(0), [0.0, -2.0]).at(st.prompt - st.last)
        + st.Scale(st.mlp_out(3), 1.0, read=[2.0, 1.0], bias=2.0)
    )
    assert st.places(mix).values.tolist() == [
        ["blocks.0.attn.hook_z[1]", 1, -0.5],
        ["blocks.0.attn.hook_z[1]", 3, 2.0],
        ["blocks.1.hook_mlp_out", 0, 5.0],
        ["blocks.2.hook_mlp_out", "last", 0.25],
        ["blocks.0.hook_resid_post", "(prompt - last)", 2.0],
        ["blocks.3.hook_mlp_out", "everywhere", 3.0],
    ]
    none = st.places(st.Scale(st.head(0, 1), 0.0))
    assert none.empty
    assert list(none) == ["site", "at", "value"]
    with pytest.raises(ValueError, match="a scale or a constant is needed, got LowRank"):
        st.places(st.Project(st.resid(0), [1.0, 0.0]))


def test_terms_that_are_zero_are_left_out(world, train, dial):
    assert all(tensor.any() for tensor in tensors(dial))
    assert len(dial.terms) == st.places(dial).site.nunique() < 25


# --- bad input

EVERY = [st.activ_scalar, st.steer_vec, st.dyn_scalar, st.scale_gradients]


@pytest.mark.parametrize("learn", EVERY)
def test_bad_choices_are_named(gpt2, learn):
    good = WORDS[0]

    def fails(message, *choices):
        with pytest.raises(ValueError, match=message):
            learn(gpt2, choices, MIXED, st.everywhere)

    fails("needed are choices, at least one; got none")
    two, three = replace(good, positive="cat bird"), replace(good, negative="big red ball")
    fails(r"one token each.*2 are not: 'cat bird' is \['cat', 'bird'\]; 'big red ball' is",
          good, two, three)  # fmt: skip
    same = SimpleNamespace(**{**vars(good), "negative": " cat"})  # `Choice` refuses it itself
    fails("'cat' and ' cat' of 'tell me about the dog' are the same token", good, same)
    fails("'cat' and 'zebra' of .* are an unknown word", replace(good, negative="zebra"))


@pytest.mark.parametrize("learn", EVERY)
def test_bad_places_are_named(gpt2, learn):
    with pytest.raises(ValueError, match="different sites, at least one; got"):
        learn(gpt2, EQUAL, [MIXED[0], MIXED[1], MIXED[0]], st.last)
    with pytest.raises(ValueError, match="has 4 layers"):
        learn(gpt2, EQUAL, [st.mlp_out(4)], st.last)
    with pytest.raises(ValueError, match="different positions, got"):
        learn(gpt2, EQUAL, MIXED, [])
    with pytest.raises(ValueError, match="resid_mid cannot be steered"):
        learn(gpt2, EQUAL, st.Site("resid_mid", 0), st.last)
    with pytest.raises(ValueError, match=r"generation.*matched no token"):
        learn(gpt2, EQUAL, MIXED, st.generation)
    if learn is st.dyn_scalar:
        with pytest.raises(ValueError, match=r"`at` is a selection, not None"):
            learn(gpt2, EQUAL, MIXED, None)
    else:
        with pytest.raises(ValueError, match=r"same number of tokens.*1 of 5, 1 of 6 tokens"):
            learn(gpt2, WORDS, MIXED)


def test_a_bad_objective_is_named():
    with pytest.raises(ValueError, match=r"effectiveness is one of .*'margin'.*got 'hinge'"):
        Objective("hinge")
    for name in ("margin", "faithfulness", "minimality"):
        for value in (-0.1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"{name} is a number from 0, got {value}"):
                Objective(**{name: value})


def test_a_fit_that_diverges_is_named(world, train):
    with pytest.raises(FloatingPointError, match=r"activ_scalar at 13 positions.*learning rate"):
        st.activ_scalar(world, train[:4], FEW, plan=Plan(epochs=9, batch_size=4, lr=1e30))
