"""Which answer a generation gives: read carefully, and read as the paper's code does.

Chapter: values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NEXT = re.compile(r"\n\W*(?:question|example|instruction)\W*:", re.I)  # no longer its own turn
_COLON, _IS = re.compile(r"\banswer\W*:", re.I), re.compile(r"\banswer is\b", re.I)
# An answer stands alone: "no" is none in "nothing", "no one" or "no/yes".
_ALONE = r"""[^\S\n]*(?:$|\n|[.,;:!)"'*_`”’…–—]|-\s)"""
_PUBLISHED = {"yes": ("yes", "sure"), "no": ("no",)}  # what an answer may begin with


def parse_answer(
    text: str, answers: Sequence[str] = ("yes", "no"), *, as_published: bool = False
) -> str | None:
    r"""The answer that a generation gives, or None where it gives none.

    It is what comes first after the first "Answer:" (without one, in the whole text, or else after
    "answer is") if that is one of the answers and stands alone: at the end, before punctuation or
    a new line. Nothing counts from where the model writes the next question.

    Args:
        text: what the model wrote, without the prompt.
        answers: the possible ones; upper and lower case are the same.
        as_published: read it as the authors' code does: at the start of the text or after the
            *last* "Answer:", whatever *begins* like an answer, "sure" being a yes. So "not sure"
            and "nothing" are a no, "surely not" is a yes, and where the model goes on to further
            questions their answer counts. What these rules leave open, such as "**Yes**", the
            authors gave to GPT-3.5, or called unsure where that failed; here it is None.

    Returns:
        One of `answers`, as it is spelled there, or None.

    Raises:
        ValueError: `as_published` with other answers than yes and no.

    Source: Kang et al. 2025 (2501.00581), `judge_answer` of their notebook at commit d78dff0.
    Chapter: values.

    Example:
        >>> text = " I am not sure.\nAnswer: no\n\nExample:\nQuestion: And you?\nAnswer: yes"
        >>> parse_answer(text), parse_answer(text, as_published=True)
        ('no', 'yes')
    """
    if as_published:
        if set(answers) != set(_PUBLISHED):
            raise ValueError(f"the published rules know yes and no only, got {list(answers)}")
        return _as_published(text)
    own = _COLON.split(_NEXT.split(text, maxsplit=1)[0], maxsplit=1)[-1]
    for part in (own, *_IS.split(own, maxsplit=1)[1:]):
        for answer in answers:
            if re.match(rf"[\W_]*{re.escape(answer)}{_ALONE}", part, re.I):
                return answer
    return None


def _as_published(text: str) -> str | None:
    lowered = text.lower()
    starts = (lowered, lowered.split("\nanswer:")[-1].strip())
    for answer, beginnings in _PUBLISHED.items():
        if any(start.startswith(beginnings) for start in starts):
            return answer
    return None
