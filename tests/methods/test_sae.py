"""An SAE: its latents, what its edits do to activations and to models, its files, bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import steerlib as st
from steerlib.core.prompts import encode
from tests.methods.sae_cases import (
    ACTIVATIONS,
    activations,
    change,
    inputs,
    latents,
    random_sae,
    whole,
)
from tests.planted import planted_model

H = activations()
SITE = st.resid(2)
PROMPTS = [
    "tell me about the dog .",
    "tell me about the rain and the wind . tell me about the bird .",
]


@pytest.fixture(params=ACTIVATIONS)
def sae(request):
    return random_sae(request.param)


def _often(sae, h=H):
    """The latents that fire for some activations and not for others."""
    share = (latents(sae, h) > 0).float().mean((0, 1))
    return [f for f in range(sae.n) if 0.1 < share[f] < 0.9]


# --- reading


def test_latents_are_their_formula(sae):
    z = sae.encode(H)
    assert torch.allclose(z, latents(sae, H), atol=1e-5)
    assert len(_often(sae)) >= 5
    if sae.activation == "topk":
        assert ((z > 0).sum(-1) == 3).float().mean() > 0.5


def test_the_reconstruction_is_the_sum_of_the_rows_and_the_offset(sae):
    z = sae.encode(H)
    expected = sum(z[..., f, None] * sae.decoder[f] for f in range(sae.n)) + sae.offset
    assert torch.allclose(sae.decode(z), expected, atol=1e-5)


def test_the_thresholds_are_what_tells_a_jumprelu_from_a_relu():
    jump = random_sae("jumprelu")
    flat = replace(jump, activation="relu", threshold=None)
    z, x = jump.encode(H), flat.encode(H)
    closed = (x > 0) & (z == 0)
    assert closed.any()
    assert torch.equal(z[~closed], x[~closed])
    assert (x[closed] <= jump.threshold.expand_as(x)[closed]).all()


def test_sizes(sae):
    assert (sae.d, sae.n) == (6, 10)
    assert torch.equal(sae.floor, torch.zeros(10) if sae.threshold is None else sae.threshold)


# --- edits, as changes of activations


def test_adding_a_feature_does_not_look_at_its_value(sae):
    edit = sae.add(4)
    assert torch.equal(change(edit, H), sae.decoder[4].expand_as(H))
    assert torch.equal((2 * edit).direction, 2 * sae.decoder[4])


def test_a_row_of_another_length_is_added_as_it_is():
    longer = random_sae("topk")
    longer = replace(longer, decoder=3 * longer.decoder)
    assert longer.add(4).direction.norm().item() == pytest.approx(3.0)
    z = latents(longer, H)[..., 4]
    expected = (2.0 - z)[..., None] * longer.decoder[4]
    assert torch.allclose(change(longer.clamp(4, 2.0), H), expected, atol=1e-4)


@pytest.mark.parametrize("target", [0.0, 0.25, 7.0, -2.0])
def test_a_clamp_moves_h_along_the_row_by_what_is_missing(sae, target):
    z = latents(sae, H)
    for f in _often(sae):
        expected = (target - z[..., f])[..., None] * sae.decoder[f]
        assert torch.allclose(change(sae.clamp(f, target), H), expected, atol=1e-4)


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0, 7.0, -2.0])
def test_a_min_clamp_raises_a_feature_and_never_lowers_it(sae, target):
    z = latents(sae, H)
    for f in _often(sae):
        expected = (z[..., f].clamp(min=target) - z[..., f])[..., None] * sae.decoder[f]
        assert torch.allclose(change(sae.min_clamp(f, target), H), expected, atol=1e-4)


@pytest.mark.parametrize("target", [0.25, 1.0, 7.0])
def test_inputs_lie_on_all_sides_of_targets_and_thresholds(target):
    # Else the tests above would say less than they seem to.
    jump = random_sae("jumprelu")
    x, theta = inputs(jump, H), jump.threshold.double()
    low, high = theta.clamp(max=target), theta.clamp(min=target)
    assert (low < high).all()
    for some in (x <= 0, (x > 0) & (x < low), (x > low) & (x < high), x > high):
        assert some.any()


@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
@pytest.mark.parametrize("target", [0.0, 0.25, 1.0, 7.0, -2.0])
def test_the_edit_that_reads_one_row_equals_the_one_that_reads_all(kind, target):
    sae = random_sae(kind)
    for f in range(sae.n):
        for edit, at_least in ((sae.clamp, False), (sae.min_clamp, True)):
            row, full = edit(f, target), whole(sae, f, target, at_least)
            assert isinstance(row.terms[0].edit, st.LowRank)
            assert torch.allclose(change(row, H), change(full, H), atol=1e-4)


def test_a_clamp_to_what_a_feature_is_changes_nothing(sae):
    f = _often(sae)[0]
    for row in H[0]:
        value = sae.encode(row)[f].item()
        assert change(sae.clamp(f, value), row).abs().max() < 1e-5
        assert change(sae.min_clamp(f, value), row).abs().max() < 1e-5


def test_the_full_dictionary_and_the_pruned_one_agree(sae):
    # h' = decode(z with z_f = t) + (h - decode(z)) needs row f only.
    f, t = _often(sae)[1], 4.0
    z = sae.encode(H)
    after = z.clone()
    after[..., f] = t
    expected = sae.decode(after) + (H - sae.decode(z))
    assert torch.allclose(H + change(sae.clamp(f, t), H), expected, atol=1e-4)


def test_addition_and_clamp_differ_by_what_was_there(sae):
    f, t = _often(sae)[2], 4.0
    gap = t * change(sae.add(f), H) - change(sae.clamp(f, t), H)
    expected = sae.encode(H)[..., f, None] * sae.decoder[f]
    assert torch.allclose(gap, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
def test_a_clamped_feature_reads_its_target_only_where_its_rows_match(kind):
    rows = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3))).Q
    theta = torch.full((6,), 0.5) if kind == "jumprelu" else None
    tied = st.SAE(SITE, rows.T, torch.zeros(6), rows, torch.zeros(6), kind, threshold=theta)
    before = tied.encode(H)
    opened = before[..., 2] > 0
    after = tied.encode(H + change(tied.clamp(2, 4.0), H))
    assert torch.allclose(after[..., 2][opened], torch.tensor(4.0), atol=1e-4)
    # What x was below the threshold stays, and z does not show it.
    assert ((after[..., 2][~opened] - 4.0).abs() > 1e-2).any()
    others = [0, 1, 3, 4, 5]
    assert torch.allclose(after[..., others], before[..., others], atol=1e-4)
    loose = replace(tied, encoder=2 * tied.encoder)
    again = loose.encode(H + change(loose.clamp(2, 4.0), H))
    assert not torch.allclose(again[..., 2][opened], torch.tensor(4.0), atol=1e-1)


def test_several_features_are_set_together(sae):
    chosen, targets = _often(sae)[:3], [4.0, 0.0, 1.0]
    z = latents(sae, H)
    for edit, wanted in (
        (sae.clamp, torch.tensor(targets).expand(2, 20, 3)),
        (sae.min_clamp, torch.maximum(z[..., chosen], torch.tensor(targets))),
    ):
        expected = (wanted - z[..., chosen]) @ sae.decoder[chosen]
        assert torch.allclose(change(edit(chosen, targets), H), expected, atol=1e-4)
        one_each = sum((edit(f, t) for f, t in list(zip(chosen, targets, strict=True))[1:]),
                       edit(chosen[0], targets[0]))  # fmt: skip
        assert torch.allclose(change(one_each, H), expected, atol=1e-4)
    same = change(sae.clamp(chosen, 2.0), H)
    assert torch.allclose(same, change(sae.clamp(chosen, [2.0, 2.0, 2.0]), H), atol=1e-6)


def test_a_splice_puts_the_reconstruction_in_the_place_of_h(sae):
    f, z = _often(sae)[0], latents(sae, H)
    rebuilt = z @ sae.decoder + sae.offset
    assert (H - rebuilt).norm(dim=-1).mean() > 0.5
    assert torch.allclose(H + change(sae.splice(), H), rebuilt, atol=1e-4)
    z[..., f] = 4.0
    spliced = H + change(sae.splice(f, 4.0), H)
    assert torch.allclose(spliced, z @ sae.decoder + sae.offset, atol=1e-4)
    # A clamp keeps the error that a splice loses.
    kept = H + change(sae.clamp(f, 4.0), H) - spliced
    assert torch.allclose(kept, H - rebuilt, atol=1e-4)


@pytest.mark.parametrize("factor", [0.5, -2.0, 0.0])
def test_a_multiple_of_an_edit_changes_that_much_more(sae, factor):
    f = _often(sae)[0]
    for edit in (sae.add(f), sae.clamp(f, 3.0), sae.min_clamp(f, 3.0), sae.splice(f, 3.0)):
        assert torch.allclose(change(factor * edit, H), factor * change(edit, H), atol=1e-4)


def test_numbers_may_come_from_numpy_and_torch(sae):
    expected = change(sae.clamp(4, 2.5), H)
    for feature, target in (
        (np.int64(4), np.float32(2.5)),
        (torch.tensor(4), torch.tensor(2.5)),
        (torch.tensor([4]), torch.tensor([2.5])),
        (np.array([4]), np.array([2.5])),
        ((4,), (2.5,)),
        (range(4, 5), 2.5),
    ):
        assert torch.equal(change(sae.clamp(feature, target), H), expected)
    assert torch.equal(sae.add(np.int64(4)).direction, sae.add(4).direction)


# --- edits in a model


def _on(model, kind, site=SITE, seed=0):
    """An SAE with latents that fire for some of the model's tokens."""
    origin = st.Origin(model.id, model.revision, "test")
    made = random_sae(kind, model.d_model, 24, site, origin, seed)
    h = st.capture(model, PROMPTS, [site], at=st.prompt)[site]
    centre = h.mean(0)
    return replace(made, bias=made.bias - centre @ made.encoder, offset=centre)


