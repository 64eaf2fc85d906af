"""Where: what a selection of tokens can see of one forward pass.

Chapter: hooks. With a KV cache a decoding step holds one token and not the text before it, so
positions are counted from what the cache holds; padding is told apart by the attention mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Where:
    """The tokens of one forward pass, as selections see them.

    Args:
        ids: tokens of this pass (batch, pos), or None where embeddings were passed.
        attention: 1 = token, 0 = padding, cache and this pass (batch, past + pos); None = all 1.
        shape: (batch, pos) of this pass.
        past: the number of positions that the cache holds.
        known_prompt: tokens of each prompt (batch,), where it was read before or its response is
            read with it; None in a prefill.
        tokenizer: turns the text of `tokens(...)` into ids.
        bos_id: the id of the beginning-of-sequence token.
    """

    ids: Int[Tensor, "batch pos"] | None
    attention: Int[Tensor, "batch total"] | None
    shape: tuple[int, int]
    past: int
    known_prompt: Int[Tensor, " batch"] | None
    tokenizer: Any
    bos_id: int | None
    device: torch.device

    @cached_property
    def real(self) -> Bool[Tensor, "batch pos"]:
        """True where there is a token, False on padding."""
        if self.attention is None:
            return torch.ones(self.shape, dtype=torch.bool, device=self.device)
        return self.attention[:, self.past : self.past + self.shape[1]].bool()

    @cached_property
    def index(self) -> Int[Tensor, "batch pos"]:
        """The position of each token in its own text, 0 = the first token (usually BOS)."""
        end = self.past + self.shape[1]
        if self.attention is None:
            return torch.arange(self.past, end, device=self.device).expand(self.shape)
        return (self.attention[:, :end].long().cumsum(1) - 1)[:, self.past :]

    @cached_property
    def prompt_length(self) -> Int[Tensor, " batch"]:
        """How many tokens each prompt has."""
        if self.known_prompt is not None:
            return self.known_prompt
        if self.attention is None:
            end = self.past + self.shape[1]
            return torch.full(self.shape[:1], end, dtype=torch.long, device=self.device)
        return self.attention[:, : self.past + self.shape[1]].long().sum(1)

    @cached_property
    def is_bos(self) -> Bool[Tensor, "batch pos"]:
        """True at a beginning-of-sequence token that opens its text."""
        first = self.real & (self.index == 0)
        if self.ids is None or self.bos_id is None:
            return torch.zeros_like(first)
        return first & (self.ids == self.bos_id)

    @property
    def is_decoding(self) -> bool:
        """Whether every token of this pass comes after a prompt that was read before."""
        return self.known_prompt is not None and self.past > 0
