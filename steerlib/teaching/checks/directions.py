"""Checks for the exercises that fit directions: means of a stream, a component, its sign.

Chapter: ``book/directions.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.teaching.checks.common import close, noise, passed, require, tensor

Batch = tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]
Stream = Callable[[Iterable[Batch]], Float[Tensor, "2 d"]]


def _stream(rows: Tensor, labels: Tensor, cuts: list[int]) -> Iterator[Batch]:
    """Batches that share one piece of memory, as a stream of activations may."""
    memory = torch.zeros_like(rows)
    for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        memory[: end - start] = rows[start:end]
        yield memory[: end - start], labels[start:end]


def _class_means(rows: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([rows[~labels].mean(0), rows[labels].mean(0)])


def test_streaming_means(fn: Stream) -> None:
    """``streaming_means(batches)``: row 0 the mean of label False, row 1 that of label True."""
    rows, labels = noise(12, 4) + 1, torch.tensor([True] * 3 + [False, True, False] * 3)
    cuts = [3, 4, 10]  # The first batch has one class only.

    def run() -> Tensor:
        return tensor(fn, _stream(rows, labels, cuts), shape=(2, 4)).float()

    means, expected = run(), _class_means(rows, labels)
    require(
        not means.isnan().any(),
        "the means are nan: a batch may hold one class only, so divide once, at the end.",
    )
    pairs = [(a.clone(), b) for a, b in _stream(rows, labels, cuts)]
    require(
        not close(means, expected.flip(0)), "the rows are swapped: row 1 belongs to label True."
    )
    require(
        not close(means, _class_means(*pairs[-1])),
        "this is the mean of the last batch; the earlier ones are forgotten.",
    )
    per_batch = [
        torch.stack([x[y == side].mean(0) for x, y in pairs if (y == side).any()]).mean(0)
        for side in (False, True)
    ]
    require(
        not close(means, torch.stack(per_batch)),
        "this is the mean of the batches' means; batches differ in size, so count rows.",
    )
    kept = torch.cat([x for x, _ in list(_stream(rows, labels, cuts))])
    require(
        not close(means, _class_means(kept, labels)),
        "the batches were kept, and their memory is used again: add each one up as it comes.",
    )
    require(
        not close(means, _class_means(rows[:-2], labels[:-2])) and not _forgets(means, pairs),
        "a batch is missing: the first or the last one was not added.",
    )
    require(close(means, expected), "these are not the means of the two classes.")
    _require_no_drift(fn)
    passed("streaming_means")


def _forgets(means: Tensor, pairs: list[Batch]) -> bool:
    for skipped in (pairs[1:], pairs[:-1]):
        rows = torch.cat([x for x, _ in skipped])
        if close(means, _class_means(rows, torch.cat([y for _, y in skipped]))):
            return True
    return False


def _require_no_drift(fn: Stream) -> None:
    """Sums near 1e8 in steps of 2.6e5: float32 loses the same bit in each step."""
    batch = torch.full((128, 2), 4096.1), torch.arange(128) % 2 == 0
    means = tensor(fn, (batch for _ in range(1000)), shape=(2, 2)).double()
    require(
        bool((means - batch[0][0, 0].double()).abs().max() < 2e-3),
        "the sum drifts over many batches: add up in float64.",
    )


def test_first_component(fn: Callable[[Tensor], Tensor]) -> None:
    """``first_component(rows)``: the direction of largest variance, length 1, any sign."""
    axis, last = torch.linalg.qr(noise(6, 2, seed=1))[0].T
    flat = noise(200, 6, seed=2)
    flat = flat - 0.9 * flat @ last[:, None] * last
    rows = flat + 4 * noise(200, 1, seed=3) * axis
    # The mean is far away, where an uncentered fit would look.
    moved = rows + 30 * noise(6, seed=4)
    before = moved.clone()
    u = tensor(fn, moved, shape=(6,))
    require(close(moved, before), "the rows were changed in place; work on a new tensor.")
    spread = moved - moved.mean(0)
    components = torch.linalg.svd(spread, full_matrices=False)[2]
    unit = u / u.norm()

    def along(v: Tensor) -> bool:
        return bool((unit @ v / v.norm()).abs() > 0.999)

    require(
        not along(torch.linalg.svd(moved, full_matrices=False)[2][0]),
        "this points at the mean of the rows: subtract the mean first.",
    )
    across = moved - moved.mean(1, keepdim=True)
    require(
        not along(torch.linalg.svd(across, full_matrices=False)[2][0]),
        "each row was centered over its own entries; subtract the mean over the rows.",
    )
    require(
        not along(components[-1]),
        "this is the component of the smallest variance; eigh sorts upward, svd downward.",
    )
    require(
        not along(components[:, 0]),
        "this is a column of V transposed; the components are its rows.",
    )
    require(
        not along(torch.linalg.svd(spread / spread.std(0), full_matrices=False)[2][0]),
        "the columns were divided by their standard deviations; only subtract the mean.",
    )
    require(along(components[0]), "another direction has more variance than this one.")
    require(close(u.norm(), torch.tensor(1.0)), "the length is not 1; divide by it.")
    require(
        bool((spread @ u).var() >= (spread @ (axis / axis.norm())).var() * 0.999),
        "another direction has more variance than this one.",
    )
    passed("first_component")


def test_orient(fn: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """``orient(u, rows, labels)``: u with the sign and the length of the difference in means."""
    labels = torch.tensor([True, False, True, True, False, False, False])
    # All rows lie far on one side, so that the sign must come from the difference.
    rows = noise(7, 5) + labels[:, None] * noise(5, seed=1) - 20
    gap = rows[labels].mean(0) - rows[~labels].mean(0)
    u = 3 * (gap / gap.norm() + noise(5, seed=2) / 3)
    require(bool(u @ gap > 0), "the check itself is wrong: please report it.")
    before = u.clone()
    plus = tensor(fn, u, rows, labels, shape=(5,))
    require(close(u, before), "u was changed in place; work on a new tensor.")
    minus = tensor(fn, -u, rows, labels, shape=(5,))
    require(
        not close(plus, gap),
        "this is the difference in means itself; only its sign and length are wanted.",
    )
    require(
        bool((plus @ u).abs() > 0.999 * plus.norm() * u.norm()),
        "the result is not on the line of u; only sign and length may change.",
    )
    require(
        not close(plus, -minus) or bool(plus.norm() == 0),
        "-u came out as the opposite of u: the sign must come from the labels.",
    )
    require(
        bool(plus @ gap > 0),
        "the sign is flipped: label True must lie higher along the result than label False.",
    )
    require(
        not close(plus.norm(), u.norm()),
        "the length is still that of u; make it the length of the difference in means.",
    )
    require(
        not close(plus.norm(), gap.norm() * u.norm()),
        "u was not brought to length 1 before it was multiplied.",
    )
    require(
        not close(plus.norm(), u @ gap / u.norm()),
        "the length is that of the projection; make it the length of the difference in means.",
    )
    require(close(plus.norm(), gap.norm()), "the length is not that of the difference in means.")
    require(close(plus, minus), "u and -u must give the same result.")
    passed("orient")
