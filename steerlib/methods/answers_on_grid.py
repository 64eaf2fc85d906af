"""The answers to the same problems under many interventions, as cheaply as they can be had.

Chapter: mera. Where interventions act at the last token of a prompt only, all other tokens are read
once and kept in a KV cache, and each intervention costs one token. Where they act earlier but
differ in numbers only (a grid over one setting), they are run together, as one batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from steerlib.core.answers import scores_after
from steerlib.core.capture import positions_and_mask
from steerlib.core.classification import Answers, Problem, Reader, classify
from steerlib.core.edits import LowRank
from steerlib.core.generation import last_only
from steerlib.core.interventions import Intervention, Term
from steerlib.core.model import Model
from steerlib.core.positions import last
from steerlib.core.prompts import pad
from steerlib.core.readouts import Condition
from steerlib.core.session import sessions
from steerlib.core.steering import check_fits, steer
from steerlib.core.where import Where


def answers_on_grid(
    model: Model,
    problems: Sequence[Problem],
    interventions: Sequence[Intervention],
    *,
    batch_size: int = 64,
) -> list[Answers]:
    """What `classify` gives under each intervention.

    Raises:
        ValueError: as `classify` and `steer` do.

    Chapter: mera.

    Example:
        >>> weak, strong = answers_on_grid(model, problems, [probe.step(0.5), probe.step(0.1)])
    """
    for intervention in interventions:
        check_fits(model, intervention)
    # Inside another `steer` a text that is read in two parts would have two last tokens.
    run = _one_by_one if sessions(model) else _way(interventions)
    return run(model, problems, interventions, batch_size)


def _way(interventions: Sequence[Intervention]) -> Any:
    if all(_at_last(intervention) for intervention in interventions):
        return _after_prefix
    return _together if _stackable(interventions) else _one_by_one


def _at_last(intervention: Intervention) -> bool:
    """Whether nothing before the last token changes, and none has to be read there."""
    return all(
        term.positions == last and (term.condition is None or term.condition.readout.pool == "last")
        for term in intervention.terms
    )


def _one_by_one(
    model: Model,
    problems: Sequence[Problem],
    interventions: Sequence[Intervention],
    batch_size: int,
) -> list[Answers]:
    found = []
    for intervention in interventions:
        with steer(model, intervention):
            found.append(classify(model, problems, batch_size=batch_size))
    return found


def _after_prefix(
    model: Model,
    problems: Sequence[Problem],
    interventions: Sequence[Intervention],
    batch_size: int,
) -> list[Answers]:
    """All tokens but the last are read once."""
    reader = Reader.of(model, problems)
    if min(len(ids) for ids in reader.encoded) < 2:
        return _one_by_one(model, problems, interventions, batch_size)
    found = torch.empty(len(interventions), len(problems), len(reader.classes) + 1)
    for rows in _progress(reader.batches(batch_size)):
        with torch.no_grad():
            read_last = _reader_of_last(model, [reader.encoded[row] for row in rows])
            for number, intervention in enumerate(interventions):
                with steer(model, intervention):
                    found[number, rows] = reader.read(read_last())
    return [reader.answers(read) for read in found]


def _reader_of_last(
    model: Model, encoded: list[list[int]]
) -> Callable[[], Float[Tensor, "n d_vocab"]]:
    """Reads all tokens but the last; what it returns reads the last ones, again and again."""
    from transformers import DynamicCache

    ids, attention = pad(model, encoded)
    inputs = positions_and_mask(attention)
    before = {name: value[:, :-1] for name, value in inputs.items()}
    # The mask of a decoding step covers what is in the cache too.
    newest = inputs | {name: value[:, -1:] for name, value in inputs.items() if "ids" in name}
    cache = DynamicCache(config=model.config)
    model.decoder(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True, **before)

    def read() -> Float[Tensor, "n d_vocab"]:
        output = model.runner(
            input_ids=ids[:, -1:], past_key_values=_fork(cache), use_cache=True, **newest,
            **last_only(model),
        )  # fmt: skip
        return output.logits[:, -1].float()

    return read


def _fork(cache: Any) -> Any:
    """A cache that grows by itself: layers replace their tensors and never write into them."""
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


def _stackable(interventions: Sequence[Intervention]) -> bool:
    """Whether all have the same terms but for the numbers of their edits."""
    first = interventions[0].terms
    return len(interventions) > 1 and all(
        len(other.terms) == len(first)
        and all(_alike(a, b) for a, b in zip(first, other.terms, strict=True))
        for other in interventions
    )


def _alike(a: Term, b: Term) -> bool:
    edits = isinstance(a.edit, LowRank) and isinstance(b.edit, LowRank)
    return (
        edits
        and a.edit.tensors["read"].shape == b.edit.tensors["read"].shape
        and (a.site, a.positions) == (b.site, b.positions)
        and _decides(a.condition) == _decides(b.condition)
    )


def _decides(condition: Condition | None) -> Any:
    """What makes two conditions the same."""
    if condition is None:
        return None
    readout = condition.readout
    values = (tuple(readout.w.tolist()), readout.b, readout.pool)
    return readout.site, values, condition.threshold, condition.above


def _together(
    model: Model,
    problems: Sequence[Problem],
    interventions: Sequence[Intervention],
    batch_size: int,
) -> list[Answers]:
    """Batches that hold each prompt once for each intervention; copies count as prompts."""
    reader, copies = Reader.of(model, problems), len(interventions)
    terms = tuple(
        replace(same[0], edit=Stacked.of([term.edit for term in same]))
        for same in zip(*(i.terms for i in interventions), strict=True)
    )
    found = torch.empty(copies, len(problems), len(reader.classes) + 1)
    # One context for all batches: positions may match no token in some of them.
    with steer(model, Intervention(terms)), torch.no_grad():
        for rows in _progress(reader.batches(max(1, batch_size // copies))):
            scores = scores_after(model, [reader.encoded[row] for row in rows] * copies)
            found[:, rows] = reader.read(scores).unflatten(0, (copies, -1))
    return [reader.answers(read) for read in found]


def _progress(batches: list[list[int]]) -> Iterable[list[int]]:
    return tqdm(batches, "calibrating", unit="batch", leave=False, delay=2)


@dataclass(frozen=True, eq=False)
class Stacked:
    """Low-rank edits for a batch of as many equal parts, one for each part.

    Args:
        read, write: (edits, k, d). bias, floor: (edits, k).
    """

    read: Float[Tensor, "edits k d"]
    bias: Float[Tensor, "edits k"]
    write: Float[Tensor, "edits k d"]
    floor: Float[Tensor, "edits k"]

    @staticmethod
    def of(edits: Sequence[LowRank]) -> Stacked:
        """Edits of the same shapes."""
        names = ("read", "bias", "write", "floor")
        return Stacked(**{name: torch.stack([e.tensors[name] for e in edits]) for name in names})

    @property
    def width(self) -> int:
        return self.write.shape[-1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"read": self.read, "bias": self.bias, "write": self.write, "floor": self.floor}

    def delta(self, h: Float[Tensor, "batch pos d"], where: Where) -> Float[Tensor, "batch pos d"]:
        """As `LowRank.delta`, part by part."""
        parts = h.unflatten(0, (len(self.read), -1))
        x = torch.einsum("enpd,ekd->enpk", parts, self.read) + self.bias[:, None, None]
        kept = torch.where(x > self.floor[:, None, None], x, 0.0)
        return torch.einsum("enpk,ekd->enpd", kept, self.write).flatten(0, 1)

    def scaled(self, factor: float) -> Stacked:
        return replace(self, write=factor * self.write)
