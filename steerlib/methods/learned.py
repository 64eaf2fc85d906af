"""Learned methods as fits: so that `recommend`, controls and sweeps treat all methods alike.

Chapter: axbench.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steerlib.core.interventions import Intervention
from steerlib.core.labelled import Labelled as LabelledTexts
from steerlib.core.model import Model
from steerlib.core.prompts import Chat
from steerlib.core.sites import Site
from steerlib.methods.reft import Labelled

Learn = Callable[[Model, Sequence[Labelled], Site], Intervention]


@dataclass(frozen=True)
class Talk:
    """A request, a response, and whether the response shows the concept."""

    prompt: Any
    response: str
    label: bool


@dataclass(frozen=True)
class Dialogues:
    """Labeled texts that are chats: every fit takes them, learned methods among them.

    Example:
        >>> data = st.Dialogues(st.world.dialogues("weather", 12))
        >>> st.diff_means(model, data, st.resid(2))
    """

    dialogues: Sequence[Labelled]

    @property
    def texts(self) -> list[Chat]:
        """Each dialogue as a chat that ends with the response."""
        return [_chat(dialogue) for dialogue in self.dialogues]

    @property
    def labels(self) -> list[bool]:
        return [d.label for d in self.dialogues]

    @property
    def kinds(self) -> list[str] | None:
        """What each response shows, where the dialogues tell it, such as `contrasts`."""
        kinds = [getattr(d, "kind", "") for d in self.dialogues]
        return kinds if all(kinds) else None


def learned(learn: Learn) -> Callable[[Model, LabelledTexts, Site], Intervention]:
    """A fit (model, data, site) from a method that learns from dialogues.

    The labels are those of the data, so that shuffling them is a control for it too.

    Args:
        learn: such as `st.reft_r1` or `functools.partial(st.supervised_vector, plan=...)`.

    Raises:
        ValueError: in the fit: texts that are no chats of a request and a response.

    Chapter: axbench.

    Example:
        >>> fit = st.learned(st.supervised_vector)
        >>> fit(model, st.Dialogues(st.world.dialogues("weather", 12)), st.resid(2))
    """

    def fit(model: Model, data: LabelledTexts, site: Site) -> Intervention:
        talks = [_talk(text, bool(y)) for text, y in zip(data.texts, data.labels, strict=True)]
        return learn(model, talks, site)

    return fit


def _chat(dialogue: Labelled) -> Chat:
    asked = dialogue.prompt
    turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return [*turns, {"role": "assistant", "content": dialogue.response}]


def _talk(text: Any, label: bool) -> Talk:
    roles = [turn["role"] for turn in text] if isinstance(text, list) else None
    if roles is None or len(roles) < 2 or roles[-1] != "assistant":
        raise ValueError(
            "a learned method needs chats that end with a response, "
            f"[{{'role': 'user', ...}}, {{'role': 'assistant', ...}}]; got {text!r}"
        )
    return Talk(text[:-1], text[-1]["content"], label)
