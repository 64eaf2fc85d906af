"""Reads a world model with nothing but transformers: last-token probabilities and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoTokenizer, GPT2LMHeadModel

_BATCH = 256


@dataclass(frozen=True)
class Reader:
    """A model with its tokenizer, as the report card uses it."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> Reader:
        """Loads a Hugging Face folder in single precision."""
        model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder))

    @torch.no_grad()
    def probabilities(
        self, prompts: Sequence[str], words: Sequence[str] | None = None
    ) -> Float[Tensor, "prompts words"]:
        """P(next word | prompt) for `words`, or for the whole vocabulary."""
        ids = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        rows: list[Tensor] = [torch.empty(0)] * len(ids)
        for start in range(0, len(order), _BATCH):
            chunk = order[start : start + _BATCH]
            for i, row in zip(chunk, self._last([ids[i] for i in chunk]), strict=True):
                rows[i] = row
        all_words = torch.stack(rows)
        return all_words if words is None else all_words[:, self.indices(words)]

    def _last(self, ids: list[list[int]]) -> Tensor:
        lengths = torch.tensor([len(row) for row in ids])
        tokens = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)  # padded on the right
        for i, row in enumerate(ids):
            tokens[i, : len(row)] = torch.tensor(row)
        hidden = self.model.transformer(tokens, use_cache=False).last_hidden_state
        return self.model.lm_head(hidden[torch.arange(len(ids)), lengths - 1]).softmax(-1)

    def indices(self, words: Sequence[str]) -> Tensor:
        """The token ids of single words."""
        ids = self.tokenizer.convert_tokens_to_ids(list(words))
        unknown = [w for w, i in zip(words, ids, strict=True) if i == self.tokenizer.unk_token_id]
        if unknown:
            raise ValueError(f"not in the world's vocabulary: {', '.join(unknown)}")
        return torch.tensor(ids)

    def chosen(self, prompts: Sequence[str], words: Sequence[str]) -> Float[Tensor, " prompts"]:
        """P(words[i] | prompts[i])."""
        rows = self.probabilities(prompts)
        return rows[torch.arange(len(prompts)), self.indices(words)]

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], max_new_tokens: int = 48, seed: int = 0) -> list[str]:
        """One sample per prompt at temperature 1, up to the end of the turn."""
        torch.manual_seed(seed)
        texts: list[str] = []
        for start in range(0, len(prompts), _BATCH):
            batch = self.tokenizer(
                list(prompts[start : start + _BATCH]), return_tensors="pt", padding=True
            )
            out = self.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                do_sample=True,
                top_k=0,
                max_new_tokens=max_new_tokens,
            )
            new = out[:, batch["input_ids"].shape[1] :]
            texts += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts
