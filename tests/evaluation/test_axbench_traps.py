"""The traps of AxBench's published code that ours could fall into, each shown not to (A6 of it).

The page `book/axbench.md` lists all of them. What other files prove is named there: hard negatives
(`test_datasets.py`, `test_detection.py`), hooks on tuples and tensors (`core/test_sites.py`),
unreadable ratings (`test_llm_judge.py`), ties (`test_protocol.py`).
"""

import warnings

import pytest
import torch

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.core.responses import encode_response
from steerlib.core.where import Where
from steerlib.methods.reft import LatentMean

SITE = st.resid(2)


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


@pytest.fixture(scope="module")
def talks():
    return st.world.dialogues("weather", 24)


def fits(model, talks):
    """Every way to a direction, quickly."""
    data = st.Dialogues(talks)
    quick = Plan(epochs=1, lr=0.3)
    read = {"diff_means": st.diff_means, "probe": st.probe, "pca": st.pca, "lat": st.lat}
    found = {n: f(model, data, SITE, reduce=None, chat=None) for n, f in read.items()}
    found["supervised"] = st.supervised_vector(model, talks, SITE, plan=quick)
    found["reft_r1"] = st.reft_r1(model, talks, SITE, plan=Plan(epochs=1))
    return found | {"reps": st.reps(model, talks, SITE, plan=quick)}


def test_2_every_vector_reads_positives_above_negatives(world, talks):
    """PCA and LAT have a sign, so that a positive strength steers towards the concept."""
    texts = st.Dialogues(talks)
    h = st.capture(world, texts.texts, SITE, at="prompt", reduce="mean", chat=None)[SITE]
    truth = torch.tensor(texts.labels)
    gap = h[truth].mean(0) - h[~truth].mean(0)
    for name, vector in fits(world, talks).items():
        assert vector.direction @ gap > 0, name


def test_3_a_dialogue_ends_the_same_way_in_training_and_in_use(world, talks):
    """What detectors read is a beginning of what learning reads: no marks of another turn."""
    from steerlib.core.prompts import encode

    talk = talks[0]
    learned = encode_response(world, talk).ids
    read = encode(world, [st.Dialogues([talk]).texts[0]], chat=None)[0]
    prompt = encode(world, [talk.prompt], chat=True)[0]
    assert read == learned or read == learned[:-1]
    assert learned[: len(prompt)] == prompt
    assert read.count(world.bos_id) == learned.count(world.bos_id) == 1


def test_4_fitting_and_scoring_read_the_same_tokens(world, talks):
    """The mean score that DiffMean separates is taken over the tokens that detection pools."""
    data = st.Dialogues(talks)
    vector = st.diff_means(world, data, SITE, chat=None)
    pooled = ev.scored(world, {"v": vector}, data, "mean", chat=None)["v"]
    gap = pooled.scores[pooled.labels].mean() - pooled.scores[~pooled.labels].mean()
    assert gap == pytest.approx(float(vector.direction.norm()), rel=1e-4)


def test_5_the_learned_direction_has_the_length_that_it_says(world, talks):
    vector = st.reft_r1(world, talks, SITE, plan=Plan(epochs=1))
    assert vector.unit().direction.norm().item() == pytest.approx(1, abs=1e-6)


def test_6_padding_cannot_enter_the_largest_latents():
    w = torch.tensor([1.0, 0.0])
    text = torch.tensor([[9.0, 0.0], [1.0, 0.0], [3.0, 0.0]])  # BOS, then two tokens
    padding = torch.full((4, 2), 50.0)

    def mean(h, attention):
        edit, shape = LatentMean(w, 2), (1, len(h))
        where = Where(None, attention, shape, 0, None, None, None, torch.device("cpu"))
        edit.delta(h[None], where)
        return edit.mean.item()

    alone = mean(text[1:], None)
    mask = torch.tensor([[0, 0, 0, 0, 1, 1]])
    assert mean(torch.cat([padding, text[1:]]), mask) == alone == 2


