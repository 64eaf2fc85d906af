"""Directions from labelled texts: the difference of means, mean-centring, a probe.

Chapter: directions. With gap = mean of the rows with label 1 - mean of those with label 0, every
direction of this family points to the concept. A probe, like a principal component
(`components.py`), has neither a sign nor a length of its own: its unit vector u becomes
sign(u . gap) ||gap|| u, so that one strength is one distance for all methods.

A row is the mean over the selected tokens of one text (`reduce="mean"`) or, with `reduce=None`,
one token with the label of its text, as in AxBench.
"""

from __future__ import annotations

import torch

from steerlib.core.interventions import Intervention
from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.model import Model
from steerlib.core.positions import Positions, prompt
from steerlib.core.prompts import Prompts
from steerlib.core.sites import Site, as_site
from steerlib.methods.moments import Classes, class_moments, mean_row
from steerlib.methods.reading import Reading, Reduce


def diff_means(
    model: Model,
    data: Labelled,
    site: Site | str,
    at: Positions | str = prompt,
    *,
    reduce: Reduce = "mean",
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> Intervention:
    r"""The difference of class means: d = mean of the rows with label 1 - mean of those with 0.

    Args:
        data: `.texts` and `.labels` (True where a text shows the concept).
        at: which tokens are read (default: all but BOS).
        reduce: how the tokens of a text become rows; None keeps each token.
        chat: False reads strings as they are, None or True by the chat template.

    Returns:
        `Add(site, d)` with d (d_model,) of its raw length.

    Raises:
        ValueError: labels that are not two classes, one per text; classes with the same mean.

    Source: DiffMean in AxBench (Wu et al. 2025, section 3.1), CAA (Rimsky et al. 2024).
    Chapter: directions.

    Example:
        >>> weather = st.diff_means(model, st.world.concept("weather").train, st.resid(2))
    """
    reading = Reading(model, as_site(site), at, reduce, chat, system, batch_size)
    return reading.add(class_moments(reading, data).gap, "diff_means")


def mean_centred(
    model: Model,
    data: Labelled,
    site: Site | str,
    at: Positions | str = prompt,
    *,
    corpus: Prompts | None = None,
    reduce: Reduce = "mean",
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> Intervention:
    """Mean of the rows with label 1 - mean of the rows of a corpus of ordinary text.

    Args:
        corpus: texts that show what is usual for the model; by default all texts of `data`, which
            makes it n0 / (n0 + n1) times `diff_means`.

    Returns:
        `Add(site, d)` with d (d_model,) of its raw length. The other arguments: see `diff_means`.

    Source: Jorgensen et al. 2023, section 3. Chapter: directions.

    Example:
        >>> st.mean_centred(model, data.train, st.resid(2), corpus=ordinary_texts)
    """
    reading = Reading(model, as_site(site), at, reduce, chat, system, batch_size)
    classes = class_moments(reading, data)
    if corpus is not None:
        return reading.add(classes.positive.mean - mean_row(reading, corpus), "mean_centred")
    share = classes.negative.n / (classes.negative.n + classes.positive.n)
    return reading.add(share * classes.gap, "mean_centred")


def probe(
    model: Model,
    data: Labelled,
    site: Site | str,
    at: Positions | str = prompt,
    *,
    C: float = 1.0,
    reduce: Reduce = "mean",
    chat: bool | None = False,
    system: str | None = None,
    batch_size: int = 32,
) -> Intervention:
    """The weights of a logistic regression of the label on the row, by scikit-learn.

    Rows are centred and divided by one number, their root mean squared deviation, so that `C`
    means the same at every layer and no coordinate is preferred. As C goes to 0 the direction
    becomes that of `diff_means`. All rows are held, one per text or token.

    Args:
        C: the inverse strength of the squared penalty on the weights.

    Returns:
        `Add(site, d)` with the direction of the weights and the length of `diff_means`. The other
        arguments: see `diff_means`.

    Raises:
        ValueError: also where C is not positive.

    Source: AxBench, section 3.1 (gradient steps on the unit sphere, without a bias). Chapter:
    directions.

    Example:
        >>> st.probe(model, data.train, st.resid(2), C=0.1)
    """
    from sklearn.linear_model import LogisticRegression

    if not C > 0:
        raise ValueError(f"C is the inverse strength of the penalty and positive, got {C}")
    reading = Reading(model, as_site(site), at, reduce, chat, system, batch_size)
    rows, truth = reading.held(*both_classes(data))
    classes = Classes(reading.d)
    classes.add(rows, truth)
    centred = rows - rows.mean(0)
    scaled = (centred / centred.square().mean().sqrt()).numpy()
    # Ten times as fast as the default solver where each token is a row.
    solver = LogisticRegression(C=C, solver="newton-cg", tol=1e-8, max_iter=10_000)
    fitted = solver.fit(scaled, truth.numpy())
    return reading.add(classes.oriented(torch.from_numpy(fitted.coef_[0])), "probe")
