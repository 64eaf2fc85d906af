"""steer: apply an Intervention while the model runs.

Chapter: hooks. Each `with steer(...)` registers plain torch hooks once: one on the stack of
blocks, which finds out where in the text a forward pass is, one per place that is changed, and
one per site that a condition reads. They serve `steerlib.generate` as well as the user's own
`model.generate`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

import torch

from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.readouts import Condition
from steerlib.core.session import Session, Strength
from steerlib.core.sites import resolve, width


def steer(model: Model, intervention: Intervention, strength: Any = 1.0) -> Steering:
    """A context in which the model runs with h <- h + strength * delta(h).

    Contexts nest: the outer one acts first. Leaving one removes its hooks, also after an exception.

    Args:
        model: the model; its own `generate` is steered as well.
        intervention: what changes; `a + b` acts simultaneously.
        strength: a number, or one per sample of the batch (batch,).

    Raises:
        ValueError: the intervention does not fit the model; in the context: a batch of another size
            than the strengths; at its end: positions that never matched a token.

    Chapter: hooks.

    Example:
        >>> with st.steer(model, 4 * happy):
        ...     st.generate(model, "once upon a time")
    """
    if not isinstance(intervention, Intervention):
        raise TypeError(f"steer takes an Intervention such as st.Add(...), got {intervention!r}")
    check_fits(model, intervention)
    values = torch.as_tensor(strength, dtype=torch.float32)
    if values.ndim > 1 or not torch.isfinite(values).all():
        raise ValueError(
            f"strength is a finite number or one per sample (batch,), got {strength!r}"
        )
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
            f"activations of {model.id} at {site} have {width(model, site)} numbers, "
            f"the readout {size}"
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
