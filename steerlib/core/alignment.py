"""Prompts of one template, aligned token by token: which positions belong to which field.

Chapter: scaling. One number per position needs prompts in which a position means the same
everywhere. Names differ in their numbers of tokens, so prompts of the commonest layout are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

import torch

from steerlib.core.model import Model
from steerlib.core.positions import Positions
from steerlib.core.positions import mask as mask_of
from steerlib.core.prompts import encode, render

Piece = tuple[str, str | None]  # a fixed text, and the field after it (None at the end)
Span = tuple[int, int]  # characters from - to
Layout = tuple[tuple[str, str | None], ...]  # the label and the field of each position


@dataclass(frozen=True)
class Aligned:
    """Prompts that have the same tokens at the same positions, but for their fields.

    Args:
        prompts: those that line up, as texts.
        kept: their numbers among the rows.
        labels: one per position, 0 = BOS: a token's text where it is the same in all prompts, else
            `{country}`, or `{country}[0]`, `{country}[1]` for a field of two tokens.
        slots: the positions of each field, over all its occurrences.
        total: how many rows there were.
    """

    prompts: tuple[str, ...]
    kept: tuple[int, ...]
    labels: tuple[str, ...]
    slots: Mapping[str, tuple[int, ...]]
    total: int

    @property
    def dropped(self) -> int:
        """How many rows have another layout."""
        return self.total - len(self.kept)

    def mask(self, *fields: str) -> Positions:
        """The positions of some fields as a selection, to be used as `edit.at(...)`.

        Raises:
            ValueError: no field; KeyError: one that the template does not have.

        Example:
            >>> aligned = align(model, "{a} sees {b} .", [{"a": "Anna", "b": "Ben"}])
            >>> st.Scale(st.resid(1), 0.5).at(aligned.mask("a", "b"))
        """
        if not fields:
            raise ValueError(f"mask(...) needs a field; there are {', '.join(self.slots)}")
        for name in fields:
            if name not in self.slots:
                raise KeyError(f"no field {name!r}; there are {', '.join(self.slots)}")
        chosen = {position for name in fields for position in self.slots[name]}
        return mask_of(torch.tensor([p in chosen for p in range(len(self.labels))]))


def align(
    model: Model, template: str, rows: Sequence[Mapping[str, str]], chat: bool | None = False
) -> Aligned:
    """Fill a template row by row and keep the prompts whose tokens line up.

    A token belongs to a field where it holds at least one of its characters, or the space in front
    of it. Kept is the layout that most rows have; of two that are equally common, the shorter one.

    Args:
        template: a text with named fields, such as "The capital of {country} is".
        rows: for each prompt the text of each field.
        chat: False reads the prompts as raw text, True by the chat template (whose tokens then have
            positions too), None by the template where there is one.

    Raises:
        ValueError: no rows, a template without fields or with one that cannot be told apart from
            the next, a text that is empty or has white space at its ends, a prompt that does not
            fit into the context.
        KeyError: a row without a field of the template, or with another one.
        TypeError: a row that is no mapping, or a text that is no string.

    Chapter: scaling.

    Example:
        >>> rows = [{"x": "Anna"}, {"x": "Ben"}]
        >>> align(model, "{x} sees the dog .", rows).labels
        ('<bos>', '{x}', 'sees', 'the', 'dog', '.')
    """
    pieces = _parse(template)
    fields = list(dict.fromkeys(name for _, name in pieces if name is not None))
    if not len(rows):
        raise ValueError("align needs rows, at least one mapping of field -> text; got none")
    for number, row in enumerate(rows):
        _check(number, row, fields)
    filled = [_fill(pieces, row) for row in rows]
    layouts = [_layout(model, prompt, places, chat) for prompt, places in filled]
    counts = Counter(layouts)
    best = min(counts, key=lambda layout: (-counts[layout], len(layout)))
    kept = tuple(number for number, layout in enumerate(layouts) if layout == best)
    return Aligned(
        tuple(filled[number][0] for number in kept),
        kept,
        tuple(label for label, _ in best),
        {f: tuple(p for p, (_, name) in enumerate(best) if name == f) for f in fields},
        len(rows),
    )


def _parse(template: str) -> list[Piece]:
    pieces: list[Piece] = []
    for text, name, form, conversion in Formatter().parse(template):
        if name is not None and (not name.isidentifier() or form or conversion):
            raise ValueError(f"a field is a name in braces, got {name!r} in {template!r}")
        if name is not None and pieces and pieces[-1][1] is not None and not text:
            raise ValueError(f"two fields touch in {template!r}; put a space between them")
        pieces.append((text, name))
    if all(name is None for _, name in pieces):
        raise ValueError(f"the template {template!r} has no field such as {{country}}")
    return pieces


def _check(number: int, row: Mapping[str, str], fields: list[str]) -> None:
    if not isinstance(row, Mapping):
        raise TypeError(f"a row is a mapping of field -> text, got {row!r} as row {number}")
    for name in [*(f for f in fields if f not in row), *(f for f in row if f not in fields)]:
        problem = "lacks" if name in fields else "has an unknown"
        raise KeyError(f"row {number} {problem} field {name!r}; fields are {', '.join(fields)}")
    for name, value in row.items():
        if not isinstance(value, str):
            raise TypeError(f"the text of a field is a string, got {value!r} in row {number}")
        if not value or value != value.strip():
            raise ValueError(
                f"field {name!r} of row {number} is {value!r}: it must not be empty, and white "
                "space at its ends belongs to the template"
            )


def _fill(pieces: list[Piece], row: Mapping[str, str]) -> tuple[str, list[tuple[str, Span]]]:
    """A prompt, and where its fields are, in order."""
    prompt, places = "", []
    for text, name in pieces:
        prompt += text
        if name is not None:
            places.append((name, (len(prompt), len(prompt) + len(row[name]))))
            prompt += row[name]
    return prompt, places


def _layout(model: Model, prompt: str, places: list[tuple[str, Span]], chat: bool | None) -> Layout:
    """The label of each token, and the field that it belongs to."""
    text = render(model, prompt, chat)
    if text.count(prompt) != 1:
        raise ValueError(
            f"the chat template of {model.id} does not show {prompt!r} exactly once as it is; take "
            "away white space at its ends, or use chat=False"
        )
    shift = text.index(prompt)
    ids, spans = _tokens(model, text)
    owners = _owners(text, spans, [(first + shift, last + shift) for _, (first, last) in places])
    parts, labels = Counter(owners), list[tuple[str, str | None]]()
    seen = Counter[int]()
    for token, (start, end), owner in zip(ids, spans, owners, strict=True):
        if owner is None:
            shown = text[start:end].strip(" ") or model.tokenizer.convert_ids_to_tokens(token)
            labels.append((shown.replace("\n", "\\n"), None))
            continue
        name = places[owner][0]
        piece = f"[{seen[owner]}]" if parts[owner] > 1 else ""
        labels.append((f"{{{name}}}{piece}", name))
        seen[owner] += 1
    return tuple(labels)


def _tokens(model: Model, text: str) -> tuple[list[int], list[Span]]:
    """The tokens of a text as `encode` makes them, and their characters; none for an added BOS."""
    ids = encode(model, text, chat=False)[0]
    spans = model.tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True
    ).offset_mapping
    more = len(ids) - len(spans)  # 1: BOS was added; below 0: the text had more than one
    return ids, [(0, 0)] * more + spans if more > 0 else spans[-more:]


def _owners(text: str, spans: list[Span], places: list[Span]) -> list[int | None]:
    """For each token the number of the place that it belongs to."""
    owners: list[int | None] = []
    for start, end in spans:
        found = [
            number
            for number, (first, last) in enumerate(places)
            if (start < last and end > first) or _is_space_before(text, start, end, first)
        ]
        if len(found) > 1:
            raise ValueError(
                f"the token {text[start:end]!r} of {text!r} belongs to two fields; put a space "
                "between them"
            )
        owners.append(found[0] if found else None)
    return owners


def _is_space_before(text: str, start: int, end: int, first: int) -> bool:
    """Whether a token is nothing but the space in front of a field (some tokenizers trim it)."""
    return text[first - 1 : first] == " " and start in (first - 1, first) and end == first
