"""The detective's exercise is proved both ways, and its step has the mistakes that it should have.

The step stands in the notebook. Each suspicion has a line of evidence here; five are true of the
step as it stands, each can be repaired by itself, and none is true of the repaired step.
"""

import json
import math
from itertools import combinations
from pathlib import Path

import pytest
import torch

from steerlib.teaching.checks import bipo_detective
from tests.teaching.both_ways import both_ways

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "bipo.ipynb"
PLANTED, INNOCENT = bipo_detective.PLANTED, bipo_detective.INNOCENT
WITHOUT_ONE = sorted(PLANTED)[1:]

RIGHT = [
    ("mistakes", lambda: set(PLANTED)),
    ("mistakes", lambda: sorted(PLANTED)),
]
WRONG = [
    ("mistakes", set, r"0 of 5 mistakes are found\. Nobody is accused wrongly"),
    ("mistakes", lambda: set(WITHOUT_ONE), r"4 of 5 mistakes are found\. Nobody"),
    *(
        ("mistakes", lambda name=name: {*WITHOUT_ONE, name}, f"4 of 5 .* '{name}' is innocent: ")
        for name in INNOCENT
    ),
    ("mistakes", lambda: {"mean", "end", "beta"}, "1 of 5 .* 'mean' is innocent: the loss"),
    ("mistakes", lambda: {*PLANTED, "order"}, "6 are accused, and there are 5"),
    ("mistakes", lambda: {*PLANTED, *INNOCENT}, "13 are accused"),
    ("mistakes", lambda: {"sign", "sings"}, "sings: not on the list of suspects"),
    ("mistakes", lambda: None, "returns a set of names"),
    ("mistakes", lambda: "sign", "returns a set of names"),
]

