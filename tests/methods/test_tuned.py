"""Fine-tuned copies: by hand, sharing and leaving alone the model, resumed, saved, steered."""

import math
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.core.responses import encode_response, mean_loss
from steerlib.core.sites import resolve
from steerlib.methods import tuned as home
from steerlib.methods.tuned import full_finetune, lora

TALKS = [
    SimpleNamespace(prompt="a dog", response="happy cat .", label=True),
    SimpleNamespace(prompt="tell me about the bird", response="sun and rain .", label=True),
    SimpleNamespace(prompt="a dog", response="sad rain .", label=False),
] * 2
PROMPT = "tell me about the dog"
SHORT = Plan(epochs=2, batch_size=2, lr=1e-2)
BOTH = pytest.mark.parametrize("tune", [lora, full_finetune])


@pytest.fixture
def states():
    """`states(model)`: all weights and whether they take gradients, to compare later."""
    return lambda model: [(p.clone(), p.requires_grad) for p in model.hf.parameters()]


def same(first, second):
    return all(torch.equal(a, b) and x == y for (a, x), (b, y) in zip(first, second, strict=True))


@BOTH
def test_the_model_does_not_change_and_the_copy_is_frozen(model, tune, states):
    before, modules = states(model), len(list(model.hf.modules()))
    found = tune(model, TALKS, plan=SHORT)
    assert same(states(model), before)
    assert len(list(model.hf.modules())) == modules
    assert all(p.grad is None for p in model.hf.parameters())
    copied = found.model.module
    assert not copied.training
    assert not any(p.requires_grad or p.grad is not None for p in copied.parameters())
    assert not torch.equal(st.logits(found.model, PROMPT), st.logits(model, PROMPT))
    assert found.history.losses[-1] < found.history.losses[0]


@BOTH
def test_a_model_that_takes_gradients_keeps_doing_so(folders, gpt2, tune):
    hf = AutoModelForCausalLM.from_pretrained(folders["gpt2"]).eval()
    tune(st.wrap(hf, gpt2.tokenizer), TALKS, plan=SHORT)
    assert all(p.requires_grad and p.grad is None for p in hf.parameters())


def test_an_adapter_shares_the_weights_and_a_full_copy_does_not(model):
    for tune, shares in ((lora, True), (full_finetune, False)):
        copied = tune(model, TALKS, plan=SHORT).model
        pairs = list(zip(model.blocks.parameters(), base_parameters(copied), strict=True))
        assert all((a.data_ptr() == b.data_ptr()) == shares for a, b in pairs)


def base_parameters(model):
    return [p for name, p in model.blocks.named_parameters() if "lora_" not in name]


