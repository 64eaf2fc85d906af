"""What activation scaling does on the world, on every path, resumed, stored, and with bad input."""

import gc
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.answers import encode_choices, next_scores
from steerlib.core.fitting import Plan
from steerlib.methods import flipping
from steerlib.methods.flipping import Objective, both_ways
from tests.methods.scaling_cases import (
    ENDS,
    FEW,
    QUICK,
    joined,
    one_step,
    same,
    scores,
    stacked,
    table,
    tensors,
)

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
    assert len(found.terms) == 1
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
    options = {"plan": one_step(1), "objective": ALL}
    asked = st.activ_scalar(gpt2, [open_], MIXED, chat=True, **options)
    assert same(asked, st.activ_scalar(gpt2, [chat], MIXED, **options))
    assert len(asked.terms[0].edit.alpha) > len(WORDS[0].prompt.split()) + 1


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


@pytest.mark.filterwarnings("ignore:'zebra' is not in")
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
    fails("'zebra', an answer of .*, is not in the vocabulary", replace(good, negative="zebra"))


@pytest.mark.parametrize("learn", EVERY)
def test_bad_places_are_named(gpt2, learn):
    with pytest.raises(ValueError, match="different sites, at least one; got"):
        learn(gpt2, EQUAL, [MIXED[0], MIXED[1], MIXED[0]], st.last)
    with pytest.raises(ValueError, match="has 4 layers"):
        learn(gpt2, EQUAL, [st.mlp_out(4)], st.last)
    with pytest.raises(ValueError, match="different selections of positions"):
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
    with pytest.raises(FloatingPointError, match=r"activ_scalar is nan.*learning rate"):
        st.activ_scalar(world, train[:4], FEW, plan=Plan(epochs=9, batch_size=4, lr=1e30))
