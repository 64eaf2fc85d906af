"""Class means and scatter of rows, summed while the model runs.

Chapter: directions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.core.labelled import Labelled
from steerlib.core.prompts import Prompts
from steerlib.methods.reading import Reading, Rows


@dataclass
class Moments:
    """Number, mean and, if wanted, scatter sum (x - mean)(x - mean)^T of the rows seen so far.

    Two sets of rows join by the update of Chan, Golub and LeVeque (1983), which does not cancel:
    with delta the difference of their means, scatter grows by delta delta^T n m / (n + m).
    """

    d: int
    scattered: bool = False
    n: int = 0
    mean: Float[Tensor, " d"] = field(init=False)
    scatter: Float[Tensor, "d d"] = field(init=False)

    def __post_init__(self) -> None:
        self.mean = torch.zeros(self.d, dtype=torch.float64)
        size = self.d if self.scattered else 0
        self.scatter = torch.zeros(size, size, dtype=torch.float64)

    def add(self, rows: Rows) -> None:
        """Take some more rows into account."""
        if len(rows) == 0:
            return
        more, total = len(rows), self.n + len(rows)
        delta = rows.mean(0) - self.mean
        if self.scattered:
            centred = rows - rows.mean(0)
            self.scatter += centred.T @ centred + torch.outer(delta, delta) * self.n * more / total
        self.mean = self.mean + delta * more / total
        self.n = total


class Classes:
    """The moments of the rows with label 0 and of those with label 1."""

    def __init__(self, d: int, scattered: bool = False) -> None:
        self.negative, self.positive = Moments(d, scattered), Moments(d, scattered)

    def add(self, rows: Rows, truth: Bool[Tensor, " n"]) -> None:
        """Take some more rows into account."""
        self.negative.add(rows[~truth])
        self.positive.add(rows[truth])

    @property
    def gap(self) -> Float[Tensor, " d"]:
        """The difference of the class means.

        Raises:
            ValueError: they agree up to rounding.
        """
        gap = self.positive.mean - self.negative.mean
        # float32 activations carry about seven digits.
        if gap.norm() <= 1e-6 * max(self.negative.mean.norm(), self.positive.mean.norm()):
            raise ValueError(
                "the texts of both labels have the same mean activation, so there is no direction "
                "between them; are the two classes the same texts?"
            )
        return gap

    @property
    def scatter(self) -> Float[Tensor, "d d"]:
        """The scatter of all rows about their common mean: within the classes, and between."""
        n, m = self.negative.n, self.positive.n
        between = torch.outer(self.gap, self.gap) * n * m / (n + m)
        return self.negative.scatter + self.positive.scatter + between

    def oriented(self, axis: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """An axis with the sign and the length of the gap: sign(u . gap) ||gap|| u."""
        unit = axis / axis.norm()
        sign = -1.0 if unit @ self.gap < 0 else 1.0
        return sign * self.gap.norm() * unit


def class_moments(reading: Reading, data: Labelled, scattered: bool = False) -> Classes:
    """Both classes' moments in one pass over the texts."""
    classes = Classes(reading.d, scattered)
    for rows, truth in reading.labelled(data):
        classes.add(rows, truth)
    return classes


def mean_row(reading: Reading, texts: Prompts) -> Float[Tensor, " d"]:
    """The mean row of some texts."""
    moments = Moments(reading.d)
    for _, rows in reading.batches(texts):
        moments.add(rows)
    return moments.mean
