"""A local Hugging Face model as judge: no endpoint, no price, the same ratings and cache.

Chapter: axbench.
"""

from __future__ import annotations

from pathlib import Path

from steerlib.core.generation import generate
from steerlib.core.model import Model
from steerlib.evaluation.judge_cache import Request
from steerlib.evaluation.judge_calls import CallFailed, Complete, Retry
from steerlib.evaluation.llm_judge import LLMJudge


def local_complete(model: Model, *, seed: int = 0) -> Complete:
    """A function that asks a model of this machine, through its chat template where it has one.

    Args:
        model: not one that is being steered at the time: it would judge as it is steered.
        seed: for a temperature above 0.

    Returns:
        `complete(request) -> str`. A question that does not fit the context has no rating.

    Chapter: axbench.

    Example:
        >>> from steerlib.evaluation.judge_cache import Request
        >>> text = local_complete(model)(Request("world", "tell me about the dog .", 0.0, 8))
    """

    def complete(request: Request) -> str:
        try:
            return generate(
                model,
                request.prompt,
                max_new_tokens=request.max_tokens,
                temperature=request.temperature,
                seed=seed,
            )
        except ValueError as error:
            if "does not fit" not in str(error):
                raise
            raise CallFailed("question longer than the context", billed=False) from None

    return complete


def local_judge(
    model: Model,
    cache: Path | str,
    *,
    temperature: float = 0.0,
    max_tokens: int = 200,
    seed: int = 0,
) -> LLMJudge:
    """A judge that is a model of this machine; the cache knows it by its name and revision.

    Args:
        cache: a folder for the replies.
        temperature, max_tokens: as for `LLMJudge`; seed: for a temperature above 0.

    Chapter: axbench.

    Example:
        >>> from tempfile import mkdtemp
        >>> local_judge(model, mkdtemp()).model.startswith("world@")
        True
    """
    return LLMJudge(
        local_complete(model, seed=seed),
        f"{model.id}@{model.revision}#{seed}",
        cache,
        temperature=temperature,
        max_tokens=max_tokens,
        retry=Retry(attempts=1),
    )
