"""Controls: random directions of the right length, fits on permuted labels, and asking."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib.evaluation import Arm, controls, random_direction

SITE = st.resid(1)
DATA = SimpleNamespace(
    texts=[f"the {word} dog" for word in "happy sad good bad big little red story".split()],
    labels=[True, False, True, False, True, False, True, False],
)


def ask(prompt):
    return f"{prompt} happy"


class Recorder:
    """A fit that remembers its labels and returns a direction made of them."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, data, site):
        self.calls.append((list(data.texts), list(data.labels), site))
        direction = torch.zeros(model.d_model)
        direction[: len(data.labels)] = torch.tensor(data.labels, dtype=torch.float32)
        return st.Add(site, direction)


@pytest.fixture
def arm(vector):
    intervention = st.Add(SITE, 3 * vector()).at(st.last | st.generation)
    return Arm("happy", intervention, (0.5, 1.0))


def by_name(made):
    return {arm.name: arm for arm in made}


def test_the_controls_are_named_in_order_and_share_the_strengths(gpt2, arm):
    made = controls(gpt2, arm, Recorder(), DATA, ask=ask)
    names = ["nothing", "random 0", "random 1", "shuffled 0", "shuffled 1", "prompt"]
    assert [control.name for control in made] == names
    assert all(control.strengths == arm.strengths for control in made[1:5])
    assert made[0].intervention is made[-1].intervention is None
    assert made[-1].ask("a dog") == "a dog happy"


def test_random_directions_have_the_length_site_and_positions_of_the_arm(gpt2, arm, vector):
    made = by_name(controls(gpt2, arm, Recorder(), DATA, ask=ask, draws=20))
    drawn = [made[f"random {draw}"].intervention for draw in range(20)]
    for control in drawn:
        assert control.direction.norm().item() == pytest.approx(3.0, rel=1e-5)
        assert control.site == SITE
        assert control.terms[0].positions == arm.intervention.terms[0].positions
    units = torch.stack([control.unit().direction for control in drawn])
    cosines = units @ torch.cat([units, vector()[None]]).T
    assert (cosines - torch.eye(20, 21)).abs().mean() < 0.25


@pytest.mark.filterwarnings("ignore:no fit and data")
def test_every_direction_of_an_arm_with_several_is_replaced(gpt2, vector):
    gate = st.Readout(st.resid(0), vector()) > 0
    both = st.Add(SITE, 2 * vector(seed=1)).at(st.last) + st.Add(st.mlp_post(2), torch.ones(128))
    arm = Arm("both", both.when(gate))
    drawn = by_name(controls(gpt2, arm, None, None, ask=ask))["random 0"].intervention
    assert [term.site for term in drawn.terms] == [SITE, st.mlp_post(2)]
    norms = [term.edit.constant.norm().item() for term in drawn.terms]
    assert norms == pytest.approx([2.0, 128**0.5], rel=1e-5)
    assert drawn.terms[0].positions == st.last
    assert all(term.condition is gate for term in drawn.terms)


def test_random_controls_are_those_of_random_direction(gpt2, arm):
    made = by_name(controls(gpt2, arm, Recorder(), DATA, ask=ask, seed=3))
    for draw in (0, 1):
        expected = random_direction(gpt2, SITE, norm=3.0, seed=6 + draw).direction
        assert torch.allclose(made[f"random {draw}"].intervention.direction, expected)


def test_the_shuffled_fit_gets_permuted_labels_and_keeps_its_own_length(gpt2, arm):
    fit = Recorder()
    made = by_name(controls(gpt2, arm, fit, DATA, ask=ask, draws=3))
    assert len(fit.calls) == 3
    for draw, (texts, labels, site) in enumerate(fit.calls):
        assert texts == DATA.texts
        assert labels != DATA.labels
        assert sorted(labels) == sorted(DATA.labels)
        assert site == SITE
        control = made[f"shuffled {draw}"].intervention
        assert control.direction[:8].tolist() == labels
        assert control.direction.norm().item() == pytest.approx(2.0)
        assert control.terms[0].positions == arm.intervention.terms[0].positions
    assert len({tuple(labels) for _, labels, _ in fit.calls}) == 3


def test_the_shuffled_labels_are_those_of_the_world_s_splits(gpt2, arm):
    fit, data = Recorder(), st.world.concept("weather").train
    short = SimpleNamespace(texts=data.texts[:8], labels=data.labels[:8])
    controls(gpt2, arm, fit, short, ask=ask, seed=2)
    expected = st.world.datasets.Split(short.texts, short.labels, data.kinds[:8])
    assert [call[1] for call in fit.calls] == [list(expected.shuffled(k).labels) for k in (4, 5)]


def test_a_seed_repeats_and_others_share_no_draw(gpt2, arm):
    def directions(seed):
        made = controls(gpt2, arm, Recorder(), DATA, ask=ask, seed=seed)
        return {tuple(c.intervention.direction.tolist()) for c in made if c.intervention}

    assert directions(1) == directions(1)
    assert not directions(0) & directions(1)


def test_steered_controls_keep_the_arm_s_own_words(gpt2, vector):
    arm = Arm("both", st.Add(SITE, vector()), ask=lambda prompt: f"the {prompt}")
    made = controls(gpt2, arm, Recorder(), DATA, ask=ask, draws=1)
    assert [control.ask("dog") for control in made] == ["the dog"] * 3 + ["dog happy"]


def test_the_controls_of_an_arm_with_a_model_of_its_own_have_that_model(gpt2, folders, arm):
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(folders["gpt2"]).eval()
    with torch.no_grad():
        hf.transformer.wte.weight.mul_(1.1)
    copy = st.wrap(hf, gpt2.tokenizer)
    made = controls(gpt2, replace(arm, model=copy), Recorder(), DATA, ask=ask, draws=1)
    assert all(control.model is copy for control in made)
    with st.steer(copy, by_name(made)["random 0"].intervention):
        st.logits(copy, "the dog")


def test_leaving_a_control_out_warns(gpt2, arm):
    with pytest.warns(UserWarning, match="prompting is left out"):
        made = controls(gpt2, arm, Recorder(), DATA, ask=None)
    assert "prompt" not in by_name(made)
    with pytest.warns(UserWarning, match="shuffled labels are left out"):
        made = controls(gpt2, arm, None, None, ask=ask)
    assert not any(name.startswith("shuffled") for name in by_name(made))


def test_controls_that_cannot_be_made_are_refused(gpt2, arm, vector):
    with pytest.raises(ValueError, match="'nothing' has no intervention"):
        controls(gpt2, Arm("nothing"), None, None, ask=ask)
    with pytest.raises(ValueError, match="depends on the activation"):
        controls(gpt2, Arm("project", st.Project(SITE, vector())), None, None, ask=ask)
    with pytest.raises(ValueError, match="draws is at least 1, got 0"):
        controls(gpt2, arm, None, None, ask=ask, draws=0)


def test_a_random_direction_has_its_norm_and_seed(gpt2):
    first, again, other = (
        random_direction(gpt2, SITE, norm=3.0, seed=seed).direction for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert abs(torch.nn.functional.cosine_similarity(first, other, dim=0)) < 0.6
    assert first.norm().item() == pytest.approx(3.0, rel=1e-5)
    assert random_direction(gpt2, st.head(1, 2)).direction.shape == (8,)
    assert random_direction(gpt2, SITE, seed=4).origin.seed == 4
