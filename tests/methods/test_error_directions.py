"""The contrast of low and high errors, and the error along one direction."""

import math

import numpy as np
import pytest
import torch

import steerlib as st
from tests.methods.mera_cases import read, rows, two_way, words
from tests.planted import SITE, planted_model

N, D = 200, 6
H = rows(N, D)
U = torch.tensor([0.0, 3.0, 0, 4.0, 0, 0])
NOISE = torch.randn(N, generator=torch.Generator().manual_seed(5))
ALONG = (H - H.mean(0)) @ U / 5
Y = 2 * ALONG / ALONG.std() + 0.4 + NOISE
MODEL = planted_model(H)
KNOWN = two_way(Y)
ASKED = words(KNOWN.truth)


def fit(direction, known=KNOWN, **options):
    return st.along(MODEL, ASKED, direction, answers=known, **options)


# --- along


def test_along_is_least_squares_on_one_number():
    found = fit(st.Add(SITE, U))
    k, b = np.polyfit((H @ U / 5).numpy(), Y.numpy(), 1)
    assert torch.allclose(found.w, float(k) * U / 5, rtol=1e-4)
    assert found.b == pytest.approx(b, rel=1e-3)
    assert found.kind == "along"
    assert found.site == SITE
    assert found.origin.revision == MODEL.revision


@pytest.mark.parametrize("factor", [-1, 100, -0.01])
def test_sign_and_length_of_the_direction_do_not_matter(factor):
    found, other = fit(st.Add(SITE, U)), fit(factor * st.Add(SITE, U))
    assert torch.allclose(found.w, other.w, rtol=1e-4)
    assert found.b == pytest.approx(other.b, rel=1e-4)
    assert found.quality.r2 == pytest.approx(other.quality.r2)
    assert found.quality.auroc == other.quality.auroc > 0.8


def test_the_weights_lie_on_the_direction_and_point_to_more_error():
    direction = torch.randn(D, generator=torch.Generator().manual_seed(1))
    for seen in (Y, -Y):
        found = fit(st.Add(SITE, direction), two_way(seen))
        cosine = torch.cosine_similarity(found.w, direction, dim=0)
        assert abs(cosine) == pytest.approx(1, abs=1e-5)
        assert torch.corrcoef(torch.stack([H @ found.w, seen]))[0, 1] > 0


def test_its_quality_is_that_of_problems_apart():
    found = fit(st.Add(SITE, U)).quality
    assert 0.7 < found.r2 < 1 - (NOISE.std() / Y.std()).item() ** 2 + 0.02
    assert found.n == N
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    nothing = fit(st.Add(SITE, U), two_way(Y[order])).quality
    assert abs(nothing.r2) < 0.03
    assert abs(nothing.auroc - 0.5) < 0.1
    again = [fit(st.Add(SITE, U), seed=seed).quality for seed in (0, 1)]
    assert again[0] == found != again[1]


def test_the_step_along_a_direction_meets_its_constraint():
    found = fit(st.Add(SITE, U))
    with st.steer(MODEL, found.step(0.3)):
        moved = read(MODEL, ASKED)
    estimate, border = H @ found.w + found.b, math.log(0.3 / 0.7)
    above = estimate > border
    assert 20 < above.sum() < N - 20
    assert (moved[above] @ found.w + found.b - border).abs().max() < 1e-3
    assert torch.equal(moved[~above], H[~above])
    rest = (moved - H) - ((moved - H) @ U)[:, None] * U / 25
    assert rest.abs().max() < 1e-4


def test_only_one_constant_is_a_direction():
    two = st.Add(SITE, U) + st.Add(st.resid(0), U)
    for wrong in (two, st.Project(SITE, U), st.Scale(SITE, 0.5)):
        with pytest.raises(ValueError, match=r"direction|2 sites"):
            fit(wrong)
    with pytest.raises(ValueError, match="no unit vector"):
        fit(st.Add(SITE, torch.zeros(D)))


def test_a_direction_that_nothing_varies_along_gives_no_step():
    flat = planted_model(H * (torch.arange(D) < 5))
    found = st.along(flat, ASKED, st.Add(SITE, torch.eye(D)[5]), answers=KNOWN)
    assert not found.w.any()
    assert found.b == pytest.approx(Y.mean().item(), abs=1e-4)
    assert found.quality.r2 == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match=r"the along probe at .* has zero weights"):
        found.step(0.5)


