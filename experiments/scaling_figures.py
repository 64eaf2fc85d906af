"""The figures of the page scaling: two planes, a map of transfer, and what a component does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.scaling_claims import chosen_points, component_table, plane_points
from experiments.scaling_data import RELATIONS, frame
from steerlib.teaching import plots

FOLDER = Path(__file__).resolve().parents[1] / "book" / "figures"
Shards = Mapping[tuple[str, ...], dict[str, Any]]
NAMES = {"activ": "ActivScalar", "dyn": "DynScalar", "vec": "SteerVec"}
LOOK = {"activ": ("#0072b2", "o"), "dyn": ("#009e73", "D"), "vec": ("#d55e00", "^")}


def planes(shards: Shards) -> None:
    """Two-way flips against KL and against the share of places that are not zero."""
    table = plane_points(shards)
    chosen = {
        point for name, point in chosen_points(shards).items() if name.startswith(("any", "sparse"))
    }
    table["chosen"] = [
        (row.method, row.faithful, row.minimal) in chosen and row.split == "test"
        for row in table.itertuples()
    ]
    with plots.figure(columns=2, height=4.4) as (fig, axes):
        for ax, column in zip(axes, ("kl", "share"), strict=True):
            for method, (color, marker) in LOOK.items():
                own = table[table["method"] == method]
                test, train = (own[own["split"] == split] for split in ("test", "train"))
                ax.plot(train[column], train["both"], "x", color=color, alpha=0.6, markersize=5)
                ax.plot(test[column], test["both"], marker, color=color, label=NAMES[method],
                        markersize=5)  # fmt: skip
                ringed = own[own["chosen"]]
                ax.plot(ringed[column], ringed["both"], "o", markersize=13, color="#222222",
                        fillstyle="none")  # fmt: skip
            ax.set(xscale="log", ylim=(0.6, 1.02))
        axes[0].set(xlabel="KL of the other tokens (nats)", ylabel="two-way flips")
        axes[1].set(xlabel="share of places not zero")
        axes[1].axvline(0.05, color="#222222", linewidth=0.8, linestyle=":")
        axes[1].legend(fontsize=9, loc="lower right")
        _save(fig, "scaling-planes")


def transfer(shards: Shards) -> None:
    """Two-way flips by what was fitted on (rows) and what is asked (columns)."""
    rows = {}
    for method, name, label in (
        ("aligned", "one_city", "city, by position"),
        ("aligned", "one_capital", "capital, by position"),
        ("activ", "one_city", "city, last token"),
        ("activ", "one_capital", "capital, last token"),
        ("activ", "rest_city", "all but city, last token"),
        ("activ", "all", "all, last token"),
        ("dyn", "one_city", "city, DynScalar"),
        ("vec", "one_city", "city, SteerVec"),
        ("vec", "all", "all, SteerVec"),
    ):
        own = {k: s for k, s in shards.items() if k[:3] == ("world", method, name)}
        table = frame(own, "test")
        plain = table[table["cue"] == ""]
        rows[label] = {
            f"{relation} {template + 1}": plain[
                (plain["relation"] == relation) & (plain["template"] == template)
            ]["both"].mean()
            for relation in RELATIONS
            for template in range(5)
        }
    with plots.figure(height=4.6) as (fig, [ax]):
        fig.set_size_inches(7.6, 4.6)
        grid = pd.DataFrame(rows).T
        ax.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(len(grid.columns)), grid.columns, rotation=90, fontsize=8)
        ax.set_yticks(range(len(grid)), grid.index, fontsize=9)
        for (y, x), value in _cells(grid):
            color = "#ffffff" if value < 0.6 else "#000000"
            if value < 0.995:
                ax.text(x, y, f"{value:.2f}".removeprefix("0"), ha="center", va="center",
                        fontsize=7, color=color)  # fmt: skip
        for edge in (4.5, 9.5, 14.5):
            ax.axvline(edge, color="white", linewidth=2)
        _save(fig, "scaling-transfer")


def _cells(grid: pd.DataFrame) -> list[tuple[tuple[int, int], float]]:
    return [((y, x), float(grid.iat[y, x])) for y in range(len(grid)) for x in range(grid.shape[1])]


def components(shards: Shards) -> None:
    """Learned scalar, ablation and patching of each component that matters to one of them."""
    table = component_table({k: s for k, s in shards.items() if k[0] == "world"})
    seen = table[
        (table["alpha"].abs() > 0.01) | (table["ablated"].abs() > 0.7) | (table["patched"] > 0.2)
    ]
    labels = [_label(str(site)) for site in seen.index]
    columns = {
        "alpha": "learned scalar",
        "ablated": "change of $\\Delta$\nif set to 0 (nats)",
        "patched": "share of the change\nif patched",
    }
    with plots.figure(columns=3, height=3.6) as (fig, axes):
        for ax, (column, title) in zip(axes, columns.items(), strict=True):
            ax.barh(labels[::-1], seen[column].to_numpy()[::-1], color="#0072b2")
            ax.axvline(0, color="#222222", linewidth=0.8)
            ax.set_title(title, fontsize=10)
        for ax in axes[1:]:
            ax.set_yticklabels([])
        _save(fig, "scaling-components")


def _label(site: str) -> str:
    layer = site.split(".")[1]
    return f"block {layer}, head {site[-2]}" if site.endswith("]") else f"block {layer}, MLP"


def _save(fig: Any, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    fig.savefig(FOLDER / f"{name}.png", bbox_inches="tight")
