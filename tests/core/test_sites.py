"""Sites: their names, what they resolve to, and that both engines mean the same by them."""

import pytest
import torch

import steerlib as st
from steerlib.core.sites import HOOKS, Site, as_site, resolve, width

STEERABLE = [kind for kind in HOOKS if kind != "resid_mid"]
PROMPTS = ["tell me about the dog", "a little girl went to the park and saw a big red ball"]


def _site(kind: str, layer: int = 1) -> Site:
    return Site(kind, layer, 2 if kind == "head" else None)


def test_names_are_those_of_transformer_lens():
    assert st.resid(2).name == "blocks.2.hook_resid_post"
    assert st.attn_out(0).name == "blocks.0.hook_attn_out"
    assert st.head(1, 3).name == "blocks.1.attn.hook_z[3]"


@pytest.mark.parametrize("kind", HOOKS)
def test_a_name_gives_its_site_back(kind):
    assert as_site(_site(kind).name) == _site(kind)


def test_the_bridges_own_alias_is_understood():
    assert st.site("blocks.3.hook_out") == st.resid(3)


@pytest.mark.parametrize("name", ["blocks.1.hook_resid", "blocks.x.hook_resid_post", "ln_final"])
def test_an_unknown_name_is_refused_with_a_close_one(name):
    with pytest.raises(KeyError, match="did you mean 'blocks"):
        st.site(name)


def test_negative_layers_are_refused():
    with pytest.raises(ValueError, match="counted from 0"):
        st.resid(-1)


def test_an_unknown_kind_is_refused():
    with pytest.raises(KeyError, match="unknown kind"):
        Site("residual", 0)


@pytest.mark.parametrize("site", [st.resid(9), st.head(0, 7)])
@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_a_layer_or_head_that_the_model_has_not_is_refused(models, engine, site):
    with pytest.raises(ValueError, match="has 4"):
        resolve(models("gpt2", engine), site)


def test_an_unknown_block_layout_is_refused(gpt2):
    from steerlib.core.sites import _resolve_hf

    with pytest.raises(ValueError, match="layout"):
        _resolve_hf(torch.nn.Linear(2, 2), st.attn_out(0))


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
def test_both_engines_read_the_same(models, name, kind):
    site = _site(kind)
    hf, bridge = (
        st.capture(models(name, engine), PROMPTS, [site], at="prompt")[site]
        for engine in ("hf", "bridge")
    )
    assert hf.shape[1] == width(models(name), site)
    assert (hf - bridge).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", STEERABLE)
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
def test_both_engines_steer_the_same(models, vector, name, kind):
    results, plain = {}, st.logits(models(name), PROMPTS)[:, -1]
    for engine in ("hf", "bridge"):
        model = models(name, engine)
        edit = st.Add(_site(kind), 3 * vector(width(model, _site(kind))))
        with st.steer(model, edit):
            results[engine] = st.logits(model, PROMPTS)[:, -1]
    assert (results["hf"] - results["bridge"]).abs().max() <= 1e-5
    assert (results["hf"] - plain).abs().max() > 1e-3


@pytest.mark.parametrize("kind", STEERABLE)
def test_both_engines_steer_a_real_llama_the_same(stories, stories_bridge, vector, kind):
    edit = st.Add(_site(kind, 2), vector(width(stories, _site(kind))))
    results = []
    for model in (stories, stories_bridge):
        with st.steer(model, edit):
            results.append(st.logits(model, "Once upon a time there was a dog"))
    # The logits are as large as 20, so the difference is taken relative to their size.
    assert (results[0] - results[1]).abs().max() <= 1e-5 * results[0].abs().max()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
def test_the_residual_stream_is_the_sum_of_what_the_branches_write(models, name):
    sites = [
        st.resid_pre(1),
        st.attn_out(1),
        st.mlp_out(1),
        st.resid(1),
        st.site("blocks.1.hook_resid_mid"),
    ]
    pre, attn, mlp, post, mid = st.capture(models(name), PROMPTS, sites, at="prompt").values()
    assert torch.allclose(pre + attn, mid, atol=1e-4)
    assert torch.allclose(mid + mlp, post, atol=1e-4)


def _other_architecture(name):
    import transformers

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    shape |= {"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64}
    config = getattr(transformers, name)(vocab_size=42, pad_token_id=0, bos_token_id=2, **shape)
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return hf


@pytest.mark.parametrize(
    "name", ["MistralConfig", "Qwen3Config", "Gemma3TextConfig", "Olmo2Config"]
)
def test_other_models_of_the_same_layout_work(llama, name):
    model = st.wrap(_other_architecture(name), llama.tokenizer)
    pre, attn, mlp, post = st.capture(
        model, PROMPTS, [st.resid_pre(1), st.attn_out(1), st.mlp_out(1), st.resid(1)], at="prompt"
    ).values()
    assert torch.allclose(pre + attn + mlp, post, atol=1e-5)
    plain = st.logits(model, PROMPTS)
    for kind in STEERABLE:
        edit = st.Add(_site(kind), torch.ones(width(model, _site(kind))))
        with st.steer(model, edit):
            assert not torch.allclose(st.logits(model, PROMPTS), plain, atol=1e-4)


def test_one_head_is_its_part_of_all_heads(gpt2):
    sites = [Site("head", 1), st.head(1, 2)]
    whole, one = st.capture(gpt2, PROMPTS, sites).values()
    assert torch.equal(whole.unflatten(-1, (4, 8))[:, 2], one)