def _edits(sae, h):
    f, g = _often(sae, h[None])[:2]
    return {
        "add": 3 * sae.add(f),
        "clamp": sae.clamp([f, g], [3.0, 0.0]),
        "min clamp": sae.min_clamp(f, 3.0),
        "splice": sae.splice(),
        "splice and clamp": sae.splice(f, 3.0),
    }


@pytest.fixture(scope="module")
def bridge():
    return st.load("world")


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_model_reads_what_the_formulas_say(world, kind):
    sae = _on(world, kind)
    options = {"at": st.prompt, "include_bos": True}
    h = st.capture(world, PROMPTS, [SITE], **options)[SITE]
    for edit in _edits(sae, h).values():
        with st.steer(world, edit, strength=0.7):
            found = st.capture(world, PROMPTS, [SITE], **options)[SITE]
        assert torch.allclose(found, h + 0.7 * change(edit, h[None])[0], atol=1e-4)
        assert (found - h).norm(dim=-1).mean() > 0.1


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_strength_zero_is_bit_identical(world, kind):
    sae, plain = _on(world, kind), st.logits(world, PROMPTS)
    h = st.capture(world, PROMPTS, [SITE], at=st.prompt)[SITE]
    for name, edit in _edits(sae, h).items():
        with st.steer(world, edit, strength=0.0):
            assert torch.equal(st.logits(world, PROMPTS), plain), name
        with st.steer(world, edit):
            assert not torch.allclose(st.logits(world, PROMPTS), plain, atol=1e-2), name


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_both_engines_agree(world, bridge, kind):
    sae = _on(world, kind)
    h = st.capture(world, PROMPTS, [SITE], at=st.prompt)[SITE]
    for edit in _edits(sae, h).values():
        found = []
        for model in (world, bridge):
            with st.steer(model, edit):
                texts = st.generate(model, PROMPTS, max_new_tokens=6)
                found.append(([st.logits(model, [prompt]) for prompt in PROMPTS], texts))
        (first, texts), (second, others) = found
        for a, b in zip(first, second, strict=True):
            assert torch.allclose(a, b, atol=1e-4)
        assert texts == others


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_a_left_padded_batch_equals_one_by_one(world, kind):
    sae = _on(world, kind)
    h = st.capture(world, PROMPTS, [SITE], at=st.prompt)[SITE]
    for edit in _edits(sae, h).values():
        with st.steer(world, edit):
            both = st.logits(world, PROMPTS)
            alone = [st.logits(world, [prompt])[0] for prompt in PROMPTS]
        for row, expected in zip(both, alone, strict=True):
            assert torch.allclose(row[-len(expected) :], expected, atol=1e-4)


