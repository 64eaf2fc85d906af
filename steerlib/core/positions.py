"""Which tokens of a text are read or steered: last, prompt, generation, after(n), ends(...), ...

Chapter: hooks. A selection is asked once per forward pass. With a KV cache, a decoding step
sees one token and not the text before it, so positions are counted from what the cache holds,
and padding is told apart by the attention mask: position 0 is the first token that is not
padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from steerlib.core.where import Where


class Positions:
    """A selection of tokens; `|` unites, `&` intersects and `-` takes away."""

    def mask(self, where: Where) -> Bool[Tensor, "batch pos"]:
        """True at the selected tokens of one forward pass."""
        raise NotImplementedError

    def generated(self) -> bool | None:
        """True if it selects all generated tokens, False if none, None if it depends."""
        return None

    def __or__(self, other: Positions) -> Positions:
        return Combined("|", self, _check(other))

    def __and__(self, other: Positions) -> Positions:
        return Combined("&", self, _check(other))

    def __sub__(self, other: Positions) -> Positions:
        return Combined("-", self, _check(other))

    def select(self, where: Where) -> bool | Bool[Tensor, "batch pos"]:
        """The mask of one forward pass, or True or False where that needs no tensor."""
        if where.is_decoding and (constant := self.generated()) is not None:
            return constant
        return self.mask(where) & where.real


def _in_prompt(where: Where) -> Bool[Tensor, "batch pos"]:
    """False at what was generated, and in a response that is read together with its prompt."""
    return where.index < where.prompt_length[:, None]


def _check(value: Any) -> Positions:
    if not isinstance(value, Positions):
        raise TypeError(
            f"positions are st.last, st.prompt, st.generation, st.bos, st.everywhere, st.after(n), "
            f"st.ends(n, m), st.tokens(text), st.mask(values) and their unions; got {value!r}"
        )
    return value


@dataclass(frozen=True)
class Named(Positions):
    """One of the selections that have a name."""

    name: str

    def mask(self, where: Where) -> Bool[Tensor, "batch pos"]:
        length = where.prompt_length[:, None]
        match self.name:
            case "last":
                return where.index == length - 1
            case "prompt":
                return _in_prompt(where)
            case "generation":
                return where.index >= length
            case "bos":
                return where.is_bos
        return where.real

    def generated(self) -> bool:
        return self.name in ("generation", "everywhere")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class After(Positions):
    """Tokens whose position (0 = BOS, without padding) is greater than n."""

    n: int

    def mask(self, where: Where) -> Bool[Tensor, "batch pos"]:
        return where.index > self.n

    def __str__(self) -> str:
        return f"after({self.n})"


@dataclass(frozen=True)
class Ends(Positions):
    """The first tokens of the prompt after BOS, and its last ones."""

    first: int
    last: int

    def mask(self, where: Where) -> Bool[Tensor, "batch pos"]:
        index, length = where.index, where.prompt_length[:, None]
        is_end = (index <= self.first) | (index >= length - self.last)
        return is_end & (index > 0) & _in_prompt(where)

    def generated(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"ends({self.first}, {self.last})"


@dataclass(frozen=True)
class Tokens(Positions):
    """The tokens of every occurrence of a text in the prompt."""

    text: str

    def mask(self, where: Where) -> Bool[Tensor, "batch pos"]:
        if where.ids is None:
            raise ValueError(
                "tokens(...) needs token ids, but the model was called with embeddings"
            )
        found = torch.zeros(where.shape, dtype=torch.bool, device=where.device)
        for pattern in self._patterns(where.tokenizer):
            size = len(pattern)
            if size > where.shape[1]:
                continue
            wanted = torch.tensor(pattern, device=where.device)
            start = (where.ids.unfold(1, size, 1) == wanted).all(-1)
            for offset in range(size):
                found[:, offset : offset + start.shape[1]] |= start
        return found & _in_prompt(where)

    def _patterns(self, tokenizer: Any) -> set[tuple[int, ...]]:
        # A word has other tokens at the start of a text than after a space.
        texts = (self.text, " " + self.text)
        ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        return {tuple(i) for i in ids if i and tokenizer.unk_token_id not in i}

    def generated(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"tokens({self.text!r})"


@dataclass(frozen=True, eq=False)
class Mask(Positions):
    """Prompt positions given as booleans, counted from the first token (0 = BOS, no padding)."""

    values: Bool[Tensor, "*batch pos"] = field(repr=False)

    def __post_init__(self) -> None:
        values = torch.as_tensor(self.values)
        if values.dtype != torch.bool or values.ndim not in (1, 2):
            raise ValueError(
                "a mask is boolean, (pos,) or (batch, pos); "
                f"got {values.dtype} {tuple(values.shape)}"
            )
        object.__setattr__(self, "values", values.clone())

    def mask(self, where: Where) -> Bool[Tensor, "batch pos"]:
        values = self.values.to(where.device)
        if values.ndim == 1:
            values = values.expand(where.shape[0], -1)
        if len(values) != where.shape[0]:
            raise ValueError(f"the mask has {len(values)} rows, the batch {where.shape[0]}")
        inside = (where.index >= 0) & (where.index < values.shape[1]) & _in_prompt(where)
        return inside & values.gather(1, where.index.clamp(0, values.shape[1] - 1))

    def generated(self) -> bool:
        return False

    def __str__(self) -> str:
        return "mask(...)"


@dataclass(frozen=True)
class Combined(Positions):
    """Two selections joined by | (either), & (both) or - (the first but not the second)."""

    operation: str
    left: Positions
    right: Positions

    def mask(self, where: Where) -> Bool[Tensor, "batch pos"]:
        left, right = self.left.mask(where), self.right.mask(where)
        if self.operation == "|":
            return left | right
        return left & right if self.operation == "&" else left & ~right

    def generated(self) -> bool | None:
        left, right = self.left.generated(), self.right.generated()
        if left is None or right is None:
            return None
        if self.operation == "|":
            return left or right
        return (left and right) if self.operation == "&" else (left and not right)

    def __str__(self) -> str:
        return f"({self.left} {self.operation} {self.right})"


everywhere = Named("everywhere")
last = Named("last")
prompt = Named("prompt")
generation = Named("generation")
bos = Named("bos")


def after(n: int) -> Positions:
    """The tokens whose position is greater than n; BOS has position 0, padding is not counted."""
    return After(n)


def ends(first: int, last: int) -> Positions:
    """The `first` tokens of the prompt after BOS and its `last` ones; all of it where they meet."""
    if not all(isinstance(n, int) and n >= 0 for n in (first, last)) or first + last == 0:
        raise ValueError(f"ends(first, last) needs two numbers, not both 0; got {first}, {last}")
    return Ends(first, last)


def tokens(text: str) -> Positions:
    """The tokens of every occurrence of `text` in the prompt."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"tokens(...) needs a text, got {text!r}")
    return Tokens(text)


