"""Models: loading, wrapping, hashes, and what is refused."""

import copy
import json
import shutil
import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import steerlib as st
from steerlib.core.loading import KNOWN_MODELS, find_folder, folder_hash

PROMPT = "tell me about the dog"


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
def test_sizes_are_read_from_the_model(models, name, engine):
    model = models(name, engine)
    assert (model.n_layers, model.n_heads, model.d_model, model.d_head) == (4, 4, 32, 8)
    assert model.d_mlp == (128 if name == "gpt2" else 48)
    assert (model.n_ctx, model.bos_id, model.eos_ids) == (64, 2, {3})
    assert len(model.blocks) == 4
    assert not any(p.requires_grad for p in model.hf.parameters())
    assert not model.hf.training


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
def test_logits_are_those_of_transformers(models, folders, name):
    own = AutoModelForCausalLM.from_pretrained(folders[name], attn_implementation="eager")
    for engine in ("hf", "bridge"):
        model = models(name, engine)
        text = "tell me about"
        ids = torch.tensor([[2, *model.tokenizer(text, add_special_tokens=False).input_ids]])
        assert torch.allclose(st.logits(model, text, chat=False), own(ids).logits, atol=1e-5)


def test_a_wrapped_model_behaves_as_a_loaded_one(folders, gpt2, vector):
    hf = AutoModelForCausalLM.from_pretrained(folders["gpt2"])
    before = {name: p.clone() for name, p in hf.named_parameters()}
    model = st.wrap(hf.eval(), AutoTokenizer.from_pretrained(folders["gpt2"]))
    for each in (model, gpt2):
        with st.steer(each, st.Add(st.resid(1), vector())):
            each.__dict__["text"] = st.generate(each, PROMPT, max_new_tokens=8)
    assert model.__dict__["text"] == gpt2.__dict__["text"]
    assert all(torch.equal(before[name], p) for name, p in hf.named_parameters())
    assert all(p.requires_grad for p in hf.parameters())
    assert not st.logits(model, PROMPT).requires_grad


def test_a_wrapped_bridge_is_a_bridge(models, folders):
    bridge = models("llama", "bridge").module
    model = st.wrap(bridge, AutoTokenizer.from_pretrained(folders["llama"]))
    assert model.engine == "bridge"
    assert torch.equal(st.logits(model, PROMPT), st.logits(models("llama", "bridge"), PROMPT))
    plain = LlamaForCausalLM.from_pretrained(folders["llama"])
    assert model.revision == st.wrap(plain, model.tokenizer).revision


def test_a_low_rank_adapter_is_steered_with_its_base(folders, vector):
    peft = pytest.importorskip("peft", reason="peft is not installed (the lowest-version check)")
    hf = AutoModelForCausalLM.from_pretrained(folders["llama"])
    config = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(hf, config).eval()
    model = st.wrap(adapted, AutoTokenizer.from_pretrained(folders["llama"]))
    site = st.resid(1)
    plain = st.capture(model, PROMPT, [site])[site]
    with st.steer(model, st.Add(site, vector())):
        assert torch.allclose(st.capture(model, PROMPT, [site])[site], plain + vector(), atol=1e-5)


def test_the_revision_is_a_hash_of_the_content(folders, gpt2, tmp_path):
    copy = shutil.copytree(folders["gpt2"], tmp_path / "copy")
    assert folder_hash(copy) == gpt2.revision
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert folder_hash(copy) != gpt2.revision


def test_the_hash_of_a_wrapped_model_follows_its_weights(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders["llama"])
    hf = AutoModelForCausalLM.from_pretrained(folders["llama"])
    first = st.wrap(hf, tokenizer).revision
    assert (
        st.wrap(AutoModelForCausalLM.from_pretrained(folders["llama"]), tokenizer).revision == first
    )
    with torch.no_grad():
        hf.model.layers[2].mlp.down_proj.weight.add_(0.1)
    assert st.wrap(hf, tokenizer).revision != first


@pytest.mark.parametrize("name", ["wrold", "gpt-2", "no/such-model"])
def test_an_unknown_model_is_refused_with_known_ones(name):
    with pytest.raises(ValueError, match=rf"cannot load a model '{name}'.*Models known to work"):
        st.load(name)


def test_a_near_name_is_offered():
    with pytest.raises(ValueError, match="known to work: world"):
        st.load("worlds")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"without config\.json"):
        st.load(tmp_path)


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="'torch'"):
        st.load("world", engine="torch")


def test_a_quantised_model_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["llama"], tmp_path / "quantised")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is quantised.*float32, bfloat16"):
        st.load(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(folders, dtype):
    hf = AutoModelForCausalLM.from_pretrained(folders["llama"]).requires_grad_(False)
    layer = hf.model.layers[0].mlp.down_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(dtype), requires_grad=False)
    with pytest.raises(ValueError, match="is quantised"):
        st.wrap(hf, None)


def test_only_language_models_are_wrapped():
    with pytest.raises(TypeError, match="Linear"):
        st.wrap(torch.nn.Linear(2, 2), None)


def test_known_models_name_the_memory_they_need():
    assert KNOWN_MODELS["gpt2"].gigabytes == pytest.approx(0.5, abs=0.05)
    for name, known in KNOWN_MODELS.items():
        assert known.gigabytes < 20, name


def test_loading_leaves_progress_bars_as_they_were(folders):
    from transformers.utils import logging

    logging.enable_progress_bar()
    st.load(folders["llama"], engine="hf")
    assert logging.is_progress_bar_enabled()


def test_a_model_is_a_value(gpt2):
    with pytest.raises(AttributeError):
        gpt2.id = "other"


@pytest.mark.parametrize("name", ["world", "world-b"])
def test_the_shipped_models_load(name):
    try:
        find_folder(name)
    except ValueError as error:
        pytest.skip(str(error))
    model = st.load(name, engine="hf")
    assert model.tokenizer.chat_template
    assert st.generate(model, "tell me about the dog .", max_new_tokens=5)


def test_a_model_in_training_mode_is_named_when_it_is_wrapped(gpt2):
    network = copy.deepcopy(gpt2.hf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        st.wrap(network, gpt2.tokenizer)
    with pytest.warns(UserWarning, match=r"training mode.*model\.eval\(\)"):
        st.wrap(network.train(), gpt2.tokenizer)
