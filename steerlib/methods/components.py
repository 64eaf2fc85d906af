"""Principal components of activations as directions: PCA, and LAT over random pairs.

Chapter: directions. Sign and length come from the labels (see `directions.py`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.interventions import Intervention
from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.model import Model
from steerlib.core.positions import Positions, prompt
from steerlib.core.sites import Site, as_site
from steerlib.methods.moments import Classes, class_moments
from steerlib.methods.reading import Reading, Reduce

Of = Literal["positive", "all"]
_PAIRED = 512  # texts whose rows LAT holds at once


def pca(
    model: Model,
    data: Labelled,
    site: Site | str,
    at: Positions | str = prompt,
    *,
    of: Of = "positive",
    reduce: Reduce = "mean",
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> Intervention:
    """The first principal component of the centred rows, u = argmax of u^T S u.

    Args:
        of: "positive" takes the scatter S of the rows with label 1 only (AxBench), "all" that of
            all rows. The labels only give the sign and the length (see the module).

    Returns:
        `Add(site, d)` with the length of `diff_means`. The other arguments: see `diff_means`.

    Raises:
        ValueError: also where the rows do not vary.

    Source: AxBench, section 3.1 (which leaves the sign open). Chapter: directions.

    Example:
        >>> st.pca(model, data.train, st.resid(2), of="all")
    """
    _check_of(of)
    reading = Reading(model, as_site(site), at, reduce, chat, system, batch_size)
    classes = class_moments(reading, data, scattered=True)
    scatter = classes.scatter if of == "all" else classes.positive.scatter
    return reading.add(classes.oriented(_first_eigenvector(scatter)), "pca")


def lat(
    model: Model,
    data: Labelled,
    site: Site | str,
    at: Positions | str = prompt,
    *,
    of: Of = "all",
    seed: int = 0,
    reduce: Reduce = "mean",
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> Intervention:
    """Linear artificial tomography: the main axis of the differences between random pairs.

    Rows are shuffled and paired, each difference gets length 1, and u is the first eigenvector of
    their second moment. It is not centred: the order in a pair means nothing.

    Args:
        of: "all" pairs all rows (the paper), "positive" those with label 1 (AxBench's code).
        seed: of the shuffling.

    Returns:
        `Add(site, d)` with the length of `diff_means` and its sign from the labels. The other
        arguments: see `diff_means`.

    Source: Zou et al. 2023, section 3.1; AxBench, section 3.1. Chapter: directions.

    Example:
        >>> st.lat(model, data.train, st.resid(2), seed=1)
    """
    _check_of(of)
    reading = Reading(model, as_site(site), at, reduce, chat, system, batch_size)
    texts, labels = both_classes(data)
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(texts), generator=random).tolist()
    classes = Classes(reading.d)
    axes = torch.zeros(reading.d, reading.d, dtype=torch.float64)
    for start in range(0, len(order), _PAIRED):
        chunk = order[start : start + _PAIRED]
        rows, truth = reading.held([texts[n] for n in chunk], [labels[n] for n in chunk])
        classes.add(rows, truth)
        axes += _pair_axes(rows if of == "all" else rows[truth], random)
    return reading.add(classes.oriented(_first_eigenvector(axes)), "lat", seed)


def _pair_axes(rows: Float[Tensor, "n d"], random: torch.Generator) -> Float[Tensor, "d d"]:
    """The summed second moment of the unit differences of a random pairing of rows."""
    mixed = rows[torch.randperm(len(rows), generator=random)]
    half = len(mixed) // 2
    differences = mixed[:half] - mixed[half : 2 * half]
    # Two equal rows have no axis: they add nothing.
    units = torch.nn.functional.normalize(differences, dim=1)
    return units.T @ units


def _first_eigenvector(scatter: Float[Tensor, "d d"]) -> Float[Tensor, " d"]:
    from scipy.sparse.linalg import eigsh

    if scatter.diagonal().sum() <= 0:
        raise ValueError("the rows do not vary, so they have no principal component; add texts")
    # A start that is the same each time, so that the fit repeats exactly.
    start = np.random.default_rng(0).standard_normal(len(scatter))
    return torch.from_numpy(eigsh(scatter.numpy(), k=1, v0=start)[1][:, 0])


def _check_of(of: str) -> None:
    if of not in ("positive", "all"):
        raise ValueError(f"of is 'positive' or 'all', got {of!r}")
