"""The figure of the page sae: how well exact latents are found, by kind of feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.figures import save_svg
from experiments.sae_claims import latents
from steerlib.teaching import plots

Shards = Mapping[tuple[str, ...], dict[str, Any]]
CURVES = {  # kind of features -> (kind of line, dash, name)
    "labels": ("warning", (0, (5, 1)), "with labels"),
    "early": ("other", "--", "SAE, block 0"),
    "topk": ("steered", "-", "SAE, block 2"),
    "stream": ("prompt", "-.", "coordinates"),
    "untrained": ("random", ":", "random rows"),
}


def draw(found: Mapping[str, Shards]) -> None:
    """Cumulative shares of latents by the AUROC of their best feature."""
    rows = latents(found["recovered"])
    rows = rows[(rows["model"] == "world") & (rows["seed"] == "0")]
    with plots.figure(columns=2, height=3.8) as (fig, axes):
        titles = (("single", "single words"), ("word", "kinds of words"))
        for ax, (kind, title) in zip(axes, titles, strict=True):
            for features, (look, dash, name) in CURVES.items():
                own = rows[(rows["features"] == features) & (rows["kind"] == kind)]
                x = np.sort(own["auroc"])
                ax.plot(x, np.arange(1, len(x) + 1) / len(x), linestyle=dash,
                        color=plots.PALETTE[look], label=name)  # fmt: skip
            ax.set(xlabel=f"AUROC of the best feature, {title}", xlim=(0.5, 1.01))
        axes[0].set(ylabel="share of latents up to here")
        axes[0].legend(fontsize=9)
        save_svg(fig, "sae-latents")
