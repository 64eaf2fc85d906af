"""Where the figures of the pages lie, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "book" / "figures"


def save_svg(fig: Any, name: str) -> None:
    """Write a figure as SVG: the same bytes for the same numbers."""
    import matplotlib

    fig.tight_layout()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        fig.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
