r"""What steering gains on questions that were answered with and without it, and what is certain.

Chapter: mera. For each of n questions d_i = [right after] - [right before] is -1, 0 or 1. Its mean
is the gain in accuracy, and n+ - n- over n, where n+ answers became right and n- wrong. A lower
bound L of the expected gain at level delta has P(L > gain) <= delta, for every distribution of
independent questions (`as_printed` has not).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from steerlib.statistics.intervals import Interval, percentiles

BOUNDS = ("conditional", "binomial", "hoeffding", "bernstein", "as_printed", "none")
_RANGE = 2.0  # of one d_i: from -1 to 1


@dataclass(frozen=True)
class Flips:
    """Counts of one comparison, or arrays of counts: one per comparison.

    Args:
        n: how many questions were answered both ways.
        right: how many answers were right before.
        up: n+, wrong before and right after.
        down: n-, right before and wrong after.

    Chapter: mera.

    Example:
        >>> flips = Flips.of([True, False, False, True], [True, True, False, True])
        >>> flips.gain, flips.spi
        (0.25, 0.5)
    """

    n: int
    right: Int[np.ndarray, "*many"] | int
    up: Int[np.ndarray, "*many"] | int
    down: Int[np.ndarray, "*many"] | int

    def __post_init__(self) -> None:
        counts = [np.asarray(x) for x in (self.right, self.up, self.down)]
        whole = all(np.issubdtype(x.dtype, np.integer) for x in counts)
        if not whole or min(x.min(initial=0) for x in counts) < 0 or self.n < 1:
            raise ValueError(f"flips are counts of at least one question, got {self}")
        # Wide and signed: the difference of two unsigned counts would wrap around.
        right, up, down = (x.astype(np.int64) for x in counts)
        for name, x in (("right", right), ("up", up), ("down", down)):
            object.__setattr__(self, name, x if x.ndim else int(x))
        if (down > right).any() or (up > self.n - right).any():
            raise ValueError(
                f"of {self.n} answers at most the {self.right} right ones can become wrong and the "
                f"others right, got {self.down} and {self.up}"
            )

    @staticmethod
    def of(before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, " n"]) -> Flips:
        """From whether each answer was right, before and after."""
        b, a = _paired(before, after)
        return Flips(len(b), int(b.sum()), int((~b & a).sum()), int((b & ~a).sum()))

    @property
    def gain(self) -> Float[np.ndarray, "*many"] | float:
        """(n+ - n-) / n: the accuracy after minus the accuracy before."""
        return (self.up - self.down) / self.n

    @property
    def spi(self) -> Float[np.ndarray, "*many"] | float:
        """The gain as a share of what could be gained, or of what could be lost; in [-1, 1].

        With a the accuracy before: gain / (1 - a) where it is positive, gain / a where negative.

        Source: Hedstrom et al. 2025 (MERA), "steering performance impact". Chapter: mera.
        """
        room = np.where(np.greater(self.gain, 0), self.n - np.asarray(self.right), self.right)
        share = (self.up - np.asarray(self.down)) / np.maximum(room, 1)
        return share if share.ndim else float(share)

    def lower_bound(
        self, delta: float, bound: str = "conditional"
    ) -> Float[np.ndarray, "*many"] | float:
        r"""L with P(L > expected gain) <= delta.

        * "conditional": exact. Given that m = n+ + n- answers flipped, n+ is binomial with
          q = P(up | flip). With lower bounds q_L and r_L (upper r_U) of q and of the rate of flips
          at delta / 2 each, L = (2 q_L - 1) r_L, or r_U for r_L where q_L < 1/2.
        * "binomial": exact. A lower bound of P(up) minus an upper bound of P(down), delta / 2 each.
        * "hoeffding": gain - sqrt(2 log(1 / delta) / n), as d lies in [-1, 1].
        * "bernstein": gain - sqrt(2 V log(2 / delta) / n) - 14 log(2 / delta) / (3 (n - 1)), V the
          sample variance of d.
        * "as_printed": gain - sqrt(log(2 / delta) / (2 n)). Hoeffding's bound for values in [0, 1],
          which d has not: no bound at all.
        * "none": the gain itself.

        Raises:
            ValueError: a delta outside (0, 1), an unknown bound.

        Source: Clopper and Pearson 1934 (both exact ones), Hoeffding 1963, Maurer and Pontil 2009,
        theorem 4 (scaled to a range of 2), MERA (as_printed). Chapter: mera.

        Example:
            >>> round(Flips(250, 175, 40, 15).lower_bound(0.05), 3)
            0.031
        """
        if not 0 < delta < 1:
            raise ValueError(f"delta is a probability between 0 and 1, got {delta}")
        if bound not in BOUNDS:
            raise ValueError(f"bound is one of {BOUNDS}, got {bound!r}")
        up, down = np.asarray(self.up), np.asarray(self.down)
        gain = (up - down) / self.n
        match bound:
            case "conditional":
                found = _conditional(self.n, up, down, delta)
            case "binomial":
                found = lowest(up, self.n, delta / 2) - highest(down, self.n, delta / 2)
            case "hoeffding":
                found = gain - _RANGE * np.sqrt(np.log(1 / delta) / (2 * self.n))
            case "bernstein":
                found = gain - _bernstein(self.n, gain, (up + down) / self.n, delta)
            case "as_printed":
                found = gain - np.sqrt(np.log(2 / delta) / (2 * self.n))
            case _:
                found = gain
        return found if np.ndim(found) else float(found)


def _conditional(
    n: int, up: Int[np.ndarray, "*many"], down: Int[np.ndarray, "*many"], delta: float
) -> Float[np.ndarray, "*many"]:
    flips = up + down
    lean = 2 * lowest(up, flips, delta / 2) - 1
    rate = np.where(lean > 0, lowest(flips, n, delta / 2), highest(flips, n, delta / 2))
    return lean * rate


def _bernstein(
    n: int, gain: Float[np.ndarray, "*many"], flipped: Float[np.ndarray, "*many"], delta: float
) -> Float[np.ndarray, "*many"]:
    """How far the empirical Bernstein bound lies below the gain."""
    variance = (flipped - gain**2) * n / (n - 1) if n > 1 else np.full_like(gain, np.inf)
    log = np.log(2 / delta)
    return np.sqrt(2 * variance * log / n) + 7 * _RANGE * log / (3 * max(n - 1, 1))


def lowest(
    hits: Int[np.ndarray, "*many"], n: Int[np.ndarray, "*many"] | int, delta: float
) -> Float[np.ndarray, "*many"]:
    """The lower bound of Clopper and Pearson for a probability: P(it is above) <= delta."""
    from scipy.stats import beta

    hits = np.asarray(hits)
    found = beta.ppf(delta, np.maximum(hits, 1), n - hits + 1)
    return np.where(hits == 0, 0.0, found)


def highest(
    hits: Int[np.ndarray, "*many"], n: Int[np.ndarray, "*many"] | int, delta: float
) -> Float[np.ndarray, "*many"]:
    """The upper bound of Clopper and Pearson for a probability: P(it is below) <= delta."""
    return 1 - lowest(n - np.asarray(hits), n, delta)


def spi(
    before: Bool[np.ndarray, " n"],
    after: Bool[np.ndarray, " n"],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """SPI of paired answers (`Flips.spi`) with a percentile bootstrap interval over questions.

    Args:
        before, after: whether each answer was right (n,).

    Raises:
        ValueError: fewer than two answers, or another number after than before.

    Source: Hedstrom et al. 2025 (MERA). Chapter: mera.

    Example:
        >>> spi([True, False, False, True] * 10, [True, True, False, True] * 10).estimate
        0.5
    """
    flips = Flips.of(before, after)
    if flips.n < 2:
        raise ValueError(f"an interval needs two or more answers, got {flips.n}")
    # Of each kind of answer as many as a resample of all would hold.
    up, down = int(flips.up), int(flips.down)
    kinds = np.array([up, down, int(flips.right) - down, flips.n - int(flips.right) - up])
    drawn = np.random.default_rng(seed).multinomial(flips.n, kinds / flips.n, size=resamples)
    many = Flips(flips.n, drawn[:, 1] + drawn[:, 2], drawn[:, 0], drawn[:, 1])
    return percentiles(float(flips.spi), np.asarray(many.spi).tolist(), level)


def _paired(
    before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    b, a = np.asarray(before), np.asarray(after)
    both = np.concatenate([b.ravel(), a.ravel()])
    if b.ndim != 1 or b.shape != a.shape or not len(b) or not np.isin(both, (0, 1)).all():
        raise ValueError(
            "needed are True or False for each answer, before and after and in the same order; got "
            f"the shapes {b.shape} and {a.shape}"
        )
    return b.astype(bool), a.astype(bool)
