"""The figures of the page mera: SPI by task, and reading against mending, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.figures import save_svg
from experiments.mera_claims import diagnosed, layers, outcomes, pooled
from experiments.mera_coverage import coverage, equal
from experiments.mera_data import ONE_SIDED, SITES, TASKS
from steerlib.statistics import BOUNDS
from steerlib.teaching import plots

Shards = Mapping[tuple[str, ...], dict[str, Any]]
BARS = {  # arm -> (kind of line, name)
    "contrast 100, last": ("warning", "contrast, fixed strength"),
    "standard": ("prompt", "MERA, standard"),
    "on SAE feature": ("other", "MERA on an SAE feature"),
    "gated": ("steered", "MERA, gated within label"),
}


def draw(found: Mapping[str, Shards]) -> None:
    """All figures."""
    _bars(found["table"])
    _reads_and_mends(found)
    _coverage()


def _bars(shards: Shards) -> None:
    """SPI with intervals: which arms gain where."""
    rows = outcomes(shards)
    rows = rows[rows["model"] == "world"]
    with plots.figure(height=3.6) as (fig, [ax]):
        width = 0.8 / len(BARS)
        for number, (arm, (look, name)) in enumerate(BARS.items()):
            spans = [pooled(rows[(rows["arm"] == arm) & (rows["task"] == task)]) for task in TASKS]
            x = np.arange(len(TASKS)) + (number - (len(BARS) - 1) / 2) * width
            heights = np.array([span.estimate for span in spans])
            ends = np.array([(s.estimate - s.low, s.high - s.estimate) for s in spans]).T
            ax.bar(x, heights, width, yerr=ends.clip(0), color=plots.PALETTE[look], label=name,
                   error_kw={"linewidth": 1})  # fmt: skip
        ax.axhline(0, color=plots.PALETTE["other"], linewidth=1)
        ax.set_xticks(range(len(TASKS)), TASKS, fontsize=8)
        ax.set(ylabel="SPI")
        ax.legend(fontsize=9)
        save_svg(fig, "mera-spi")


def _reads_and_mends(found: Mapping[str, Shards]) -> None:
    """By layer: how well the error is read, where the step points, and what it gains."""
    read = layers(found["table"])
    read = read[(read["model"] == "world") & read["task"].isin(ONE_SIDED)]
    steps = diagnosed(found["diagnosis"])
    steps = steps[steps["model"] == "world"]
    sites = [str(site) for site in SITES]
    x = np.arange(len(sites))
    with plots.figure(columns=2, height=3.6) as (fig, axes):
        for column, look, dash, name in (
            ("auroc", "prompt", "--", "AUROC of the standard probe"),
            ("standard", "warning", ":", "share mended, standard"),
            ("gated", "steered", "-", "share mended, gated"),
        ):
            means = read.groupby("site")[column].mean().reindex(sites)
            axes[0].plot(x, means, dash, color=plots.PALETTE[look], label=name, marker="o")
        for form, metric, look, dash in (
            ("standard", "identity", "random", ":"),
            ("standard", "covariance", "warning", "-."),
            ("within label", "identity", "other", "--"),
            ("within label", "covariance", "steered", "-"),
        ):
            own = steps[(steps["form"] == form) & (steps["metric"] == metric)]
            means = own.groupby("site")["cos_mended"].mean().reindex(sites)
            axes[1].plot(x, means, dash, color=plots.PALETTE[look], marker="o",
                         label=f"{form}, {metric}")  # fmt: skip
        axes[1].set(ylabel="cosine with right minus wrong, same label", ylim=(-1.05, 1.05))
        axes[0].set(ylim=(-0.05, 1.05))
        for ax in axes:
            ax.set(xlabel="after block")
            ax.set_xticks(x)
            ax.legend(fontsize=8)
        save_svg(fig, "mera-layers")


def _coverage() -> None:
    """How often ten useless settings are let through, by how many answers flip."""
    rates = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    looks = {
        "none": ("warning", "-"), "as_printed": ("warning", "--"), "conditional": ("steered", "-"),
        "binomial": ("steered", "--"), "bernstein": ("prompt", "-."), "hoeffding": ("prompt", ":"),
    }  # fmt: skip
    deltas = (0.01, 0.05)
    found = {rate: coverage(equal(rate), 250, deltas=deltas, repetitions=10_000) for rate in rates}
    with plots.figure(columns=2, height=3.8) as (fig, axes):
        for ax, delta in zip(axes, deltas, strict=True):
            for bound in BOUNDS:
                harm = [
                    float(t[(t["delta"] == delta) & (t["bound"] == bound)]["harm"].iloc[0])
                    for t in found.values()
                ]
                look, dash = looks[bound]
                ax.plot(rates, np.maximum(harm, 1e-4), dash, color=plots.PALETTE[look],
                        label=bound.replace("_", " "))  # fmt: skip
            ax.axhline(delta, color="#222222", linewidth=0.8)
            ax.set(yscale="log", ylim=(8e-5, 1.3), xlabel="share of answers that flip")
            ax.set_title(f"delta = {delta}", fontsize=10)
        axes[0].set(ylabel="steers although nothing is gained")
        axes[0].legend(fontsize=9)
        save_svg(fig, "mera-coverage")
