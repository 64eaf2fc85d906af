"""SADI: which elements it finds, what it does with them, and what it does not depend on."""

from dataclasses import replace
from random import Random

import pytest
import torch

import steerlib as st
from steerlib.methods import sadi as module
from steerlib.methods.sadi import sadi
from tests.planted import SITE as PLANTED
from tests.planted import planted_model

HEADS = [st.head(layer, number) for layer in range(5) for number in range(4)]
NEURONS = [st.mlp_post(layer) for layer in range(5)]
HIDDEN = [st.mlp_out(layer) for layer in range(5)]
KINDS = {"heads": HEADS, "neurons": NEURONS, "hidden": HIDDEN}


def conflicts(n=12, seed=0):
    """Conflicts of two lengths, so that a batch of them is padded."""
    random, found = Random(seed), {}
    while len(found) < n:
        item = st.world.geography.conflict(random, "capital", template=len(found) % 3)
        choice = st.world.Choice(item.prompt, item.given, item.true, chat=False)
        found[choice] = None
    return list(found)


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


def elements(intervention):
    """The chosen elements: (site, coordinate), or (site, None) for a whole head."""
    found = set()
    for term in intervention.terms:
        rows = term.edit.tensors.get("read")
        wanted = [None] if rows is None else rows.argmax(1).tolist()
        found |= {(term.site, number) for number in wanted}
    return found


def planted():
    """Two prompts whose answers differ by known numbers; the mean difference is `GAP`."""
    rows = torch.zeros(6, 4)
    rows[2], rows[3] = torch.tensor([1.0, -2.0, 0.0, 5.0]), torch.tensor([0.0, 4.0, 0.0, 5.0])
    rows[4], rows[5] = torch.tensor([3.0, 0.0, 1.0, 9.0]), torch.tensor([0.0, 0.0, 0.5, 9.0])
    pairs = [st.world.Choice("w0", "w2", "w3", False), st.world.Choice("w1 w0", "w4", "w5", False)]
    return planted_model(rows), pairs


GAP = [2.0, -3.0, 0.25, 0.0]


@pytest.mark.parametrize(
    ("by", "k", "wanted"),
    [("value", 1, {0}), ("value", 2, {0, 2}), ("size", 1, {1}), ("size", 2, {0, 1})],
)
def test_the_elements_with_the_largest_planted_difference_are_chosen(by, k, wanted):
    model, pairs = planted()
    found = sadi(model, pairs, [PLANTED], k, by=by)
    assert elements(found) == {(PLANTED, number) for number in wanted}


def test_chosen_elements_of_the_last_token_are_multiplied_and_nothing_else():
    model, pairs = planted()
    found = sadi(model, pairs, [PLANTED], 2)
    text = ["w1 w5 w2 w4"]
    plain = st.capture(model, text, PLANTED, "everywhere", include_bos=True)[PLANTED]
    for delta in (-1.0, 0.0, 0.5, 4.0):
        with st.steer(model, found, strength=delta):
            moved = st.capture(model, text, PLANTED, "everywhere", include_bos=True)[PLANTED]
        expected = plain.clone()
        expected[-1] *= 1 + delta * torch.tensor([1.0, 0.0, 1.0, 0.0])
        assert torch.allclose(moved, expected, atol=1e-6)


def test_positions_and_origin_are_those_asked_for(world):
    for sites in KINDS.values():
        found = sadi(world, conflicts(2), sites, 3, at=st.prompt - st.last)
        assert {str(term.positions) for term in found.terms} == {"(prompt - last)"}
        assert found.origin == st.Origin(world.id, world.revision, "sadi", None)
        assert {str(t.positions) for t in sadi(world, conflicts(2), sites, 3).terms} == {"last"}


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_the_identity_and_others_are_not(world, kind):
    found, prompts = sadi(world, conflicts(), KINDS[kind], 3), [c.prompt for c in conflicts(4, 1)]
    plain = st.logits(world, prompts, chat=False)
    with st.steer(world, found, strength=0.0):
        assert torch.equal(st.logits(world, prompts, chat=False), plain)
    with st.steer(world, found, strength=3.0):
        moved = st.logits(world, prompts, chat=False)
    assert (moved - plain)[:, -1].abs().max() > 1e-2
    assert torch.equal(moved[:, :-1], plain[:, :-1])