def test_each_sample_can_have_its_own_strength(world):
    edit = _on(world, "topk").clamp(3, 6.0)
    with st.steer(world, edit, strength=torch.tensor([0.0, 2.0])):
        both = st.logits(world, PROMPTS)
    assert torch.allclose(both[0], st.logits(world, PROMPTS)[0], atol=1e-4)
    with st.steer(world, edit, strength=2.0):
        assert torch.allclose(both[1], st.logits(world, PROMPTS)[1], atol=1e-4)


def test_a_clamp_reads_each_generated_token_anew(world):
    sae = _on(world, "topk")
    h = st.capture(world, PROMPTS, [SITE], at=st.prompt)[SITE]
    edit = sae.splice(_often(sae, h[None])[0], 9.0)
    ids = encode(world, PROMPTS[0], chat=False)[0]
    with st.steer(world, edit):
        found = st.generate(world, PROMPTS[0], chat=False, max_new_tokens=6)
        # Without the cache the whole text is read again for each token.
        for _ in range(6):
            output = world.hf(torch.tensor([ids]), use_cache=False)
            ids.append(int(output.logits[0, -1].argmax()))
    text = world.tokenizer.decode(ids, skip_special_tokens=True)
    assert text.endswith(found)
    assert found != st.generate(world, PROMPTS[0], chat=False, max_new_tokens=6)


