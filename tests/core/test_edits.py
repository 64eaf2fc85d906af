"""Each edit's formula, written down a second time on random activations."""

import pytest
import torch
from torch import Tensor

import steerlib as st
from steerlib.core import edits
from steerlib.core.edits import LowRank, Scaling, Vectors

H = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
W, D, B = H[0, 0] * 2, H[1, 1] - 1, 0.3


class _Aligned:
    """Positions of two texts, the first padded by two."""

    index = torch.tensor([[-1, -1, 0, 1, 2], [0, 1, 2, 3, 4]])


def _delta(edit, h=H) -> Tensor:
    return edit.delta(h, _Aligned())


def test_low_rank_is_its_formula():
    read, write, bias = torch.stack([W, D]), torch.stack([D, W]), torch.tensor([B, -B])
    floor = torch.tensor([0.5, -torch.inf])
    x, y = H @ W + B, H @ D - B
    expected = (x * (x > 0.5))[..., None] * D + y[..., None] * W
    assert torch.allclose(_delta(LowRank(read, bias, write, floor)), expected, atol=1e-5)


def test_add_is_the_same_everywhere():
    edit = edits.constant(D)
    assert torch.allclose(_delta(edit), D.expand_as(H))
    assert torch.equal(edit.constant, D)
    assert edit.is_constant


def test_project_leaves_nothing_along_the_direction_and_all_else():
    after = H + _delta(edits.project(W))
    across = D - (D @ W) / (W @ W) * W
    assert (after @ W).abs().max() < 1e-4
    assert torch.allclose(after @ across, H @ across, atol=1e-4)


def test_half_space_moves_only_what_lies_outside_and_just_to_its_border():
    outside = H @ W + B > 0
    after = H + _delta(edits.half_space(W, B))
    assert outside.any()
    assert not outside.all()
    assert torch.equal(after[~outside], H[~outside])
    assert (after[outside] @ W + B).abs().max() < 1e-4
    # The step is the shortest one: it is parallel to w.
    step = (after - H)[outside]
    cosine = torch.nn.functional.cosine_similarity(step, W.expand_as(step), dim=-1)
    assert torch.allclose(cosine, torch.full_like(cosine, -1.0), atol=1e-4)


ROOT = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
METRICS = {
    "none": None,
    "identity": torch.eye(6),
    "scaled": 40.0 * torch.eye(6),
    "full": ROOT @ ROOT.T + 0.1 * torch.eye(6),
    "covariance": torch.cov(H.flatten(0, 1).T),
}


@pytest.mark.parametrize("name", METRICS)
def test_half_space_ends_at_its_border_under_any_metric(name):
    outside, edit = H @ W + B > 0, edits.half_space(W, B, METRICS[name])
    after = H + _delta(edit)
    assert 0 < outside.sum() < outside.numel()
    assert torch.equal(after[~outside], H[~outside])
    assert (after[outside] @ W + B).abs().max() < 1e-4
    assert torch.allclose(after + _delta(edit, after), after, atol=1e-4)  # twice is once
    beyond = after - 0.01 * W  # well inside
    assert not _delta(edit, beyond).any()


@pytest.mark.parametrize("name", METRICS)
def test_no_other_step_into_a_half_space_is_shorter(name):
    metric, outside = METRICS[name], H @ W + B > 0
    inverse = torch.eye(6) if metric is None else torch.linalg.inv(metric.double()).float()
    h, v = H[outside], _delta(edits.half_space(W, B, metric))[outside]

    def length(step):
        return torch.einsum("...i,ij,...j->...", step, inverse, step)

    random = torch.Generator().manual_seed(2)
    for scale in (1e-2, 0.1, 1.0):
        other = v + scale * torch.randn(500, *v.shape, generator=random)
        # Each random step is shifted along w until it is just feasible, or lies deeper already.
        short = ((h + other) @ W + B).clamp_min(0)
        other = other - short[..., None] * W / W.square().sum()
        assert ((h + other) @ W + B).max() < 1e-4
        assert (length(other) >= length(v) * (1 - 1e-4)).all()
    # And the plain step is longer than that of a metric, unless the metric is a number.
    plain = length(_delta(edits.half_space(W, B))[outside])
    assert (plain > 1.01 * length(v)).all().item() is (name in ("full", "covariance"))


