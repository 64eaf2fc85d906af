"""Latents: how they are read, and the edit that sets some of them, written down a second time."""

from dataclasses import replace

import pytest
import torch

from steerlib.core.latents import Latents, sparse

D, N = 5, 8


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


H = 2 * _random(2, 7, D, seed=9)
KINDS = {
    "relu": (torch.zeros(N), 0),
    "jumprelu": (0.2 + _random(N, seed=4).abs(), 0),
    "topk": (torch.zeros(N), 3),
}


def _edit(kind="relu", index=(), target=(), at_least=(), drop_error=False, gain=1.0):
    theta, k = KINDS[kind]
    return Latents(
        _random(D, N, seed=1), _random(N, seed=2), theta, torch.tensor(k),
        _random(N, D, seed=3), _random(D, seed=5), torch.tensor(index, dtype=torch.long),
        torch.tensor(target, dtype=torch.float32), torch.tensor(at_least, dtype=torch.bool),
        torch.tensor(drop_error), torch.tensor(gain),
    )  # fmt: skip


def _z(edit, h):
    """z of one activation, one latent after the other."""
    x = [float(h @ edit.encoder[:, f] + edit.bias[f]) for f in range(N)]
    z = [v if v > edit.threshold[f] else 0.0 for f, v in enumerate(x)]
    if not edit.k:
        return z
    kept = sorted(range(N), key=lambda f: -z[f])[: int(edit.k)]
    return [v if f in kept else 0.0 for f, v in enumerate(z)]


def _delta(edit, h):
    """gain ((z' - z) D + [dropped] (z D + c - h)), one activation at a time."""
    before = _z(edit, h)
    after = list(before)
    rows = zip(edit.index.tolist(), edit.target.tolist(), edit.at_least.tolist(), strict=True)
    for f, target, at_least in rows:
        after[f] = max(before[f], target) if at_least else target
    change = sum((after[f] - before[f]) * edit.decoder[f] for f in range(N))
    if edit.drop_error:
        rebuilt = sum(before[f] * edit.decoder[f] for f in range(N)) + edit.offset
        change = change + rebuilt - h
    return edit.gain * change


@pytest.mark.parametrize("kind", KINDS)
def test_latents_are_their_formula(kind):
    edit = _edit(kind)
    z = sparse(H @ edit.encoder + edit.bias, *KINDS[kind])
    expected = torch.tensor([[_z(edit, h) for h in text] for text in H])
    assert torch.allclose(z, expected, atol=1e-5)
    assert 0.1 < (z > 0).float().mean() < 0.6


def test_each_kind_keeps_other_latents():
    x = torch.tensor([[3.0, 0.5, -1.0, 2.0, 0.1]])
    none, theta = torch.zeros(5), torch.tensor([4.0, 0.2, 0.0, 2.0, 0.0])
    assert sparse(x, none, 0).tolist() == [pytest.approx([3.0, 0.5, 0.0, 2.0, 0.1])]
    # At its threshold a latent is closed.
    assert sparse(x, theta, 0).tolist() == [pytest.approx([0.0, 0.5, 0.0, 0.0, 0.1])]
    assert sparse(x, none, 2).tolist() == [pytest.approx([3.0, 0.0, 0.0, 2.0, 0.0])]


def test_topk_keeps_no_negative_one_and_exactly_k_of_equal_ones():
    none = torch.zeros(4)
    assert sparse(torch.tensor([1.0, -2.0, -3.0, -4.0]), none, 3).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert (sparse(torch.ones(4), none, 3) > 0).sum() == 3
    assert not sparse(-torch.ones(4), none, 4).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drop_error", [False, True])
def test_the_change_is_its_formula(kind, drop_error):
    edit = _edit(kind, (6, 0, 3), (4.0, 0.5, 0.5), (False, True, False), drop_error, gain=-1.5)
    expected = torch.stack([torch.stack([_delta(edit, h) for h in text]) for text in H])
    assert torch.allclose(edit.delta(H, None), expected, atol=1e-4)
    # A token is changed alike alone and among others.
    assert torch.allclose(edit.delta(H[1:, 2:3], None), expected[1:, 2:3], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_with_nothing_set_only_the_error_can_be_lost(kind):
    edit = _edit(kind)
    assert not edit.delta(H, None).any()
    z = sparse(H @ edit.encoder + edit.bias, *KINDS[kind])
    lost = replace(edit, drop_error=torch.tensor(True)).delta(H, None)
    assert torch.allclose(H + lost, z @ edit.decoder + edit.offset, atol=1e-5)


@pytest.mark.parametrize("drop_error", [False, True])
def test_a_scaled_edit_changes_that_much_more(drop_error):
    edit = _edit("topk", (1, 2), (3.0, 1.0), (True, False), drop_error, gain=0.5)
    assert torch.allclose(edit.scaled(-3).delta(H, None), -3 * edit.delta(H, None), atol=1e-4)
    assert edit.gain == 0.5


def test_it_says_its_width_and_its_tensors():
    edit = _edit("topk", (1,), (3.0,), (True,))
    assert edit.width == D
    again = Latents(**edit.tensors)
    assert torch.equal(again.delta(H, None), edit.delta(H, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": torch.ones(D, N)}, r"the encoder is \(d, n\) and the decoder \(n, d\), got"),
        ({"target": torch.tensor([float("nan")])}, "target has values that are not finite"),
        ({"target": torch.tensor([[1.0]])}, r"target needs 1 dimension\(s\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(_edit("relu", (1,), (3.0,), (False,)), **change)
