"""The log-probability of a response to a prompt, for whatever is learned from dialogues.

Chapter: axbench. Prompt and response are read together, left-padded; only the tokens of the
response count, the end of the turn among them. Positions mean what they mean in generation: the
prompt ends where the response begins. Differentiable with respect to an intervention that is being
learned, or to the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlib.core.capture import positions_and_mask
from steerlib.core.model import Model
from steerlib.core.prompts import Prompt, encode, pad, render
from steerlib.core.session import learning, rows_of_batch

_MARK = "\N{SECTION SIGN}"  # stands for a text; no template writes it


class Exchange(Protocol):
    """A prompt and a response to it."""

    @property
    def prompt(self) -> Prompt: ...
    @property
    def response(self) -> str: ...


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and response together; the response begins at `start`."""

    ids: list[int]
    start: int


def encode_response(
    model: Model, dialogue: Exchange, chat: bool | None = None, system: str | None = None
) -> Encoded:
    """Prompt and response as the model reads them, closed by the end of the turn.

    That is the first token after the response at which generation stops: what the chat template
    writes there, or the tokenizer's end of sequence for raw text.

    Raises:
        ValueError: an empty response; one whose tokens run into the prompt's; one that does not
            fit into the context.
    """
    if not dialogue.response.strip():
        raise ValueError(f"the response to {dialogue.prompt!r} is empty; there is nothing to learn")
    text = render(model, dialogue.prompt, chat, system)
    start = encode(model, text, chat=False)[0]
    answer = continuation(model, text, dialogue.response, start, room=1)
    raw = isinstance(dialogue.prompt, str) and text == dialogue.prompt
    return Encoded([*start, *answer, *_closing(model, raw)], len(start))


def _closing(model: Model, raw: bool) -> list[int]:
    """The token that ends a response, if the model has one."""
    if not raw:
        turns = [{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}]
        tail = model.tokenizer.apply_chat_template(turns, tokenize=False).rpartition(_MARK)[2]
        ids = model.tokenizer(tail, add_special_tokens=False).input_ids
        if ends := [token for token in ids if token in model.eos_ids]:
            return ends[:1]
    own = model.tokenizer.eos_token_id
    return [own] if own in model.eos_ids else sorted(model.eos_ids)[:1]


def joined(text: str, answer: str) -> str:
    """A text and its answer; where neither has white space at the seam, one space is put there."""
    return f"{text}{'' if text[-1:].isspace() or answer[0].isspace() else ' '}{answer}"


def continuation(
    model: Model, text: str, answer: str, start: list[int], room: int = 0
) -> list[int]:
    """The tokens that an answer adds to a text, whose own are `start`.

    Where neither the text ends nor the answer starts with white space, one space stands between.

    Raises:
        ValueError: tokens of the answer that run into those of the text, or that do not fit.
    """
    whole = encode(model, joined(text, answer), chat=False, room=room)[0]
    if whole[: len(start)] != start or len(whole) == len(start):
        raise ValueError(
            f"the tokens of the answer {answer[:40]!r} run into those of the prompt "
            f"...{text[-30:]!r} for {model.id}; move the white space from the end of the prompt to "
            "the start of the answer"
        )
    return whole[len(start) :]


def about_fit(model: Model, encoded: Sequence[Encoded], *choices: object) -> str:
    """A hash of what a fit learns from: the model, the dialogues, and a method's choices as text.

    A checkpoint with another one belongs to another fit.
    """
    dialogues = [(item.ids, item.start) for item in encoded]
    whole = json.dumps([model.revision, dialogues, [str(choice) for choice in choices]])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Batch:
    """Left-padded dialogues and which of their tokens belong to a response."""

    ids: Int[Tensor, "batch pos"]
    attention: Int[Tensor, "batch pos"] | None
    is_response: Bool[Tensor, "batch pos"]

    @staticmethod
    def of(model: Model, encoded: Sequence[Encoded]) -> Batch:
        """A batch of some dialogues."""
        ids, attention = pad(model, [item.ids for item in encoded])
        left = torch.tensor([ids.shape[1] - len(item.ids) + item.start for item in encoded])
        places = torch.arange(ids.shape[1], device=ids.device)
        return Batch(ids, attention, places >= left.to(ids.device)[:, None])

    @property
    def prompt_length(self) -> Int[Tensor, " batch"]:
        """How many tokens each prompt has."""
        real = torch.ones_like(self.ids) if self.attention is None else self.attention
        return torch.where(self.is_response, 0, real).sum(1)


def response_log_p(
    model: Model, batch: Batch, *, trains: bool = False
) -> tuple[Float[Tensor, " batch"], Int[Tensor, " batch"]]:
    """The sum of log p over the tokens of each response, and their number.

    log p(y | x) = sum_t log p(y_t | x, y_<t), steered by what is active.

    Args:
        trains: whether the model's own parameters are being learned. Without it, gradients are
            only kept for an active intervention that learns.

    Chapter: axbench.
    """
    rows, keeps = list(range(len(batch.ids))), torch.is_grad_enabled() and trains
    with (
        torch.set_grad_enabled(keeps or learning(model)),
        rows_of_batch(model, rows, batch.prompt_length),
    ):
        output = model.runner(
            input_ids=batch.ids, use_cache=False, **positions_and_mask(batch.attention)
        )
    # The logits at one position are about the next token. Only those of a response are normalized:
    # over a large vocabulary all of them would need gigabytes.
    asked, targets = batch.is_response[:, 1:], batch.ids[:, 1:]
    log_p = output.logits[:, :-1][asked].float().log_softmax(-1)
    taken = log_p.gather(1, targets[asked][:, None])[:, 0]
    spread = torch.zeros_like(targets, dtype=torch.float32).masked_scatter(asked, taken)
    return spread.sum(1), asked.sum(1)


def mean_loss(
    model: Model, encoded: Sequence[Encoded], *, trains: bool = False
) -> Float[Tensor, ""]:
    """Minus the log-probability per token of each response, averaged over the responses."""
    total, count = response_log_p(model, Batch.of(model, encoded), trains=trains)
    return -(total / count).mean()
