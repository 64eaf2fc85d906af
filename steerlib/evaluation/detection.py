"""How well detectors tell texts apart: their AUROC, hard negatives apart.

Chapter: directions. A good detector is not always a good steerer: detection asks whether a
direction can be read, `scoring` whether it can be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.model import Model
from steerlib.evaluation.detectors import Detector, text_scores
from steerlib.evaluation.thresholds import Scored
from steerlib.statistics import auroc


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

    score(text) = pool over its tokens, without BOS, of w . h + b, or what a function from texts to
    scores says. One forward pass per batch serves all readouts and pools; one number per text,
    detector and pool is kept.

    Args:
        detectors: readouts, interventions that add one direction (its unit vector is read), or
            functions from a list of texts to one finite score each, such as `st.bag_of_words`.
        data: texts and labels. Where it has `kinds`, one name per text, the positives are also
            compared with the negatives of each kind.
        pools: of "max", "mean", "last"; they take the place of a readout's own. A function has one
            line, with the pool "own".
        chat, system, batch_size: how the model reads the texts; a function sees them as they are.

    Returns:
        detector, pool, against ("all" or a kind of negatives), auroc, low, high (stratified
        bootstrap), positives, negatives (how many).

    Raises:
        ValueError: no detectors, an unknown pool, one class only, kinds of another number, a
            direction that does not fit its site, a function that does not give one finite score
            per text. TypeError: a detector that is none.

    Source: Wu et al. 2025 (AxBench), section 3.1 (max pool). Chapter: directions.

    Example:
        >>> detection(model, {"diff of means": weather}, st.world.concept("weather").test)
    """
    texts, labels = both_classes(data)
    truth = np.array(labels)
    groups = _groups(data, truth)
    options: dict[str, Any] = {"chat": chat, "system": system, "batch_size": batch_size}
    lines = []
    for (name, pool), scores in text_scores(model, detectors, texts, pools, **options).items():
        for against, rows in groups.items():
            area = auroc(scores[rows], truth[rows], level, seed=seed)
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
        pool: "max", "mean" or "last", for readouts.
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
    texts, labels = both_classes(data)
    truth = np.array(labels)
    _groups(data, truth)  # one kind per text
    kinds = getattr(data, "kinds", None)
    marks = None if kinds is None else np.isin(list(kinds), list(hard)) & ~truth
    options: dict[str, Any] = {"chat": chat, "system": system, "batch_size": batch_size}
    found = text_scores(model, detectors, texts, (pool,), **options)
    return {name: Scored(scores, truth, marks) for (name, _), scores in found.items()}


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
