"""What an intervention changes besides what it is for: KL on neutral prompts, facts, grammar.

Chapter: directions. A strength is chosen on what it is for and paid for here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.generation import generate, logits
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.prompts import answer_id
from steerlib.core.session import rows_of_batch
from steerlib.evaluation.scoring import Arm, as_arm
from steerlib.statistics import Interval, bootstrap_mean
from steerlib.world.datasets import SplitName, instruction_prompts
from steerlib.world.geography import fact_questions
from steerlib.world.judges import grammatical_share

Measure = Callable[[Model], Sequence[float]]


def side_effects(
    model: Model,
    intervention: Intervention,
    strengths: Sequence[float],
    neutral: Sequence[str],
    *,
    measures: Mapping[str, Measure] | None = None,
    chat: bool | None = None,
    system: str | None = None,
    batch_size: int = 32,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    r"""How far the next token moves on neutral prompts, and what other measures say.

    KL(p_0 || p_s) = sum_x p_0(x) (log p_0(x) - log p_s(x)) in nats, for the distribution p of the
    token after each prompt at strength 0 and at strength s.

    Args:
        strengths: where to measure; put 0 among them to see the measures without steering.
        neutral: prompts that have nothing to do with the intervention.
        measures: functions of the model, called while it is steered; each returns one number per
            unit (a question, a text), such as `world_facts`.

    Returns:
        strength, measure ("kl" and the names of `measures`), mean, low, high, n.

    Raises:
        ValueError: no strengths, one twice or not finite, fewer than two prompts, a measure called
            "kl", a measure with fewer than two numbers or one that is not finite.

    Chapter: directions.

    Example:
        >>> side_effects(model, weather, (0, 1, 2), questions, measures={"facts": world_facts})
    """
    if not len(strengths):
        raise ValueError("side_effects needs at least one strength, got none")
    arm = Arm("steered", intervention, tuple(strengths))
    options: dict[str, Any] = {"chat": chat, "system": system, "batch_size": batch_size}
    return price(model, arm, neutral, measures=measures, level=level, seed=seed, **options)


def price(
    model: Model,
    arm: Arm,
    neutral: Sequence[str],
    *,
    measures: Mapping[str, Measure] | None = None,
    chat: bool | None = None,
    system: str | None = None,
    batch_size: int = 32,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The side effects of an arm at each of its strengths: of a fine-tuned copy as of a vector.

    The arm's other words are not used: neutral prompts are asked as they are.

    Args:
        model: p_0 is its distribution without the arm.
        arm: what changes: an intervention, another model, or both.
        neutral, measures, chat, system, batch_size: as in `side_effects`, which this is for one
            intervention.

    Returns:
        As `side_effects`.

    Raises:
        ValueError: as in `side_effects`.

    Chapter: axbench.

    Example:
        >>> price(model, Arm("weather", weather, (1.0, 2.0)), questions)
    """
    named = dict(measures or {})
    if "kl" in named:
        raise ValueError('"kl" is always measured; give your own measure another name')
    if isinstance(neutral, str) or len(neutral) < 2:
        raise ValueError(f"side_effects needs two or more neutral prompts, got {neutral!r}")
    options: dict[str, Any] = {"chat": chat, "system": system, "batch_size": batch_size}
    prompts, net = list(neutral), arm.model or model
    before = next_token(model, prompts, **options)
    lines = []
    for strength in arm.strengths:
        with as_arm(net, arm, strength):
            after = next_token(net, prompts, **options)
            values = {name: list(measure(net)) for name, measure in named.items()}
        kl = (before.exp() * (before - after)).sum(-1).tolist()
        for name, numbers in ({"kl": kl} | values).items():
            found = _interval(name, strength, numbers, level, seed)
            line = {"strength": strength, "measure": name, "mean": found.estimate}
            lines.append(line | {"low": found.low, "high": found.high, "n": len(numbers)})
    return pd.DataFrame(lines)


def next_token(
    model: Model,
    prompts: Sequence[str],
    *,
    chat: bool | None = None,
    system: str | None = None,
    batch_size: int = 32,
) -> Float[Tensor, "n d_vocab"]:
    """The log-probabilities of the token after each prompt, in double precision on the CPU."""
    found = []
    for start in range(0, len(prompts), batch_size):
        batch = list(prompts[start : start + batch_size])
        with torch.no_grad(), rows_of_batch(model, list(range(start, start + len(batch)))):
            scores = logits(model, batch, chat=chat, system=system)[:, -1]
        found.append(scores.cpu().double().log_softmax(-1))
    return torch.cat(found)


def world_facts(model: Model) -> list[float]:
    """1 or 0 for each question about the world's geography: is the likeliest answer the true one?

    All subjects of all relations are asked, as in *what is the capital of Italy ?*.

    Raises:
        ValueError: an answer that is not one token: a model of another world.

    Chapter: hooks.

    Example:
        >>> sum(world_facts(model)) / len(world_facts(model))
    """
    pairs = fact_questions()
    truth = torch.tensor([answer_id(model, answer) for _, answer in pairs])
    best = next_token(model, [question for question, _ in pairs], batch_size=128).argmax(-1)
    return (best == truth).double().tolist()


def world_grammar(
    model: Model, n: int = 18, *, split: SplitName = "selection", seed: int = 0
) -> list[float]:
    """The share of grammatical sentences in the answer to each of n plain requests.

    Answers are sampled at temperature 1, up to 36 tokens.

    Chapter: directions.

    Example:
        >>> side_effects(model, weather, (0, 2), questions, measures={"grammar": world_grammar})
    """
    prompts = [request.text for request in instruction_prompts(n, seed, split)]
    texts = generate(model, prompts, max_new_tokens=36, temperature=1.0, seed=seed)
    return [grammatical_share(text) for text in texts]


def _interval(
    name: str, strength: float, numbers: Sequence[float], level: float, seed: int
) -> Interval:
    try:
        return bootstrap_mean(numbers, level, seed=seed)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"measure {name!r} at strength {strength}: {error}") from error
