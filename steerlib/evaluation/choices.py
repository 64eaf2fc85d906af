"""Dialogues with and without a concept as pairs of answers, for what learns from preferences.

Chapter: bipo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from steerlib.core.responses import Exchange
from steerlib.world.choices import Choice


class Talking(Exchange, Protocol):
    """A request, a response, and whether the response shows the concept."""

    @property
    def label(self) -> bool: ...


def choices_of(dialogues: Sequence[Talking]) -> list[Choice]:
    """The k-th response with the concept against the k-th without, to each request.

    A response that has no counterpart to the same request is left out.

    Args:
        dialogues: such as `st.world.dialogues`; requests are texts, not chats.

    Returns:
        Choices in the order of the requests; the positive answer has the label True.

    Raises:
        TypeError: a request that is a chat. ValueError: no request has responses with and without
            the concept, or two that are paired are the same.

    Chapter: bipo.

    Example:
        >>> choices_of(st.world.dialogues("weather", 1))[0].prompt
        'write about the cat .'
    """
    found: dict[str, tuple[list[str], list[str]]] = {}
    for dialogue in dialogues:
        if not isinstance(dialogue.prompt, str):
            raise TypeError(f"choices are made of requests that are texts, got {dialogue.prompt!r}")
        found.setdefault(dialogue.prompt, ([], []))[not dialogue.label].append(dialogue.response)
    choices = [
        Choice(prompt, positive, negative)
        for prompt, sides in found.items()
        for positive, negative in zip(*sides, strict=False)
    ]
    if not choices:
        raise ValueError(
            f"no request of {len(dialogues)} dialogues has a response with the concept and one "
            "without; a choice needs both"
        )
    return choices
