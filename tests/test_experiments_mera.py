"""The experiments of mera: what is chosen on what, and what the controls leave unchanged."""

import numpy as np
import pandas as pd
import pytest
import torch

import steerlib as st
from experiments import mera, mera_arms, mera_claims
from experiments.mera_data import ALPHAS, SITES, TASKS, Case
from steerlib.statistics import Flips


@pytest.fixture(scope="module")
def gated():
    model = st.load("world", engine="hf")
    problems = st.evaluation.world_problems("verdict", 300)
    return st.gated_probes(model, problems, [SITES[3]])[SITES[3]][0]


def test_splits_share_no_prompt_and_shuffling_keeps_the_labels():
    case = Case("world", "agreement", 1)
    prompts = [{p.prompt for p in part} for part in (case.train, case.selection, case.test)]
    assert [len(part) for part in prompts] == [2000, 1000, 1000]
    assert len(set().union(*prompts)) == 4000
    labels, mixed = [p.label for p in case.train], [p.label for p in case.shuffled]
    assert labels != mixed
    assert sorted(labels) == sorted(mixed)
    assert [p.prompt for p in case.shuffled] == [p.prompt for p in case.train]


def test_a_random_push_has_the_length_the_reading_and_the_gate_of_the_step(gated):
    step = gated.step(0.1).terms[0]
    push = mera_arms._random(gated, torch.Generator().manual_seed(0))(0.1).terms[0]
    assert torch.equal(push.edit.read, step.edit.read)
    assert torch.equal(push.edit.bias, step.edit.bias)
    assert push.edit.write.norm() == pytest.approx(step.edit.write.norm().item(), rel=1e-5)
    cosine = torch.cosine_similarity(push.edit.write, step.edit.write).abs()
    assert cosine < 0.4
    assert push.condition.readout.w.equal(step.condition.readout.w)
    assert push.condition.threshold == step.condition.threshold


def test_random_pushes_differ_between_draws(gated):
    rng = torch.Generator().manual_seed(0)
    first, second = (mera_arms._random(gated, rng)(0.1).terms[0].edit.write for _ in range(2))
    assert not torch.allclose(first, second)


def test_identity_changes_the_step_and_not_the_gate(gated):
    plain = mera_arms._identity(gated)
    assert plain.probe.metric is None
    assert plain.gate is gated.gate
    assert torch.equal(plain.probe.w, gated.probe.w)


def test_levels_rise_and_lie_between_0_and_1():
    assert list(ALPHAS) == sorted(ALPHAS)
    assert ALPHAS[0] > 0
    assert ALPHAS[-1] < 1


def test_answers_of_seeds_are_pooled():
    before, after = "110100", "111001"
    rows = pd.DataFrame(
        {
            "before": [mera_claims.bits(before), mera_claims.bits(before)],
            "after": [mera_claims.bits(after), mera_claims.bits(before)],
        }
    )
    found = mera_claims.pooled(rows)
    expected = Flips.of(mera_claims.bits(before * 2), mera_claims.bits(after + before))
    assert found.estimate == pytest.approx(expected.spi)
    assert found.low <= found.estimate <= found.high


def test_an_arm_that_abstains_counts_as_no_steering():
    shard = {
        "before": "1100",
        "arms": [{"arm": "gated", "abstains": True, "after": "1100", "selected_gain": None,
                  "layers": None}],
    }  # fmt: skip
    rows = mera_claims.outcomes({("world", "spam", "0"): shard})
    assert rows["spi"].tolist() == [0.0]
    assert not rows["steers"].any()


def test_all_tasks_run_on_the_first_model_with_three_seeds_and_the_second_confirms():
    keys = mera.PARTS["table"][1]
    counts = pd.Series([model for model, *_ in keys]).value_counts()
    assert counts.to_dict() == {"world": 3 * len(TASKS), "world-b": 2}


def test_bits_are_the_right_answers():
    correct = np.array([True, False, True])
    assert mera._bits(correct) == "101"
    assert mera_claims.bits("101").tolist() == correct.tolist()
