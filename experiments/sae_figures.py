"""The figures of the page sae: how well exact latents are found, by kind of feature and by size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.figures import save_svg
from experiments.sae_claims import GOOD, latents
from steerlib.teaching import plots

Shards = Mapping[tuple[str, ...], dict[str, Any]]
CURVES = {  # kind of features -> (kind of line, dash, name)
    "labels": ("warning", (0, (5, 1)), "with labels"),
    "early": ("other", "--", "SAE, block 0"),
    "nested": ("steered", "--", "nested, block 2"),
    "topk": ("steered", "-", "SAE, block 2"),
    "stream": ("prompt", "-.", "coordinates"),
    "untrained": ("random", ":", "random rows"),
}
SORTS = {
    "single": ("steered", "single words"),
    "word": ("prompt", "kinds of words"),
    "context": ("other", "contexts"),
}


def draw(found: Mapping[str, Shards]) -> None:
    """Renew all of them."""
    recovered(found["recovered"])
    sizes(found["sizes"])


def recovered(shards: Shards) -> None:
    """Cumulative shares of latents by the AUROC of their best feature."""
    rows = latents(shards)
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


def sizes(shards: Shards) -> None:
    """The share of exact latents that is found, by the number of features and by the block."""
    rows = []
    for key, shard in shards.items():
        of = dict(zip(("block", "n", "k"), map(int, key), strict=True))
        is_found = pd.DataFrame(shard["rows"]).set_index("kind")["auroc"] >= GOOD
        rows.append(of | is_found.groupby("kind").mean().to_dict())
    found = pd.DataFrame(rows)
    by_size = found[(found["block"] == 2) & (found["k"] == 16)].sort_values("n")
    by_block = found[(found["n"] == 1024) & (found["k"] == 16)].sort_values("block")
    with plots.figure(columns=2, height=3.6) as (fig, axes):
        for kind, (look, name) in SORTS.items():
            for ax, own, x in zip(axes, (by_size, by_block), ("n", "block"), strict=True):
                ax.plot(own[x], own[kind], "o-", color=plots.PALETTE[look], label=name)
        axes[0].set(xscale="log", xlabel="features", ylabel="share found", ylim=(0, 0.8))
        axes[0].set_xticks(by_size["n"], [str(n) for n in by_size["n"]])
        axes[0].minorticks_off()
        axes[1].set(xlabel="block", ylim=(0, 0.8), xticks=by_block["block"])
        axes[1].legend(fontsize=9)
        save_svg(fig, "sae-sizes")