def test_a_metric_that_is_a_number_changes_nothing():
    plain = edits.half_space(W, B)
    for size in (1e-3, 1.0, 40.0):
        own = edits.half_space(W, B, size * torch.eye(6))
        for name, tensor in plain.tensors.items():
            assert torch.allclose(own.tensors[name], tensor, rtol=1e-5, atol=1e-7)
    full = edits.half_space(W, B, METRICS["full"])
    assert not torch.allclose(full.write, plain.write, atol=1e-2)
    assert torch.allclose(edits.half_space(W, B, 7 * METRICS["full"]).write, full.write, rtol=1e-4)


@pytest.mark.parametrize("size", [1e-8, 1e-4, 1e4])
def test_a_half_space_does_not_depend_on_the_length_of_w(size):
    expected = _delta(edits.half_space(W, B))
    for metric in (None, torch.eye(6)):
        found = _delta(edits.half_space(size * W, size * B, metric))
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_half_space_needs_a_direction_and_a_positive_metric():
    for metric in (None, torch.eye(6)):
        with pytest.raises(ValueError, match="w is zero: every activation has the same score"):
            edits.half_space(torch.zeros(6), 1.0, metric)
    along = W / W.norm()
    for metric in (-torch.eye(6), torch.zeros(6, 6), -torch.outer(along, along)):
        with pytest.raises(ValueError, match=r"metric must be positive definite, but w \. S w is"):
            edits.half_space(W, B, metric)
    for metric in (torch.eye(5), torch.ones(6, 5), torch.ones(5, 6)):
        with pytest.raises(ValueError, match=r"the metric is \(6, 6\) as w is, got \("):
            edits.half_space(W, B, metric)
    with pytest.raises(ValueError, match=r"metric needs 2 dimension\(s\)"):
        edits.half_space(W, B, torch.ones(6))
    with pytest.raises(ValueError, match="metric has values that are not finite"):
        edits.half_space(W, B, torch.full((6, 6), torch.nan))


def test_a_half_space_that_is_learned_may_start_at_zero():
    w = torch.nn.Parameter(torch.zeros(6))
    (H + _delta(edits.half_space(w, 1.0))).square().sum().backward()
    assert w.grad is not None
    assert w.grad.isfinite().all()
    assert w.grad.any()


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_clamp_equals_editing_the_latent_of_an_sae_and_keeping_its_error(threshold):
    x = H @ W + B
    z = torch.where(x > threshold, x, 0.0)
    expected = (4.0 - z)[..., None] * D
    assert torch.allclose(_delta(edits.clamp(W, B, D, 4.0, threshold)), expected, atol=1e-4)


def test_loreft_is_its_formula():
    rotation = torch.linalg.qr(torch.stack([W, D], 1)).Q.T
    weight, bias = torch.stack([D, W]), torch.tensor([0.1, -0.2])
    expected = (H @ weight.T + bias - H @ rotation.T) @ rotation
    assert torch.allclose(_delta(edits.loreft(rotation, weight, bias)), expected, atol=1e-4)


def test_loreft_needs_orthonormal_rows():
    with pytest.raises(ValueError, match="orthonormal"):
        edits.loreft(torch.stack([W, W]), torch.stack([W, W]), torch.zeros(2))


def test_scale_by_a_number():
    assert torch.allclose(_delta(Scaling(0.5)), 0.5 * H)


def test_scale_by_position_counts_from_the_first_token_of_each_text():
    factor = torch.tensor([1.0, 2.0, 3.0])
    expected = torch.tensor([[0.0, 0, 1, 2, 3], [1, 2, 3, 0, 0]])[..., None] * H
    assert torch.allclose(_delta(Scaling(factor)), expected)


def test_vectors_count_from_the_first_token_of_each_text():
    change, v = _delta(Vectors(torch.stack([W, D, W + D]))), (W, D, W + D)
    none = torch.zeros(6)
    expected = torch.stack([torch.stack([none, none, *v]), torch.stack([*v, none, none])])
    assert torch.equal(change, expected)  # nothing on padding, nothing beyond its end
    longer = _delta(Vectors(torch.randn(9, 6)))
    assert longer.shape == H.shape
    assert not longer[0, :2].any()


