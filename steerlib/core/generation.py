"""generate and logits: run the model on prompts, with a KV cache and correct left padding.

Chapter: hooks. `generate` is a plain loop over the Hugging Face model inside either engine: the
hooks of `steer` fire in it as in the model's own `generate`, at half the cost per step.
"""

from __future__ import annotations

import inspect
import warnings
from typing import overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.core.capture import positions_and_mask
from steerlib.core.model import Model
from steerlib.core.prompts import Chat, Prompt, Prompts, as_list, batches_by_length, encode, pad
from steerlib.core.session import learning, rows_of_batch


def logits(
    model: Model,
    prompts: Prompts,
    *,
    chat: bool | None = None,
    system: str | None = None,
) -> Float[Tensor, "batch pos d_vocab"]:
    """Next-token logits at every position; left-padded, so that [:, -1] is the last token of each.

    Differentiable with respect to an intervention that is being learned.

    Returns:
        float32 (batch, pos, d_vocab); what stands on padding means nothing.

    Raises:
        ValueError: no prompts, or one that is longer than the context.

    Chapter: hooks.

    Example:
        >>> st.logits(model, ["one prompt", "another"])[:, -1].softmax(-1)
    """
    ids, attention = pad(model, encode(model, prompts, chat, system))
    with torch.set_grad_enabled(learning(model)):
        output = model.runner(input_ids=ids, use_cache=False, **positions_and_mask(attention))
    return output.logits.float()


@overload
def generate(
    model: Model,
    prompts: Prompt,
    *,
    max_new_tokens: int = ...,
    temperature: float = ...,
    seed: int = ...,
    chat: bool | None = ...,
    system: str | None = ...,
    batch_size: int = ...,
) -> str: ...


@overload
def generate(
    model: Model,
    prompts: list[str] | list[Chat],
    *,
    max_new_tokens: int = ...,
    temperature: float = ...,
    seed: int = ...,
    chat: bool | None = ...,
    system: str | None = ...,
    batch_size: int = ...,
) -> list[str]: ...


def generate(
    model: Model,
    prompts: Prompts,
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool | None = None,
    system: str | None = None,
    batch_size: int = 64,
) -> str | list[str]:
    """The text that the model writes after each prompt (a string for a single prompt).

    Args:
        max_new_tokens: how many tokens at most; it stops at the end-of-sequence token.
        temperature: 0 takes the most likely token, more samples with `seed`.
        chat: None uses the chat template where there is one, False continues the raw text.
        system: a system message.
        batch_size: how many prompts are decoded at once; they are sorted by length.

    Returns:
        The new text only, without special tokens.

    Raises:
        ValueError: no prompts, or one that leaves no room in the context.

    Chapter: hooks.

    Example:
        >>> st.generate(model, "tell me about the dog .", max_new_tokens=40)
    """
    if max_new_tokens < 1 or temperature < 0:
        raise ValueError(
            f"max_new_tokens is at least 1 and temperature at least 0, "
            f"got {max_new_tokens} and {temperature}"
        )
    encoded = encode(model, prompts, chat, system, room=1)
    random = torch.Generator().manual_seed(seed)
    texts = [""] * len(encoded)
    for rows in batches_by_length(encoded, batch_size):
        with torch.no_grad(), rows_of_batch(model, rows):
            tokens = _decode(model, [encoded[r] for r in rows], max_new_tokens, temperature, random)
        for row, ids in zip(rows, tokens, strict=True):
            texts[row] = model.tokenizer.decode(ids, skip_special_tokens=True)
    return texts[0] if as_list(prompts)[1] else texts


def write(model: Model, encoded: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """The likeliest tokens after each of some prompts, read as one batch; inside `no_grad`."""
    return _decode(model, encoded, max_new_tokens, 0.0, torch.Generator())


def _decode(
    model: Model,
    encoded: list[list[int]],
    max_new_tokens: int,
    temperature: float,
    random: torch.Generator,
) -> list[list[int]]:
    """New tokens for one batch: a prefill, then one forward pass per token."""
    from transformers import DynamicCache

    ids, attention = pad(model, encoded)
    inputs = {"input_ids": ids, **positions_and_mask(attention)}
    lengths = torch.tensor([len(row) for row in encoded])
    room = model.n_ctx - lengths
    steps = min(max_new_tokens, int(room.max()))
    full = None
    if attention is not None:
        full = torch.cat([attention, attention.new_ones(len(ids), steps)], 1)
    cache, newest = DynamicCache(config=model.config), last_only(model)
    new = torch.full((len(ids), steps), model.pad_id)
    ends, stops = torch.tensor(sorted(model.eos_ids)), torch.full((len(ids),), steps)
    active = torch.ones(len(ids), dtype=torch.bool)
    for step in range(steps):
        scores = model.runner(**inputs, past_key_values=cache, use_cache=True, **newest).logits
        chosen = _choose(scores[:, -1], temperature, random)
        # A row that has ended goes on and is cut at its stop; padding would need a mask.
        new[:, step] = chosen
        ended = active & torch.isin(chosen, ends)
        stops[ended] = step
        active &= ~ended
        if step + 1 == steps or not active.any():
            break
        inputs = {"input_ids": new[:, step : step + 1].to(model.device)}
        if full is not None:
            position = (lengths + step).clamp(max=model.n_ctx - 1)[:, None]
            width = ids.shape[1] + step + 1
            inputs |= {"attention_mask": full[:, :width], "position_ids": position.to(model.device)}
    # A short prompt may go on where a longer one in its batch is at the end of the context.
    stops = stops.minimum(room)
    _warn_cut(model, stops, room, max_new_tokens)
    return [row[:stop].tolist() for row, stop in zip(new, stops.tolist(), strict=True)]


def last_only(model: Model) -> dict[str, int]:
    """Do not unembed the whole prompt, where the model can be told so."""
    known = "logits_to_keep" in inspect.signature(model.hf.forward).parameters
    return {"logits_to_keep": 1} if known else {}


def _choose(
    scores: Float[Tensor, "batch d_vocab"], temperature: float, random: torch.Generator
) -> Int[Tensor, " batch"]:
    """The next token of each sample, on the CPU so that a seed means the same everywhere."""
    if temperature == 0:
        return scores.argmax(-1).cpu()
    p = torch.softmax(scores.float().cpu() / temperature, -1)
    return torch.multinomial(p, 1, generator=random)[:, 0]


def _warn_cut(model: Model, stops: Tensor, room: Tensor, max_new_tokens: int) -> None:
    cut = (stops == room) & (room < max_new_tokens)
    if cut.any():
        warnings.warn(
            f"{int(cut.sum())} generation(s) stopped at the end of {model.id}'s context of "
            f"{model.n_ctx} tokens, before max_new_tokens={max_new_tokens}",
            stacklevel=3,
        )