# --- what it was made for


def test_an_sae_of_another_model_is_refused(world):
    sae = random_sae("topk", 128, 24, origin=st.Origin(world.id, world.revision, "test"))
    other = planted_model(torch.ones(3, 128))
    for edit in (sae.add(3), sae.clamp(3, 1.0), sae.splice()):
        st.steer(world, edit)
        with pytest.raises(ValueError, match=r"was made for world .* not for"):
            st.steer(other, edit)
    anyone = replace(sae, origin=None, site=st.resid(0))
    st.steer(other, anyone.clamp(3, 1.0))


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_sae_that_does_not_fit_the_model_is_refused(world, kind):
    narrow = random_sae(kind, 31, 24)
    for edit in (narrow.add(3), narrow.clamp(3, 1.0), narrow.min_clamp(3, 1.0), narrow.splice()):
        with pytest.raises(ValueError, match=r"blocks\.1\.hook_resid_post have 128 numbers, .* 31"):
            st.steer(world, edit)
    wide = replace(narrow, site=st.mlp_post(1))
    with pytest.raises(ValueError, match=r"mlp\.hook_post have 512 numbers, the edit has 31"):
        st.steer(world, wide.clamp(3, 1.0))
    deep = random_sae(kind, 128, 24, site=st.resid(9))
    with pytest.raises(ValueError, match=r"has . layers .*, got blocks\.9\.hook_resid"):
        st.steer(world, deep.clamp(3, 1.0))


def test_one_of_a_place_that_only_the_mlp_reads_can_be_read_but_not_steered():
    sae = random_sae("relu", site=st.site("blocks.1.hook_resid_mid"))
    assert sae.encode(H).shape == (2, 20, 10)
    for edit in (lambda: sae.add(1), lambda: sae.clamp(1, 2.0), lambda: sae.splice()):
        with pytest.raises(ValueError, match="cannot be steered"):
            edit()


# --- files


