"""How well a fit's directions detect texts that they were not fitted on.

Chapter: directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from steerlib.core.labelled import Labelled, Texts, both_classes
from steerlib.core.model import Model
from steerlib.core.sites import Site
from steerlib.evaluation.controls import Fit


def cross_validated(
    model: Model,
    data: Labelled,
    fits: Mapping[str, Fit],
    sites: Sequence[Site],
    folds: int = 3,
    seed: int = 0,
) -> dict[tuple[str, Site], float]:
    """The AUROC of each fit at each site on left-out texts, averaged over the folds.

    Directions of different folds have different scales, so each fold has its own AUROC. The score
    of a text is the mean over its tokens.

    Returns:
        (name of the fit, site) -> AUROC.

    Raises:
        ValueError: fewer than two folds, or fewer texts of a class than folds.

    Chapter: directions.
    """
    from sklearn.metrics import roc_auc_score

    areas: dict[tuple[str, Site], list[float]] = {}
    for train, test in _folds(data, folds, seed):
        for name, fit in fits.items():
            for site in sites:
                readout = replace(fit(model, train, site).readout, pool="mean")
                found = roc_auc_score(test.labels, readout.score(model, test.texts).numpy())
                areas.setdefault((name, site), []).append(float(found))
    return {key: float(np.mean(values)) for key, values in areas.items()}


def _folds(data: Labelled, folds: int, seed: int) -> list[tuple[Texts, Texts]]:
    """Train and test texts of each fold, with the same share of both classes in each."""
    from sklearn.model_selection import StratifiedKFold

    texts, labels = both_classes(data)
    fewest = min(sum(labels), len(labels) - sum(labels))
    if folds < 2 or fewest < folds:
        raise ValueError(
            f"folds={folds}, but the smaller class has {fewest} texts: folds lie between 2 and "
            "the number of texts of each class; add texts or take fewer folds"
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)

    def part(rows: np.ndarray) -> Texts:
        return Texts([texts[n] for n in rows], [labels[n] for n in rows])

    return [(part(a), part(b)) for a, b in splitter.split(np.zeros(len(labels)), labels)]
