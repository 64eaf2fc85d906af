r"""Pairs of a preferred and a rejected response, and how likely each is with and without steering.

Chapter: bipo. For a prompt x with responses y_T (target) and y_O (opposite) and a push u,
s(y; u) = sum over the tokens of y of log p(y_t | x, y_<t; u), the end of the turn among them, and
Delta(u) = [s(y_T; u) - s(y_T; 0)] - [s(y_O; u) - s(y_O; 0)].
What does not depend on u is computed once.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.core.answers import TwoAnswers
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.prompts import batches_by_length
from steerlib.core.responses import Batch, Encoded, encode_response, response_log_p
from steerlib.core.steering import steer
from steerlib.methods.learned import Talk

_BATCH = 32  # pairs that are read at once without gradient


@dataclass(frozen=True, eq=False)
class Pairs:
    """n pairs as a model reads them: the target first, the opposite second.

    Args:
        reference: s(y; 0) of both responses, in nats.
        tokens: the number of tokens of both responses, the end of the turn among them.
    """

    model: Model
    encoded: Sequence[tuple[Encoded, Encoded]]
    reference: Float[Tensor, "n 2"]
    tokens: Int[Tensor, "n 2"]

    @staticmethod
    def of(
        model: Model,
        choices: Sequence[TwoAnswers],
        chat: bool | None = None,
        system: str | None = None,
    ) -> Pairs:
        """Encode pairs and compute what they are worth without steering.

        Raises:
            ValueError: no pairs; a response that is empty, does not fit into the context or runs
                into the prompt; two responses with the same tokens.

        Warns:
            UserWarning: how many pairs differ in nothing but their end.
        """
        if not choices:
            raise ValueError("a vector is learned from preferences, got no pairs")
        encoded = [_encoded(model, choice, chat, system) for choice in choices]
        _check(model, encoded, choices)
        log_p = torch.zeros(len(encoded), 2)
        tokens = torch.zeros(len(encoded), 2, dtype=torch.long)
        with torch.no_grad():
            for rows in batches_by_length([target.ids for target, _ in encoded], _BATCH):
                found = _log_p(model, [encoded[row] for row in rows])
                log_p[rows], tokens[rows] = (values.cpu() for values in found)
        return Pairs(model, encoded, log_p.to(model.device), tokens.to(model.device))

    def log_p(
        self, intervention: Intervention, rows: Sequence[int], strengths: Sequence[float]
    ) -> Float[Tensor, "strengths rows 2"]:
        """s(y; strength * u) of both responses of some pairs, at several strengths in one batch.

        Differentiable in the parameters of the intervention.
        """
        chosen = [self.encoded[row] for row in rows] * len(strengths)
        each = torch.tensor(strengths, dtype=torch.float32).repeat_interleave(2 * len(rows))
        with steer(self.model, intervention, strength=each):
            found, _ = _log_p(self.model, chosen)
        return found.reshape(len(strengths), len(rows), 2)

    def margin(
        self,
        intervention: Intervention,
        rows: Sequence[int] | None = None,
        strengths: Sequence[float] = (1.0,),
    ) -> Float[Tensor, "strengths rows"]:
        """Delta(strength * u) of some pairs (default: all) in nats; see the head of this file."""
        rows = range(len(self.encoded)) if rows is None else rows
        gain = self.log_p(intervention, rows, strengths) - self.reference[list(rows)]
        return gain[..., 0] - gain[..., 1]


def talks_of(choices: Sequence[TwoAnswers]) -> list[Talk]:
    """Each pair as two dialogues: the positive answer with label True, the other with False.

    So that what learns from dialogues (`st.reps`, `st.diff_means`) takes pairs.

    Chapter: bipo.

    Example:
        >>> [talk.label for talk in talks_of([st.evaluation.Choice("hi", "yes", "no")])]
        [True, False]
    """
    return [
        Talk(choice.prompt, answer, label)
        for choice in choices
        for answer, label in ((choice.positive, True), (choice.negative, False))
    ]


def _encoded(
    model: Model, choice: TwoAnswers, chat: bool | None, system: str | None
) -> tuple[Encoded, Encoded]:
    chat = choice.chat if choice.chat is not None else chat
    system = choice.system if choice.system is not None else system
    target, opposite = (
        encode_response(model, Talk(choice.prompt, answer, label), chat, system)
        for answer, label in ((choice.positive, True), (choice.negative, False))
    )
    return target, opposite


def _check(
    model: Model, encoded: Sequence[tuple[Encoded, Encoded]], choices: Sequence[TwoAnswers]
) -> None:
    """Stop at a pair without a preference; count those that prefer an end and nothing else."""
    ends = []
    for choice, pair in zip(choices, encoded, strict=True):
        if pair[0].ids == pair[1].ids:
            raise ValueError(
                f"both responses to {choice.prompt[:60]!r} have the same tokens for {model.id}: "
                f"{choice.positive[:60]!r} and {choice.negative[:60]!r}; a pair needs two different"
            )
        target, opposite = (_without_end(model, response) for response in pair)
        if target == opposite:
            ends.append(choice)
    if ends:
        warnings.warn(
            f"{len(ends)} of {len(choices)} pairs differ only in how the response ends, such as "
            f"{ends[0].positive[-40:]!r} and {ends[0].negative[-40:]!r}: they teach when to stop, "
            "not what to say",
            stacklevel=5,  # whoever called `st.bipo`
        )


def _without_end(model: Model, response: Encoded) -> list[int]:
    """The tokens of prompt and response without the ends of turn that close them."""
    ids = list(response.ids)
    while len(ids) > response.start and ids[-1] in model.eos_ids:
        ids.pop()
    return ids


def _log_p(
    model: Model, pairs: Sequence[tuple[Encoded, Encoded]]
) -> tuple[Float[Tensor, "rows 2"], Int[Tensor, "rows 2"]]:
    """Summed log-probabilities and numbers of tokens of both responses of each pair."""
    batch = Batch.of(model, [response for pair in pairs for response in pair])
    log_p, tokens = response_log_p(model, batch)
    return log_p.reshape(-1, 2), tokens.reshape(-1, 2)
