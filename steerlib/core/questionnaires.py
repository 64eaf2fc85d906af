"""Questions about values, and what their answers count: what a role's scores are measured with.

Chapter: values. Every role answers the same items. A sample of items drawn for each role, as in
the paper's training data, would be mixed up with the roles: two of them may then differ because
they were asked something else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Item:
    """One question about one value.

    Args:
        question: as it is asked.
        value: what it is about.
        agreement: +1 where a high answer speaks for the value, -1 where it speaks against it.

    Raises:
        ValueError: no question, no value, or another agreement.

    Chapter: values.

    Example:
        >>> Item("Should I avoid people?", "social", -1).agreement
        -1
    """

    question: str
    value: str
    agreement: int = 1

    def __post_init__(self) -> None:
        for name in ("question", "value"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"the {name} of an item is a text, got {text!r} in {self}")
        if self.agreement not in (1, -1):
            raise ValueError(
                f"the agreement of {self.question!r} is +1 (a high answer speaks for "
                f"{self.value!r}) or -1 (against it), got {self.agreement!r}"
            )


@dataclass(frozen=True)
class Questionnaire:
    """Items about some values, and the answers to all of them with their levels.

    Args:
        items: at least one; no question twice for one value. Two values may share a question:
            their scores are then correlated for that reason alone.
        answers: answer -> level, such as {"yes": 1, "no": -1}.

    Raises:
        TypeError: something else than items. ValueError: no items, an item twice, fewer than two
            answers, an empty answer, levels that are not finite or all the same.

    Source: the questionnaires of ValueBench (Ren et al. 2024), as Kang et al. 2025 (2501.00581)
    ask them. Chapter: values.

    Example:
        >>> asked = [("Should I help?", "social", 1), ("Should I avoid people?", "social", -1)]
        >>> social = Questionnaire.from_triples(asked, {"yes": 1, "no": -1})
        >>> social.values, len(social)
        (('social',), 2)
    """

    items: tuple[Item, ...]
    answers: Mapping[str, float]

    def __post_init__(self) -> None:
        items = tuple(self.items)
        _check_items(items)
        answers = {answer: float(level) for answer, level in dict(self.answers).items()}
        _check_answers(answers)
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "answers", answers)

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def from_triples(
        cls, triples: Iterable[tuple[str, str, int]], answers: Mapping[str, float]
    ) -> Questionnaire:
        """A questionnaire from (question, value, agreement), such as `st.world.values.questions()`.

        Raises:
            ValueError: as `Item` and `Questionnaire`.

        Chapter: values.

        Example:
            >>> levels = st.world.values.LEVELS
            >>> len(Questionnaire.from_triples(st.world.values.questions(), levels).values)
            10
        """
        return cls(tuple(Item(*triple) for triple in triples), answers)

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the values, by their first item."""
        return tuple(dict.fromkeys(item.value for item in self.items))

    def of(self, value: str) -> tuple[Item, ...]:
        """The items of one value.

        Raises:
            KeyError: no such value.
        """
        found = tuple(item for item in self.items if item.value == value)
        if not found:
            raise KeyError(f"there are no items about {value!r}; the values are {self.values}")
        return found

    def split(self, share: float, seed: int = 0) -> tuple[Questionnaire, Questionnaire]:
        """Two questionnaires that have no item in common, both about all values.

        A question that two values share may be in both.

        Args:
            share: of each value's items in the first, between 0 and 1, rounded to whole items;
                each part has at least one item of each value.
            seed: of the draw. It does not depend on the other values of the questionnaire.

        Returns:
            Both in the order of the items here.

        Raises:
            ValueError: a share outside (0, 1), a value with a single item.

        Source: Kang et al. 2025 split 70/30 by item, without a seed. Chapter: values.

        Example:
            >>> world = st.world.values
            >>> asked = Questionnaire.from_triples(world.questions(), world.LEVELS)
            >>> [len(part.of("power")) for part in asked.split(0.67)]
            [2, 1]
        """
        if not 0 < share < 1:
            raise ValueError(f"share lies between 0 and 1 (both left out), got {share}")
        drawn = {item for value in self.values for item in self._drawn(value, share, seed)}
        first = tuple(item for item in self.items if item in drawn)
        second = tuple(item for item in self.items if item not in drawn)
        return Questionnaire(first, self.answers), Questionnaire(second, self.answers)

    def _drawn(self, value: str, share: float, seed: int) -> list[Item]:
        """Some items of a value, neither none nor all."""
        items = self.of(value)
        if len(items) < 2:
            raise ValueError(
                f"{value!r} has a single item, so it cannot be in both parts; leave it out"
            )
        count = min(max(round(share * len(items)), 1), len(items) - 1)
        return Random(f"{seed}-{value}").sample(items, count)


def _check_items(items: tuple[Item, ...]) -> None:
    strange = [item for item in items if not isinstance(item, Item)]
    if strange:
        raise TypeError(
            f"the items of a questionnaire are of the class Item, got {strange[0]!r}; "
            "Questionnaire.from_triples takes (question, value, agreement)"
        )
    if not items:
        raise ValueError("a questionnaire needs at least one item, got none")
    counts = Counter((item.question, item.value) for item in items)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        question, value = twice[0]
        raise ValueError(
            f"{len(twice)} questions stand here more than once for one value, such as "
            f"{question!r} for {value!r}; they would count double: leave the repetitions out"
        )


def _check_answers(answers: Mapping[str, float]) -> None:
    if len(answers) < 2 or not all(answer.strip() for answer in answers):
        raise ValueError(f"needed are at least two answers in words, got {list(answers)}")
    levels = list(answers.values())
    if not all(map(math.isfinite, levels)) or len(set(levels)) < 2:
        raise ValueError(
            f"the levels of the answers are finite numbers, not all the same; got {dict(answers)}"
        )
