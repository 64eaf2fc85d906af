"""What one steering context does while the model runs: positions, decisions, edits.

Chapter: hooks. One hook before the stack of blocks finds out which tokens a forward pass holds;
hooks at the sites then read the prompt for conditions and change activations. A decoding step
with fixed positions and constant edits costs one addition.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from steerlib.core.edits import Edit, LowRank
from steerlib.core.interventions import Intervention, Term, needs_grad
from steerlib.core.model import Model
from steerlib.core.readouts import Condition
from steerlib.core.sites import attach, part, resolve
from steerlib.core.where import Where

Strength = float | Float[Tensor, " batch"]
Selection = bool | Bool[Tensor, "batch pos"]


class Session:
    """The state of one steering context between forward passes."""

    def __init__(self, model: Model, intervention: Intervention, strength: Strength) -> None:
        self.model, self.terms, self.strength = model, intervention.terms, strength
        self.learns = needs_grad(intervention)
        self.rows: list[int] | None = None
        self.prompts: Tensor | None = None
        self.where: Where | None = None
        self.decisions: dict[Condition, Bool[Tensor, " batch"]] = {}
        self._parameters = list(inspect.signature(model.decoder.forward).parameters)
        self._prompt_length: Tensor | None = None
        self._prompt_width = 0
        self._selected: list[Selection] = []
        self._matched = [False] * len(self.terms)
        self._ran = False
        # What decoding steps add at each place, where that is the same in all of them.
        self._is_steady = all(_is_steady(term) for term in self.terms)
        self._steady: dict[int, Tensor | None] = {}

    def attach(self) -> Iterator[RemovableHandle]:
        """Register all hooks; yields their handles."""
        yield self.model.decoder.register_forward_pre_hook(self.on_forward, with_kwargs=True)
        for condition in dict.fromkeys(t.condition for t in self.terms if t.condition is not None):
            yield attach(resolve(self.model, condition.readout.site), self._reader(condition))
        places: dict[Any, list[int]] = {}
        for number, term in enumerate(self.terms):
            places.setdefault(resolve(self.model, term.site).key, []).append(number)
        for numbers in places.values():
            place = resolve(self.model, self.terms[numbers[0]].site)
            yield attach(place, self._editor(numbers))

    # --- where in the text is this forward pass?

    def on_forward(self, module: Any, args: Any, kwargs: Any) -> None:
        """Before each forward pass: locate its tokens and select those to steer."""
        if args:
            kwargs = {**dict(zip(self._parameters, args, strict=False)), **kwargs}
        ids = kwargs.get("input_ids")
        tokens: Tensor = kwargs["inputs_embeds"] if ids is None else ids
        cache, attention = kwargs.get("past_key_values"), kwargs.get("attention_mask")
        past = 0 if cache is None else int(cache.get_seq_length())
        # A cache that is shorter than the prompt belongs to another text.
        known = self._prompt_length if past >= self._prompt_width else None
        if known is not None and len(known) != len(tokens):
            known = None
        if known is not None and self._is_steady and self._steady:
            return
        known = self.prompts if known is None else known
        self.where = where = _locate(self.model, ids, tokens, attention, past, known)
        self._steady.clear()
        if not where.is_decoding:
            self._prompt_length = where.prompt_length
            self._prompt_width = past + tokens.shape[1]
        self._select(where)

    def _select(self, where: Where) -> None:
        self._ran = True
        # Many terms may share one selection.
        found = {p: p.select(where) for p in dict.fromkeys(t.positions for t in self.terms)}
        self._selected = [found[term.positions] for term in self.terms]
        for number, selected in enumerate(self._selected):
            if not self._matched[number]:
                hit = selected if isinstance(selected, bool) else selected.any().item()
                self._matched[number] = bool(hit)

    def check_matched(self) -> None:
        """Raise if some positions never matched a token of any forward pass."""
        for term, matched in zip(self.terms, self._matched, strict=True):
            if self._ran and not matched:
                raise ValueError(
                    f"the positions {term.positions} of the edit at {term.site} matched no token "
                    "of this run, so nothing was steered; st.preview shows what a selection selects"
                )

    # --- conditions

    def _reader(self, condition: Condition) -> Callable[[Tensor], None]:
        def read(h: Tensor) -> None:
            where = self.where
            if where is None or where.is_decoding:
                return
            if where.past and condition.readout.pool != "last":
                raise ValueError(
                    "this condition reads the whole prompt, but part of it is in a cache that was "
                    "filled before; enter st.steer before the first forward pass"
                )
            is_prompt = where.index < where.prompt_length[:, None]
            tokens = (where.real & is_prompt & ~where.is_bos).to(h.device)
            h = part(self.model, condition.readout.site, h)
            self.decisions[condition] = condition.holds(condition.readout.pooled(h, tokens))

        return read

    # --- edits

    def _editor(self, numbers: list[int]) -> Callable[[Tensor], Tensor | None]:
        """The function that changes the activation at one place: all its terms see the same h."""

        def edit(h: Tensor) -> Tensor | None:
            if numbers[0] in self._steady:
                change = self._steady[numbers[0]]
            else:
                change = self._total(numbers, h.float())
                if self._is_steady and self.where is not None and self.where.is_decoding:
                    self._steady[numbers[0]] = change
            return None if change is None else (h.float() + change).to(h.dtype)

        return edit

    def _total(self, numbers: list[int], h: Float[Tensor, "batch pos d"]) -> Tensor | None:
        """What all terms of one place change; single heads are put together once."""
        whole: list[Tensor] = []
        heads: dict[int, list[Tensor]] = {}
        for number in numbers:
            index = self.terms[number].site.index
            own = part(self.model, self.terms[number].site, h)
            if (change := self._change(number, own)) is not None:
                (whole if index is None else heads.setdefault(index, [])).append(change)
        if heads:
            whole.append(self._spread(heads, h))
        return sum(whole[1:], whole[0]) if whole else None

    def _spread(
        self, heads: dict[int, list[Tensor]], h: Float[Tensor, "batch pos d"]
    ) -> Float[Tensor, "batch pos d"]:
        """The changes of single heads, side by side; 0 for the other heads."""
        nothing = h.new_zeros(*h.shape[:-1], self.model.d_head)
        rows = [sum(heads.get(index, ()), nothing) for index in range(self.model.n_heads)]
        return torch.cat(rows, -1)

    def _change(self, number: int, h: Float[Tensor, "batch pos d"]) -> Tensor | None:
        """strength * delta(h) at the selected tokens, for one term; None if there are none."""
        term, selected = self.terms[number], self._selected[number]
        if selected is False:
            return None
        change = self._plain(_on(term.edit, h.device), h)
        if not (isinstance(self.strength, float) and self.strength == 1.0):
            change = self._strengths(h) * change
        if term.condition is not None:
            gate = self.decisions[term.condition].to(h.device)[:, None]
            selected = gate if selected is True else gate & selected.to(h.device)
        if isinstance(selected, Tensor):
            change = torch.where(selected[..., None].to(h.device), change, 0.0)
        return change

    def _plain(self, edit: Edit, h: Float[Tensor, "batch pos d"]) -> Tensor:
        if isinstance(edit, LowRank) and edit.is_constant:
            return edit.constant
        assert self.where is not None, "hooks at sites fire after the one before the blocks"
        return edit.delta(h, self.where)

    def _strengths(self, h: Tensor) -> float | Float[Tensor, "batch 1 1"]:
        if isinstance(self.strength, float):
            return self.strength
        values = self.strength if self.rows is None else self.strength[self.rows]
        if len(values) != len(h):
            raise ValueError(f"there are {len(values)} strengths for a batch of {len(h)} samples")
        return values.to(h.device)[:, None, None]


def _is_steady(term: Term) -> bool:
    """Whether every decoding step adds the same at the term's site."""
    generated = term.positions.generated()
    is_constant = isinstance(term.edit, LowRank) and term.edit.is_constant
    return generated is False or (is_constant and generated is not None)


