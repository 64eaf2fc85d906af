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
    from pandas import DataFrame

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


def bars(
    ax: Axes,
    names: Sequence[str],
    mean: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    kind: str = "steered",
) -> None:
    """Draw one horizontal bar with its interval per name, the first one on top."""
    errors = [
        [m - a for m, a in zip(mean, low, strict=True)],
        [b - m for m, b in zip(mean, high, strict=True)],
    ]
    ax.barh(range(len(names)), list(mean), xerr=errors, color=PALETTE[kind], ecolor="#222222",
            capsize=2)  # fmt: skip
    ax.set_yticks(range(len(names)), list(names))
    ax.invert_yaxis()


def heat_map(ax: Axes, grid: DataFrame, top: float | None = None) -> None:
    """Draw a table as colored cells with their numbers; rows are named by block where they are.

    Args:
        grid: rows by site (or any name), columns by strength.
        top: the value of the strongest color; by default the largest.
    """
    values = grid.to_numpy(dtype=float)
    strongest = values.max() if top is None else top
    image = ax.imshow(values, cmap="cividis", vmin=0, vmax=strongest or 1, aspect="auto")
    for (row, column), value in _cells(values):
        red, green, blue, _ = image.cmap(value / (strongest or 1))
        color = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.45 else "black"
        ax.text(column, row, f"{value:.1f}", ha="center", va="center", color=color, fontsize=9)
    ax.set_xticks(range(grid.shape[1]), [f"{x:g}" for x in grid.columns])
    ax.set_yticks(range(grid.shape[0]), [_short(str(name)) for name in grid.index])


def _cells(values: Any) -> Iterator[tuple[tuple[int, int], float]]:
    for row, line_ in enumerate(values):
        for column, value in enumerate(line_):
            yield (row, column), float(value)


def _short(name: str) -> str:
    """`blocks.2.hook_resid_post` as `block 2`; other names as they are."""
    parts = name.split(".")
    return f"block {parts[1]}" if name.endswith("hook_resid_post") else name
