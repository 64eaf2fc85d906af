"""The unit of strength: the largest token score, never a number that nobody measured."""

import pytest
import torch

import steerlib as st
from steerlib.evaluation.max_activation import max_activation
from tests.planted import SITE, planted_model

ROWS = torch.tensor([[1.0, 0.0, 0.5, 0.0], [3.0, 4.0, 0.0, 0.0], [-2.0, 7.0, 0.0, 1.0]])
W = torch.tensor([1.0, 0.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def planted():
    return planted_model(ROWS)


@pytest.mark.parametrize("pool", ["last", "mean", "max"])
def test_it_is_the_largest_score_of_any_token_whatever_the_pool(planted, pool):
    readout = st.Readout(SITE, W, b=0.5, pool=pool)
    assert max_activation(planted, readout, ["w0 w1 w2 w2", "w0"]) == pytest.approx(3.5)


def test_an_intervention_is_read_by_its_unit_vector(planted):
    assert max_activation(planted, st.Add(SITE, 5 * W), ["w0 w1", "w2"]) == pytest.approx(3.0)


def test_padding_and_bos_do_not_count(model):
    """With a direction along BOS or padding the largest score is still that of a word."""
    long, short = "a happy little girl who went to the park .", "rain"
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    acts = [
        st.capture(model, t, st.resid(1), at="prompt", include_bos=False) for t in (long, short)
    ]
    expected = max(float((a[st.resid(1)] @ direction).max()) for a in acts)
    sign = 1.0 if expected > 0 else -1.0
    if sign < 0:
        direction = -direction
        expected = max(float((a[st.resid(1)] @ direction).max()) for a in acts)
    found = max_activation(model, st.Readout(st.resid(1), direction), [long, short])
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_strength_of_one_in_this_unit_adds_the_largest_projection(planted):
    unit = max_activation(planted, st.Add(SITE, 2 * W), ["w0 w1"])
    step = unit * st.Add(SITE, 2 * W).unit()
    assert torch.allclose(step.direction, 3.0 * W)


@pytest.mark.parametrize(("direction", "largest"), [(-W, "-1"), (0 * W, "0")])
def test_a_largest_score_not_above_zero_is_an_error_and_no_default(planted, direction, largest):
    with pytest.raises(ValueError, match=rf"on 2 texts is -?{largest}; .*above 0"):
        max_activation(planted, st.Readout(SITE, direction), ["w0 w1", "w0"])


def test_missing_texts_or_detectors_and_wrong_widths_are_errors(planted):
    with pytest.raises(ValueError, match="empty"):
        max_activation(planted, st.Readout(SITE, W), [])
    with pytest.raises(TypeError, match="got None"):
        max_activation(planted, None, ["w0"])
    with pytest.raises(ValueError, match=r"reads 3 numbers.* has 4"):
        max_activation(planted, st.Readout(SITE, W[:3]), ["w0"])