def test_an_adapter_is_w_plus_alpha_over_root_r_times_b_a(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as peft's, about GPT-2's transposed matrices
        found = lora(model, TALKS, rank=3, alpha=8.0, layers=[1, 3], plan=SHORT).model
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    for layer in range(4):
        plain, tuned = (resolve(m, st.head(layer, 0)).module for m in (model, found))
        if layer not in (1, 3):
            assert not hasattr(tuned, "lora_A")
            continue
        A, B = tuned.lora_A["default"].weight, tuned.lora_B["default"].weight
        assert A.shape[0] == B.shape[1] == 3
        assert B.abs().max() > 0
        by_hand = plain(x) + 8 / math.sqrt(3) * x @ A.T @ B.T
        assert torch.allclose(tuned(x), by_hand, atol=1e-5)


def test_an_adapter_starts_from_the_model_as_it_is(model):
    found = lora(model, TALKS, plan=Plan(epochs=1, lr=1e-30))
    assert torch.equal(st.logits(found.model, PROMPT), st.logits(model, PROMPT))


def test_a_full_copy_starts_from_the_model_as_it_is(model):
    found = full_finetune(model, TALKS, plan=Plan(epochs=1, lr=1e-30))
    assert torch.equal(st.logits(found.model, PROMPT), st.logits(model, PROMPT))


@BOTH
def test_random_numbers_are_those_of_the_seed_and_nobody_else_s(gpt2, tune):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = tune(gpt2, TALKS, plan=SHORT)
    assert torch.equal(torch.rand(3), expected)
    again = tune(gpt2, TALKS, plan=SHORT)
    assert first.history == again.history
    assert torch.equal(st.logits(first.model, PROMPT), st.logits(again.model, PROMPT))
    other = tune(gpt2, TALKS, plan=Plan(epochs=2, batch_size=2, lr=1e-2, seed=1))
    assert other.history != first.history


def test_dropout_acts_in_learning_only(llama):
    # The small Llama has none of its own. The first loss is that of B = 0, where none can matter.
    with_it, without = (lora(llama, TALKS, dropout=p, plan=SHORT) for p in (0.5, 0.0))
    assert with_it.history.losses[0] == without.history.losses[0]
    assert with_it.history.losses[2] != without.history.losses[2]
    assert torch.equal(st.logits(with_it.model, PROMPT), st.logits(with_it.model, PROMPT))


@BOTH
def test_a_fit_that_was_killed_goes_on_to_the_bit(gpt2, tune, tmp_path, monkeypatch):
    plan, path = Plan(epochs=3, batch_size=2, lr=1e-2), str(tmp_path / "fit.safetensors")
    expected, calls = tune(gpt2, TALKS, plan=plan), []

    def killed(model, encoded, *, trains):
        calls.append(encoded)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return mean_loss(model, encoded, trains=trains)

    with monkeypatch.context() as patch:
        patch.setattr(home, "mean_loss", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(gpt2, TALKS, plan=plan, checkpoint=path)
    found = tune(gpt2, TALKS, plan=plan, checkpoint=path)
    assert found.history == expected.history
    pairs = zip(found.model.hf.parameters(), expected.model.hf.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_adapter_survives_a_folder(gpt2, folders, tmp_path):
    import peft

    found = lora(gpt2, TALKS, plan=SHORT)
    found.model.module.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    base = AutoModelForCausalLM.from_pretrained(folders["gpt2"])
    again = st.wrap(peft.PeftModel.from_pretrained(base, tmp_path).eval(), gpt2.tokenizer)
    assert torch.equal(st.logits(again, PROMPT), st.logits(found.model, PROMPT))
    assert again.revision == found.model.revision


def test_a_full_copy_survives_a_folder(gpt2, tmp_path):
    found = full_finetune(gpt2, TALKS, plan=SHORT)
    found.model.module.save_pretrained(tmp_path)
    again = st.wrap(AutoModelForCausalLM.from_pretrained(tmp_path).eval(), gpt2.tokenizer)
    assert torch.equal(st.logits(again, PROMPT), st.logits(found.model, PROMPT))
    assert again.revision == found.model.revision


@BOTH
def test_a_copy_is_steered_and_refuses_vectors_of_its_model(model, tune, vector):
    found, site = tune(model, TALKS, plan=SHORT), st.resid(1)
    plain = st.capture(found.model, PROMPT, [site])[site]
    with st.steer(found.model, st.Add(site, vector())):
        steered = st.capture(found.model, PROMPT, [site])[site]
    assert torch.allclose(steered, plain + vector(), atol=1e-5)
    foreign = st.Intervention(st.Add(site, vector()).terms, found.origin)
    with pytest.raises(ValueError, match="was made for"):
        st.steer(found.model, foreign)
    wrapped = st.wrap(model.module, model.tokenizer)
    assert len({found.model.revision, model.revision, wrapped.revision}) == 3


@pytest.fixture(scope="module")
def tuned():
    """Both copies of the world's model, learned in a few steps."""
    model, talks = st.load("world", engine="hf"), st.world.dialogues("weather", 24)
    return model, {
        "lora": lora(model, talks, plan=Plan(epochs=7, lr=5e-3)),
        "full": full_finetune(model, talks, plan=Plan(epochs=3, lr=1e-3)),
    }


def test_copies_of_the_world_answer_with_the_concept(tuned):
    model, copies = tuned
    prompts = [p.text for p in st.world.instruction_prompts(12, split="test")]
    arms = [ev.Arm(name, model=copied.model) for name, copied in copies.items()]
    judge = ev.world_judge("weather")
    table = ev.score(model, [ev.Arm("plain"), *arms], prompts, judge, progress=False)
    means = ev.summary(table).set_index("arm")["score"]
    assert means["lora"] > 1.2
    assert means["full"] > 1.2
    assert means["plain"] < 0.5


def test_they_make_unseen_responses_with_the_concept_likelier(tuned):
    model, copies = tuned
    fresh = [d for d in st.world.dialogues("weather", 24, split="test") if d.label]
    encoded = [encode_response(model, talk) for talk in fresh]
    before = mean_loss(model, encoded).item()
    for copied in copies.values():
        assert mean_loss(copied.model, encoded).item() < before - 0.2


def test_a_fit_that_diverges_says_at_which_step(gpt2):
    with pytest.raises(FloatingPointError, match="at step"):
        full_finetune(gpt2, TALKS, plan=Plan(epochs=30, lr=1e30))


@BOTH
def test_models_that_cannot_be_copied_are_refused(models, gpt2, tune, vector):
    with pytest.raises(ValueError, match='engine="hf"'):
        tune(models("gpt2", "bridge"), TALKS)
    with pytest.raises(ValueError, match="has an adapter already"):
        tune(lora(gpt2, TALKS, plan=SHORT).model, TALKS)
    steered = st.steer(gpt2, st.Add(st.resid(1), vector()))
    with steered, pytest.raises(ValueError, match=r"outside of st\.steer"):
        tune(gpt2, TALKS)
    with pytest.raises(ValueError, match="label True; there are none"):
        tune(gpt2, TALKS[2:3])


def test_bad_numbers_are_named(gpt2):
    for rank in (0, 33):
        with pytest.raises(ValueError, match=f"between 1 and 32, got {rank}"):
            lora(gpt2, TALKS, rank=rank)
    with pytest.raises(ValueError, match="has 4 layers"):
        lora(gpt2, TALKS, layers=[9])
    with pytest.raises(ValueError, match="at least one layer"):
        lora(gpt2, TALKS, layers=[])
    with pytest.raises(ValueError, match=r"dropout lies in \[0, 1\), got 1"):
        lora(gpt2, TALKS, dropout=1)


def test_without_peft_it_says_what_to_install(gpt2, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match="pip install peft"):
        lora(gpt2, TALKS)
    assert full_finetune(gpt2, TALKS, plan=SHORT).model.engine == "hf"
