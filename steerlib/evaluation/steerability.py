"""Steerability: by how much the propensity rises per unit of strength, choice by choice.

Chapter: directions. A mean effect hides the choices that a direction moves the wrong way; Tan et
al. 2024 found them in almost every data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.steering import steer
from steerlib.evaluation.propensity import propensity
from steerlib.statistics import Interval, bootstrap, bootstrap_mean
from steerlib.world.choices import Choice


@dataclass(frozen=True, eq=False)
class Steerability:
    """Propensities of n choices at k strengths, and the straight line through each choice's.

    Args:
        strengths: (k,), two or more different ones.
        propensities: (n, k) in nats.
        level: the coverage of the intervals, which are over choices.

    Raises:
        ValueError: fewer than two different strengths, shapes that do not fit, fewer than two
            choices, a number that is not finite.

    Source: Tan et al. 2024 (arXiv 2407.12404), section 3. Chapter: directions.

    Example:
        >>> found = Steerability((0, 1, 2), np.array([[0, 1, 2], [0, -1, -2]]))
        >>> found.slopes.tolist(), found.wrong_way.estimate
        ([1.0, -1.0], 0.5)
    """

    strengths: Float[np.ndarray, " k"]
    propensities: Float[np.ndarray, "n k"]
    level: float = 0.95

    def __post_init__(self) -> None:
        strengths = _strengths(self.strengths)
        values = np.array(self.propensities, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(strengths) or len(values) < 2:
            raise ValueError(
                f"needed are the propensities of two or more choices at {len(strengths)} "
                f"strengths, got the shape {values.shape}"
            )
        if not np.isfinite(values).all():
            raise ValueError("a propensity is not finite: some strength breaks the model")
        object.__setattr__(self, "strengths", strengths)
        object.__setattr__(self, "propensities", values)

    @cached_property
    def slopes(self) -> Float[np.ndarray, " n"]:
        """The steerability of each choice: its least-squares slope, in nats per unit strength."""
        return slopes(self.strengths, self.propensities)

    @cached_property
    def r2(self) -> Float[np.ndarray, " n"]:
        """The share of each choice's variance that its line explains; NaN where nothing moves."""
        x, y = (a - a.mean(-1, keepdims=True) for a in (self.strengths, self.propensities))
        left = ((y - self.slopes[:, None] * x) ** 2).sum(1)
        total = (y**2).sum(1)
        return np.where(total > 0, 1 - left / np.where(total > 0, total, 1), np.nan)

    @cached_property
    def curve(self) -> Float[np.ndarray, " k"]:
        """The mean propensity at each strength."""
        return self.propensities.mean(0)

    @cached_property
    def mean(self) -> Interval:
        """The mean slope: the slope of `curve`."""
        return bootstrap_mean(self.slopes, self.level)

    @cached_property
    def wrong_way(self) -> Interval:
        """The share of choices whose slope is negative: steering moves them the wrong way."""
        return bootstrap_mean((self.slopes < 0).astype(float), self.level)


@dataclass(frozen=True)
class Generalization:
    """How the slopes under a shift compare with those without, with intervals over choices.

    Args:
        correlation: Spearman's, over choices.
        ratio: mean slope under the shift / mean slope without.
    """

    correlation: Interval
    ratio: Interval


def steerability(
    model: Model,
    intervention: Intervention,
    choices: Sequence[Choice],
    strengths: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 1.0),
    *,
    chat: bool | None = None,
    system: str | None = None,
    batch_size: int = 64,
    level: float = 0.95,
) -> Steerability:
    """The propensity of each choice at each strength, and its slope.

    m_i(s) = log p_s(positive_i | prompt_i) - log p_s(negative_i | prompt_i); the steerability of
    choice i is the least-squares slope of m_i over s. All strengths share batches.

    Args:
        strengths: two or more different ones, best on both sides of 0 and where the model is
            not broken.
        chat, system: as in `st.generate`, for choices that do not say so themselves.

    Raises:
        ValueError: fewer than two choices, fewer than two different strengths, and what
            `propensity` raises.

    Source: Tan et al. 2024 (arXiv 2407.12404), section 3. Chapter: directions.

    Example:
        >>> choices = st.world.concept_choices("weather", split="test")
        >>> steerability(model, weather, choices).wrong_way
    """
    points = _strengths(strengths)
    if len(choices) < 2:
        raise ValueError(f"steerability needs two or more choices, got {len(choices)}")
    samples = [choice for choice in choices for _ in points]
    each = torch.from_numpy(points).repeat(len(choices))
    with steer(model, intervention, strength=each):
        found = propensity(model, samples, chat=chat, system=system, batch_size=batch_size)
    return Steerability(points, found.numpy().reshape(len(choices), len(points)), level)


def generalization(
    base: Steerability, shifted: Steerability, level: float = 0.95, *, seed: int = 0
) -> Generalization:
    """Whether the choices that are steered well stay so when the prompts change.

    Args:
        base, shifted: of the same choices in the same order, before and after the shift.

    Raises:
        ValueError: another number of choices; slopes that are all equal, which have no
            correlation.

    Source: Tan et al. 2024 (arXiv 2407.12404), section 5. Chapter: directions.

    Example:
        >>> generalization(steerability(model, v, plain), steerability(model, v, shifted)).ratio
    """
    from scipy.stats import rankdata

    if len(base.slopes) != len(shifted.slopes):
        raise ValueError(
            f"the same choices are needed before and after the shift, got {len(base.slopes)} and "
            f"{len(shifted.slopes)}"
        )
    pairs = np.stack([base.slopes, shifted.slopes], 1)
    if np.ptp(pairs, axis=0).min() == 0:
        raise ValueError("all slopes are equal before or after the shift: nothing to correlate")

    def spearman(x: Float[np.ndarray, "n two"]) -> float:
        ranks = rankdata(x, axis=0)
        if np.ptp(ranks, axis=0).min() == 0:
            return float("nan")
        return float(np.corrcoef(ranks.T)[0, 1])

    def ratio(x: Float[np.ndarray, "n two"]) -> float:
        before, after = x.mean(0)
        return float(after / before) if before else float("nan")

    return Generalization(
        bootstrap(pairs, spearman, level, seed=seed), bootstrap(pairs, ratio, level, seed=seed)
    )


def slopes(
    strengths: Float[np.ndarray, " k"], propensities: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, " n"]:
    """The least-squares slope of each row: sum (s - mean s) m(s) / sum (s - mean s)^2."""
    x = _strengths(strengths)
    x = x - x.mean()
    return np.asarray(propensities, dtype=np.float64) @ x / (x @ x)


def _strengths(values: Sequence[float] | np.ndarray) -> Float[np.ndarray, " k"]:
    x = np.array(values, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all() or len(set(x.tolist())) < 2:
        raise ValueError(f"a slope needs two or more different finite strengths, got {values}")
    return x
