"""Detectors: whatever gives a text one score, be it a direction, a count of words or a judge.

Chapter: axbench. A direction is read at its site and pooled over tokens, all directions in one
pass. Any other detector is a function from texts to scores, with a pool of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.core.capture import Take, stream
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.positions import prompt
from steerlib.core.prompts import Prompt
from steerlib.core.readouts import POOLS, Readout
from steerlib.core.sites import width

Scorer = Callable[[Sequence[Prompt]], Sequence[float] | np.ndarray]
Detector = Intervention | Readout | Scorer
Scores = Float[np.ndarray, " n"]
OWN = "own"


def text_scores(
    model: Model,
    detectors: Mapping[str, Detector],
    texts: Sequence[Prompt],
    pools: Sequence[str] = ("max",),
    *,
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> dict[tuple[str, str], Scores]:
    """The score of every text by each detector and pool.

    Args:
        detectors: readouts, interventions that add one direction (its unit vector is read), or
            functions from texts to one score each, which see the texts as they are.
        pools: of "max", "mean", "last", for what is read at tokens.
        chat, system, batch_size: how the model reads the texts; for readouts only.

    Returns:
        (name, pool) -> scores (n,), in the order of the detectors; the pool of a function is "own".

    Raises:
        ValueError: no detectors, an unknown pool, a direction that does not fit its site, a
            function that does not give one finite score per text. TypeError: no detector.

    Chapter: axbench.

    Example:
        >>> length = lambda texts: [len(text) for text in texts]
        >>> text_scores(model, {"length": length}, ["a dog .", "rain"])
        {('length', 'own'): array([7., 4.])}
    """
    readouts = _readouts(model, detectors, pools)
    columns = {name: number for number, name in enumerate(readouts)}
    read: dict[str, Float[np.ndarray, "n readouts"]] = {}
    if readouts:
        stack = list(readouts.values())
        read = _read(model, stack, list(texts), pools, chat, system, batch_size)
    found: dict[tuple[str, str], Scores] = {}
    for name, detector in detectors.items():
        if name in columns:
            found |= {(name, pool): read[pool][:, columns[name]] for pool in pools}
        else:
            found[name, OWN] = _own(name, detector, list(texts))
    return found


def _readouts(
    model: Model, detectors: Mapping[str, Detector], pools: Sequence[str]
) -> dict[str, Readout]:
    """The readout of each detector that has one, once it is known to fit the model."""
    if isinstance(pools, str) or not pools or not set(pools) <= set(POOLS):
        raise ValueError(f"pools is a list of some of {POOLS}, got {pools!r}")
    if not detectors:
        raise ValueError("detection needs at least one detector, such as {'weather': weather}")
    found = {}
    for name, detector in detectors.items():
        if isinstance(detector, Intervention | Readout):
            found[name] = detector.readout if isinstance(detector, Intervention) else detector
            _check_width(model, name, found[name])
        elif not callable(detector):
            raise TypeError(
                f"{name!r} is neither an Intervention nor a Readout nor a function from texts to "
                f"scores: {detector!r}"
            )
    return found


def _check_width(model: Model, name: str, readout: Readout) -> None:
    needed = width(model, readout.site)
    if len(readout.w) != needed:
        raise ValueError(
            f"{name!r} reads {len(readout.w)} numbers, but {model.id} has {needed} at "
            f"{readout.site}"
        )


def _own(name: str, scorer: Any, texts: list[Prompt]) -> Scores:
    """What a function says about the texts, once it is one finite number each."""
    scores = np.asarray(scorer(texts), dtype=np.float64)
    if scores.shape != (len(texts),) or not np.isfinite(scores).all():
        raise ValueError(
            f"{name!r} has to give one finite score per text, ({len(texts)},); got the shape "
            f"{scores.shape}, {int((~np.isfinite(scores)).sum())} scores not finite"
        )
    return scores


def _read(
    model: Model,
    readouts: list[Readout],
    texts: list[Prompt],
    pools: Sequence[str],
    chat: bool | None,
    system: str | None,
    batch_size: int,
) -> dict[str, Float[np.ndarray, "n readouts"]]:
    """The score of every text by every readout, for each pool, in one pass."""
    sites = list(dict.fromkeys(readout.site for readout in readouts))
    columns = {site: [k for k, r in enumerate(readouts) if r.site == site] for site in sites}
    found = {pool: np.empty((len(texts), len(readouts))) for pool in pools}
    options: dict[str, Any] = {"chat": chat, "system": system, "batch_size": batch_size}
    for rows, taken in stream(model, texts, sites, _taker(readouts, pools), at=prompt, **options):
        for site, numbers in columns.items():
            for pool in pools:
                found[pool][np.ix_(rows, numbers)] = taken[site][pool][:, numbers].cpu().numpy()
    return found


def _taker(readouts: list[Readout], pools: Sequence[str]) -> Take[dict[str, Tensor]]:
    """What is kept of a site's activations: every readout's pooled score.

    A site is not told its own readouts, so all of its width are read there, in one product.
    """
    sizes = {len(readout.w) for readout in readouts}
    offsets = torch.tensor([readout.b for readout in readouts])
    stacks = {
        size: torch.stack([r.w if len(r.w) == size else torch.zeros(size) for r in readouts])
        for size in sizes
    }

    def take(h: Tensor, mask: Tensor) -> dict[str, Tensor]:
        x = h.float() @ stacks[h.shape[-1]].T.to(h.device) + offsets.to(h.device)
        return {pool: _pooled(x, mask, pool) for pool in pools}

    return take


def _pooled(
    x: Float[Tensor, "batch pos n"], mask: Bool[Tensor, "batch pos"], pool: str
) -> Float[Tensor, "batch n"]:
    """As `Readout.pooled`, for many readouts at once."""
    if pool == "mean":
        return torch.where(mask[..., None], x, 0.0).sum(1) / mask.sum(1, keepdim=True)
    if pool == "max":
        return x.masked_fill(~mask[..., None], -torch.inf).amax(1)
    position = torch.arange(mask.shape[1], device=mask.device)
    return x[torch.arange(len(x), device=mask.device), (mask * position).argmax(1)]
