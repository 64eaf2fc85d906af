"""The next word as a choice between two answers: margins, and what happens to all other tokens.

Chapter: scaling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.core.capture import positions_and_mask
from steerlib.core.generation import last_only
from steerlib.core.model import Model
from steerlib.core.prompts import Prompt, encode, pad, render
from steerlib.core.responses import continuation
from steerlib.core.session import learning

_SHOWN = 5  # answers that an error lists


class TwoAnswers(Protocol):
    """A prompt and two answers to it, such as `st.world.Choice`."""

    @property
    def prompt(self) -> Prompt: ...
    @property
    def positive(self) -> str: ...
    @property
    def negative(self) -> str: ...
    @property
    def chat(self) -> bool | None: ...
    @property
    def system(self) -> str | None: ...


@dataclass(frozen=True)
class Asked:
    """Token ids of a prompt and of its two answers."""

    ids: list[int]
    positive: int
    negative: int


def encode_choices(
    model: Model, choices: Sequence[TwoAnswers], chat: bool | None = False
) -> list[Asked]:
    """Prompts and their two answers, each of which is the one token that follows its prompt.

    Args:
        chat: how prompts are read whose choice leaves it open; False is raw text.

    Raises:
        ValueError: no choices; answers of several tokens (all are counted, the first are listed);
            two answers with the same token.

    Chapter: scaling.
    """
    if not len(choices):
        raise ValueError("needed are choices, at least one; got none")
    found, long = [], dict[str, list[str]]()
    for choice in choices:
        # A system text asks for the template by itself.
        own = chat if choice.chat is None and choice.system is None else choice.chat
        ids = encode(model, choice.prompt, own, choice.system, room=1)[0]
        text = render(model, choice.prompt, own, choice.system)
        answers = []
        for answer in (choice.positive, choice.negative):
            if not answer.strip():
                raise ValueError(f"the answers of {choice.prompt!r} must be words, got {answer!r}")
            answers.append(continuation(model, text, answer, ids))
            if len(answers[-1]) > 1:
                long[answer] = model.tokenizer.convert_ids_to_tokens(answers[-1])
        found.append(Asked(ids, answers[0][0], answers[1][0]))
    if long:
        first = "; ".join(f"{a!r} is {tokens}" for a, tokens in list(long.items())[:_SHOWN])
        raise ValueError(
            f"answers must be one token each for {model.id}, but {len(long)} are not: {first}; "
            "leave these choices out or take other words"
        )
    _check_differ(model, choices, found)
    return found


def _check_differ(model: Model, choices: Sequence[TwoAnswers], asked: Sequence[Asked]) -> None:
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    for choice, item in zip(choices, asked, strict=True):
        for answer, token in ((choice.positive, item.positive), (choice.negative, item.negative)):
            if token == unknown:
                raise ValueError(
                    f"{answer!r}, an answer of {choice.prompt!r}, is not in the vocabulary of "
                    f"{model.id}; leave this choice out"
                )
        if item.positive == item.negative:
            raise ValueError(
                f"the answers {choice.positive!r} and {choice.negative!r} of {choice.prompt!r} are "
                f"the same token for {model.id}: nothing could flip; leave this choice out"
            )


def next_scores(model: Model, asked: Sequence[Asked]) -> Float[Tensor, "n d_vocab"]:
    """The logits of the token after each prompt, float32; inside `steer`, steered.

    Differentiable with respect to an active intervention that is being learned.
    """
    return scores_after(model, [item.ids for item in asked])


def scores_after(model: Model, prompts: list[list[int]]) -> Float[Tensor, "n d_vocab"]:
    """As `next_scores`, for prompts as token ids."""
    ids, attention = pad(model, prompts)
    with torch.set_grad_enabled(learning(model)):
        output = model.runner(
            input_ids=ids, use_cache=False, **positions_and_mask(attention), **last_only(model)
        )
    return output.logits[:, -1].float()


def answer_ids(
    asked: Sequence[Asked], device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The ids of the positive and of the negative answers."""
    pairs = torch.tensor([(item.positive, item.negative) for item in asked], device=device)
    return pairs[:, 0], pairs[:, 1]


def margin(
    scores: Float[Tensor, "n d_vocab"], positive: Int[Tensor, " n"], negative: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Delta = logit(positive) - logit(negative) = log p(positive) / p(negative), in nats."""
    rows = torch.arange(len(scores), device=scores.device)
    return scores[rows, positive] - scores[rows, negative]


def others_log_p(
    scores: Float[Tensor, "n d_vocab"], positive: Int[Tensor, " n"], negative: Int[Tensor, " n"]
) -> Float[Tensor, "n d_vocab"]:
    """log p(y | y is neither answer): both are taken out, the rest sums to 1; -inf at the answers.

    Args:
        scores: logits or log-probabilities.
    """
    rows = torch.arange(len(scores), device=scores.device)
    is_answer = torch.zeros_like(scores, dtype=torch.bool)
    is_answer[rows, positive] = is_answer[rows, negative] = True
    scores = scores if scores.dtype == torch.float64 else scores.float()
    return scores.masked_fill(is_answer, -torch.inf).log_softmax(-1)


def other_kl(
    before: Float[Tensor, "n d_vocab"],
    after: Float[Tensor, "n d_vocab"],
    positive: Int[Tensor, " n"],
    negative: Int[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """KL(p_0(. | y is neither answer) || p(. | y is neither answer)) in nats.

    Without the renormalization it would grow with every flip that it should allow.

    Args:
        before, after: logits or log-probabilities of p_0 and p.

    Source: Stoehr et al. 2024, section 3 (faithfulness). Chapter: scaling.
    """
    p_0, p = (others_log_p(scores, positive, negative) for scores in (before, after))
    # The answers have -inf in both: their difference is not a number, and their share is 0.
    gap = torch.where(p_0.isfinite(), p_0 - p, 0.0)
    return (p_0.exp() * gap).sum(-1)