def last_token(model, text):
    """What plain hooks see at the last token of one text: (kind, layer) -> activation."""
    seen = {}

    def reader(kind, layer):
        def read(module, args, output):
            seen[kind, layer] = args[0][0, -1].double()
            if kind == "mlp_post":
                seen["mlp_out", layer] = output[0, -1].double()

        return read

    handles = []
    for layer, block in enumerate(model.module.transformer.h):
        handles.append(block.attn.c_proj.register_forward_hook(reader("head", layer)))
        handles.append(block.mlp.c_proj.register_forward_hook(reader("mlp_post", layer)))
    ids = model.tokenizer(text, add_special_tokens=False).input_ids
    with torch.no_grad():
        model.module(torch.tensor([[model.bos_id, *ids]]))
    for handle in handles:
        handle.remove()
    return seen


def from_scratch(model, pairs, sites, by):
    """The score of each element, one text at a time."""
    gaps = dict.fromkeys(sites, 0.0)
    for pair in pairs:
        shown, plain = (
            last_token(model, f"{pair.prompt} {a}") for a in (pair.positive, pair.negative)
        )
        for site in sites:
            gap = shown[site.kind, site.layer] - plain[site.kind, site.layer]
            gaps[site] = gaps[site] + gap / len(pairs)
    scores = {}
    for site, gap in gaps.items():
        if site.index is not None:
            own = gap.view(4, 32)[site.index]
            scores[site, None] = own.mean() if by == "value" else own.norm()
        else:
            scores |= {(site, n): g if by == "value" else g.abs() for n, g in enumerate(gap)}
    return scores


