"""How well directions tell texts apart: AUROC of pooled readouts, hard negatives apart.

Chapter: directions. A good detector is not always a good steerer: detection asks whether a
direction can be read, `scoring` whether it can be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.core.capture import Take, stream
from steerlib.core.interventions import Intervention
from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.model import Model
from steerlib.core.positions import prompt
from steerlib.core.prompts import Prompt
from steerlib.core.readouts import POOLS, Readout
from steerlib.core.sites import width
from steerlib.evaluation.thresholds import Scored
from steerlib.statistics import auroc

Detector = Intervention | Readout


def detection(
    model: Model,
    detectors: Mapping[str, Detector],
    data: Labelled,
    pools: Sequence[str] = ("max", "mean"),
    *,
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The AUROC of each detector and pool on labeled texts.

    score(text) = pool over its tokens, without BOS, of w . h + b. One forward pass per batch
    serves all detectors and pools; one number per text, detector and pool is kept.

    Args:
        detectors: readouts, or interventions that add one direction (its unit vector is read).
        data: texts and labels. Where it has `kinds`, one name per text, the positives are also
            compared with the negatives of each kind.
        pools: of "max", "mean", "last"; they take the place of a readout's own.

    Returns:
        detector, pool, against ("all" or a kind of negatives), auroc, low, high (stratified
        bootstrap), positives, negatives (how many).

    Raises:
        ValueError: no detectors, an unknown pool, one class only, kinds of another number, a
            direction that does not fit its site.

    Source: Wu et al. 2025 (AxBench), section 3.1 (max pool). Chapter: directions.

    Example:
        >>> detection(model, {"diff of means": weather}, st.world.concept("weather").test)
    """
    readouts = _readouts(model, detectors, pools)
    texts, labels = both_classes(data)
    truth = np.array(labels)
    groups = _groups(data, truth)
    scores = _scores(model, list(readouts.values()), texts, pools, chat, system, batch_size)
    lines = []
    for number, name in enumerate(readouts):
        for pool, (against, rows) in product(pools, groups.items()):
            area = auroc(scores[pool][rows, number], truth[rows], level, seed=seed)
            line = {"detector": name, "pool": pool, "against": against, "auroc": area.estimate}
            line |= {"low": area.low, "high": area.high}
            counts = {"positives": int(truth[rows].sum()), "negatives": int((~truth[rows]).sum())}
            lines.append(line | counts)
    return pd.DataFrame(lines)


def scored(
    model: Model,
    detectors: Mapping[str, Detector],
    data: Labelled,
    pool: str = "max",
    *,
    hard: Sequence[str] = ("hard negative", "polysemous"),
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> dict[str, Scored]:
    """The score of each text by each detector, ready for a threshold.

    Args:
        detectors, data, chat, system, batch_size: as in `detection`.
        pool: "max", "mean" or "last".
        hard: the kinds of negatives that are hard: they report, but choose no threshold.

    Returns:
        One `Scored` per detector.

    Raises:
        ValueError: as in `detection`; no ordinary negative.

    Chapter: axbench.

    Example:
        >>> from steerlib.evaluation.thresholds import f1
        >>> found = {"diff of means": weather}
        >>> choose, report = (scored(model, found, part) for part in (data.selection, data.test))
        >>> f1(choose["diff of means"], report["diff of means"]).f1 > 0.5
        True
    """
    readouts = _readouts(model, detectors, (pool,))
    texts, labels = both_classes(data)
    truth = np.array(labels)
    _groups(data, truth)  # one kind per text
    kinds = getattr(data, "kinds", None)
    marks = None if kinds is None else np.isin(list(kinds), list(hard)) & ~truth
    scores = _scores(model, list(readouts.values()), texts, (pool,), chat, system, batch_size)[pool]
    return {name: Scored(scores[:, k], truth, marks) for k, name in enumerate(readouts)}


def _readouts(
    model: Model, detectors: Mapping[str, Detector], pools: Sequence[str]
) -> dict[str, Readout]:
    """The readout of each detector, once it is known to fit the model."""
    if isinstance(pools, str) or not pools or not set(pools) <= set(POOLS):
        raise ValueError(f"pools is a list of some of {POOLS}, got {pools!r}")
    if not detectors:
        raise ValueError("detection needs at least one detector, such as {'weather': weather}")
    found = {}
    for name, detector in detectors.items():
        if not isinstance(detector, Detector):
            raise TypeError(f"{name!r} is neither an Intervention nor a Readout: {detector!r}")
        found[name] = detector.readout if isinstance(detector, Intervention) else detector
        site, size = found[name].site, len(found[name].w)
        if size != width(model, site):
            raise ValueError(
                f"{name!r} reads {size} numbers, but {model.id} has {width(model, site)} at {site}"
            )
    return found


def _groups(data: Labelled, truth: Bool[np.ndarray, " n"]) -> dict[str, Bool[np.ndarray, " n"]]:
    """Which texts are compared: all, and all positives with the negatives of each kind."""
    groups = {"all": np.ones(len(truth), dtype=bool)}
    kinds = getattr(data, "kinds", None)
    if kinds is None:
        return groups
    if len(kinds) != len(truth):
        raise ValueError(f"needed is one kind per text, got {len(kinds)} for {len(truth)} texts")
    names = np.array(kinds)
    for kind in dict.fromkeys(names[~truth].tolist()):
        groups[kind] = truth | (names == kind)
    return groups


def _scores(
    model: Model,
    readouts: list[Readout],
    texts: list[Prompt],
    pools: Sequence[str],
    chat: bool | None,
    system: str | None,
    batch_size: int,
) -> dict[str, Float[np.ndarray, "n detectors"]]:
    """The score of every text by every detector, for each pool."""
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
    """What is kept of a site's activations: every detector's pooled score.

    A site is not told its own detectors, so all of its width are read there, in one product.
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
