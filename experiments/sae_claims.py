"""What the shards of `experiments.sae` say, recorded as claims, and the tables for its figures.

The units of an interval are seeds. What steers is in `sae_steering_claims`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import steerlib as st
from experiments.sae_data import QUALITY, SITE, load, trained
from steerlib.statistics import Interval, bootstrap_mean
from steerlib.world.corpus import balanced

Shards = Mapping[tuple[str, ...], dict[str, Any]]
SUFFIX = {"world": "", "world-b": "_b"}
GOOD = 0.95  # an AUROC from which a latent counts as found
SORTS = {"single": "singles", "word": "words", "context": "contexts"}


def record_all(found: Mapping[str, Shards]) -> None:
    """Record every claim."""
    _quality(found["quality"])
    _recovered(found["recovered"])
    _sizes(found["sizes"])
    _geometry()


def write_interval(name: str, found: Interval, tol: float, n: int) -> None:
    """Record a number with its interval."""
    st.record(f"sae.{name}", found.estimate, tol, (found.low, found.high), n)


def write_mean(name: str, values: pd.Series | np.ndarray, tol: float) -> None:
    """Record a mean with its interval over the values; one value has none."""
    x = np.asarray(values, dtype=float)
    if len(x) > 1:
        write_interval(name, bootstrap_mean(x), tol, len(x))
    else:
        st.record(f"sae.{name}", float(x[0]), tol, n=1)


# --- quality and latents


def _quality(shards: Shards) -> None:
    rows = pd.DataFrame(
        [r | dict(zip(("model", "kind", "seed"), k, strict=True))
         for k, s in shards.items() for r in s["rows"]]
    )  # fmt: skip
    rows["cost"] = rows["loss_spliced"] - rows["loss"]
    for (model, kind), own in rows[rows["group"] == "all"].groupby(["model", "kind"]):
        for measure, tol in (
            ("fvu", 0.002), ("l0", 0.5), ("dead", 0.02), ("recovered", 0.005), ("cost", 0.02),
        ):  # fmt: skip
            write_mean(f"{measure}_{kind}{SUFFIX[str(model)]}", own[measure], tol)
    sections = rows[
        (rows["model"] == "world") & (rows["kind"] == "topk") & (rows["group"] != "all")
    ]
    means = sections.groupby("group")[["fvu", "recovered"]].mean()
    st.record("sae.worst_fvu_topk", float(means["fvu"].max()), 0.02, n=len(means))
    st.record("sae.worst_recovered_topk", float(means["recovered"].min()), 0.002, n=len(means))


def latents(shards: Shards) -> pd.DataFrame:
    """One row per model, kind of feature, seed and exact latent."""
    return pd.DataFrame(
        [r | {"model": k[0], "features": k[1], "seed": k[2]}
         for k, s in shards.items() for r in s["rows"]]
    )  # fmt: skip


def _recovered(shards: Shards) -> None:
    rows = latents(shards)
    for (model, features), own in rows.groupby(["model", "features"]):
        suffix = SUFFIX[str(model)]
        for sort, name in SORTS.items():
            part = own[own["kind"] == sort]
            shares = part.groupby("seed")["auroc"].apply(lambda a: float((a >= GOOD).mean()))
            write_mean(f"share_{name}_{features}{suffix}", shares, 0.05)
            medians = part.groupby("seed")["auroc"].median()
            write_mean(f"median_{name}_{features}{suffix}", medians, 0.03)
    best = rows.pivot_table(
        index=["model", "seed", "kind", "latent"], columns="features", values="auroc"
    )
    ahead = (best["stream"] > best["topk"]).groupby(["model", "seed", "kind"]).sum()
    for model, suffix in SUFFIX.items():
        counts = ahead.xs((model, "word"), level=("model", "kind"))
        write_mean(f"coordinate_ahead{suffix}", counts, 5)
    topk = rows[(rows["model"] == "world") & (rows["features"] == "topk")]
    for sort, name in SORTS.items():
        part = topk[topk["kind"] == sort]
        st.record(f"sae.n_{name}", len(part) / part["seed"].nunique(), 10)  # per seed
        lucky = part.groupby("seed")["luckiest"].median().mean()
        st.record(f"sae.lucky_{name}_topk", float(lucky), 0.03, n=len(part))
    stop = topk[topk["latent"] == "full stop"]["auroc"]
    st.record("sae.auroc_full_stop", float(stop.mean()), 0.05, n=len(stop))


def _sizes(shards: Shards) -> None:
    for key, shard in shards.items():
        name = "_".join(key)
        st.record(f"sae.size_fvu_{name}", shard["quality"]["fvu"], 0.005)
        st.record(f"sae.size_dead_{name}", shard["quality"]["dead"], 0.03)
        rows = pd.DataFrame(shard["rows"])
        for sort, sorts in SORTS.items():
            own = rows[rows["kind"] == sort]["auroc"]
            st.record(f"sae.size_{sorts}_{name}", float((own >= GOOD).mean()), 0.05)
            st.record(f"sae.size_median_{sorts}_{name}", float(own.median()), 0.03)


def _geometry() -> None:
    """The position of BOS, and what an encoder column reads of its own row."""
    sae, net = trained("world", "topk", 0), load("world")
    gamma = (sae.encoder.T * sae.decoder).sum(1)
    st.record("sae.gamma_topk", float(gamma.median()), 0.05, n=sae.n)
    texts = [document.text for _, document in balanced(QUALITY, 260)]
    h = st.capture(net, texts, [SITE], at=st.prompt)[SITE]
    bos = st.capture(net, texts[:1], [SITE], at=st.bos, include_bos=True)[SITE][0]
    spread = (h - h.mean(0)).square().sum(1).mean().sqrt()
    st.record("sae.bos_distance", float((bos - h.mean(0)).norm() / spread), 0.2, n=len(h))
