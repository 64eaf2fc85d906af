"""The figures of the page bipo: dose and response, the choice of the layer, the overdose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.bipo_claims import curves, tuned
from experiments.bipo_data import SITES, STRENGTHS, TRAITS
from experiments.bipo_norms import LADDER
from experiments.figures import save_svg
from steerlib.statistics import bootstrap_mean
from steerlib.teaching import plots

Shards = Mapping[tuple[str, ...], dict[str, Any]]
LOOKS = {  # direction -> (kind of line, name)
    "bipo": ("steered", "BiPO"),
    "caa_persona": ("prompt", "CAA, personas"),
    "caa_text": ("warning", "CAA, texts"),
    "caa_letter": ("other", "CAA, letters"),
}

MARKS = {"steered": "o", "prompt": "s", "warning": "^", "other": "D"}


def draw(found: Mapping[str, Shards]) -> None:
    """All figures."""
    _dose(curves(found["dose"]))
    _layers(tuned(found["tune"]))
    _overdose(found["overdose"])


def _dose(table: pd.DataFrame) -> None:
    """The share of answers that show the trait minus the opposite, over the strength."""
    with plots.figure(height=3.6) as (fig, [ax]):
        drawn = table[table["arm"].str.startswith("equal random")]
        means = drawn.groupby(["arm", "strength"])["net"].mean().unstack()
        ax.fill_between(means.columns, means.min(), means.max(), color=plots.PALETTE["random"],
                        alpha=0.3, label="8 random vectors", linewidth=0)  # fmt: skip
        for name, (look, label) in LOOKS.items():
            arm = name if name == "bipo" else f"equal {name}"
            spans = [
                bootstrap_mean(table[(table["arm"] == arm) & (table["strength"] == x)]["net"])
                for x in STRENGTHS
            ]
            mean, low, high = zip(*((s.estimate, s.low, s.high) for s in spans), strict=True)
            plots.line(ax, STRENGTHS, mean, low, high, kind=look, label=label)
        ax.set(xlabel="strength", ylabel="trait - opposite", ylim=(-1.05, 1.05))
        ax.legend(fontsize=8)
        save_svg(fig, "bipo-dose")


def _layers(table: pd.DataFrame) -> None:
    """The largest effect on the selection scenarios, over the block."""
    own = table[(table["model"] == "world") & table["behaviour"].isin(TRAITS)]
    with plots.figure(height=3.2) as (fig, [ax]):
        for name, (look, label) in LOOKS.items():
            part = own[own["arm"] == name].groupby("layer")["effect"].mean()
            ax.plot(part.index, part, marker=MARKS[look], color=plots.PALETTE[look], label=label)
        part = own[own["arm"] == "random 100"].groupby("layer")["effect"].mean()
        ax.plot(part.index, part, ":", color=plots.PALETTE["random"], label="a random vector")
        ax.set(xlabel="block", ylabel="effect", ylim=(-0.05, 1.02))
        ax.set_xticks(range(len(SITES)))
        ax.legend(fontsize=8)
        save_svg(fig, "bipo-layers")


def _overdose(shards: Shards) -> None:
    """Effect and whole texts over the norm."""
    rows = pd.DataFrame([row for shard in shards.values() for row in shard["rows"]])
    with plots.figure(columns=2, height=3.2) as (fig, axes):
        for ax, column, label in zip(
            axes, ("effect", "whole"), ("effect", "share of whole texts"), strict=True
        ):
            for name, (look, title) in LOOKS.items():
                part = rows[rows["arm"] == name].groupby("norm")[column].mean()
                if len(part):
                    ax.plot(
                        part.index, part, marker=MARKS[look], color=plots.PALETTE[look], label=title
                    )
            part = rows[rows["arm"] == "random 0"].groupby("norm")[column].mean()
            ax.plot(part.index, part, ":", color=plots.PALETTE["random"], label="random")
            ax.set(xlabel="norm", ylabel=label, xscale="log")
            ax.set_xticks(LADDER[::2], [f"{x:g}" for x in LADDER[::2]])
            ax.set_xticks([], minor=True)
        axes[0].legend(fontsize=8)
        save_svg(fig, "bipo-overdose")