def _same(a, b):
    names = ("encoder", "bias", "decoder", "offset")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.parametrize("site", [SITE, st.head(1, 2), st.site("blocks.0.attn.hook_z")])
def test_what_is_saved_comes_back(sae, tmp_path, site):
    before = replace(sae, site=site, origin=st.Origin("world", "abc", "sae topk", 3))
    before.save(tmp_path / "new" / "s.safetensors")
    after = st.load_sae(tmp_path / "new" / "s.safetensors")
    assert _same(before, after)
    assert (after.site, after.activation, after.k) == (site, sae.activation, sae.k)
    assert after.origin == before.origin
    assert torch.equal(after.floor, before.floor)
    assert torch.equal(after.encode(H), before.encode(H))
    assert not list((tmp_path / "new").glob(".*"))


def test_half_of_the_size_keeps_three_digits(sae, tmp_path):
    sae.save(tmp_path / "full.safetensors")
    sae.save(tmp_path / "half.safetensors", half=True)
    full, half = (load_file(tmp_path / f"{name}.safetensors") for name in ("full", "half"))
    assert all(tensor.dtype == torch.float16 for tensor in half.values())
    assert half.keys() == full.keys()
    after = st.load_sae(tmp_path / "half.safetensors")
    assert after.encoder.dtype == torch.float32
    assert after.origin is None
    for name, tensor in full.items():
        assert torch.allclose(getattr(after, name), tensor, rtol=1e-3, atol=1e-6)
    assert torch.allclose(after.decode(after.encode(H)), sae.decode(sae.encode(H)), atol=2e-2)


def test_edits_are_saved_like_any_intervention(world, tmp_path):
    path = tmp_path / "v.safetensors"
    for kind in ACTIVATIONS:
        sae = _on(world, kind)
        h = st.capture(world, PROMPTS, [SITE], at=st.prompt)[SITE]
        f, g = _often(sae, h[None])[:2]
        edits = _edits(sae, h) | {
            "a sum": sae.clamp(f, 3.0) + 0.5 * sae.add(g).at(st.prompt),
            "a multiple": -1.5 * sae.splice(f, 2.0).at(st.last),
        }
        for name, edit in edits.items():
            edit.save(path)
            again = st.load_intervention(path, model=world)
            assert again.origin == edit.origin
            found = []
            for each in (edit, again):
                with st.steer(world, each):
                    found.append(st.logits(world, PROMPTS))
            assert torch.equal(*found), (kind, name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        st.load_sae(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("size", [0, 5, 100, -3])
def test_a_truncated_file_is_refused(sae, tmp_path, size):
    path = tmp_path / "s.safetensors"
    sae.save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="no complete safetensors file"):
        st.load_sae(path)


def test_a_file_of_something_else_is_refused(sae, tmp_path):
    path = tmp_path / "s.safetensors"
    sae.clamp(1, 2.0).save(path)
    with pytest.raises(ValueError, match=r"holds no SAE of steerlib: .*st\.load_saelens"):
        st.load_sae(path)
    sae.save(path)
    with pytest.raises(ValueError, match="not written by steerlib"):
        st.load_intervention(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda about, tensors: about.pop("k"),
        lambda about, tensors: about.update(site="blocks.1.nowhere"),
        lambda about, tensors: about.update(activation="gelu"),
        lambda about, tensors: about.update(origin={"who": 1}),
        lambda about, tensors: tensors.pop("decoder"),
        lambda about, tensors: tensors.update(more=torch.ones(2)),
        lambda about, tensors: tensors.update(bias=torch.ones(2)),
    ],
)
def test_a_damaged_file_is_refused(sae, tmp_path, damage):
    path = tmp_path / "s.safetensors"
    sae.save(path)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    metadata = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
    about, tensors = json.loads(metadata["sae"]), load_file(path)
    damage(about, tensors)
    save_file(tensors, path, metadata | {"sae": json.dumps(about)})
    with pytest.raises(ValueError, match="damaged"):
        st.load_sae(path)


