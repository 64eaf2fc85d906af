"""Learned methods behind the interface of all fits."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.methods.learned import Dialogues, learned

SITE = st.resid(2)
QUICK = partial(st.supervised_vector, plan=Plan(epochs=5, lr=0.3))


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf"), Dialogues(st.world.dialogues("weather", 24))


def test_a_learned_fit_is_the_method_on_the_same_dialogues(world):
    model, data = world
    ours = learned(QUICK)(model, data, SITE).direction
    assert torch.equal(ours, QUICK(model, data.dialogues, SITE).direction)


def test_all_methods_take_dialogues(world):
    model, data = world
    assert st.diff_means(model, data, SITE).direction.shape == (128,)
    assert len(data.texts) == len(data.labels) == 48


def test_shuffled_labels_reach_the_method(world):
    model, data = world
    seen = []

    def spy(model, talks, site):
        seen.append([talk.label for talk in talks])
        return QUICK(model, talks, site)

    fit = learned(spy)
    arm = ev.Arm("steered", fit(model, data, SITE))
    ev.controls(model, arm, fit, data, ask=ev.world_request("weather"), draws=1)
    assert seen[0] == data.labels
    assert seen[1] != data.labels
    assert sorted(seen[1]) == sorted(seen[0])


def test_recommend_chooses_among_learned_methods_too(world):
    model, data = world
    prompts, held_out = (
        [p.text for p in st.world.instruction_prompts(12, split=split)]
        for split in ("selection", "test")
    )
    reps = partial(st.reps, plan=Plan(epochs=4, lr=0.3))
    r = st.recommend(
        model, data, prompts, ev.world_judge("weather"), ask=ev.world_request("weather"),
        held_out=held_out, sites=[SITE], strengths=(1.0, 1.5), folds=2,
        methods={"diff_means": st.diff_means, "supervised": learned(QUICK), "reps": learned(reps)},
    )  # fmt: skip
    assert set(r.table["method"]) == {"diff_means", "supervised", "reps"}
    assert not r.warning
    assert r.held_out["score"].iloc[0] > 0.8


def test_texts_that_are_no_dialogues_are_refused(world):
    model, _ = world
    plain = SimpleNamespace(texts=["a dog .", "rain ."], labels=[True, False])
    with pytest.raises(ValueError, match="needs chats that end with a response"):
        learned(QUICK)(model, plain, SITE)


def test_a_request_that_is_a_chat_keeps_its_turns():
    asked = [{"role": "system", "content": "a rule"}, {"role": "user", "content": "a dog"}]
    [chat] = Dialogues([SimpleNamespace(prompt=asked, response="rain .", label=True)]).texts
    assert chat == [*asked, {"role": "assistant", "content": "rain ."}]


@pytest.mark.parametrize(
    "learn",
    [
        partial(st.supervised_vector, site=SITE),
        partial(st.reft_r1, site=SITE),
        partial(st.reps, site=SITE),
        partial(st.loreft, sites=SITE),
        st.lora,
        st.full_finetune,
    ],
)
def test_a_checkpoint_of_other_dialogues_is_refused(gpt2, tmp_path, learn):
    def talks(word):
        pairs = ((f"a {word} dog .", True), ("the cat .", False))
        return [SimpleNamespace(prompt="tell me", response=r, label=y) for r, y in pairs]

    plan, path = Plan(epochs=1), str(tmp_path / "fit.safetensors")
    learn(gpt2, talks("happy"), plan=plan, checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another fit"):
        learn(gpt2, talks("sad"), plan=plan, checkpoint=path)
