"""The proximal step of a norm: its formula, its optimality, and numbers far from 1."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize

from steerlib.core import proximal
from steerlib.core.proximal import shrink_groups


def draw(rows, d, spread=0.5, seed=0):
    """Rows z and step sizes, float64; a step varies by factors of 10 ** spread."""
    random = torch.Generator().manual_seed(seed)
    z, step = torch.randn(2, rows, d, generator=random, dtype=torch.float64)
    return z, 10 ** (spread * step)


def border(z, step):
    """The penalty from which on each row is zero."""
    return (z / step).norm(dim=-1)


def objective(x, z, step, penalty):
    return penalty * np.linalg.norm(x) + ((x - z) ** 2 / (2 * step)).sum()


def test_a_row_of_one_number_is_thresholded_softly():
    z = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.25, 2.0])[:, None]
    step = torch.tensor([0.5, 0.5, 1.0, 1.0, 0.25, 2.0])[:, None]
    expected = torch.tensor([-2.0, 0.0, 0.0, 0.0, 0.0, 0.0])[:, None]
    assert torch.equal(shrink_groups(z, step, 2.0), expected)
    found = shrink_groups(z, step, 0.5)
    assert torch.equal(found, z.sign() * (z.abs() - 0.5 * step).clamp_min(0))
    assert found[-1] == 1.0


def test_one_number_and_a_row_padded_with_zeros_agree():
    z, step = draw(20, 1)
    wide = torch.cat([z, torch.zeros_like(z)], 1)
    for penalty in (0.1, 0.5, 2.0):
        found = shrink_groups(wide, step.expand(-1, 2), penalty)
        assert torch.allclose(found[:, :1], shrink_groups(z, step, penalty), atol=1e-14)
        assert not found[:, 1].any()


def test_even_steps_shrink_the_length_and_keep_the_direction():
    z, _ = draw(20, 7)
    norm = z.norm(dim=-1, keepdim=True)
    expected = z * (1 - 0.5 * 3 / norm).clamp_min(0)
    assert torch.allclose(shrink_groups(z, torch.full_like(z, 0.5), 3.0), expected, atol=1e-14)
    assert (norm < 1.5).any()
    assert (norm > 1.5).any()


@pytest.mark.parametrize("d", [2, 5, 33])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_the_conditions_of_a_minimum_hold(d, spread):
    z, step = draw(200, d, spread)
    penalty = border(z, step).median().item()
    x = shrink_groups(z, step, penalty)
    pull = (z - x) / step  # minus the slope of the quadratic part
    is_zero = ~x.any(-1)
    assert 60 < is_zero.sum() < 140
    assert (pull[is_zero].norm(dim=-1) <= penalty).all()
    wanted = penalty * x / x.norm(dim=-1, keepdim=True)
    assert torch.allclose(pull[~is_zero], wanted[~is_zero], rtol=1e-9, atol=1e-9 * penalty)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_an_optimizer_finds_no_lower_point(d):
    z, step = draw(12, d, seed=d)
    ends = border(z, step)
    for number, share in enumerate([0.02, 0.3, 0.7, 0.95] * 3):
        penalty = share * ends[number].item()
        row, s = z[number].numpy(), step[number].numpy()
        x = shrink_groups(z[number], step[number], penalty).numpy()
        best = minimize(objective, 0.5 * row, (row, s, penalty), tol=1e-12)
        assert objective(x, row, s, penalty) <= best.fun + 1e-12
        # The solver takes slopes by differences: its point is less exact than its value.
        assert np.allclose(x, best.x, atol=2e-4)


def test_no_point_nearby_is_lower_where_a_row_is_zero():
    z, step = draw(10, 4)
    penalty = 1.05 * border(z, step).max().item()
    assert not shrink_groups(z, step, penalty).any()
    random = np.random.default_rng(0)
    for row, s in zip(z.numpy(), step.numpy(), strict=True):
        at_zero = objective(np.zeros(4), row, s, penalty)
        for size in (1e-3, 0.1, 1.0):
            tried = size * random.standard_normal((50, 4))
            assert min(objective(x, row, s, penalty) for x in tried) > at_zero


@pytest.mark.parametrize("d", [1, 2, 6])
def test_a_row_is_zero_just_when_the_slope_is_not_above_the_penalty(d):
    z, step = draw(50, d)
    for row, s, end in zip(z, step, border(z, step).tolist(), strict=True):
        assert not shrink_groups(row, s, end * (1 + 1e-9)).any()
        assert shrink_groups(row, s, end * (1 - 1e-6)).all()
    even = torch.tensor([[3.0, 4.0]])  # its length is exactly 5
    assert not shrink_groups(even, torch.ones(1, 2), 5.0).any()
    assert shrink_groups(even, torch.ones(1, 2), 4.99).all()


@pytest.mark.parametrize("d", [1, 5])
def test_no_penalty_is_the_identity(d):
    z, step = draw(6, d)
    assert torch.equal(shrink_groups(z, step, 0.0), z)


@pytest.mark.parametrize("d", [1, 5])
def test_scales(d):
    z, step = draw(40, d)
    penalty = border(z, step).median().item()
    x = shrink_groups(z, step, penalty)
    # Only penalty * step counts; and where z and the steps grow alike, so does x.
    assert torch.allclose(shrink_groups(z, 8 * step, penalty / 8), x)
    assert torch.allclose(shrink_groups(8 * z, 8 * step, penalty), 8 * x)
    assert torch.allclose(shrink_groups(-z, step, penalty), -x)


def test_rows_do_not_see_each_other():
    z, step = draw(24, 5)
    whole = shrink_groups(z.view(2, 3, 4, 5), step.view(2, 3, 4, 5), 1.0)
    assert whole.shape == (2, 3, 4, 5)
    for row, s, found in zip(z, step, whole.view(24, 5), strict=True):
        assert torch.equal(shrink_groups(row, s, 1.0), found)


def test_a_larger_penalty_leaves_less():
    z, step = draw(30, 5)
    lengths = [shrink_groups(z, step, p).norm(dim=-1) for p in (0.0, 0.1, 0.5, 2.0, 10.0)]
    for longer, shorter in pairwise(lengths):
        assert (longer >= shorter).all()


@pytest.mark.parametrize("d", [1, 4])
def test_a_parameter_without_a_gradient_stays_zero(d):
    # Where the gradient was always 0, Adam's step size is lr / eps.
    found = shrink_groups(torch.zeros(3, d), torch.full((3, d), 5e6), 0.05)
    assert torch.equal(found, torch.zeros(3, d))
    z, step = torch.tensor([[0.0, 3.0, 4.0]]), torch.tensor([[5e6, 1.0, 1.0]])
    assert torch.allclose(shrink_groups(z, step, 1.0), torch.tensor([[0.0, 2.4, 3.2]]))


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e2])
def test_a_small_penalty_changes_little(size):
    z = size * torch.tensor([[1.0, -2.0, 3.0]])
    for penalty, step in ((1e-6, 1e-3), (1e-4, 1e-3), (1e-6, 1.0)):
        found = shrink_groups(z, torch.full((1, 3), step), penalty)
        assert torch.allclose(found, z, rtol=1e-2)


@pytest.mark.parametrize(("penalty", "step"), [(1e-9, 1e-3), (1e-12, 1.0), (1e-12, 1e-3)])
def test_a_tiny_penalty_changes_nothing(penalty, step):
    z = 100 * torch.tensor([[1.0, -2.0, 3.0]])
    assert torch.allclose(shrink_groups(z, torch.full((1, 3), step), penalty), z)


@pytest.mark.parametrize("spread", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_root_is_found_for_uneven_steps(spread, dtype):
    z, step = draw(100, 6, spread, seed=4)
    penalty = 0.3 * border(z, step)
    for row, s, p in zip(z.to(dtype), step.to(dtype), penalty.tolist(), strict=True):
        t = root(row.double(), p * s.double())
        expected = row.double() * t / (t + p * s.double())
        found = shrink_groups(row, s, p).double()
        error = (found - expected).norm() / expected.norm()
        assert error < (1e-4 if dtype == torch.float32 else 1e-10)


def root(z, radius):
    """t with sum (z / (t + radius))^2 = 1, by bisection."""

    def gap(t):
        return 1 - (z / (t + radius)).square().sum().rsqrt().item()

    return brentq(gap, 0.0, 1.001 * z.norm().item(), xtol=1e-300, rtol=1e-13)


@pytest.mark.parametrize("spread", [0.5, 2.0, 4.0])
def test_newton_rises_to_the_root_and_never_passes_it(monkeypatch, spread):
    z, step = draw(60, 5, spread, seed=1)
    radius = 0.4 * border(z, step)[:, None] * step
    roots = torch.tensor([[root(a, b)] for a, b in zip(z, radius, strict=True)], dtype=z.dtype)
    before = torch.zeros(60, 1, dtype=torch.float64)
    for steps in range(1, 13):
        monkeypatch.setattr(proximal, "_NEWTON", steps)
        t = proximal._norms(z, radius)
        assert (t >= before * (1 - 1e-12)).all()
        assert (t <= roots * (1 + 1e-9)).all()
        before = t
    assert math.isclose((before / roots).min().item(), 1.0, rel_tol=1e-9)
