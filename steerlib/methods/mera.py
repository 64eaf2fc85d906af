"""MERA: the smallest step that an error probe asks for, with a calibrated strength, or no step.

Chapter: mera. Steering with alpha moves each activation with an estimated error above alpha to the
half-space where it is alpha. Which alpha is right is decided on problems apart, by the gain in
accuracy, and only if a lower bound of that gain, valid for the whole grid at once, is above
epsilon. If none is, it abstains.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pandas as pd

from steerlib.core.classification import Answers, Problem
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.steering import steer
from steerlib.methods.answers_on_grid import answers_on_grid
from steerlib.methods.error_probes import known_answers
from steerlib.statistics import BOUNDS, Flips

S = TypeVar("S")
GRID = tuple(float(alpha) for alpha in np.linspace(0.001, 0.99, 10))  # the paper's
_MOST = 2**40  # problems that an error may ask for


class Steps(Protocol):
    """What makes a step: an `ErrorProbe` or a `GatedProbe`."""

    def step(self, alpha: float) -> Intervention: ...


def mera(probes: Iterable[Steps], alpha: float) -> Intervention:
    """The smallest steps of one or several probes; a later layer sees what an earlier one changed.

    Args:
        probes: such as `error_probes(...).values()`, or what `gated_probes` returns.
        alpha: as in `ErrorProbe.step`.

    Raises:
        ValueError: no probes.

    Source: Hedstrom et al. 2025 (MERA), section 3. Chapter: mera.

    Example:
        >>> st.steer(model, st.mera(probes.values(), 0.2))
    """
    steps = [probe.step(alpha) for probe in probes]
    if not steps:
        raise ValueError("needed are probes, at least one; got none")
    return sum(steps[1:], steps[0])


@dataclass(frozen=True, eq=False)
class Calibration(Generic[S]):
    """What each setting gains on the calibration problems, and the one that is safe to use.

    Args:
        settings: the grid.
        flips: of each setting, against no steering.
        lower: a lower bound of the gain of each, all of them right with probability 1 - delta.
        delta, epsilon, bound: as given.
        interventions: of each setting.

    Chapter: mera.
    """

    settings: tuple[S, ...]
    flips: tuple[Flips, ...]
    lower: tuple[float, ...]
    delta: float
    epsilon: float
    bound: str
    interventions: tuple[Intervention, ...]

    @property
    def chosen(self) -> int | None:
        """The number of the setting with the largest gain among those whose bound is above epsilon.

        Of equal gains the largest bound decides, then the later setting. None: it abstains.
        """
        order = [(f.gain, low, i) for i, (f, low) in enumerate(self._pairs()) if low > self.epsilon]
        return max(order)[2] if order else None

    @property
    def abstains(self) -> bool:
        """Whether no setting is safe."""
        return self.chosen is None

    @property
    def setting(self) -> S | None:
        """The chosen setting, such as alpha."""
        return None if self.chosen is None else self.settings[self.chosen]

    @property
    def intervention(self) -> Intervention | None:
        """The chosen intervention, or None."""
        return None if self.chosen is None else self.interventions[self.chosen]

    def steer(self, model: Model) -> AbstractContextManager[Any]:
        """`st.steer` with the chosen intervention; does nothing where it abstains."""
        return nullcontext() if self.intervention is None else steer(model, self.intervention)

    def table(self) -> pd.DataFrame:
        """One row per setting: gain, flips both ways, SPI, lower bound, and which one is chosen."""
        rows = [
            {
                "setting": setting, "gain": flips.gain, "up": flips.up, "down": flips.down,
                "spi": flips.spi, "lower": low, "chosen": number == self.chosen,
            }
            for number, (setting, (flips, low)) in enumerate(
                zip(self.settings, self._pairs(), strict=True)
            )
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def with_bound(self, bound: str) -> Calibration[S]:
        """The same measurements under another bound.

        Example:
            >>> calibration.with_bound("none").setting
        """
        lower = _lower_bounds(self.flips, self.delta, bound)
        return replace(self, lower=lower, bound=bound)

    def _pairs(self) -> list[tuple[Flips, float]]:
        return list(zip(self.flips, self.lower, strict=True))


def calibrate(
    model: Model,
    problems: Sequence[Problem],
    make: Callable[[S], Intervention],
    settings: Sequence[S] = GRID,  # type: ignore[assignment]
    *,
    delta: float = 0.05,
    epsilon: float = 0.0,
    bound: str = "conditional",
    answers: Answers | None = None,
    batch_size: int = 64,
) -> Calibration[S]:
    """Which setting to steer with, or none: P(steering, and its gain is epsilon or less) <= delta.

    With K settings, setting k is safe if L_k > epsilon, where L_k is the lower bound of its
    expected gain at level delta / K (Bonferroni). Among safe settings the one with the largest gain
    is taken.

    Args:
        problems: apart from those that the probes were fitted on, drawn like those to come; 1,000
            or more are needed to see gains of 1 to 5 points.
        make: the intervention of a setting, such as `lambda alpha: st.mera(probes, alpha)`.
        settings: the grid; with a gate each setting may be a pair.
        delta: the risk.
        epsilon: the gain that has to be exceeded.
        bound: one of `st.statistics.BOUNDS`; see `Flips.lower_bound`.
        answers: to these problems without steering, where they are known already.

    Raises:
        ValueError: no settings; a delta outside (0, 1); so few problems, or an epsilon so high,
            that even a setting which mends all answers could not pass: said before anything runs.

    Source: Hedstrom et al. 2025 (MERA), section 3, with a bound for a paired difference.
    Chapter: mera.

    Example:
        >>> found = st.calibrate(model, problems, lambda alpha: probe.step(alpha))
        >>> with found.steer(model):
        ...     st.classify(model, test).accuracy
    """
    grid = tuple(settings)
    if not grid:
        raise ValueError("needed are settings to choose from, at least one; got none")
    check_size(len(problems), len(grid), delta, epsilon, bound)
    made = tuple(make(setting) for setting in grid)
    before = known_answers(model, problems, answers, batch_size)
    after = answers_on_grid(model, problems, made, batch_size=batch_size)
    flips = tuple(Flips.of(before.correct.numpy(), one.correct.numpy()) for one in after)
    lower = _lower_bounds(flips, delta, bound)
    return Calibration(grid, flips, lower, delta, epsilon, bound, made)


def _lower_bounds(flips: Sequence[Flips], delta: float, bound: str) -> tuple[float, ...]:
    """Of each setting, all right at once with probability 1 - delta (Bonferroni)."""
    return tuple(float(one.lower_bound(delta / len(flips), bound)) for one in flips)


def check_size(n: int, settings: int, delta: float, epsilon: float, bound: str) -> None:
    """Raise a ValueError if n problems could never pass, naming the number that could."""

    def could(size: int) -> bool:
        return bool(Flips(size, 0, size, 0).lower_bound(delta / settings, bound) > epsilon)

    if bound not in BOUNDS or not 0 < delta < 1 or not 0 <= epsilon < 1:
        raise ValueError(
            f"bound is one of {BOUNDS}, delta between 0 and 1 and epsilon at least 0 and below 1; "
            f"got {bound!r}, {delta} and {epsilon}"
        )
    if n < 1 or not could(n):
        needed = 1 + bisect_left(range(1, _MOST), True, key=could)
        raise ValueError(
            f"{n} calibration problems can never pass: with {settings} settings, delta = {delta}, "
            f"epsilon = {epsilon} and the bound {bound!r} even a step that mends every answer "
            f"needs at least {needed}. Take fewer settings or more problems (1,000 see 1 to 5 "
            "points)"
        )