def test_along_refuses_what_cannot_be_fitted():
    direction = st.Add(SITE, U)
    with pytest.raises(ValueError, match="the same for all"):
        fit(direction, two_way(torch.ones(N)))
    with pytest.raises(ValueError, match="10 problems, but 8 are"):
        st.along(MODEL, ASKED[:8], direction, answers=KNOWN.of(range(8)))
    with pytest.raises(ValueError, match="the 50 answers are not to these 200"):
        fit(direction, KNOWN.of(range(50)))


def test_along_reads_where_it_is_told_and_asks_the_model_itself(gpt2):
    asked = [
        st.Problem(f"the {w} {v}", label, ("good", "bad"), chat=False)
        for n, w in enumerate("dog cat bird fish rain sun".split())
        for v, label in (("ball", ("good", "bad")[n % 2]), ("park", "good"))
    ]
    direction = st.Add(st.mlp_out(1), torch.ones(32))
    first = st.tokens("the")
    found = st.along(gpt2, asked, direction, st.prompt - st.last - first)
    h = st.capture(gpt2, [p.prompt for p in asked], [st.mlp_out(1)], st.prompt - st.last - first)
    x = h[st.mlp_out(1)].sum(1)
    k = np.polyfit(x.double().numpy(), st.classify(gpt2, asked).log_odds.double().numpy(), 1)[0]
    assert found.w.numpy() == pytest.approx(np.full(32, k), rel=1e-2)
    assert found.positions == st.prompt - st.last - first


# --- contrast


@pytest.mark.parametrize("k", [1, 7, 100])
def test_the_contrast_by_hand(k):
    found = st.contrast(MODEL, ASKED, SITE, k, answers=KNOWN)
    order = sorted(range(N), key=lambda row: Y[row].item())
    expected = H[order[:k]].mean(0) - H[order[-k:]].mean(0)
    assert torch.allclose(found.direction, expected, atol=1e-4)
    assert found.site == SITE
    assert found.terms[0].positions == st.last
    assert found.origin.method == f"contrast of {k}"


def test_the_contrast_points_to_less_error_and_mera_on_top_of_it_does_so_too():
    towards = st.contrast(MODEL, ASKED, SITE, 50, answers=KNOWN)
    assert torch.corrcoef(torch.stack([H @ towards.direction, Y]))[0, 1] < -0.3
    on_top = fit(towards)
    assert torch.cosine_similarity(on_top.w, towards.direction, dim=0) == pytest.approx(-1)
    with st.steer(MODEL, on_top.step(0.2)):
        moved = read(MODEL, ASKED) - H
    assert (moved @ towards.direction).min() >= 0
    assert (moved @ towards.direction).max() > 0


@pytest.mark.parametrize("k", [0, -3, 101])
def test_k_is_at_most_half_of_the_problems(k):
    with pytest.raises(ValueError, match=f"at most half of the 200 problems, got {k}"):
        st.contrast(MODEL, ASKED, SITE, k, answers=KNOWN)
    with pytest.raises(ValueError, match="at most half of the 199"):
        st.contrast(MODEL, ASKED[:-1], SITE)


def test_the_contrast_refuses_answers_to_other_problems():
    with pytest.raises(ValueError, match="not in their order"):
        st.contrast(MODEL, ASKED[::-1], SITE, 5, answers=KNOWN)


def test_the_contrast_acts_where_it_was_read(gpt2):
    asked = [
        st.Problem(f"the {w} {v}", "good", ("good", "bad"), chat=False)
        for w in "dog cat bird fish".split()
        for v in ("ball", "park")
    ]
    at = st.prompt - st.last - st.tokens("the")
    found = st.contrast(gpt2, asked, "blocks.1.hook_resid_post", 2, at)
    assert found.terms[0].positions == at
    y = st.classify(gpt2, asked).log_odds
    h = st.capture(gpt2, [p.prompt for p in asked], [st.resid(1)], at)[st.resid(1)]
    order = y.argsort(stable=True)
    expected = h[order[:2]].mean(0) - h[order[-2:]].mean(0)
    assert torch.allclose(found.direction, expected, atol=1e-5)