def mask(values: Bool[Tensor, "*batch pos"]) -> Positions:
    """Prompt positions given as booleans, (pos,) or (batch, pos), 0 = BOS, padding not counted."""
    return Mask(values)


def as_positions(value: Positions | str) -> Positions:
    """A selection from a selection or the name of one ("last", "prompt", ...)."""
    named = {p.name: p for p in (everywhere, last, prompt, generation, bos)}
    if isinstance(value, str):
        if value not in named:
            raise ValueError(f"unknown positions {value!r}; named ones are {', '.join(named)}")
        return named[value]
    return _check(value)


def to_json(positions: Positions) -> Any:
    """A selection as JSON, for storage."""
    match positions:
        case Named(name):
            return name
        case After(n):
            return {"after": n}
        case Ends(first, last):
            return {"ends": [first, last]}
        case Tokens(text):
            return {"tokens": text}
        case Combined(operation, left, right):
            return [operation, to_json(left), to_json(right)]
    raise ValueError(
        f"{positions} belongs to one batch and cannot be stored; use .at(...) afterwards"
    )


def from_json(value: Any) -> Positions:
    """A selection from what `to_json` wrote."""
    match value:
        case str():
            return as_positions(value)
        case {"after": int(n)}:
            return After(n)
        case {"ends": [int(first), int(last)]}:
            return Ends(first, last)
        case {"tokens": str(text)}:
            return Tokens(text)
        case ["|" | "&" | "-" as operation, left, right]:
            return Combined(operation, from_json(left), from_json(right))
    raise ValueError(f"unknown positions {value!r}")
