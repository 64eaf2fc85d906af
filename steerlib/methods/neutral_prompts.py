r"""A neutral prompt on which features of a sparse autoencoder are tried, many in one batch.

Chapter: sae. The batch repeats the prompt, and each sample has a change of its own at the site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from steerlib.core.capture import capture
from steerlib.core.generation import last_only
from steerlib.core.interventions import Intervention, Term
from steerlib.core.model import Model
from steerlib.core.positions import everywhere
from steerlib.core.prompts import Prompt, encode
from steerlib.core.steering import check_fits, steer
from steerlib.core.where import Where
from steerlib.methods.sae import SAE

Changed = Callable[[list[int]], Float[Tensor, "features pos d"]]


@dataclass(frozen=True, eq=False)
class _Change:
    """delta = a change of its own for each sample of the batch."""

    change: Float[Tensor, "batch pos d"]

    @property
    def width(self) -> int:
        return self.change.shape[-1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"change": self.change}

    def delta(self, h: Float[Tensor, "batch pos d"], where: Where) -> Float[Tensor, "batch pos d"]:
        return self.change

    def scaled(self, factor: float) -> _Change:
        return replace(self, change=factor * self.change)


@dataclass(frozen=True, eq=False)
class Neutral:
    """A prompt with its activations and latents at the SAE's site, BOS included."""

    sae: SAE
    model: Model
    ids: list[int]
    h: Float[Tensor, "pos d"]
    z: Float[Tensor, "pos n"]

    def raised(self, factor: float) -> Changed:
        """h + factor * max_g z_g D_f at the last token."""
        largest = float(self.z[-1].max())
        if not largest > 0:
            raise ValueError(
                "no latent is active at the last token of the prompt, so there is no measure for "
                "how far to raise one; give another prompt"
            )

        def change(features: list[int]) -> Tensor:
            found = self.h.new_zeros(len(features), *self.h.shape)
            found[:, -1] = factor * largest * self.sae.decoder[features]
            return found

        return change

    def alone(self, factor: float) -> Changed:
        """factor * z_f D_f + c in place of h, at every token."""

        def change(features: list[int]) -> Tensor:
            z, rows = self.z[:, features].T, self.sae.decoder[features]
            return factor * z[..., None] * rows[:, None] + self.sae.offset - self.h

        return change

    def tried(
        self, features: list[int], change: Changed, batch_size: int
    ) -> Iterator[tuple[list[int], Float[Tensor, "batch d_vocab"]]]:
        """log p of the next token under the change of each feature, some at a time."""
        starts = range(0, len(features), batch_size)
        for start in tqdm(starts, "features", unit="batch", leave=False, delay=2):
            few = features[start : start + batch_size]
            yield few, self.log_p(change(few))

    def log_p(self, change: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch d_vocab"]:
        """log p of the next token, one sample per change; on the CPU."""
        edit = Intervention((Term(self.sae.site, _Change(change)),))
        ids = torch.tensor([self.ids] * len(change), device=self.model.device)
        with torch.no_grad(), steer(self.model, edit):
            output = self.model.runner(input_ids=ids, use_cache=False, **last_only(self.model))
        return output.logits[:, -1].float().cpu().log_softmax(-1)


def read_neutral(sae: SAE, model: Model, prompt: Prompt, chat: bool | None) -> Neutral:
    """The prompt, once all its words are known."""
    check_fits(model, sae.add(0))
    (ids,) = encode(model, [prompt], chat)
    unknown = model.tokenizer.unk_token_id
    if unknown is not None and unknown != model.bos_id and unknown in ids:
        raise ValueError(
            f"{model.id} does not know all words of the neutral prompt {prompt!r}; give one of "
            "words that it knows, such as a request that is about no concept, with chat=True"
        )
    site = sae.site
    h = capture(model, [prompt], site, everywhere, chat=chat, include_bos=True)[site]
    return Neutral(sae, model, ids, h, sae.encode(h))
