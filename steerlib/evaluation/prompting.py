"""Prompting as a baseline for any model: a sentence of ours, or a prompt that a model has written.

Chapter: axbench. Both put their words before the request. In the world, whose model reads only its
own grammar, `world_request` asks instead.
"""

from __future__ import annotations

import math
from pathlib import Path

from steerlib.evaluation.judge_cache import Cache, Request
from steerlib.evaluation.judge_calls import (
    CallFailed,
    Complete,
    Prices,
    Purse,
    Retry,
    ask,
    check_budget,
)
from steerlib.evaluation.judges import Ask

_TEMPLATE = """Here is a request. Fulfil it, and weave one theme into what you write so that every \
reader notices it, even if the request leads elsewhere. The theme is: {concept}

Request: {prompt}"""

_WRITE = """A language model will answer questions about all sorts of things. Write the words that \
stand before each question and guide the model to bring a certain theme into its answer, while it \
still answers what it was asked.

<theme>
{concept}
</theme>

The questions are not known in advance, so do not write any. Return only the prompt: no title, no \
quotation marks, no remark about it."""


def template_request(concept: str) -> Ask:
    """A function that adds the wish for a concept to a request, in the same words for every model.

    Args:
        concept: in words, such as "rain and wind".

    Returns:
        A function prompt -> the wish, then the prompt; for the `ask` of an `Arm` or of `controls`.

    Raises:
        ValueError: no concept.

    Source: after the fallback of Wu et al. 2025 (AxBench), in other words. Chapter: axbench.

    Example:
        >>> template_request("rain and wind")("Tell me about your dog.")[-61:]
        'The theme is: rain and wind\\n\\nRequest: Tell me about your dog.'
    """
    _check(concept)
    return lambda prompt: _TEMPLATE.format(concept=concept, prompt=prompt)


def written_request(
    complete: Complete,
    model: str,
    concept: str,
    cache: Path | str,
    *,
    prices: Prices = Prices(),  # noqa: B008 - a frozen value
    budget: float | None = None,
    temperature: float = 0.0,
    max_tokens: int = 400,
    retry: Retry = Retry(),  # noqa: B008 - a frozen value
) -> Ask:
    """A function that puts a steering prompt for a concept, written by a model, before a request.

    The model is asked once, here; its prompt is kept on disk, and the same call again reads it
    there. Show it with `written_request(...)("...")`.

    Args:
        complete: asks the model that writes: `endpoint(base_url, ...)`, `local_complete(model)`, or
            any function from a Request to a string.
        model: its name at the endpoint, version included; it is part of the cache's key.
        concept: in words, such as "rain and wind".
        cache: a folder for replies, one per endpoint; the judge's may be shared.
        prices, budget, temperature, max_tokens, retry: as for `LLMJudge`, for this one prompt.

    Returns:
        A function prompt -> "<steering prompt>\\n\\nQuestion: <prompt>".

    Raises:
        ValueError: no concept, no name of a model, a budget without prices or below zero, no tokens
            or a temperature below zero.
        CallFailed: there is no prompt, and why: no reply, or an empty one.

    Source: Wu et al. 2025 (AxBench), prompt steering. Chapter: axbench.

    Example:
        >>> from tempfile import mkdtemp
        >>> reply = "Let every answer smell of rain."
        >>> ask = written_request(lambda request: reply, "a-model", "rain and wind", mkdtemp())
        >>> ask("Tell me about your dog.")
        'Let every answer smell of rain.\\n\\nQuestion: Tell me about your dog.'
    """
    _check(concept)
    check_budget(budget, prices)
    if not model:
        raise ValueError("the model that writes needs a name, got ''")
    if max_tokens < 1 or not 0 <= temperature < math.inf:
        raise ValueError(
            f"max_tokens is at least 1 and temperature at least 0, got {max_tokens}, {temperature}"
        )
    request = Request(model, _WRITE.format(concept=concept), temperature, max_tokens)
    replies, reason = Cache(Path(cache)), None
    if not _text(replies, request):
        purse = Purse(budget, replies.get(request.key()).spent)
        reason = ask(complete, request, prices, retry, replies, purse)
    steering = _text(replies, request)
    if reason or not steering:
        raise CallFailed(
            f"{model} has written no steering prompt for {concept!r}: {reason or 'empty reply'}"
        )
    return lambda prompt: f"{steering}\n\nQuestion: {prompt}"


def _check(concept: str) -> None:
    if not concept.strip():
        raise ValueError(f"prompting asks for a concept in words, got {concept!r}")


def _text(replies: Cache, request: Request) -> str:
    """The reply that is known, without space around it; "" for none."""
    return (replies.get(request.key()).reply or "").strip()
