"""capture: read activations, quickly and holding only what is returned.

Chapter: hooks. One hook per wanted site takes the wanted positions while the model runs,
nothing after the last wanted site is computed, and texts are batched by length so that little
is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, last
from steerlib.core.prompts import Prompts, batches_by_length, encode, pad
from steerlib.core.session import rows_of_batch
from steerlib.core.sites import Site, Sites, as_sites, attach, part, resolve
from steerlib.core.where import Where

T = TypeVar("T")
Take = Callable[[Float[Tensor, "batch pos d"], Bool[Tensor, "batch pos"]], T]


def capture(
    model: Model,
    texts: Prompts,
    sites: Sites,
    at: Positions | str = last,
    reduce: Literal["mean", "max"] | None = None,
    *,
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
    include_bos: bool = False,
) -> dict[Site, Float[Tensor, "n d"]]:
    """Activations of texts at some sites; inside `steer`, after steering.

    Args:
        texts: strings or chats.
        sites: where to read.
        at: which tokens; BOS and padding are left out.
        reduce: None keeps one row per selected token, in the order of the texts; "mean" and "max"
            pool the selected tokens of each text into one row.
        chat: False reads strings as they are, None or True by the chat template.
        include_bos: also read BOS where it is selected.

    Returns:
        For each site a float32 tensor (n, d) on the CPU.

    Raises:
        ValueError: a site that the model has not; a text in which no token is selected.

    Chapter: hooks.

    Example:
        >>> st.capture(model, ["a dog .", "a cat ."], sites=[st.resid(2)])[st.resid(2)].shape
        torch.Size([2, 128])
    """
    wanted = as_sites(sites)
    options = {"chat": chat, "system": system, "batch_size": batch_size, "include_bos": include_bos}
    found: dict[Site, dict[int, Tensor]] = {site: {} for site in wanted}
    for rows, taken in stream(model, texts, wanted, pooling(reduce), at=at, **options):  # type: ignore[arg-type]
        for site, values in taken.items():
            found[site].update(zip(rows, values, strict=True))
    return {s: torch.cat([v[row] for row in range(len(v))]) for s, v in found.items()}


def pooling(reduce: str | None) -> Take[list[Tensor]]:
    """The function that turns activations and a mask into one (tokens, d) tensor per text."""

    def take(h: Tensor, mask: Tensor) -> list[Tensor]:
        if reduce == "mean":
            total = torch.where(mask[..., None], h, 0.0).sum(1, dtype=torch.float32)
            return list((total / mask.sum(1, keepdim=True)).cpu().split(1))
        if reduce == "max":
            return list(h.masked_fill(~mask[..., None], -torch.inf).amax(1).float().cpu().split(1))
        # Only the selected tokens are copied and converted.
        return list(h[mask].float().cpu().split(mask.sum(1).tolist()))

    if reduce not in (None, "mean", "max"):
        raise ValueError(f"reduce is None, 'mean' or 'max', got {reduce!r}")
    return take


class _Done(Exception):  # noqa: N818
    """Raised by the hook at the last wanted site: the rest of the model is not needed."""


def stream(
    model: Model,
    texts: Prompts,
    sites: Sequence[Site],
    take: Take[T],
    *,
    at: Positions | str = last,
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
    include_bos: bool = False,
) -> Iterator[tuple[list[int], dict[Site, T]]]:
    """Batch by batch: which texts, and `take(activations, mask)` at each site."""
    if not sites:
        raise ValueError("capture needs at least one site, such as st.resid(2)")
    positions = as_positions(at)
    encoded = encode(model, texts, chat, system)
    batches = batches_by_length(encoded, batch_size)
    for rows in tqdm(batches, "reading", unit="batch", leave=False, delay=2):
        ids, attention = pad(model, [encoded[row] for row in rows])
        mask = token_mask(model, ids, attention, positions, include_bos)
        missed = [row for row, hit in zip(rows, mask.any(1).tolist(), strict=True) if not hit]
        if missed:
            raise ValueError(f"the positions {positions} match no token of text {missed[0]}")
        with torch.no_grad(), rows_of_batch(model, rows):
            yield rows, _run(model, ids, attention, sites, mask, take)


def token_mask(
    model: Model,
    ids: Tensor,
    attention: Tensor | None,
    positions: Positions,
    include_bos: bool = False,
) -> Bool[Tensor, "batch pos"]:
    """True at the selected tokens of a batch; padding never, BOS only where it is asked for."""
    shape = (ids.shape[0], ids.shape[1])
    where = Where(ids, attention, shape, 0, None, model.tokenizer, model.bos_id, ids.device)
    mask = positions.mask(where) & where.real
    return mask if include_bos else mask & ~where.is_bos


def _run(
    model: Model,
    ids: Tensor,
    attention: Tensor | None,
    sites: Sequence[Site],
    mask: Tensor,
    take: Take[T],
) -> dict[Site, T]:
    """One forward pass up to the last wanted site."""
    taken: dict[Site, T] = {}

    def reader(site: Site) -> Callable[[Tensor], None]:
        def read(h: Tensor) -> None:
            taken[site] = take(part(model, site, h), mask.to(h.device))
            if len(taken) == len(set(sites)):
                raise _Done

        return read

    places = {site: resolve(model, site) for site in sites}
    handles = [attach(place, reader(site)) for site, place in places.items()]
    try:
        model.decoder(input_ids=ids, use_cache=False, **positions_and_mask(attention))
    except _Done:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return taken


def positions_and_mask(attention: Tensor | None) -> dict[str, Any]:
    """What a left-padded batch needs so that each text is read as if it were alone."""
    if attention is None:
        return {}
    return {"attention_mask": attention, "position_ids": (attention.cumsum(1) - 1).clamp_min(0)}
