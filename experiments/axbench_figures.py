"""The two figures of the page axbench: what steering costs, and detection against steering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.figures import save_svg
from steerlib.teaching import plots

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
            above = 8 if method == "loreft" else 5
            ax.annotate(NAMES[method], (own["kl"], own["score"]), (-2, above), **_SMALL)
        ax.axhline(asked, color="#222222", linewidth=0.8)
        ax.set(xscale="log", xlabel="KL on questions of fact (nats)", ylabel="score (0 to 2)")
        ax.legend(fontsize=9)
        save_svg(fig, "axbench-frontier")


def scatter(table: pd.DataFrame) -> None:
    """Detection against steering, a figure for words and one for styles.

    Args:
        table: kind, method, auroc and score.
    """
    for kind, rows in table.groupby("kind", sort=False):
        with plots.figure(height=4.2) as (fig, [ax]):
            for row in rows.itertuples():
                dx, dy, side = _BESIDE[str(kind)].get(str(row.method), (6, -4, "left"))
                kind_ = "random" if row.method == "random" else "steered"
                ax.plot(row.auroc, row.score, "o", color=plots.PALETTE[kind_])
                at = (row.auroc, row.score)
                ax.annotate(NAMES[str(row.method)], at, (dx, dy), ha=side, **_SMALL)
            where = " where one word decides" if kind == "words" else ""
            ax.set(xlabel=f"detecting: AUROC{where}", ylim=(-0.1, 2.1), xlim=(0.5, 1.02))
            ax.set(ylabel="steering: score (0 to 2)")
            save_svg(fig, f"axbench-{kind}")


# Where names stand that would lie on others.
_BESIDE: Mapping[str, Mapping[str, tuple[int, int, str]]] = {
    "words": {
        "diff_means": (4, 8, "right"),
        "reft_r1": (8, -14, "center"),
        "reps": (0, -14, "center"),
        "sampled": (-16, 8, "center"),
        "supervised": (-6, 4, "right"),
        "pca": (-6, 4, "right"),
    },
    "styles": {
        "pca": (-2, 9, "right"),
        "lat": (4, 9, "left"),
        "random": (8, -4, "left"),
        "reft_r1": (-6, 2, "right"),
        "diff_means": (-6, -8, "right"),
        "sampled": (-6, 2, "right"),
        "probe": (-6, 6, "right"),
    },
}
_SMALL: Mapping[str, Any] = {"textcoords": "offset points", "fontsize": 9}