@pytest.mark.parametrize("by", ["value", "size"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_chooses_what_plain_hooks_choose(world, kind, by):
    pairs, k = conflicts(), 5 if kind == "heads" else 60
    scores = from_scratch(world, pairs, KINDS[kind], by)
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    found = elements(sadi(world, pairs, KINDS[kind], k, by=by))
    assert found == set(ranked[:k])
    assert len({site for site, _ in found}) > 1  # several sites: the ranking is over all of them


def test_it_multiplies_a_head_as_a_plain_hook_does(world):
    pairs, prompt = conflicts(), conflicts(1, 1)[0].prompt
    found = sadi(world, pairs, HEADS, 1)
    ((site, _),) = elements(found)
    with st.steer(world, found, strength=2.5):
        steered = st.logits(world, prompt, chat=False)[0, -1]

    def change(module, args):
        h = args[0].clone()
        h[0, -1, 32 * site.index : 32 * site.index + 32] *= 3.5
        return (h,)

    ids = world.tokenizer(prompt, add_special_tokens=False).input_ids
    handle = world.module.transformer.h[site.layer].attn.c_proj.register_forward_pre_hook(change)
    try:
        with torch.no_grad():
            expected = world.module(torch.tensor([[world.bos_id, *ids]])).logits[0, -1]
    finally:
        handle.remove()
    assert torch.allclose(steered, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_both_engines_choose_and_steer_alike(world, kind):
    bridge, pairs, prompts = st.load("world"), conflicts(), [c.prompt for c in conflicts(4, 1)]
    logits = []
    for model in (world, bridge):
        found = sadi(model, pairs, KINDS[kind], 4)
        with st.steer(model, found, strength=2.0):
            logits.append((elements(found), st.logits(model, prompts, chat=False)[:, -1]))
    assert logits[0][0] == logits[1][0]
    assert torch.allclose(logits[0][1], logits[1][1], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_padding_and_order_change_nothing(world, kind):
    pairs = conflicts()
    wanted = elements(sadi(world, pairs, KINDS[kind], 4, batch_size=1))
    for batch_size in (3, 64):
        assert elements(sadi(world, pairs, KINDS[kind], 4, batch_size=batch_size)) == wanted
    assert elements(sadi(world, pairs[::-1], KINDS[kind][::-1], 4)) == wanted
    assert elements(sadi(world, pairs, KINDS[kind] * 2, 4)) == wanted  # each site counts once


def test_swapped_answers_choose_the_other_end_by_value_and_the_same_by_size(world):
    pairs = conflicts()
    swapped = [replace(c, positive=c.negative, negative=c.positive) for c in pairs]
    every = {(site, None) for site in HEADS}
    top, bottom = elements(sadi(world, pairs, HEADS, 5)), elements(sadi(world, swapped, HEADS, 15))
    assert top == every - bottom
    by_size = [elements(sadi(world, data, HEADS, 5, by="size")) for data in (pairs, swapped)]
    assert by_size[0] == by_size[1]


def test_a_pair_says_how_its_prompt_is_read_and_else_the_caller(gpt2, monkeypatch):
    read, inner = [], module.capture

    def spied(model, texts, *arguments, **options):
        read.append(texts)
        return inner(model, texts, *arguments, **options)

    monkeypatch.setattr(module, "capture", spied)
    raw = st.world.Choice("a dog", "saw rain", "happy", chat=False)
    templated, open_ = replace(raw, chat=True), replace(raw, chat=None)
    site = [st.mlp_out(1)]
    for pair, chat in ((raw, True), (templated, False), (open_, True), (open_, False)):
        sadi(gpt2, [pair], site, 1, chat=chat)
    marked = "<user> a dog <assistant>"
    assert read[0] == read[3] == ["a dog saw rain", "a dog happy"]
    assert read[1] == read[2] == [f"{marked} saw rain", f"{marked} happy"]


def test_what_is_saved_comes_back(world, tmp_path):
    for kind, sites in KINDS.items():
        found, path = sadi(world, conflicts(2), sites, 3), tmp_path / f"{kind}.safetensors"
        found.save(path)
        again = st.load_intervention(path, model=world)
        assert elements(again) == elements(found)
        assert again.origin == found.origin


def test_every_element_can_be_chosen(world):
    assert len(sadi(world, conflicts(2), HEADS, 20).terms) == 20
    (term,) = sadi(world, conflicts(2), ["blocks.2.hook_resid_post"], 128).terms
    assert torch.equal(term.edit.read, torch.eye(128))


def test_bad_input_is_named(world):
    pairs, heads = conflicts(2), HEADS[:4]
    for k in (0, -1, 5):
        with pytest.raises(ValueError, match=rf"k is from 1 to 4.*got {k}"):
            sadi(world, pairs, heads, k)
    with pytest.raises(ValueError, match="k is from 1 to 256"):
        sadi(world, pairs, HIDDEN[:2], 257)
    with pytest.raises(ValueError, match="at least one prompt"):
        sadi(world, [], heads, 1)
    with pytest.raises(ValueError, match="no sites"):
        sadi(world, pairs, [], 1)
    for mixed in ([*heads, st.mlp_out(0)], [st.resid(1), st.mlp_post(1)],
                  [st.head(0, 0), st.Site("head", 1)]):  # fmt: skip
        with pytest.raises(ValueError, match=r"elements of one kind.*got"):
            sadi(world, pairs, mixed, 1)
    with pytest.raises(ValueError, match=r"by is one of.*got 'norm'"):
        sadi(world, pairs, heads, 1, by="norm")
    with pytest.raises(ValueError, match="resid_mid cannot be steered"):
        sadi(world, pairs, [st.Site("resid_mid", 0)], 1)


def test_an_answer_that_runs_into_its_prompt_is_named(models):
    qwen2 = models("qwen2")
    # Bytes: the space at the end belongs to a word that follows without one of its own.
    glued = st.world.Choice("tell me about the ", "dog", " cat", chat=False)
    for pair in (glued, replace(glued, positive=" cat", negative="dog")):
        with pytest.raises(ValueError, match="run into those of the prompt"):
            sadi(qwen2, [pair], [st.mlp_out(0)], 1)
    assert sadi(qwen2, [replace(glued, positive=" dog")], [st.mlp_out(0)], 1).terms
