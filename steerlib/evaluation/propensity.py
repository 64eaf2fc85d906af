"""The propensity of one answer over another, steered as a generation would be.

Chapter: directions. The prompt is read first and the answer afterwards, on top of the cache, so
that `st.last`, `st.generation` and conditions mean what they mean while the model writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.core.capture import positions_and_mask
from steerlib.core.generation import last_only
from steerlib.core.model import Model
from steerlib.core.prompts import batches_by_length, encode, pad, render
from steerlib.core.responses import continuation
from steerlib.core.session import rows_of_batch
from steerlib.world.choices import Choice

Encoded = tuple[list[int], list[int]]  # a prompt and one answer


def propensity(
    model: Model,
    choices: Sequence[Choice],
    *,
    chat: bool | None = None,
    system: str | None = None,
    batch_size: int = 64,
) -> Float[Tensor, " n"]:
    """log p(positive | prompt) - log p(negative | prompt) for each choice, in nats.

    The log-probability of an answer is the sum over its tokens. Where neither the prompt ends nor
    the answer starts with white space, one space stands between them.

    Args:
        chat, system: as in `st.generate`, for choices that do not say so themselves.
        batch_size: choices read at once.

    Returns:
        One number per choice (n,), in double precision on the CPU; inside `steer`, steered.

    Raises:
        ValueError: no choices; an answer whose tokens cannot be told apart from the prompt's, or
            that does not fit into the context.

    Source: Tan et al. 2024, section 3 (there for answers of one token). Chapter: directions.

    Example:
        >>> propensity(model, [Choice("the dog is", "loyal", "lazy")], chat=False)
    """
    if not len(choices):
        raise ValueError("propensity needs at least one choice, got none")
    known = {choice: _encoded(model, choice, chat, system) for choice in dict.fromkeys(choices)}
    texts = [text for choice in choices for text in known[choice]]
    # Both answers of a choice are samples of the batch and have the choice's strength.
    owners = [row for row in range(len(choices)) for _ in range(2)]
    log_p = answers_log_p(model, texts, owners, 2 * batch_size)
    return log_p[0::2] - log_p[1::2]


def encoded_answers(
    model: Model, prompt: str, answers: Sequence[str], chat: bool | None, system: str | None
) -> list[Encoded]:
    """Token ids of the prompt with each of its answers.

    Raises:
        ValueError: an answer whose tokens cannot be told apart from the prompt's, or that does not
            fit into the context.
    """
    text = render(model, prompt, chat, system)
    start = encode(model, text, chat=False)[0]
    return [(start, continuation(model, text, answer, start)) for answer in answers]


def answers_log_p(
    model: Model, texts: Sequence[Encoded], owners: Sequence[int], batch_size: int
) -> Float[Tensor, " n"]:
    """log p(answer | prompt) of each text, summed over the answer's tokens, in nats.

    Args:
        owners: the number of the sample that each text belongs to, whose strength it has.
        batch_size: texts read at once.
    """
    found = torch.zeros(len(texts), dtype=torch.float64)
    for rows in batches_by_length([prompt for prompt, _ in texts], batch_size):
        with torch.no_grad(), rows_of_batch(model, [owners[row] for row in rows]):
            found[rows] = _log_p(model, [texts[row] for row in rows])
    return found


def _encoded(model: Model, choice: Choice, chat: bool | None, system: str | None) -> list[Encoded]:
    chat = choice.chat if choice.chat is not None else chat
    system = choice.system if choice.system is not None else system
    return encoded_answers(model, choice.prompt, (choice.positive, choice.negative), chat, system)


def _log_p(model: Model, texts: list[Encoded]) -> Float[Tensor, " batch"]:
    """log p(answer | prompt) of one batch: a prefill, then all answer tokens at once."""
    from transformers import DynamicCache

    ids, attention = pad(model, [prompt for prompt, _ in texts])
    answers = _padded_right(model, [answer for _, answer in texts])
    cache = DynamicCache(config=model.config)
    inputs = {"input_ids": ids, **positions_and_mask(attention), **last_only(model)}
    scores = model.runner(**inputs, past_key_values=cache, use_cache=True).logits[:, -1:]
    if answers.shape[1] > 1:
        # The last token of an answer predicts nothing that is asked for.
        inputs = _continued(model, ids, attention, texts, answers[:, :-1])
        later = model.runner(**inputs, past_key_values=cache, use_cache=True).logits
        scores = torch.cat([scores, later], 1)
    lengths = torch.tensor([len(answer) for _, answer in texts])
    is_answer = torch.arange(answers.shape[1]) < lengths[:, None]
    taken = scores.float().log_softmax(-1).gather(2, answers[..., None])[..., 0]
    return torch.where(is_answer, taken.cpu().double(), 0.0).sum(1)


def _padded_right(model: Model, answers: list[list[int]]) -> Int[Tensor, "batch pos"]:
    """On the right: padding there comes after every token and is seen by none."""
    longest = max(len(answer) for answer in answers)
    rows = [answer + [model.pad_id] * (longest - len(answer)) for answer in answers]
    return torch.tensor(rows, device=model.device)


def _continued(
    model: Model,
    ids: Int[Tensor, "batch pos"],
    attention: Int[Tensor, "batch pos"] | None,
    texts: list[Encoded],
    answers: Int[Tensor, "batch more"],
) -> dict[str, Tensor]:
    """The inputs of the second pass: tokens, their positions, and the mask of both passes."""
    before = torch.ones_like(ids) if attention is None else attention
    mask = torch.cat([before, torch.ones_like(answers)], 1)
    lengths = torch.tensor([len(prompt) for prompt, _ in texts], device=model.device)
    steps = torch.arange(answers.shape[1], device=model.device)
    position = (lengths[:, None] + steps).clamp(max=model.n_ctx - 1)
    return {"input_ids": answers, "attention_mask": mask, "position_ids": position}
