r"""How much a model in a role holds to each value: its answers to a questionnaire, as scores.

Chapter: values. Source: Kang et al. 2025, "Are the values of LLMs structurally aligned with humans?
A causal perspective" (2501.00581). The paper reads a generated answer; here the distribution over
the answers is the default: it needs no parser, and it shows a change before an answer flips.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence, Sized
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from steerlib.core.answers import scores_after
from steerlib.core.generation import generate
from steerlib.core.model import Model
from steerlib.core.prompts import batches_by_length, encode
from steerlib.core.questionnaires import Questionnaire
from steerlib.core.responses import continuation
from steerlib.core.session import rows_of_batch, sessions
from steerlib.methods.value_answers import parse_answer
from steerlib.methods.value_prompts import Roles, named, prompts

if TYPE_CHECKING:
    import pandas as pd

Readout = Literal["expected", "generated"]
Parse = Callable[[str], str | None]

_RARE = 0.1  # a share of p below which the answers are not what the model would say
_SEAM = 32  # characters before an answer that can matter for its tokens


def value_scores(
    model: Model,
    questionnaire: Questionnaire,
    roles: Roles,
    *,
    readout: Readout = "expected",
    template: str | None = None,
    chat: bool | None = None,
    batch_size: int = 256,
    max_new_tokens: int = 100,
    parse: Parse | None = None,
) -> pd.DataFrame:
    r"""The score of each value in each role; inside `steer`, steered.

    s_v(role) = mean over the items i about v of agreement_i level_i(role), where level_i is

    * "expected": sum_a level(a) p(a), p(a) that of the answer's first token after the prompt,
      renormalized over the answers;
    * "generated": the level of the answer that greedy decoding writes, the middle of the scale
      where none can be read.

    Args:
        roles: system prompts, None for no role; a mapping names them.
        template: None sends a chat: the role as the system message, the question as the user's.
            Else a text with {role} and {question}, such as `paper_prompt()`; a paragraph with
            {role} is left out for no role.
        chat: for a template only. True sends the text as a user's message (some chat templates
            know no system message), False and None as it is.
        batch_size: prompts read at once, by length.
        max_new_tokens: of a generation ("generated" only).
        parse: generation -> answer or None ("generated" only); default `parse_answer`.

    Returns:
        One row per role, in their order, one column per value, in levels. A list names its rows by
        the texts, None is "no role". Where `steer` has one strength per sample, a sample is a role
        ("expected" only).

    Raises:
        TypeError: roles that are not texts. ValueError: no roles, one twice, an empty one; neither
            a chat template nor a template; a template without its fields; answers whose first
            tokens coincide or are unknown; a prompt that does not fit; a tensor of strengths
            around "generated"; an answer from `parse` that is none.

    Source: Kang et al. 2025 ("generated", with yes, no and unsure as 1, -1 and 0). Chapter: values.

    Example:
        >>> asked = Questionnaire.from_triples(st.world.values.questions(), st.world.values.LEVELS)
        >>> role = "you are a young banker from the coast who enjoys chess ."
        >>> value_scores(model, asked, {"banker": role, "nobody": None}).shape
        (2, 10)
    """
    import pandas as pd

    if readout not in get_args(Readout):
        raise ValueError(f"readout is one of {get_args(Readout)}, got {readout!r}")
    rows, items = named(roles), questionnaire.items
    texts = prompts(model, [i.question for i in items], list(rows.values()), template, chat)
    if readout == "expected":
        levels = _expected(model, texts, questionnaire, batch_size)
    else:
        levels = _generated(model, texts, questionnaire, parse, max_new_tokens, batch_size)
    signed = levels.reshape(len(rows), len(items)) * [item.agreement for item in items]
    columns = {
        value: signed[:, [item.value == value for item in items]].mean(1)
        for value in questionnaire.values
    }
    return pd.DataFrame(columns, index=pd.Index(list(rows), name="role"))


# --- the distribution over the answers


def _expected(
    model: Model, texts: list[str], questionnaire: Questionnaire, batch_size: int
) -> Float[np.ndarray, " prompts"]:
    """The mean level of the answer to each prompt."""
    answers = questionnaire.answers
    levels = torch.tensor(list(answers.values()), dtype=torch.float64)
    ids = [encode(model, text, chat=False, room=1)[0] for text in texts]
    tokens = torch.tensor(_first_tokens(model, texts, ids, list(answers)))
    found, log_mass = torch.zeros(2, len(texts), dtype=torch.float64)
    for rows in _batches(ids, batch_size):
        with torch.no_grad(), rows_of_batch(model, [row // len(questionnaire) for row in rows]):
            scores = scores_after(model, [ids[row] for row in rows])
        those = scores.gather(1, tokens[rows].to(scores.device)).cpu().double()
        found[rows] = those.softmax(1) @ levels
        log_mass[rows] = those.logsumexp(1) - scores.logsumexp(1).cpu().double()
    _warn_rare(model, log_mass.exp().mean().item(), list(answers))
    return found.numpy()


def _first_tokens(
    model: Model, texts: list[str], ids: list[list[int]], answers: list[str]
) -> list[list[int]]:
    """The first token of each answer after each text."""
    known: dict[str, list[int]] = {}
    for text, own in zip(texts, ids, strict=True):
        # Prompts mostly end in the same words, and the tokens of an answer depend on no others.
        if text[-_SEAM:] not in known:
            known[text[-_SEAM:]] = _distinct(model, text, own, answers)
    return [known[text[-_SEAM:]] for text in texts]


def _distinct(model: Model, text: str, ids: list[int], answers: list[str]) -> list[int]:
    tokens = [continuation(model, text, answer, ids)[0] for answer in answers]
    for token in tokens:
        same = [answer for answer, other in zip(answers, tokens, strict=True) if other == token]
        if len(same) > 1 or token == getattr(model.tokenizer, "unk_token_id", None):
            piece = model.tokenizer.convert_ids_to_tokens(token)
            raise ValueError(
                f"after ...{text[-20:]!r} the answers {same} begin with the token {piece!r} for "
                f"{model.id}; the first token tells the answers apart, so it must be a known one "
                'and another for each. Take other answers, or readout="generated"'
            )
    return tokens


def _batches(ids: Sequence[Sized], batch_size: int) -> tqdm:
    """The numbers of prompts of like length, with a bar where it takes long."""
    batches = batches_by_length(ids, batch_size)
    return tqdm(batches, "answers", unit="batch", leave=False, delay=2)


def _warn_rare(model: Model, mass: float, answers: list[str]) -> None:
    if mass < _RARE:
        warnings.warn(
            f"{model.id} gives all of {answers} together a probability of {mass:.2g}, so that the "
            "scores weigh what it would hardly say; does the prompt end where an answer is due?",
            stacklevel=4,
        )


# --- generated answers


def _generated(
    model: Model,
    texts: list[str],
    questionnaire: Questionnaire,
    parse: Parse | None,
    max_new_tokens: int,
    batch_size: int,
) -> Float[np.ndarray, " prompts"]:
    """The level of the answer that is written after each prompt."""
    if any(isinstance(session.strength, Tensor) for session in sessions(model)):
        raise ValueError(
            'one strength per role is for readout="expected"; steer with one number around '
            '"generated"'
        )
    read = parse or partial(parse_answer, answers=tuple(questionnaire.answers))
    found: dict[int, str | None] = {}
    for rows in _batches(texts, batch_size):
        batch = [texts[row] for row in rows]
        written = generate(
            model, batch, chat=False, max_new_tokens=max_new_tokens, batch_size=batch_size
        )
        found |= zip(rows, map(read, written), strict=True)
    return _levels([found[row] for row in range(len(texts))], questionnaire)


def _levels(given: list[str | None], questionnaire: Questionnaire) -> Float[np.ndarray, " prompts"]:
    levels = questionnaire.answers
    strange = [answer for answer in given if answer is not None and answer not in levels]
    if strange:
        raise ValueError(f"parse gives one of {list(levels)} or None, but it gave {strange[0]!r}")
    middle = (min(levels.values()) + max(levels.values())) / 2
    if unread := given.count(None):
        warnings.warn(
            f"{unread} of {len(given)} generations give none of {list(levels)} and count as the "
            f"middle of the scale, {middle:g}",
            stacklevel=4,
        )
    return np.array([middle if answer is None else levels[answer] for answer in given])