def test_7_parameters_are_float32_whatever_the_model_is(world, talks):
    """A step of 0.01 is below the resolution of bfloat16 at 4, and vanishes there."""
    assert torch.tensor(4.0, dtype=torch.bfloat16) + 0.01 == 4
    hf = st.load("world", engine="hf").module.to(torch.bfloat16)
    half = st.wrap(hf, world.tokenizer)
    vector = st.supervised_vector(half, talks[:6], SITE, plan=Plan(epochs=1, lr=0.01))
    assert vector.direction.dtype == torch.float32
    rounded = vector.direction.to(torch.bfloat16).float()
    assert not torch.equal(rounded, vector.direction)


def test_8_a_missing_or_impossible_unit_is_an_error_and_no_number(world, talks):
    vector = st.diff_means(world, st.Dialogues(talks), SITE, chat=None)
    h = st.capture(world, ["the old table stops ."], SITE, at="prompt")[SITE].mean(0)
    against = st.Add(SITE, -h / h.norm() * 1e3)
    with pytest.raises(ValueError, match="a unit of strength is above 0"):
        ev.max_activation(world, against, ["the old table stops ."])
    with pytest.raises(ValueError, match="list of prompts is empty"):
        ev.max_activation(world, vector, [])


@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_9_the_unit_depends_on_the_direction_and_not_on_its_length(world, talks, factor):
    data = st.Dialogues(talks)
    vector = st.supervised_vector(world, talks, SITE, plan=Plan(epochs=1, lr=0.3))

    def step(v):
        return ev.max_activation(world, v, data.texts, chat=None) * v.unit().direction

    assert torch.allclose(step(factor * vector), step(vector), rtol=1e-4)
    # As published, the step grows with the square of the length.
    published = [
        ev.max_activation(world, v, data.texts, chat=None) * float(v.direction.norm()) * v.direction
        for v in (vector, factor * vector)
    ]
    ratio = published[1].norm() / published[0].norm()
    assert ratio.item() == pytest.approx(factor**2, rel=1e-4)


def test_10_examples_count_whatever_the_size_of_a_batch(world, talks):
    data = st.Dialogues(talks)
    one = st.diff_means(world, data, SITE, chat=None, batch_size=1)
    many = st.diff_means(world, data, SITE, chat=None, batch_size=7)
    assert torch.allclose(one.direction, many.direction, atol=1e-4)


@pytest.mark.parametrize("name", ["reft_r1", "reps"])
def test_12_what_was_not_steered_in_training_is_not_steered_in_use(world, talks, name):
    """BOS: the first activation stays as it is under the vector that learning returns."""
    vector = fits(world, talks)[name]
    read = {"at": st.everywhere, "include_bos": True}
    before = st.capture(world, ["the dog stops ."], SITE, **read)[SITE]
    with st.steer(world, 5 * vector):
        after = st.capture(world, ["the dog stops ."], SITE, **read)[SITE]
    moved = (after - before).norm(dim=-1) > 1e-3
    assert moved.tolist() == [False] + [True] * (len(moved) - 1)


def test_13_the_controls_of_an_arm_are_there_by_default(world, talks):
    data = st.Dialogues(talks)
    arm = ev.Arm("v", st.diff_means(world, data, SITE, chat=None))
    names = [a.name for a in ev.controls(world, arm, st.diff_means, data, ask=str.upper)]
    assert {n.split()[0] for n in names} == {"nothing", "random", "shuffled", "prompt"}


def test_13_learning_twice_from_one_model_gives_the_same_twice(world, talks):
    """No adapter, hook or gradient of one fit is left for the next."""
    before = {n: p.clone() for n, p in world.module.state_dict().items()}
    first = {n: v.direction for n, v in fits(world, talks).items()}
    again = {n: v.direction for n, v in fits(world, talks).items()}
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert all(torch.equal(before[n], p) for n, p in world.module.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in world.module.parameters())


def test_14_a_method_without_a_factor_has_one_strength(world):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ev.Arm("tuned", model=world).strengths == (1.0,)
    with pytest.raises(ValueError, match="cannot have the strengths"):
        ev.Arm("tuned", model=world, strengths=ev.FACTORS)


def test_15_the_end_of_a_response_is_learned(world, talks):
    assert encode_response(world, talks[0]).ids[-1] in world.eos_ids
