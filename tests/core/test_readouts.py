"""Readouts: the score of a text, pooled over its tokens."""

import pytest
import torch

import steerlib as st

TEXTS = ["tell me about the dog", "sun", "a little girl went to the park and saw a ball"]
SITE = st.resid(1)


@pytest.mark.parametrize("pool", ["last", "mean", "max"])
def test_a_score_is_the_pooled_projection_of_each_text(gpt2, vector, pool):
    scores = st.Readout(SITE, vector(), 0.5, pool).score(gpt2, TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        x = st.capture(gpt2, text, [SITE], at="prompt")[SITE] @ vector() + 0.5
        expected = {"last": x[-1], "mean": x.mean(), "max": x.max()}[pool]
        assert score.item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_head_can_be_read(gpt2, vector):
    site = st.head(1, 2)
    score = st.Readout(site, vector(8)).score(gpt2, TEXTS)
    h = st.capture(gpt2, TEXTS, [site])[site]
    assert torch.allclose(score, h @ vector(8), atol=1e-5)


@pytest.mark.parametrize("pool", ["last", "mean", "max"])
@pytest.mark.parametrize("is_above", [True, False])
def test_a_condition_in_steer_decides_as_the_score_says(gpt2, vector, pool, is_above):
    readout = st.Readout(SITE, vector(), 0.0, pool)
    scores = readout.score(gpt2, TEXTS)
    threshold = float(scores.median())
    condition = readout > threshold if is_above else readout < threshold
    plain = st.logits(gpt2, TEXTS, chat=False)[:, -1]
    with st.steer(gpt2, st.Add(st.resid(2), vector(seed=1)).when(condition)):
        gated = st.logits(gpt2, TEXTS, chat=False)[:, -1]
    changed = (gated - plain).abs().amax(-1) > 1e-3
    expected = scores > threshold if is_above else scores < threshold
    assert changed.tolist() == expected.tolist()
    assert changed.sum() == 1


def test_padding_and_bos_are_not_read():
    h = torch.tensor([[[9.0], [9.0], [1.0], [2.0]]])
    mask = torch.tensor([[False, False, True, True]])
    for pool, expected in {"last": 2.0, "mean": 1.5, "max": 2.0}.items():
        assert st.Readout(SITE, torch.ones(1), 0.0, pool).pooled(h, mask).tolist() == [expected]


def test_a_text_without_tokens_is_refused():
    readout = st.Readout(SITE, torch.ones(1))
    with pytest.raises(ValueError, match="at least one token"):
        readout.pooled(torch.ones(1, 2, 1), torch.zeros(1, 2, dtype=torch.bool))


def test_an_unknown_pool_is_refused():
    with pytest.raises(ValueError, match="'first'"):
        st.Readout(SITE, torch.ones(4), 0.0, "first")


def test_a_direction_with_nan_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        st.Readout(SITE, torch.tensor([1.0, float("nan")]))