def test_vectors_do_not_depend_on_the_activation():
    edit = Vectors(torch.stack([W, D]))
    assert torch.equal(_delta(edit), _delta(edit, 5 * H - 1))
    assert edit.width == 6


def test_one_row_is_a_constant_at_the_first_position():
    change = _delta(Vectors(D[None]))
    assert torch.equal(change[0, 2], D)
    assert torch.equal(change[1, 0], D)
    assert change.any(-1).sum() == 2


def test_a_dynamic_scale_is_bounded():
    read = 100 * D
    change = _delta(Scaling(0.5, read, 0.1))
    factor = 0.5 * torch.tanh(H @ read / H.norm(dim=-1) + 0.1)
    assert torch.allclose(change, factor[..., None] * H, atol=1e-5)
    assert ((change.norm(dim=-1) / H.norm(dim=-1)) <= 0.5 + 1e-6).all()


@pytest.mark.parametrize(
    "edit",
    [
        edits.constant(D),
        edits.project(D),
        edits.half_space(W, B),
        edits.half_space(W, B, METRICS["full"]),
        edits.clamp(W, B, D, 2.0, 0.5),
        Scaling(torch.tensor([1.0, 2.0])),
        Scaling(0.5, W, 0.2),
        Vectors(torch.stack([W, D, W - D])),
    ],
)
def test_a_scaled_edit_changes_that_much_more(edit):
    assert torch.allclose(_delta(edit.scaled(-2.5)), -2.5 * _delta(edit), atol=1e-4)


@pytest.mark.parametrize("value", [[float("nan"), 1.0], [[[1.0, 2.0]]], 3.0, []])
def test_a_direction_is_one_finite_vector(value):
    with pytest.raises(ValueError, match="direction"):
        st.Add(st.resid(0), value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0, float("inf")]] * 2, "vectors has values that are not finite"),
        ([[1.0, 2.0]], r"shape \(1, 2\) would act at position 0 only; give direction\[0\]"),
        (torch.zeros(0, 4), r"vectors needs 2 dimension\(s\), got the shape \(0, 4\)"),
        (torch.zeros(3, 0), r"got the shape \(3, 0\)"),
    ],
)
def test_one_vector_per_position_is_finite_and_not_empty(value, message):
    with pytest.raises(ValueError, match=message):
        st.Add(st.resid(0), value)


@pytest.mark.parametrize("value", [torch.ones(4), torch.ones(2, 3, 4), 1.0])
def test_vectors_are_a_row_per_position(value):
    with pytest.raises(ValueError, match="vectors needs 2"):
        Vectors(value)


def test_directions_without_a_length_are_refused():
    with pytest.raises(ValueError, match="zero"):
        st.Project(st.resid(0), torch.zeros(4))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"'write': \(1, 5\)"):
        LowRank(torch.ones(1, 4), torch.ones(1), torch.ones(1, 5), torch.ones(1))


def test_an_edit_keeps_its_own_copy():
    direction = torch.ones(4)
    edit = edits.constant(direction)
    direction += 1
    assert torch.equal(edit.constant, torch.ones(4))
    rows = torch.ones(2, 4)
    edit = Vectors(rows)
    rows += 1
    assert torch.equal(edit.vectors, torch.ones(2, 4))


def test_parameters_keep_their_gradient():
    direction = torch.nn.Parameter(torch.ones(6))
    (H + _delta(edits.constant(direction))).sum().backward()
    assert direction.grad is not None
    assert torch.allclose(direction.grad, torch.full((6,), 10.0))


def test_vectors_keep_their_gradient_one_row_per_position():
    rows = torch.nn.Parameter(torch.zeros(6, 6))
    (H * _delta(Vectors(rows))).sum().backward()
    assert rows.grad is not None
    expected = torch.cat([H[1], torch.zeros(1, 6)])  # the second text has 5 tokens
    expected[:3] += H[0, 2:]  # the first one 3, after padding
    assert torch.allclose(rows.grad, expected)