def _locate(
    model: Model, ids: Any, tokens: Tensor, attention: Any, past: int, known: Tensor | None
) -> Where:
    if attention is not None and (not isinstance(attention, Tensor) or attention.ndim != 2):
        raise ValueError("steering needs a 2-D attention mask (batch, positions) to find padding")
    shape = (tokens.shape[0], tokens.shape[1])
    bos_id = model.bos_id
    return Where(ids, attention, shape, past, known, model.tokenizer, bos_id, tokens.device)


def _on(edit: Any, device: torch.device) -> Any:
    """The edit with its tensors on a device."""
    if all(tensor.device == device for tensor in edit.tensors.values()):
        return edit
    return type(edit)(**{name: tensor.to(device) for name, tensor in edit.tensors.items()})


def sessions(model: Model) -> list[Session]:
    """The steering sessions that are active on a model, outermost first."""
    hooks = model.decoder._forward_pre_hooks.values()
    owners = [getattr(hook, "__self__", None) for hook in hooks]
    return [owner for owner in owners if isinstance(owner, Session)]


@contextmanager
def rows_of_batch(
    model: Model, rows: list[int], prompts: Int[Tensor, " batch"] | None = None
) -> Iterator[None]:
    """Tell active sessions which samples of the call this batch holds, for per-sample strengths.

    Args:
        prompts: the tokens of each prompt, where responses are read together with them.
    """
    active = sessions(model)
    for session in active:
        session.rows, session.prompts = rows, prompts
    try:
        yield
    finally:
        for session in active:
            session.rows = session.prompts = None


def learning(model: Model) -> bool:
    """Whether an active intervention has parameters that are being learned."""
    return torch.is_grad_enabled() and any(session.learns for session in sessions(model))
