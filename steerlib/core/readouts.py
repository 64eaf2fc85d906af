"""A Readout is a linear score of a text; compared with a threshold it becomes a condition.

Chapter: directions. Detectors, probes and the conditions of conditional steering (CAST) are the
same object: read one site, project on w, pool over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.core.edits import vector
from steerlib.core.sites import Site, as_site

if TYPE_CHECKING:
    from steerlib.core.model import Model

POOLS = ("last", "mean", "max")


@dataclass(frozen=True, eq=False)
class Readout:
    """score(text) = pool over its tokens of (w . h + b), BOS left out.

    Args:
        site: the site that is read.
        w: the direction (d,).
        b: the offset.
        pool: "last" (the last token), "mean" or "max".

    Chapter: hooks.

    Example:
        >>> happy = Readout(st.resid(2), w)
        >>> happy.score(model, ["a happy dog ."])          # (1,)
        >>> st.steer(model, intervention.when(happy > 0.3))
    """

    site: Site
    w: Float[Tensor, " d"]
    b: float = 0.0
    pool: str = "last"

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", as_site(self.site))
        object.__setattr__(self, "w", vector(self.w, "w", 1))
        if self.pool not in POOLS:
            raise ValueError(f"pool is one of {POOLS}, got {self.pool!r}")

    def __gt__(self, threshold: float) -> Condition:
        return Condition(self, float(threshold), above=True)

    def __lt__(self, threshold: float) -> Condition:
        return Condition(self, float(threshold), above=False)

    def pooled(
        self, h: Float[Tensor, "batch pos d"], mask: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, " batch"]:
        """The score of each text from its activations and the mask of its tokens."""
        if not mask.any(1).all():
            raise ValueError("a readout needs at least one token besides BOS in every text")
        x = h.float() @ self.w.to(h.device) + self.b
        if self.pool == "mean":
            return torch.where(mask, x, 0.0).sum(1) / mask.sum(1)
        if self.pool == "max":
            return x.masked_fill(~mask, -torch.inf).amax(1)
        # The last True of each row.
        position = torch.arange(mask.shape[1], device=mask.device)
        return x.gather(1, (mask * position).argmax(1, keepdim=True))[:, 0]

    def score(
        self, model: Model, texts: Any, *, chat: bool | None = False, system: str | None = None
    ) -> Float[Tensor, " n"]:
        """The score of each text."""
        from steerlib.core.capture import stream
        from steerlib.core.positions import last, prompt

        at = last if self.pool == "last" else prompt
        scores: dict[int, float] = {}
        batches = stream(model, texts, [self.site], self.pooled, at=at, chat=chat, system=system)
        for rows, taken in batches:
            scores.update(zip(rows, taken[self.site].tolist(), strict=True))
        return torch.tensor([scores[row] for row in range(len(scores))])


@dataclass(frozen=True, eq=False)
class Condition:
    """Whether a readout's score of the prompt lies above (or below) a threshold."""

    readout: Readout
    threshold: float
    above: bool

    def holds(self, scores: Float[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """The decision for each sample."""
        return scores > self.threshold if self.above else scores < self.threshold
