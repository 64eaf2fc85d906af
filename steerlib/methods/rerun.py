"""A batch of texts, run again from one site on with other activations there.

Chapter: axbench. The first run keeps what each block was called with. A later one calls only the
block of the site and those after it, which is what makes fifty gradients of a text affordable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from steerlib.core.capture import positions_and_mask, token_mask
from steerlib.core.model import Model
from steerlib.core.positions import everywhere
from steerlib.core.prompts import Prompts, batches_by_length, encode, pad
from steerlib.core.session import rows_of_batch
from steerlib.core.sites import Site, attach, part, resolve


@dataclass(frozen=True)
class Call:
    """A block, and all that it was called with besides the residual stream."""

    block: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, stream: Tensor) -> Tensor:
        """What the block makes of a residual stream."""
        output = self.block(stream, *self.args, **self.kwargs)
        return output[0] if isinstance(output, tuple) else output


@dataclass(frozen=True, eq=False)
class Rerun:
    """Some texts in one left-padded batch that was run once.

    Args:
        rows: which texts of all.
        tokens: True at the tokens of the texts, False at BOS and padding.
        h: the activations at the site, in float32.
        stream: the residual stream before the block of the site.
        calls: that block and those after it.
    """

    model: Model
    site: Site
    rows: list[int]
    tokens: Bool[Tensor, "batch pos"]
    h: Float[Tensor, "batch pos d"]
    stream: Float[Tensor, "batch pos d_model"]
    calls: list[Call]

    def output(self, h: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch d_model"]:
        """What the last block writes for the last token where h is at the site, in float32.

        Differentiable with respect to h.
        """
        stream = self.stream
        with rows_of_batch(self.model, self.rows), _replaced(self.model, self.site, h):
            for call in self.calls:
                stream = call(stream)
        return stream[:, -1].float()


def reruns(
    model: Model,
    texts: Prompts,
    site: Site,
    *,
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> Iterator[Rerun]:
    """All texts, in batches of like length, each run once.

    What ends a turn (end-of-sequence tokens, white space) is cut off: it says nothing about the
    text, and the last token is then the last one that was said, in a chat as in a string.

    Raises:
        ValueError: a text without a token besides BOS; a site that the model has not.

    Chapter: axbench.
    """
    encoded = [_cut(model, ids) for ids in encode(model, texts, chat, system)]
    for rows in batches_by_length(encoded, batch_size):
        ids, attention = pad(model, [encoded[row] for row in rows])
        tokens = token_mask(model, ids, attention, everywhere)
        if not tokens.any(1).all():
            empty = rows[int((~tokens.any(1)).nonzero()[0])]
            raise ValueError(f"text {empty} has no token besides BOS, so it has no score")
        yield _first_run(model, site, rows, ids, attention, tokens)


def _cut(model: Model, ids: list[int]) -> list[int]:
    """The tokens up to the last that is neither end-of-sequence nor white space."""
    size = len(ids)
    while size > 1 and (ids[size - 1] in model.eos_ids or _is_space(model, ids[size - 1])):
        size -= 1
    return ids[:size]


def _is_space(model: Model, token: int) -> bool:
    return not model.tokenizer.decode([token]).strip()


@torch.no_grad()
def _first_run(
    model: Model,
    site: Site,
    rows: list[int],
    ids: Int[Tensor, "batch pos"],
    attention: Tensor | None,
    tokens: Bool[Tensor, "batch pos"],
) -> Rerun:
    place, streams, calls = resolve(model, site), [], []
    activations: list[Tensor] = []

    def keep(block: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        rest = dict(kwargs)
        streams.append(args[0] if args else rest.pop("hidden_states"))
        calls.append(Call(block, args[1:], rest))

    with ExitStack() as stack:
        for block in model.blocks[site.layer :]:
            # First of all hooks: steering at the block's input acts again in every rerun.
            hook = block.register_forward_pre_hook(keep, prepend=True, with_kwargs=True)
            stack.callback(hook.remove)
        stack.callback(attach(place, lambda h: activations.append(h)).remove)
        stack.enter_context(rows_of_batch(model, rows))
        model.decoder(input_ids=ids, use_cache=False, **positions_and_mask(attention))
    h = part(model, site, activations[0]).float()
    return Rerun(model, site, rows, tokens, h, streams[0], calls)


@contextmanager
def _replaced(model: Model, site: Site, h: Float[Tensor, "batch pos d"]) -> Iterator[None]:
    """While it is entered, h is at the site; of all heads only that of the site is changed."""

    def replace(full: Tensor) -> Tensor:
        if site.index is None:
            return h.to(full.dtype)
        heads = full.unflatten(-1, (model.n_heads, model.d_head)).clone()
        heads[..., site.index, :] = h.to(full.dtype)
        return heads.flatten(-2)

    handle = attach(resolve(model, site), replace)
    try:
        yield
    finally:
        handle.remove()
