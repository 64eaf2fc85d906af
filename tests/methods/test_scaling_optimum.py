"""A known optimum, optimality on the world, and what each term of the objective does."""

import warnings

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import steerlib as st
from steerlib.core.fitting import Plan
from steerlib.methods.flipping import Objective
from tests.methods.scaling_cases import (
    joined,
    margins,
    own_loss,
    scores,
    stacked,
    table,
)
from tests.planted import _tokenizer as tokenizer_of_words

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
