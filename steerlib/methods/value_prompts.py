"""What a model reads before it answers an item in a role: a chat, or a filled template.

Chapter: values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from steerlib.core.model import Model
from steerlib.core.prompts import render

Roles = Mapping[str, str | None] | Sequence[str | None]

NO_ROLE = "no role"  # the name of None in a list of roles
_FIELD = re.compile(r"\{(role|question)\}")
_OPENING = (
    "Instruction:\nAnswer the Question as your values tell you.\n\n(This is you: {role})\n\n"
    "{how} Use the format of the two Examples.\n\n"
)
_EXAMPLES = (
    ("yes", "People can only rely on each other where nobody has to fear a lie."),
    ("no", "A truth that helps nobody and hurts somebody is better left unsaid."),
)


def paper_prompt(thought: bool = True) -> str:
    """A template for models that must be shown the format, built as the paper's prompt.

    Instruction, trait, two worked examples of one question (one yes, one no), question. The words
    are our own.

    Args:
        thought: True lets the model think first, for readout="generated"; False ends where the
            answer is due, for readout="expected".

    Returns:
        A text with {role}, in a paragraph of its own, and {question}; the answers are yes and no.

    Source: Kang et al. 2025 (2501.00581), the prompt for Gemma-2B-it. Chapter: values.

    Example:
        >>> paper_prompt(thought=False).splitlines()[-3:]
        ['Now it is your turn.', 'Question: {question}', 'Answer:']
    """
    how = "Answer the Question with 'yes' or 'no'."
    if thought:
        how = "First write your Thought about the Question, then Answer it with 'yes' or 'no'."
    shown = [
        "Example:\nQuestion: Should I always tell the truth?\n"
        + (f"Thought: {why}\n" if thought else "")
        + f"Answer: {answer}\n\n"
        for answer, why in _EXAMPLES
    ]
    end = "Now it is your turn.\nQuestion: {question}\n" + ("Thought:" if thought else "Answer:")
    return _OPENING.replace("{how}", how) + "".join(shown) + end


def named(roles: Roles) -> dict[str, str | None]:
    """Name -> system prompt, once the roles are known to be different ones.

    Raises:
        TypeError: roles that are not texts or None. ValueError: none, one twice, an empty one.
    """
    if isinstance(roles, str) or not isinstance(roles, Mapping | Sequence):
        raise TypeError(f"roles are a list or a mapping of system prompts, got {roles!r}")
    pairs = list(roles.items()) if isinstance(roles, Mapping) else [(r, r) for r in roles]
    if not pairs:
        raise ValueError("needed are roles, at least one; None is no role")
    for name, role in pairs:
        if not isinstance(role, str | None):
            raise TypeError(f"a role is a system prompt or None, got {role!r}")
        if role is not None and not role.strip():
            raise ValueError(f"the role {name!r} is an empty text; no role is None")
    counts = Counter(role for _, role in pairs)
    twice = [role for role, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} roles stand here more than once, such as {twice[0]!r}; rows that are "
            "copies of one another are no further data: leave them out"
        )
    return {NO_ROLE if name is None else name: role for name, role in pairs}


def prompts(
    model: Model,
    questions: Sequence[str],
    roles: Sequence[str | None],
    template: str | None,
    chat: bool | None,
) -> list[str]:
    """The rendered texts: all questions to the first role, then to the next; see `value_scores`.

    Raises:
        ValueError: neither a chat template nor a template; a template without its fields.
    """
    if template is None:
        if chat is False or not getattr(model.tokenizer, "chat_template", None):
            raise ValueError(
                f"without a chat template (of {model.id}, or with chat=False) roles need "
                "template=, such as paper_prompt(thought=False)"
            )
        return [render(model, question, True, role) for role in roles for question in questions]
    needed = ["{question}"] + ["{role}"] * any(role is not None for role in roles)
    for field in needed:
        if field not in template:
            raise ValueError(f"a template needs {field}, which is not in {template[-60:]!r}")
    filled = [_filled(template, role, question) for role in roles for question in questions]
    return [render(model, text, bool(chat)) for text in filled]


def _filled(template: str, role: str | None, question: str) -> str:
    if role is None:
        kept = [part for part in template.split("\n\n") if "{role}" not in part]
        template = "\n\n".join(kept)
        if "{question}" not in template:
            raise ValueError(
                "for no role the paragraph with {role} is left out, and in this template it has "
                "the question too; put an empty line between them"
            )
    # In one pass: a role or a question may have braces of its own.
    fields = {"role": role or "", "question": question}
    return _FIELD.sub(lambda found: fields[found[1]], template)