(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_the_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(vars(bipo_detective), ["mistakes"], RIGHT, WRONG)


def test_no_mistake_that_is_still_to_be_found_is_named():
    for named in combinations([*PLANTED, *INNOCENT], 2):
        with pytest.raises(AssertionError) as failure:
            bipo_detective.test_mistakes(lambda named=named: set(named))
        assert not any(f"'{name}'" in str(failure.value) for name in PLANTED)


# --- the step in the notebook

REPAIRS = {
    "sign": ("logsigmoid(beta * delta)", "logsigmoid(sign * beta * delta)"),
    "prompt": ("+ starts - 1\n", "+ starts\n"),
    "end": (" & (ids != END)", ""),
    "reference": (
        "    with torch.no_grad():",
        '    hook["push"] = torch.zeros(6)\n    with torch.no_grad():',
    ),
    "schedule": ("total = EPOCHS * PER_EPOCH", "total = 100 * PER_EPOCH"),
}
V = torch.tensor([0.5, -1.0, 0.3, 0.8, -0.2, 0.4])


@pytest.fixture(scope="module")
def source():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    (found,) = [
        text for text in ("".join(cell["source"]) for cell in cells) if "def released_step" in text
    ]
    return found


def run(source, repaired=()):
    for name in repaired:
        old, new = REPAIRS[name]
        assert source.count(old) == 1, name
        source = source.replace(old, new)
    space = {}
    exec(source, space)
    return space


def scored(space, ids, starts, push):
    space["hook"]["push"] = push
    found = space["score"](ids, starts)
    space["hook"]["push"] = torch.zeros(6)
    return found


def by_hand(space, ids, starts):
    """Mean log p of what `counted` says, token by token."""
    found = []
    for row, mask in zip(ids, space["counted"](ids, starts), strict=True):
        text = [token for token in row.tolist() if token]
        marked = mask[len(row) - len(text) :]
        values = []
        for place in range(1, len(text)):
            h = space["EMBED"][text[:place]].mean(0)
            log_p = (h @ space["UNEMBED"]).log_softmax(0)
            if marked[place]:
                values.append(log_p[text[place]])
        found.append(torch.stack(values).mean())
    return torch.stack(found)


def evidence(space):
    """The suspicions that are true of a step, each by a number."""
    step, batch, rate = space["released_step"], space["BATCH"], space["rate"]
    targets, opposites, starts = batch
    zero, lr = torch.zeros(6), 5e-4

    def gap(push):
        return (scored(space, targets, starts, push) - scored(space, opposites, starts, push)).sum()

    def padded(ids):
        return torch.cat([torch.zeros(len(ids), 1, dtype=ids.dtype), ids], 1)

    (loss, up), (_, down) = (step(zero, batch, 100, sign) for sign in (1, -1))
    far = step(V, batch, 100, 1)[0]
    mask = space["counted"](targets, starts)
    first = [row.tolist().index(True) for row in mask]
    begin = ((targets == 0).sum(1) + starts).tolist()
    plain = scored(space, targets, starts, zero)
    twice = tuple(torch.cat([part, part]) for part in batch)
    left_on = space["hook"]["push"].abs().sum() > 0
    true = {
        "order": gap(up) <= gap(zero),
        "sign": not torch.allclose(up, down),
        "shift": not torch.allclose(plain, by_hand(space, targets, starts), atol=1e-5),
        "prompt": any(a < b for a, b in zip(first, begin, strict=True)),
        "padding": not torch.allclose(plain, scored(space, padded(targets), starts, zero)),
        "end": not mask[:, -1].all(),
        "reference": math.isclose(far, math.log(2), abs_tol=1e-6),
        "gradient": torch.equal(up, zero),
        "mean": not math.isclose(step(V, twice, 100, 1)[0], far, abs_tol=1e-6),
        "beta": not math.isclose(step(zero, batch, 100, 1, beta=0.7)[0], loss, abs_tol=1e-6),
        "warmup": [rate(0), rate(50), rate(100)] != pytest.approx([0, lr / 2, lr]),
        "schedule": rate(3220) < 0.9 * lr,
        "left_on": bool(left_on),
    }
    assert set(true) == set(PLANTED) | set(INNOCENT)
    return {name for name, is_true in true.items() if is_true}


def test_the_step_has_the_five_mistakes_and_no_other(source):
    assert evidence(run(source)) == PLANTED


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_each_mistake_shows_by_itself(source, name):
    assert evidence(run(source, PLANTED - {name})) == {name}


def test_the_repaired_step_has_none_and_is_that_of_the_exercise_on_the_loss(source):
    space = run(source, PLANTED)
    assert evidence(space) == set()
    assert space["rate"](3220) == pytest.approx(0.909 * 5e-4, rel=1e-3)
    targets, opposites, starts = space["BATCH"]
    both = [
        scored(space, targets, starts, push) - scored(space, opposites, starts, push)
        for push in (V, -V, torch.zeros(6))
    ]
    expected = -torch.nn.functional.logsigmoid(-0.1 * (both[1] - both[2])).mean()
    loss, _ = space["released_step"](V, space["BATCH"], 100, -1)
    assert loss == pytest.approx(expected.item(), abs=1e-6)


def test_in_a_sum_a_token_of_the_prompt_would_not_show(source):
    """As the solution says: it has the same log p in both responses."""
    right, wrong = run(source, PLANTED), run(source, PLANTED - {"prompt"})
    targets, opposites, starts = right["BATCH"]

    def sums(space):
        found = []
        for ids in (targets, opposites):
            count = space["counted"](ids, starts)[:, 1:].sum(1)
            found.append(scored(space, ids, starts, V) * count)
        return found[0] - found[1]

    assert torch.allclose(sums(right), sums(wrong), atol=1e-4)
    assert not torch.allclose(
        scored(right, targets, starts, V) - scored(right, opposites, starts, V),
        scored(wrong, targets, starts, V) - scored(wrong, opposites, starts, V),
        atol=1e-3,
    )
