"""preview: which tokens of a prompt an intervention reads, which it steers, and by how much.

Chapter: hooks. The first thing to look at when nothing happens.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.generation import logits
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.prompts import Prompt, as_list, encode
from steerlib.core.session import Session
from steerlib.core.sites import Site, attach, part, resolve
from steerlib.core.steering import check_fits


@dataclass(frozen=True)
class Row:
    """One token: whether a condition reads it, and ||change|| / ||h|| at each site."""

    token: str
    is_read: bool
    change: tuple[float, ...]


@dataclass(frozen=True)
class Preview:
    """A table of the tokens of one prompt; prints as text and, in a notebook, as HTML.

    Args:
        sites: the sites that are changed, one column each.
        rows: one per token of the prompt.
        generated: for each site, whether generated tokens are steered too (None: it depends).
        decisions: for each condition, whether this prompt meets it.
    """

    sites: tuple[Site, ...]
    rows: tuple[Row, ...]
    generated: tuple[bool | None, ...]
    decisions: tuple[bool, ...]

    @property
    def cells(self) -> list[list[str]]:
        """The table as text, with a heading and a last row for the generated tokens."""
        heading = ["token", "read", *(site.name for site in self.sites)]
        body = [
            [row.token, "read" if row.is_read else "", *map(_percent, row.change)]
            for row in self.rows
        ]
        words = {True: "steered", False: "", None: "depends"}
        return [heading, *body, ["(generated)", "", *(words[value] for value in self.generated)]]

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.cells, strict=True)]
        lines = [
            "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
            for row in self.cells
        ]
        return "\n".join([*lines, *(f"condition met: {met}" for met in self.decisions)])

    def _repr_html_(self) -> str:
        def line(cells: list[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        heading, *body = self.cells
        rows = line(heading, "th") + "".join(line(cells, "td") for cells in body)
        notes = "".join(f"<p>condition met: {met}</p>" for met in self.decisions)
        return f"<table>{rows}</table>{notes}"


def preview(
    model: Model,
    prompt: Prompt,
    intervention: Intervention,
    strength: float = 1.0,
    *,
    chat: bool | None = None,
    system: str | None = None,
) -> Preview:
    """Read one prompt with the intervention and show token by token what it does.

    Returns:
        A `Preview`; a change of 50% means ||strength * delta(h)|| = 0.5 ||h||.

    Raises:
        ValueError: several prompts, or an intervention that does not fit the model.

    Chapter: hooks.

    Example:
        >>> print(st.preview(model, "tell me about the dog .", weather.at(st.last)))
    """
    if not as_list(prompt)[1]:
        raise ValueError("preview shows one prompt, got a list; call it once for each")
    check_fits(model, intervention)
    sites, before, after = intervention.sites, dict[Site, Tensor](), dict[Site, Tensor]()
    session = Session(model, intervention, float(strength))
    with ExitStack() as stack:
        for site in sites:
            stack.callback(attach(resolve(model, site), _keep(model, site, before)).remove)
        for handle in session.attach():
            stack.callback(handle.remove)
        for site in sites:
            stack.callback(attach(resolve(model, site), _keep(model, site, after)).remove)
        logits(model, prompt, chat=chat, system=system)
    changes = [_relative(before[site], after[site]) for site in sites]
    ids = encode(model, prompt, chat, system)[0]
    tokens = model.tokenizer.convert_ids_to_tokens(ids)
    read = _read(session, len(ids))
    rows = tuple(
        Row(tokens[position], read[position], tuple(change[position] for change in changes))
        for position in range(len(ids))
    )
    return Preview(
        sites,
        rows,
        tuple(_generated(intervention, site) for site in sites),
        tuple(bool(met.item()) for met in session.decisions.values()),
    )


def _keep(model: Model, site: Site, kept: dict[Site, Tensor]) -> Callable[[Tensor], None]:
    def keep(h: Tensor) -> None:
        kept[site] = part(model, site, h)[0].detach().float()

    return keep


def _relative(before: Float[Tensor, "pos d"], after: Float[Tensor, "pos d"]) -> list[float]:
    size = before.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return ((after - before).norm(dim=-1) / size).tolist()


def _read(session: Session, length: int) -> list[bool]:
    """Which tokens the conditions read: the last one, or all but BOS, as their readout pools."""
    read = [False] * length
    for condition in session.decisions:
        first = 0 if session.model.bos_id is None else 1
        tokens = [length - 1] if condition.readout.pool == "last" else range(first, length)
        for position in tokens:
            read[position] = True
    return read


def _generated(intervention: Intervention, site: Site) -> bool | None:
    values = [term.positions.generated() for term in intervention.terms if term.site == site]
    return True if True in values else (None if None in values else False)


def _percent(change: float) -> str:
    return f"{100 * change:.0f}%" if change else ""
