"""Directions from labelled texts: the difference of means, and a random direction as its control.

Chapter: directions. Source: DiffMean in AxBench (Wu et al. 2025), CAA (Rimsky et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.capture import pooling, stream
from steerlib.core.interventions import Add, Intervention, Origin
from steerlib.core.model import Model
from steerlib.core.positions import Positions, prompt
from steerlib.core.prompts import Prompt
from steerlib.core.sites import Site, as_site, width


class Labelled(Protocol):
    """Texts with a truth value each."""

    @property
    def texts(self) -> Sequence[Prompt]: ...
    @property
    def labels(self) -> Sequence[bool]: ...


def diff_means(
    model: Model,
    data: Labelled,
    site: Site | str,
    at: Positions | str = prompt,
    *,
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> Intervention:
    r"""The difference of class means: d = mean of h(x) over label 1 - mean of h(x) over label 0.

    h(x) is the mean over the selected tokens of a text (default: all but BOS). Sums are streamed:
    no more than one batch of activations is held.

    Returns:
        `Add(site, d)` with d of its raw length.

    Raises:
        ValueError: texts and labels of different number, or only one class.

    Example:
        >>> weather = st.diff_means(model, st.world.concept("weather").train, st.resid(2))
    """
    where, labels = as_site(site), [bool(label) for label in data.labels]
    texts = list(data.texts)
    if len(texts) != len(labels) or len(set(labels)) != 2:
        raise ValueError(
            f"diff_means needs one label per text and both classes; got {len(texts)} texts and "
            f"{len(labels)} labels, {sum(labels)} of them true"
        )
    totals = torch.zeros(2, width(model, where), dtype=torch.float64)
    batches = stream(
        model,
        texts,
        [where],
        pooling("mean"),
        at=at,
        chat=chat,
        system=system,
        batch_size=batch_size,
    )
    for rows, taken in batches:
        truth = torch.tensor([int(labels[row]) for row in rows])
        totals.index_add_(0, truth, torch.cat(taken[where]).double())
    counts = torch.tensor([len(labels) - sum(labels), sum(labels)])
    means = (totals / counts[:, None]).float()
    return _add(model, where, means[1] - means[0], "diff_means", None)


def random_direction(
    model: Model, site: Site | str, norm: float = 1.0, seed: int = 0
) -> Intervention:
    """A direction drawn uniformly from the sphere of a given radius: the control of every claim.

    Example:
        >>> st.random_direction(model, weather.site, norm=weather.direction.norm().item())
    """
    where = as_site(site)
    random = torch.Generator().manual_seed(seed)
    direction = torch.randn(width(model, where), generator=random)
    return _add(model, where, norm * direction / direction.norm(), "random_direction", seed)


def _add(
    model: Model, site: Site, direction: Float[Tensor, " d"], method: str, seed: int | None
) -> Intervention:
    origin = Origin(model.id, model.revision, method, seed)
    return Intervention(Add(site, direction).terms, origin)
