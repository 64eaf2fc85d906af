"""Labelled texts: what every supervised fit and every detector's test takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from steerlib.core.prompts import Prompt


class Labelled(Protocol):
    """Texts with a truth value each: True where a text shows the concept."""

    @property
    def texts(self) -> Sequence[Prompt]: ...
    @property
    def labels(self) -> Sequence[bool]: ...


@dataclass(frozen=True)
class Texts:
    """Some texts with labels: a part of others, or other labels for the same."""

    texts: Sequence[Prompt]
    labels: Sequence[bool]


def both_classes(data: Labelled) -> tuple[list[Prompt], list[bool]]:
    """The texts and labels, once they are known to be usable.

    Raises:
        ValueError: texts and labels of different number, a label that is neither True nor False
            (1 and 0 count as such), or only one class.
    """
    texts, labels = list(data.texts), list(data.labels)
    strange = [label for label in labels if label not in (0, 1)]
    if strange:
        raise ValueError(
            f"labels are True (shows the concept) or False, or 1 and 0; got {strange[0]!r}. "
            "With more classes, fit one against the rest"
        )
    truth = [bool(label) for label in labels]
    if len(texts) != len(truth) or len(set(truth)) != 2:
        raise ValueError(
            f"needed are one label per text and both classes; got {len(texts)} texts and "
            f"{len(truth)} labels, {sum(truth)} of them true. Add texts with and without the "
            "concept"
        )
    return texts, truth