# --- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": torch.ones(10, 6)}, r"encoder \(d, n\), bias \(n,\)"),
        ({"bias": torch.ones(9)}, r"encoder \(d, n\), bias \(n,\).*'bias': \(9,\)"),
        ({"decoder": torch.ones(10, 5)}, r"decoder \(n, d\)"),
        ({"offset": torch.ones(10)}, r"offset \(d,\)"),
        ({"encoder": torch.ones(6)}, r"encoder needs 2 dimension\(s\)"),
        ({"bias": torch.full((10,), float("nan"))}, "bias has values that are not finite"),
        ({"activation": "gelu"}, "relu, jumprelu or topk, got 'gelu'"),
        ({"activation": "jumprelu"}, "threshold belongs to jumprelu"),
        ({"threshold": torch.ones(10)}, "threshold belongs to jumprelu"),
        ({"activation": "topk"}, "k is for topk, from 1 to 10; got k=None"),
        ({"k": 3}, "k is for topk.*got k=3, 'relu'"),
        ({"activation": "topk", "k": 0}, "from 1 to 10; got k=0"),
        ({"activation": "topk", "k": 11}, "from 1 to 10; got k=11"),
        ({"activation": "topk", "k": -1}, "from 1 to 10; got k=-1"),
        ({"activation": "topk", "k": 2.5}, r"from 1 to 10; got k=2\.5"),
        (
            {"activation": "jumprelu", "threshold": torch.ones(9)},
            r"threshold is \(10,\) and at least 0, got the shape \(9,\)",
        ),
        (
            {"activation": "jumprelu", "threshold": torch.arange(10) - 1.0},
            r"at least 0, got the shape \(10,\) and the minimum -1",
        ),
    ],
)
def test_what_is_no_sae_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(random_sae("relu"), **change)


def test_a_site_that_does_not_exist_is_refused():
    with pytest.raises(KeyError, match="did you mean"):
        replace(random_sae("relu"), site="blocks.1.hook_resid")
    assert replace(random_sae("relu"), site="blocks.1.hook_resid_post").site == st.resid(1)


@pytest.mark.parametrize("feature", [-1, 10, [0, 10]])
def test_a_feature_that_does_not_exist_is_refused(sae, feature):
    for edit in (sae.clamp, sae.min_clamp, sae.splice):
        with pytest.raises(ValueError, match="there are the features 0 to 9, got"):
            edit(feature, 1.0)
    if isinstance(feature, int):
        with pytest.raises(ValueError, match="there are the features 0 to 9, got"):
            sae.add(feature)


@pytest.mark.parametrize("feature", ["3", 2.5, None, [1.5]])
def test_a_feature_is_a_whole_number(sae, feature):
    for edit in (lambda f: sae.clamp(f, 1.0), lambda f: sae.splice(f, 1.0), sae.add):
        with pytest.raises(TypeError, match="features are whole numbers, got"):
            edit(feature)


@pytest.mark.parametrize(
    ("feature", "target", "message"),
    [
        ([1, 1], 2.0, "different features and one target each"),
        ([1, 2], [2.0], "different features and one target each"),
        (1, [2.0, 3.0], "different features and one target each"),
        (1, float("nan"), "targets are finite"),
        ([1, 2], [1.0, float("inf")], "targets are finite"),
        ([], [], "no feature is named"),
    ],
)
def test_targets_that_do_not_fit_are_refused(sae, feature, target, message):
    for edit in (sae.clamp, sae.min_clamp):
        with pytest.raises(ValueError, match=message):
            edit(feature, target)
    if feature:
        with pytest.raises(ValueError, match=message):
            sae.splice(feature, target)


@pytest.mark.parametrize("target", ["high", None, [[1.0]]])
def test_a_target_is_a_number(sae, target):
    with pytest.raises((TypeError, ValueError), match="target"):
        sae.clamp(1, target)


def test_it_does_not_change(sae):
    before = sae.encode(H)
    _ = sae.clamp(3, 1.0), 2 * sae.splice(), sae.decode(before)
    assert torch.equal(sae.encode(H), before)
    with pytest.raises(AttributeError):
        sae.k = 2
