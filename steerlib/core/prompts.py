"""From strings and chats to token ids: exactly one BOS, chat templates, padding, unknown words.

Chapter: hooks. A prompt is a string or a chat, a list of {"role": ..., "content": ...}.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence, Sized
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from steerlib.core.model import Model

Chat = list[dict[str, str]]
Prompt = str | Chat
Prompts = Prompt | Sequence[Prompt]


def as_list(prompts: Prompts) -> tuple[list[Prompt], bool]:
    """The prompts as a list, and whether it was a single one.

    Raises:
        ValueError: no prompts; TypeError: neither strings nor chats.
    """
    if isinstance(prompts, str) or _is_chat(prompts):
        return [prompts], True  # type: ignore[list-item]
    listed = list(prompts)
    if not listed:
        raise ValueError("the list of prompts is empty; give at least one string or chat")
    for prompt in listed:
        if not isinstance(prompt, str) and not _is_chat(prompt):
            raise TypeError(
                f"a prompt is a string or a list of {{'role': ..., 'content': ...}}, got {prompt!r}"
            )
    return listed, False  # type: ignore[return-value]


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) for m in value)


def words(prompt: Prompt) -> str:
    """What a prompt says, as one text: the turns of a chat joined by spaces, without their roles.

    Example:
        >>> words([{"role": "user", "content": "hi ."}, {"role": "assistant", "content": "rain ."}])
        'hi . rain .'
    """
    return prompt if isinstance(prompt, str) else " ".join(turn["content"] for turn in prompt)


def render(
    model: Model, prompt: Prompt, chat: bool | None = None, system: str | None = None
) -> str:
    """The text that the model reads, by its chat template or as it is.

    Args:
        chat: True uses the template, False the raw text, None the template where there is one.

    Raises:
        ValueError: a chat or a system text for a model without a template.
    """
    has_template = bool(getattr(model.tokenizer, "chat_template", None))
    if isinstance(prompt, str):
        if chat is False or (chat is None and not has_template):
            if system is not None:
                raise ValueError(
                    "system= needs a chat template: leave out chat=False, or put it first"
                )
            return prompt
        prompt = [{"role": "user", "content": prompt}]
    if not has_template:
        raise ValueError(f"{model.id} has no chat template: pass plain strings, chat=None or False")
    if system is not None:
        prompt = [{"role": "system", "content": system}, *prompt]
    return model.tokenizer.apply_chat_template(
        prompt, tokenize=False, add_generation_prompt=prompt[-1]["role"] != "assistant"
    )


def encode(
    model: Model,
    prompts: Prompts,
    chat: bool | None = None,
    system: str | None = None,
    room: int = 0,
) -> list[list[int]]:
    """Token ids of each prompt, with exactly one BOS in front.

    Args:
        room: how many tokens must still fit into the context after the prompt.

    Raises:
        ValueError: a prompt that does not fit.
    """
    encoded = []
    for prompt in as_list(prompts)[0]:
        text = render(model, prompt, chat, system)
        ids = list(model.tokenizer(text, add_special_tokens=False).input_ids)
        _warn_unknown(model, text, ids)
        encoded.append(_one_bos(ids, model.bos_id))
        if len(encoded[-1]) + room > model.n_ctx:
            raise ValueError(
                f"a prompt of {len(encoded[-1])} tokens does not fit: {model.id} reads "
                f"{model.n_ctx} tokens, the answer included; shorten {text[:40]!r}..."
            )
    return encoded


def _one_bos(ids: list[int], bos_id: int | None) -> list[int]:
    if bos_id is None:
        return ids
    start = 0
    while start < len(ids) and ids[start] == bos_id:
        start += 1
    return [bos_id, *ids[start:]]


def batches_by_length(texts: Sequence[Sized], batch_size: int) -> list[list[int]]:
    """The numbers of texts, the shortest first, in batches: so little of a batch is padded."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def pad(
    model: Model, encoded: list[list[int]]
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"] | None]:
    """A left-padded batch and its attention mask, or no mask where nothing is padded."""
    longest = max(len(ids) for ids in encoded)
    rows = [[model.pad_id] * (longest - len(ids)) + ids for ids in encoded]
    ids = torch.tensor(rows, device=model.device)
    if all(len(row) == longest for row in encoded):
        return ids, None
    lengths = torch.tensor([len(row) for row in encoded], device=model.device)
    positions = torch.arange(longest, device=model.device)
    return ids, (positions >= longest - lengths[:, None]).long()


def _warn_unknown(model: Model, text: str, ids: list[int]) -> None:
    """Say which words the model does not know, and which ones it does."""
    unknown = model.tokenizer.unk_token_id
    if unknown is None or unknown not in ids or unknown == model.bos_id:
        return
    spans = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(spans.input_ids, spans.offset_mapping, strict=True)
    words = dict.fromkeys(text[start:end] for token, (start, end) in pairs if token == unknown)
    vocabulary = list(model.tokenizer.get_vocab())
    for word in words:
        close = difflib.get_close_matches(word.lower(), vocabulary, n=3)
        hint = f"; close: {', '.join(close)}" if close else ""
        warnings.warn(
            f"{word!r} is not in {model.id}'s vocabulary of {len(vocabulary):,} words{hint}",
            stacklevel=4,
        )


def answer_id(model: Model, answer: str) -> int:
    """The one token of an answer, as it follows a prompt.

    Raises:
        ValueError: the answer is not one token of the vocabulary.
    """
    for text in (" " + answer.strip(), answer.strip()):
        ids = model.tokenizer(text, add_special_tokens=False).input_ids
        if len(ids) == 1 and ids[0] != model.tokenizer.unk_token_id:
            return ids[0]
    pieces = model.tokenizer.convert_ids_to_tokens(ids)
    raise ValueError(f"an answer of one token is needed, but {answer!r} is {pieces} for {model.id}")
