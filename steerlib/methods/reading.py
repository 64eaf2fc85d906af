"""How labelled texts become rows of numbers, batch by batch.

Chapter: directions. A row is the mean over the tokens of one text, or one token. Rows are handed
on batch by batch, so that memory does not grow with the number of texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.core.capture import pooling, stream
from steerlib.core.interventions import Add, Intervention, Origin
from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.model import Model
from steerlib.core.positions import Positions
from steerlib.core.prompts import Prompt, Prompts
from steerlib.core.sites import Site, width

Reduce = Literal["mean", "max"] | None
Rows = Float[Tensor, "n d"]


@dataclass(frozen=True)
class Reading:
    """How texts become rows: where they are read, at which tokens, pooled or not."""

    model: Model
    site: Site
    at: Positions | str
    reduce: Reduce
    chat: bool | None
    system: str | None
    batch_size: int

    def batches(self, texts: Prompts) -> Iterator[tuple[list[int], Rows]]:
        """The rows of each batch in float64, with the number of the text each came from."""
        taken = stream(
            self.model,
            texts,
            [self.site],
            pooling(self.reduce),
            at=self.at,
            chat=self.chat,
            system=self.system,
            batch_size=self.batch_size,
        )
        for numbers, values in taken:
            pieces = values[self.site]
            owners = [n for n, rows in zip(numbers, pieces, strict=True) for _ in rows]
            yield owners, torch.cat(pieces).double()

    def labelled(self, data: Labelled) -> Iterator[tuple[Rows, Bool[Tensor, " n"]]]:
        """The rows of each batch with the label of their text."""
        texts, labels = both_classes(data)
        truth = torch.tensor(labels)
        for owners, rows in self.batches(texts):
            yield rows, truth[owners]

    def held(self, texts: list[Prompt], labels: list[bool]) -> tuple[Rows, Bool[Tensor, " n"]]:
        """All rows at once, in the order of their texts, with their labels."""
        owners, pieces = zip(*self.batches(texts), strict=True)
        numbers = torch.tensor([n for batch in owners for n in batch])
        order = numbers.argsort(stable=True)
        return torch.cat(pieces)[order], torch.tensor(labels)[numbers[order]]

    @property
    def d(self) -> int:
        """The width of a row."""
        return width(self.model, self.site)

    def add(
        self, direction: Float[Tensor, " d"], method: str, seed: int | None = None
    ) -> Intervention:
        """The intervention that adds a direction where the rows were read."""
        origin = Origin(self.model.id, self.model.revision, method, seed)
        return Intervention(Add(self.site, direction.float()).terms, origin)
