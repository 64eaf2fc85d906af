"""SAEs of others: the same function of raw activations, whoever wrote the file; what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import steerlib as st
from steerlib.methods.sae_files import load_gemma_scope, load_saelens

D, N, HOOK = 6, 10, "blocks.1.hook_resid_pre"
OLDEST = {"d_in": D, "d_sae": N, "hook_point": HOOK, "hook_point_layer": 1, "dtype": "float32"}
OLD = {
    "architecture": "standard", "d_in": D, "d_sae": N, "hook_name": HOOK, "hook_layer": 1,
    "hook_head_index": None, "activation_fn_str": "relu", "activation_fn_kwargs": {},
    "apply_b_dec_to_input": True, "finetuning_scaling_factor": False, "model_name": "gpt2-small",
    "normalize_activations": "none", "model_from_pretrained_kwargs": {}, "dtype": "float32",
}  # fmt: skip
NEW = {
    "architecture": "standard", "d_in": D, "d_sae": N, "apply_b_dec_to_input": True,
    "normalize_activations": "none", "reshape_activations": "none", "dtype": "float32",
    "metadata": {"hook_name": HOOK, "hook_head_index": None, "model_name": "gpt2-small",
                 "sae_lens_version": "6.11.0", "model_from_pretrained_kwargs": {}},
}  # fmt: skip
TOPK = {
    "oldest": OLDEST | {"activation_fn": "topk", "activation_fn_kwargs": {"k": 3}},
    "old": OLD | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}},
    "old topk": OLD
    | {"architecture": "topk", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}},
    "new": NEW | {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": False},
}


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


H = 2 * _random(50, D, seed=9)


def _weights(equal_rows=False):
    """Tensors of an SAE whose rows differ in length, one of them dead, unless they are equal."""
    rows = torch.nn.functional.normalize(_random(N, D, seed=1), dim=1)
    lengths = torch.full((N,), 0.4) if equal_rows else 0.2 + 2 * _random(N, seed=2).abs()
    if not equal_rows:
        lengths[7] = 0
    return {
        "W_enc": _random(D, N, seed=3), "b_enc": 0.5 * _random(N, seed=4),
        "W_dec": lengths[:, None] * rows, "b_dec": _random(D, seed=5),
    }  # fmt: skip


THETA = 0.5 + _random(N, seed=6).abs()


def _folder(path, cfg, weights):
    (path / "cfg.json").write_text(json.dumps(cfg))
    save_file({k: v.contiguous() for k, v in weights.items()}, path / "sae_weights.safetensors")
    return path


def _theirs(h, w, theta=None, k=None, subtract=True, s=1.0, rescale=False):
    """Values and reconstruction as SAELens computes them."""
    norms = w["W_dec"].norm(dim=1)
    x = (s * h - w["b_dec"] * subtract) @ w["W_enc"] + w["b_enc"]
    if rescale:
        x = x * norms
    z = x.relu()
    if theta is not None:
        z = z * (x > theta)
    if k is not None:
        top = torch.topk(x, k)
        z = torch.zeros_like(x).scatter(-1, top.indices, top.values.relu())
    used = torch.where(norms > 0, z / norms, 0) if rescale else z
    return z, (used @ w["W_dec"] + w["b_dec"]) / s


def _same_function(sae, z, rebuilt, lengths):
    """Equal values in units of h, and equal reconstructions."""
    found = sae.encode(H)
    assert torch.allclose(found, z * lengths, atol=1e-4)
    assert torch.allclose(sae.decode(found), rebuilt, atol=1e-4)
    assert 0.05 < (found > 0).float().mean() < 0.8


def _unit(sae):
    norms = sae.decoder.norm(dim=1)
    return torch.allclose(norms[norms > 0], torch.ones(()), atol=1e-5)


# --- SAELens


@pytest.mark.parametrize("cfg", [OLDEST, OLD, NEW], ids=["oldest", "old", "new"])
@pytest.mark.parametrize("subtract", [True, False])
def test_a_standard_sae(tmp_path, cfg, subtract):
    w = _weights()
    cfg = cfg if cfg is OLDEST and subtract else cfg | {"apply_b_dec_to_input": subtract}
    sae = load_saelens(_folder(tmp_path, cfg, w))
    _same_function(sae, *_theirs(H, w, subtract=subtract), w["W_dec"].norm(dim=1))
    assert _unit(sae)
    assert (sae.activation, sae.site, sae.origin) == ("relu", st.resid_pre(1), None)


@pytest.mark.parametrize(
    "cfg",
    [OLD | {"architecture": "jumprelu"}, NEW | {"architecture": "jumprelu"}],
    ids=["old", "new"],
)
def test_a_jumprelu_sae(tmp_path, cfg):
    w, theta = _weights(), THETA.clone()
    theta[3] = -0.5  # the same as 0
    sae = load_saelens(_folder(tmp_path, cfg, w | {"threshold": theta}))
    _same_function(sae, *_theirs(H, w, theta), w["W_dec"].norm(dim=1))
    assert _unit(sae)
    flat = _theirs(H, w)[0]
    assert ((flat > 0) & (sae.encode(H) == 0)).any()


def test_a_jumprelu_sae_that_keeps_the_logarithm_of_its_threshold(tmp_path):
    w = _weights()
    cfg = NEW | {"architecture": "jumprelu"}
    sae = load_saelens(_folder(tmp_path, cfg, w | {"log_threshold": THETA.log()}))
    _same_function(sae, *_theirs(H, w, THETA), w["W_dec"].norm(dim=1))


@pytest.mark.parametrize("cfg", TOPK.values(), ids=TOPK)
def test_a_topk_sae_with_rows_of_one_length(tmp_path, cfg):
    w = _weights(equal_rows=True)
    sae = load_saelens(_folder(tmp_path, cfg, w))
    _same_function(sae, *_theirs(H, w, k=3), 0.4)
    assert _unit(sae)
    assert sae.k == 3


@pytest.mark.parametrize("cfg", TOPK.values(), ids=TOPK)
def test_a_topk_sae_that_ranks_its_own_values_keeps_its_rows(tmp_path, cfg):
    w = _weights()
    sae = load_saelens(_folder(tmp_path, cfg, w))
    z, rebuilt = _theirs(H, w, k=3)
    _same_function(sae, z, rebuilt, 1.0)
    assert torch.equal(sae.decoder, w["W_dec"])
    # Ranked by lengths, other latents would have been kept.
    assert not torch.equal(z > 0, _theirs(H, w, k=3, rescale=True)[0] > 0)
    # A value counts in units of ||D_f||.
    (term,) = sae.clamp(2, 3.0).terms
    expected = (3.0 - z[:, 2, None]) * w["W_dec"][2]
    assert torch.allclose(term.edit.delta(H, None), expected, atol=1e-4)
    assert torch.equal(sae.add(2).direction, w["W_dec"][2])


def test_a_topk_sae_that_ranks_lengths_has_rows_of_length_one(tmp_path):
    w, cfg = _weights(), TOPK["new"] | {"rescale_acts_by_decoder_norm": True}
    sae = load_saelens(_folder(tmp_path, cfg, w))
    _same_function(sae, *_theirs(H, w, k=3, rescale=True), 1.0)
    assert _unit(sae)


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka_batchtopk"])
@pytest.mark.parametrize("rescale", [True, False])
def test_a_batchtopk_sae_in_training_has_one_threshold(tmp_path, name, rescale):
    w = _weights()
    cfg = NEW | {"architecture": name, "k": 2.5, "rescale_acts_by_decoder_norm": rescale}
    one = {"topk_threshold": torch.tensor(0.7, dtype=torch.double)}
    sae = load_saelens(_folder(tmp_path, cfg, w | one))
    lengths = 1.0 if rescale else w["W_dec"].norm(dim=1)
    _same_function(sae, *_theirs(H, w, 0.7, rescale=rescale), lengths)
    assert (sae.activation, sae.k) == ("jumprelu", None)


@pytest.mark.parametrize("how", ["expected_average_only_in", True])
@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk", "topk that ranks lengths"])
def test_scaled_activations_are_folded_in(tmp_path, how, kind):
    w, s = _weights(), 1.7
    cfg = NEW | {"architecture": kind.split()[0], "normalize_activations": how, "k": 3}
    cfg["rescale_acts_by_decoder_norm"] = rescale = kind.endswith("lengths")
    theta = THETA if kind == "jumprelu" else None
    folder = _folder(tmp_path, cfg, w | ({"threshold": THETA} if kind == "jumprelu" else {}))
    sae = load_saelens(folder, norm_scaling_factor=s)
    k = 3 if kind.startswith("topk") else None
    z, rebuilt = _theirs(H, w, theta, k, s=s, rescale=rescale)
    lengths = {"topk": 1.0, "topk that ranks lengths": 1 / s}
    _same_function(sae, z, rebuilt, lengths.get(kind, w["W_dec"].norm(dim=1) / s))
    assert _unit(sae) == (kind != "topk")
    already = load_saelens(folder, norm_scaling_factor=1.0)
    plain = _theirs(H, w, theta, k, rescale=rescale)[1]
    assert torch.allclose(already.decode(already.encode(H)), plain, atol=1e-4)


@pytest.mark.parametrize("generation", ["old", "new", "argument"])
def test_centred_activations(tmp_path, generation):
    w, said = _weights(), {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    cfg = OLD | (said if generation == "old" else {})
    if generation == "new":
        cfg = NEW | {"metadata": NEW["metadata"] | said}
    sae = load_saelens(
        _folder(tmp_path, cfg, w), centred=True if generation == "argument" else None
    )
    z, rebuilt = _theirs(H - H.mean(1, keepdim=True), w)
    _same_function(sae, z, rebuilt, w["W_dec"].norm(dim=1))
    assert torch.allclose(sae.encode(H + 5.0), sae.encode(H), atol=1e-4)
    raw = load_saelens(tmp_path, centred=False)
    assert torch.allclose(raw.decode(raw.encode(H)), _theirs(H, w)[1], atol=1e-4)
    inside = load_saelens(tmp_path, site=st.mlp_post(1), centred=None)
    assert torch.allclose(inside.encode(H), raw.encode(H), atol=1e-4)


@pytest.mark.parametrize(
    ("hook", "head", "site"),
    [
        ("blocks.3.hook_resid_post", None, st.resid(3)),
        ("blocks.3.hook_mlp_out", None, st.mlp_out(3)),
        ("blocks.3.attn.hook_z", None, st.site("blocks.3.attn.hook_z")),
        ("blocks.3.attn.hook_z", 2, st.head(3, 2)),
    ],
)
def test_its_site_is_its_hook(tmp_path, hook, head, site):
    where = {"hook_name": hook, "hook_head_index": head}
    for cfg in (OLD | where, NEW | {"metadata": NEW["metadata"] | where}):
        assert load_saelens(_folder(tmp_path, cfg, _weights())).site == site
    assert load_saelens(tmp_path, "blocks.2.hook_resid_post").site == st.resid(2)


def test_a_site_and_an_origin_can_be_given(tmp_path):
    origin = st.Origin("gpt2", "abc", "SAELens")
    cfg = {key: value for key, value in OLD.items() if key != "hook_name"}
    sae = load_saelens(str(_folder(tmp_path, cfg, _weights())), st.resid(0), origin)
    assert (sae.site, sae.origin) == (st.resid(0), origin)
    assert sae.clamp(1, 2.0).origin == origin


def test_half_precision_and_a_factor_of_one_are_read(tmp_path):
    w = {name: tensor.bfloat16() for name, tensor in _weights().items()}
    sae = load_saelens(_folder(tmp_path, OLDEST, w | {"scaling_factor": torch.ones(N)}))
    exact = {name: tensor.float() for name, tensor in w.items()}
    _same_function(sae, *_theirs(H, exact), exact["W_dec"].norm(dim=1))
    assert sae.encoder.dtype == torch.float32


def test_it_steers_and_is_refused_where_it_does_not_fit(world, tmp_path):
    sae = load_saelens(_folder(tmp_path, NEW, _weights()))
    with pytest.raises(ValueError, match="have 128 numbers, the edit has 6"):
        st.steer(world, sae.clamp(2, 1.0))
    w = _weights()
    wide = {
        "W_enc": torch.cat([w["W_enc"], torch.zeros(122, N)]), "b_enc": w["b_enc"],
        "W_dec": torch.cat([w["W_dec"], torch.zeros(N, 122)], 1),
        "b_dec": torch.cat([w["b_dec"], torch.zeros(122)]),
    }  # fmt: skip
    sae = load_saelens(_folder(tmp_path, NEW | {"d_in": 128}, wide))
    prompt, site = "tell me about the dog .", st.resid_pre(1)
    h = st.capture(world, prompt, site)[site]
    with st.steer(world, sae.clamp(2, 3.0)):
        after = st.capture(world, prompt, site)[site]
    row = w["W_dec"][2] / w["W_dec"][2].norm()
    z = _theirs(h, wide)[0][:, 2] * w["W_dec"][2].norm()
    assert torch.allclose((after - h)[:, :D], (3.0 - z)[:, None] * row, atol=1e-4)
    for deep in (st.resid(9), st.head(0, 99)):
        with pytest.raises(ValueError, match=r"has \d+ (layers|heads)"):
            st.steer(world, load_saelens(tmp_path, deep).clamp(2, 3.0))


# --- what is no SAE of ours


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (NEW | {"architecture": "gated"}, "architectures standard, topk, .*got 'gated'"),
        (NEW | {"architecture": "transcoder"}, "got 'transcoder'"),
        (OLD | {"activation_fn_str": "tanh-relu"}, "with relu or topk; got 'standard' with 'tanh"),
        (OLD | {"architecture": "jumprelu", "activation_fn_str": "topk"}, "'jumprelu' with 'topk'"),
        (OLD | {"hook_name_out": "blocks.1.hook_mlp_out"}, "to 'blocks.1.hook_mlp_out'"),
        (NEW | {"normalize_activations": "layer_norm"}, "normalize_activations='layer_norm' divid"),
        (NEW | {"normalize_activations": "constant_norm_rescale"}, "='constant_norm_rescale'"),
        (NEW | {"normalize_activations": "expected_average_only_in"}, "give a positive norm_scal"),
        (OLD | {"normalize_activations": True}, "give a positive norm_scaling_factor="),
        (NEW | {"architecture": "topk"}, "needs a whole number k, got None"),
        (OLD | {"architecture": "topk", "k": "many"}, "needs a whole number k, got 'many'"),
        (NEW | {"architecture": "topk", "k": 11}, "k is for topk, from 1 to 10; got k=11"),
        ({"hook_name": HOOK, "d_in": D}, "needs whole numbers for d_sae"),
        ({"hook_name": HOOK}, "needs whole numbers for d_in, d_sae"),
        (NEW | {"metadata": {}}, "names no hook; give site="),
        (NEW | {"d_in": 7}, r"W_enc is \(6, 10\), needed is \(7, 10\)"),
        (NEW | {"d_sae": 11}, r"W_enc is \(6, 10\), needed is \(6, 11\)"),
        ([1, 2], "no table of settings, got list"),
    ],
)
def test_settings_that_are_not_supported_are_refused(tmp_path, cfg, message):
    with pytest.raises(ValueError, match=message):
        load_saelens(_folder(tmp_path, cfg, _weights()))


@pytest.mark.parametrize("hook", ["hook_embed", "blocks.1.ln2.hook_normalized", "blocks.1"])
def test_a_hook_that_is_no_site_is_refused(tmp_path, hook):
    folder = _folder(tmp_path, OLD | {"hook_name": hook}, _weights())
    with pytest.raises(KeyError, match=f"unknown site '{hook}'; did you mean"):
        load_saelens(folder)
    assert load_saelens(folder, st.resid(1)).site == st.resid(1)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_factor_that_makes_no_sense_is_refused(tmp_path, factor):
    cfg = NEW | {"normalize_activations": "expected_average_only_in"}
    with pytest.raises(ValueError, match="give a positive norm_scaling_factor"):
        load_saelens(_folder(tmp_path, cfg, _weights()), norm_scaling_factor=factor)


def test_a_factor_for_activations_that_are_not_scaled_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"norm_scaling_factor=2\.0 is given, but .* to be 1"):
        load_saelens(_folder(tmp_path, NEW, _weights()), norm_scaling_factor=2.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("W_dec", None, r"sae_weights\.safetensors has no W_dec; it has W_enc, b_dec, b_enc"),
        ("b_dec", None, "has no b_dec"),
        ("W_dec", torch.ones(D, N), r"W_dec is \(6, 10\), needed is \(10, 6\)"),
        ("b_enc", torch.ones(1, N), r"b_enc is \(1, 10\), needed is \(10,\)"),
        ("b_dec", torch.ones(N), r"b_dec is \(10,\), needed is \(6,\)"),
        ("b_enc", torch.full((N,), float("nan")), "bias has values that are not finite"),
        ("scaling_factor", 2 * torch.ones(N), "has a scaling_factor other than 1"),
        ("finetuning_scaling_factor", 2 * torch.ones(N), "has a finetuning_scaling_factor other"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, name, value, message):
    w = {**_weights(), name: value}
    with pytest.raises(ValueError, match=message):
        load_saelens(_folder(tmp_path, NEW, {k: v for k, v in w.items() if v is not None}))


def test_thresholds_that_do_not_fit_are_refused(tmp_path):
    cfg, w = NEW | {"architecture": "jumprelu"}, _weights()
    with pytest.raises(ValueError, match="has no threshold"):
        load_saelens(_folder(tmp_path, cfg, w))
    with pytest.raises(ValueError, match=r"threshold is \(1,\), needed is \(10,\)"):
        load_saelens(_folder(tmp_path, cfg, w | {"threshold": torch.ones(1)}))
    cfg = NEW | {"architecture": "batchtopk"}
    with pytest.raises(ValueError, match="has no topk_threshold"):
        load_saelens(_folder(tmp_path, cfg, w | {"threshold": torch.ones(N)}))


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere.cfg\.json"):
        load_saelens(tmp_path / "nowhere")
    folder = _folder(tmp_path, NEW, _weights())
    weights = folder / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(ValueError, match="no complete safetensors file"):
        load_saelens(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"sae_weights\.safetensors"):
        load_saelens(folder)
    (folder / "cfg.json").write_text('{"d_in": 6,')
    with pytest.raises(ValueError, match=r"cfg\.json is no JSON"):
        load_saelens(folder)


# --- Gemma Scope


def _npz(path, **changes):
    arrays = {name: tensor.numpy() for name, tensor in _weights().items()}
    arrays |= {"threshold": THETA.numpy()} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_gemma_scope_subtracts_nothing_and_has_a_threshold(tmp_path):
    theta = THETA.clone()
    theta[3], theta[4] = -0.5, 0.0
    path, w = _npz(tmp_path / "params.npz", threshold=theta.numpy()), _weights()
    origin = st.Origin("gemma", "abc")
    sae = load_gemma_scope(path, "blocks.20.hook_resid_post", origin)
    x = H @ w["W_enc"] + w["b_enc"]
    z = x * (x > theta) * (x > 0)
    _same_function(sae, z, z @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))
    assert _unit(sae)
    assert (sae.site, sae.activation, sae.origin) == (st.resid(20), "jumprelu", origin)
    assert ((x > 0) & (x < theta)).any()
    assert ((x < 0) & (x > theta)).any()


def test_gemma_scope_of_rows_of_length_one_is_read_as_it_is(tmp_path):
    w = _weights(equal_rows=True)
    w["W_dec"] = w["W_dec"] / 0.4
    changes = {name: tensor.double().numpy() for name, tensor in w.items()}
    sae = load_gemma_scope(_npz(tmp_path / "params.npz", **changes), st.resid(20))
    assert torch.allclose(sae.encoder, w["W_enc"], rtol=1e-5)
    assert torch.allclose(sae.threshold, THETA, rtol=1e-5)
    assert torch.allclose(sae.offset, w["b_dec"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": None}, r"params\.npz has no threshold; it has W_dec, W_enc, b_dec, b_enc"),
        ({"b_enc": None}, "has no b_enc"),
        ({"b_dec": None}, "has no b_dec"),
        ({"W_enc": None}, "has no W_enc"),
        ({"W_enc": np.ones((N, D))}, r"W_enc is \(10, 6\), needed is \(6, 10\)"),
        ({"W_enc": np.ones(D)}, r"W_enc is \(6,\), needed is \(6, 10\)"),
        ({"threshold": np.ones(3)}, r"threshold is \(3,\), needed is \(10,\)"),
        ({"W_dec": np.full((N, D), np.nan)}, "not finite"),
        ({"threshold": np.array([{"a": 1}])}, "no npz file of plain arrays"),
        ({"threshold": np.array(["a"])}, "no npz file of plain arrays"),
    ],
)
def test_an_npz_file_that_does_not_fit_is_refused(tmp_path, changes, message):
    path = _npz(tmp_path / "params.npz", **changes)
    with pytest.raises(ValueError, match=message):
        load_gemma_scope(path, st.resid(20))


def test_nothing_in_a_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    path = _npz(tmp_path / "params.npz", b_enc=np.array([Trap()]))
    with pytest.raises(ValueError, match="no npz file of plain arrays"):
        load_gemma_scope(path, st.resid(20))
    assert not (tmp_path / "ran").exists()


def test_what_is_no_npz_file_is_refused(tmp_path):
    path = tmp_path / "params.npz"
    with pytest.raises(FileNotFoundError, match=r"there is no file .*params\.npz"):
        load_gemma_scope(path, st.resid(20))
    complete = _npz(tmp_path / "complete.npz").read_bytes()
    for content in (b"", b"text", complete[:100], complete[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no npz file of plain arrays"):
            load_gemma_scope(path, st.resid(20))
    torch.save({"W_enc": torch.ones(2, 3)}, path)
    with pytest.raises(ValueError, match=r"no npz file|has no b_enc"):
        load_gemma_scope(path, st.resid(20))
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="no npz file of plain arrays"):
        load_gemma_scope(path, st.resid(20))
    with pytest.raises(KeyError, match="unknown site"):
        load_gemma_scope(_npz(path), "layer_20")
