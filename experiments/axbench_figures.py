"""The two figures of the page axbench: what steering costs, and detection against steering."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from steerlib.teaching import plots

FOLDER = Path(__file__).resolve().parents[1] / "book" / "figures"
NAMES = {
    "prompt": "asking",
    "reps": "RePS",
    "sampled": "drawn factors",
    "supervised": "supervised",
    "reft_r1": "ReFT-r1",
    "diff_means": "DiffMean",
    "probe": "probe",
    "lat": "LAT",
    "pca": "PCA",
    "random": "random",
    "loreft": "LoReFT",
    "lora": "LoRA",
    "full": "full",
}
_CURVES = {
    "reps": "prompt",
    "reft_r1": "other",
    "diff_means": "steered",
    "probe": "warning",
    "random": "random",
}
_POINTS = ("loreft", "lora", "full")


def frontier(table: pd.DataFrame, asked: float) -> None:
    """Score against KL: a curve over strengths for some methods, a point for those without."""
    with plots.figure(height=4.2) as (fig, [ax]):
        for method, kind in _CURVES.items():
            own = table[table["method"] == method].sort_values("strength")
            plots.line(ax, own["kl"], own["score"], own["score"], own["score"], kind, NAMES[method])
        for method in _POINTS:
            own = table[table["method"] == method].iloc[0]
            ax.plot(own["kl"], own["score"], "*", color="#222222", markersize=9)
            ax.annotate(NAMES[method], (own["kl"], own["score"]), (5, 4), **_SMALL)
        ax.axhline(asked, color="#222222", linewidth=0.8)
        ax.set(xscale="log", xlabel="KL on questions of fact (nats)", ylabel="score (0 to 2)")
        ax.legend(fontsize=9)
        _save(fig, "axbench-frontier")


def scatter(table: pd.DataFrame) -> None:
    """Detection against steering, for words and for styles; a row has kind, method and both."""
    with plots.figure(columns=2, height=4.2) as (fig, axes):
        for ax, (kind, rows) in zip(axes, table.groupby("kind", sort=False), strict=True):
            for row in rows.itertuples():
                ax.plot(row.auroc, row.score, "o", color=plots.PALETTE["steered"])
                ax.annotate(NAMES[str(row.method)], (row.auroc, row.score), (5, -4), **_SMALL)
            where = " where one word decides" if kind == "words" else ""
            ax.set(xlabel=f"detecting: AUROC{where}", title=kind, ylim=(-0.1, 2.1))
        axes[0].set(ylabel="steering: score (0 to 2)")
        _save(fig, "axbench-scatter")


_SMALL: Mapping[str, Any] = {"textcoords": "offset points", "fontsize": 9}


def _save(fig: Any, name: str) -> None:
    """The same bytes for the same numbers."""
    import matplotlib

    fig.tight_layout()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        fig.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
