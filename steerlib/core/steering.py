"""steer: apply an Intervention while the model runs.

Chapter: hooks. Each `with steer(...)` registers plain torch hooks once: one on the stack of blocks, which
finds out where in the text a forward pass is, one per place that is changed, and one per site that a
condition reads. They serve `steerlib.generate` as well as the user's own `model.generate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.core.edits import LowRank
from steerlib.core.interventions import Intervention, Term, needs_grad
from steerlib.core.model import Model
from steerlib.core.positions import Where
from steerlib.core.readouts import Condition
from steerlib.core.sites import attach, part, resolve, width

Strength = float | Float[Tensor, " batch"]


def steer(model: Model, intervention: Intervention, strength: Any = 1.0) -> Steering:
    """A context in which the model runs with h <- h + strength * delta(h).

    Args:
        strength: a number, or one per sample of the batch (batch,).

    Raises:
        ValueError: the intervention does not fit the model; in the context: a batch of another size
            than the strengths; at its end: positions that never matched a token.

    Example:
        >>> with st.steer(model, 4 * happy):
        ...     st.generate(model, "once upon a time")
    """
    if not isinstance(intervention, Intervention):
        raise TypeError(f"steer takes an Intervention such as st.Add(...), got {intervention!r}")
    check_fits(model, intervention)
    values = torch.as_tensor(strength, dtype=torch.float32)
    if values.ndim > 1 or not torch.isfinite(values).all():
        raise ValueError(f"strength is a finite number or one per sample (batch,), got {strength!r}")
    return Steering(model, intervention, values if values.ndim else values.item())


def check_fits(model: Model, intervention: Intervention) -> None:
    """Raise a ValueError if an intervention was made for another model or has another width."""
    origin = intervention.origin
    if origin is not None and origin.revision != model.revision:
        raise ValueError(
            f"this intervention was made for {origin.model} (revision {origin.revision}), not for "
            f"{model.id} ({model.revision}); to try it anyway, build it anew from its tensors"
        )
    for term in intervention.terms:
        resolve(model, term.site)
        needed = width(model, term.site)
        if term.edit.width not in (None, needed):
            raise ValueError(
                f"activations of {model.id} at {term.site} have {needed} numbers, the edit has "
                f"{term.edit.width}"
            )
        if term.condition is not None:
            _check_readout(model, term.condition)


def _check_readout(model: Model, condition: Condition) -> None:
    site, size = condition.readout.site, len(condition.readout.w)
    resolve(model, site)
    if size != width(model, site):
        raise ValueError(
            f"activations of {model.id} at {site} have {width(model, site)} numbers, the readout {size}"
        )


class Steering:
    """The context that `steer` returns; it can be entered again, also inside itself."""

    def __init__(self, model: Model, intervention: Intervention, strength: Strength) -> None:
        self.model, self.intervention, self.strength = model, intervention, strength
        self._entered: list[tuple[ExitStack, Session]] = []

    def __enter__(self) -> Self:
        session = Session(self.model, self.intervention, self.strength)
        with ExitStack() as stack:
            for handle in session.attach():
                stack.callback(handle.remove)
            self._entered.append((stack.pop_all(), session))
        return self

    def __exit__(self, error_type: type[BaseException] | None, *rest: object) -> None:
        stack, session = self._entered.pop()
        stack.close()
        if error_type is None:
            session.check_matched()


class Session:
    """What one steering context remembers between forward passes: positions and decisions."""

    def __init__(self, model: Model, intervention: Intervention, strength: Strength) -> None:
        self.model, self.terms, self.strength = model, intervention.terms, strength
        self.learns = needs_grad(intervention)
        self.rows: list[int] | None = None
        self._parameters = list(inspect.signature(model.decoder.forward).parameters)
        self._prompt_length: Tensor | None = None
        self._decisions: dict[Condition, Bool[Tensor, " batch"]] = {}
        self._selected: list[bool | Tensor] = []
        self._matched = [False] * len(self.terms)
        self._ran = False
        self._constants: dict[Any, Tensor] = {}
        self.where: Where | None = None

    def attach(self) -> Iterator[Any]:
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
        self.where = where = self._locate({**dict(zip(self._parameters, args, strict=False)), **kwargs})
        if not where.is_decoding:
            self._prompt_length = where.prompt_length
            self._decisions.clear()
        self._ran = True
        self._selected = [term.positions.select(where) for term in self.terms]
        for number, selected in enumerate(self._selected):
            if not self._matched[number]:
                self._matched[number] = bool(selected if isinstance(selected, bool) else selected.any())

    def _locate(self, given: dict[str, Any]) -> Where:
        ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
        tokens = ids if ids is not None else embeds
        attention, cache = given.get("attention_mask"), given.get("past_key_values")
        if attention is not None and (not isinstance(attention, Tensor) or attention.ndim != 2):
            raise ValueError("steering needs a 2-D attention mask (batch, positions) to find padding")
        past = 0 if cache is None else int(cache.get_seq_length())
        shape = (tokens.shape[0], tokens.shape[1])
        known = self._prompt_length if past else None
        if known is not None and len(known) != shape[0]:
            known = None
        return Where(
            ids, attention, shape, past, known, self.model.tokenizer, self.model.bos_id, tokens.device
        )

    def check_matched(self) -> None:
        """Raise if some positions never matched a token of any forward pass."""
        for term, matched in zip(self.terms, self._matched, strict=True):
            if self._ran and not matched:
                raise ValueError(
                    f"the positions {term.positions} of the edit at {term.site} matched no token of "
                    "this run, so nothing was steered; st.preview shows what a selection selects"
                )

    # --- conditions

    def _reader(self, condition: Condition) -> Any:
        def read(h: Tensor) -> None:
            where = self.where
            if where is None or where.is_decoding:
                return
            tokens = where.real & ~where.is_bos
            readout = condition.readout
            h = part(self.model, readout.site, h)
            self._decisions[condition] = condition.holds(readout.pooled(h, tokens.to(h.device)))

        return read

    # --- edits

    def _editor(self, numbers: list[int]) -> Any:
        """The function that changes the activation at one place: the sum of its terms' deltas."""

        def edit(h: Tensor) -> Tensor | None:
            x = h.to(torch.float32)
            changes = [c for n in numbers if (c := self._change(n, x)) is not None]
            for change in changes:
                x = x + change
            return x.to(h.dtype) if changes else None

        return edit

    def _change(self, number: int, h: Float[Tensor, "batch pos d"]) -> Tensor | None:
        """strength * delta(h) at the selected tokens, for one term; None if there are none."""
        term, selected = self.terms[number], self._selected[number]
        if selected is False:
            return None
        if isinstance(term.edit, LowRank) and term.edit.is_constant:
            change = self._constant(number, h)
        else:
            change = self._strengths(h) * self._delta(term, h)
        if term.condition is not None:
            gate = self._decision(term).to(h.device)[:, None]
            selected = gate if selected is True else gate & selected.to(h.device)
        if isinstance(selected, Tensor):
            change = torch.where(selected[..., None].to(h.device), change, 0.0)
        return change

    def _delta(self, term: Term, h: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        edit = _on(term.edit, h.device)
        assert self.where is not None
        if term.site.index is None:
            return edit.delta(h, self.where)
        heads = h.unflatten(-1, (self.model.n_heads, self.model.d_head))
        change = torch.zeros_like(heads)
        change[:, :, term.site.index] = edit.delta(heads[:, :, term.site.index], self.where)
        return change.flatten(-2)

    def _constant(self, number: int, h: Tensor) -> Tensor:
        """strength * direction, computed once per device unless it is being learned."""
        key = (number, h.device, None if self.rows is None else tuple(self.rows), len(h))
        if key in self._constants:
            return self._constants[key]
        term = self.terms[number]
        direction = term.edit.constant.to(h.device)  # type: ignore[attr-defined]
        if term.site.index is not None:
            before = term.site.index * self.model.d_head
            after = h.shape[-1] - before - self.model.d_head
            direction = torch.nn.functional.pad(direction, (before, after))
        change = self._strengths(h) * direction
        if not change.requires_grad:
            self._constants[key] = change
        return change

    def _strengths(self, h: Tensor) -> float | Float[Tensor, "batch 1 1"]:
        if isinstance(self.strength, float):
            return self.strength
        values = self.strength if self.rows is None else self.strength[self.rows]
        if len(values) != len(h):
            raise ValueError(f"there are {len(values)} strengths for a batch of {len(h)} samples")
        return values.to(h.device)[:, None, None]

    def _decision(self, term: Term) -> Bool[Tensor, " batch"]:
        assert term.condition is not None
        if term.condition not in self._decisions:
            raise ValueError(
                "a condition is decided while the prompt is read, but steering began after that; "
                "enter st.steer before the first forward pass"
            )
        return self._decisions[term.condition]


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
def rows_of_batch(model: Model, rows: list[int]) -> Iterator[None]:
    """Tell active sessions which samples of the call this batch holds, for per-sample strengths."""
    active = sessions(model)
    for session in active:
        session.rows = rows
    try:
        yield
    finally:
        for session in active:
            session.rows = None


def learning(model: Model) -> bool:
    """Whether an active intervention has parameters that are being learned."""
    return torch.is_grad_enabled() and any(session.learns for session in sessions(model))
