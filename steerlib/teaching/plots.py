"""Figures of one look: readable in print, in dark mode and without color vision.

The palette is Okabe and Ito's. The background is opaque, so that a dark page does not swallow the
labels, and each line also differs by marker and dash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = {
    "steered": "#0072b2",
    "prompt": "#e69f00",
    "random": "#6d7178",
    "shuffled": "#cc79a7",
    "other": "#009e73",
    "warning": "#d55e00",
}
_LOOK = {
    "steered": ("o", "-"),
    "prompt": ("s", "--"),
    "random": ("x", ":"),
    "shuffled": ("v", "-."),
    "other": ("D", "-"),
    "warning": ("^", "--"),
}
_STYLE: Any = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@contextmanager
def figure(columns: int = 1, height: float = 3.4) -> Iterator[tuple[Figure, list[Axes]]]:
    """Open a figure of ``columns`` panels in the book's style and show it at the end.

    The width stays readable at 390 pixels for one panel. Matplotlib's settings of the caller are
    restored afterwards.

    Example:
        >>> with figure() as (fig, [ax]):
        ...     _ = ax.plot([0, 1], [0, 1])
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(_STYLE):
        fig, axes = plt.subplots(1, columns, figsize=(5.2 * columns, height), squeeze=False)
        try:
            yield fig, list(axes[0])
            fig.tight_layout()
            plt.show()
        finally:
            plt.close(fig)


def line(
    ax: Axes,
    x: Sequence[float],
    mean: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    kind: str,
    label: str,
) -> None:
    """Draw a mean with its interval as a band; ``kind`` is a key of `PALETTE`.

    Raises:
        KeyError: ``kind`` is no key of the palette.
    """
    if kind not in PALETTE:
        raise KeyError(f"kind {kind!r} is unknown; choose from {', '.join(PALETTE)}.")
    marker, dash = _LOOK[kind]
    ax.plot(x, mean, marker=marker, linestyle=dash, color=PALETTE[kind], label=label)
    ax.fill_between(x, low, high, color=PALETTE[kind], alpha=0.18, linewidth=0)
