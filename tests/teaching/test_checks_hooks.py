"""Every exercise of the first chapter is proved both ways: right passes, wrong is named."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from steerlib.teaching import checks


def right_make_hook(direction, strength):
    def hook(module, inputs, output):
        if isinstance(output, tuple):
            return (output[0] + strength * direction, *output[1:])
        return output + strength * direction

    return hook


def hook_that(change: Callable[..., Any]):
    """A wrong hook that still handles tuples, so that only one thing is wrong with it."""

    def make_hook(direction, strength):
        def hook(module, inputs, output):
            if isinstance(output, tuple):
                return (change(output[0], direction, strength), *output[1:])
            return change(output, direction, strength)

        return hook

    return make_hook


def last_only(h, d, s):
    h = h.clone()
    h[:, -1] += s * d
    return h


def drops_tuple(direction, strength):
    return lambda module, inputs, output: (
        (output[0] if isinstance(output, tuple) else output) + strength * direction
    )


def right_means(positive, negative):
    return positive.mean(0) - negative.mean(0)


def unit(v):
    return v / v.norm()


def right_sequential(h, edits):
    for strength, delta in edits:
        h = h + strength * delta(h)
    return h


def simultaneous(h, edits):
    return h + sum((s * d(h) for s, d in edits), torch.zeros_like(h))


def replacing(h, edits):
    for strength, delta in edits:
        h = strength * delta(h)
    return h


def without_strength(h, edits):
    for _, delta in edits:
        h = h + delta(h)
    return h


def in_place(h, edits):
    for strength, delta in edits:
        h += strength * delta(h)
    return h


def right_positions(n_past, n_new, n_prompt):
    return torch.arange(n_past, n_past + n_new) >= n_prompt - 1


def last_index(n_past, n_new, n_prompt):
    mask = torch.zeros(n_new, dtype=torch.bool)
    mask[-1] = True
    return mask


def right_random(direction, seed):
    v = torch.randn(direction.shape, generator=torch.Generator().manual_seed(seed))
    return v / v.norm() * direction.norm()


def uniform(direction, seed):
    v = torch.rand(direction.shape, generator=torch.Generator().manual_seed(seed))
    return v / v.norm() * direction.norm()


RIGHT = {
    "make_hook": right_make_hook,
    "difference_in_means": right_means,
    "sequential": right_sequential,
    "steered_positions": right_positions,
    "random_control": right_random,
}
WRONG = [
    ("make_hook", hook_that(lambda h, d, s: h - s * d), "sign"),
    ("make_hook", hook_that(lambda h, d, s: (s * d).expand_as(h)), "replaces"),
    ("make_hook", hook_that(lambda h, d, s: None if s else h), "expected|return"),
    ("make_hook", hook_that(lambda h, d, s: h), "did not change"),
    ("make_hook", hook_that(last_only), "only some positions"),
    ("make_hook", hook_that(lambda h, d, s: h + s * unit(d)), "normalized"),
    ("make_hook", hook_that(lambda h, d, s: h.add_(s * d)), "in place"),
    ("make_hook", drops_tuple, "tuple"),
    ("make_hook", lambda direction, strength: None, "must return a function"),
    ("difference_in_means", lambda p, n: n.mean(0) - p.mean(0), "sign is flipped"),
    ("difference_in_means", lambda p, n: unit(p.mean(0) - n.mean(0)), "normalized"),
    ("difference_in_means", lambda p, n: p.sum(0) - n.sum(0), "sums"),
    ("difference_in_means", lambda p, n: p.mean(0) - torch.cat([p, n]).mean(0), "all texts"),
    ("difference_in_means", lambda p, n: p.mean(1) - n.mean(1)[0], "shape"),
    ("difference_in_means", lambda p, n: p.mean(0), "swapping"),
    ("sequential", simultaneous, "simultaneous"),
    ("sequential", lambda h, e: right_sequential(h, e[::-1]), "reversed"),
    ("sequential", replacing, "do not replace"),
    ("sequential", without_strength, "strength is not used"),
    ("sequential", in_place, "in place"),
    ("steered_positions", last_index, "index -1"),
    ("steered_positions", lambda p, n, k: torch.arange(p, p + n) >= k, "last prompt token"),
    ("steered_positions", lambda p, n, k: torch.arange(n) >= k - 1, "n_past"),
    ("steered_positions", lambda p, n, k: torch.ones(n, dtype=torch.bool), "all positions"),
    ("steered_positions", lambda p, n, k: right_positions(p, n, k).float(), "dtype"),
    ("random_control", lambda v, s: right_random(unit(v), s), "length is 1"),
    ("random_control", lambda v, s: 2 * right_random(v, s), "length must be"),
    ("random_control", lambda v, s: right_random(v, 0), "two seeds"),
    ("random_control", uniform, "preferred"),
    ("random_control", lambda v, s: v * (1 + 1e-3 * s), "length must be|along the direction"),
    ("random_control", lambda v, s: torch.randn_like(v), "same seed"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_solution_passes(name, capsys):
    getattr(checks, f"test_{name}")(RIGHT[name])
    assert "all checks passed" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "fn", "message"), WRONG)
def test_a_wrong_solution_is_named(name, fn, message):
    with pytest.raises(AssertionError, match=message):
        getattr(checks, f"test_{name}")(fn)


def test_every_exercise_has_three_wrong_solutions():
    assert {n for n in dir(checks.hooks) if n.startswith("test_")} == {f"test_{n}" for n in RIGHT}
    for name in RIGHT:
        assert sum(wrong[0] == name for wrong in WRONG) >= 3, name


def test_the_message_is_shown_without_a_stack_trace():
    with pytest.raises(AssertionError, match="must return a function") as caught:
        checks.test_make_hook(lambda direction, strength: None)
    assert caught.value._render_traceback_() == [f"Not yet: {caught.value}"]
