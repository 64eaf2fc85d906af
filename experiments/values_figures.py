"""The figures of the page values: recovery, noise, random graphs, and what steering moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.figures import save_svg
from steerlib.claims import recorded
from steerlib.teaching import plots

Shards = Mapping[tuple[str, ...], dict[str, Any]]
CURVES = {  # method -> kind of line, name
    "pc 0.01": ("steered", "PC"),
    "ges": ("other", "GES"),
    "partial": ("prompt", "11 largest partial correlations"),
    "correlation": ("warning", "11 largest correlations"),
    "random": ("random", "random"),
}
METHODS = {
    "plain": "plain",
    "pc": "PC, class mean",
    "pc_do": "PC + orders",
    "unmoved": "orders alone",
    "true": "true graph",
    "wrong": "wrong graph",
    "others": "rest of all others",
    "asking": "asking",
    "shuffled": "shuffled scores",
    "noise": "random vectors",
}


def draw(found: Mapping[str, Shards]) -> None:
    """Renew all of them."""
    recovery(found["recovery"])
    noise(found["noise"])
    dags(found["dags"])
    steering()


def recovery(shards: Shards) -> None:
    """F1 of the skeleton by number of roles; the young model's PC is dashed."""
    rows = pd.DataFrame(
        [r | {"model": k[0], "seed": k[1]} for k, s in shards.items() for r in s["rows"]]
    )
    rows = rows[rows["source"] == "answers"]
    with plots.figure(height=4.8) as (fig, [ax]):
        for method, (kind, name) in CURVES.items():
            own = rows[(rows["model"] == "world") & (rows["method"] == method)]
            f1 = own.groupby("n")["skeleton_f1"].agg(["mean", "min", "max"])
            plots.line(ax, f1.index, f1["mean"], f1["min"], f1["max"], kind, name)
        young = rows[(rows["model"] == "young") & (rows["method"] == "pc 0.01")]
        f1 = young.groupby("n")["skeleton_f1"].mean()
        ax.plot(f1.index, f1, ":", color=plots.PALETTE["steered"], label="PC, young model")
        ax.set(xscale="log", xlabel="roles", ylabel="F1 of the skeleton", ylim=(0, 1.05))
        ax.set_xticks(list(f1.index), [str(n) for n in f1.index])
        ax.minorticks_off()
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncol=2)
        save_svg(fig, "values-recovery")


def noise(shards: Shards) -> None:
    """F1 of PC by how well scores correlate with the values, for few and for many roles."""
    rows = pd.DataFrame(
        [r | {"r": float(k[0]), "n": int(k[1])} for k, s in shards.items() for r in s["rows"]]
    )
    kinds = ("prompt", "steered", "warning")
    with plots.figure(height=4.0) as (fig, [ax]):
        for kind, (n, own) in zip(kinds, rows.groupby("n"), strict=True):
            f1 = own.groupby("r")["pc"].agg(["mean", "sem"])
            low, high = f1["mean"] - 2 * f1["sem"], f1["mean"] + 2 * f1["sem"]
            plots.line(ax, f1.index, f1["mean"], low, high, kind, f"{n} roles")
        ax.set(xlabel="correlation of scores with true values", ylabel="F1 of PC's skeleton")
        ax.legend(fontsize=9)
        save_svg(fig, "values-noise")


def dags(shards: Shards) -> None:
    """PC against correlation over random graphs; the world's own is marked."""
    rows = pd.DataFrame([row for shard in shards.values() for row in shard["rows"]])
    others, own = rows[rows["dag"] >= 0].copy(), rows[rows["dag"] < 0]
    # F1 of 11 edges takes few values: shifted a little, so that points do not hide each other.
    rng = np.random.default_rng(0)
    others[["pc", "correlation"]] += rng.uniform(-0.012, 0.012, (len(others), 2))
    with plots.figure(height=4.2) as (fig, [ax]):
        ax.plot(others["correlation"], others["pc"], "o", alpha=0.35, markersize=5,
                color=plots.PALETTE["steered"], label="random graphs")  # fmt: skip
        ax.plot(own["correlation"], own["pc"], "*", markersize=16,
                color=plots.PALETTE["warning"], label="this world")  # fmt: skip
        ax.plot([0, 1], [0, 1], ":", color=plots.PALETTE["random"])
        ax.set(xlabel="F1, 11 largest correlations", ylabel="F1, PC")
        ax.set(xlim=(0.4, 1.03), ylim=(0.7, 1.03))
        ax.legend(fontsize=9, loc="lower right")
        save_svg(fig, "values-dags")


def steering() -> None:
    """Where each method's side effects point: along correlations, or along causal effects."""
    with plots.figure(height=4.4) as (fig, [ax]):
        for method, name in METHODS.items():
            x = recorded(f"values.{method}_observed")
            y = recorded(f"values.{method}_causal")
            kind = {"plain": "warning", "asking": "prompt"}.get(method, "steered")
            kind = "random" if method in ("shuffled", "noise", "wrong", "others") else kind
            ax.errorbar(x.value, y.value, fmt="o", color=plots.PALETTE[kind], capsize=2,
                        xerr=[[x.value - x.low], [x.high - x.value]],
                        yerr=[[y.value - y.low], [y.high - y.value]], linewidth=0.8)  # fmt: skip
            dx, dy, side = BESIDE.get(method, (7, -12, "left"))
            ax.annotate(name, (x.value, y.value), (dx, dy), textcoords="offset points",
                        ha=side, fontsize=9)  # fmt: skip
        ax.set(xlabel="side effects against observed correlations")
        ax.set(ylabel="against causal total effects")
        save_svg(fig, "values-steering")


# Where names stand that would lie on others.
BESIDE: Mapping[str, tuple[int, int, str]] = {
    "true": (-8, 7, "right"),
    "pc_do": (8, 7, "left"),
    "unmoved": (-8, -17, "right"),
    "pc": (8, -13, "left"),
    "asking": (-8, 5, "right"),
    "plain": (-8, -10, "right"),
    "wrong": (-8, -12, "right"),
}
