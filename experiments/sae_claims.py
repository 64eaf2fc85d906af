"""What the shards of `experiments.sae` say, recorded as claims, and the tables for its figures.

Units of an interval: seeds for the quality of an SAE, concepts (their seeds averaged first) for
detection and steering. Concepts with words and styles are kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import steerlib as st
from experiments.sae_data import QUALITY, SITE, load, trained
from steerlib.statistics import Interval, bootstrap_difference, bootstrap_mean
from steerlib.world.corpus import balanced

Shards = Mapping[tuple[str, ...], dict[str, Any]]
SUFFIX = {"world": "", "world-b": "_b"}
LEXICAL, STYLES = tuple(st.world.LEXICAL), tuple(st.world.STYLES)
KINDS = {"": LEXICAL, "style_": STYLES}
CLAMPS = (0.4, 0.8, 1.6, 3.0)
GOOD = 0.95  # an AUROC from which a latent counts as found
FIRST = 128  # of the features of a nested SAE these are called general
SORTS = {"single": "singles", "word": "words", "context": "contexts"}
WAYS = {  # how a feature was chosen -> its name in claims
    "label": "label",
    "auroc": "sae_a",
    "mean_difference": "mean_difference",
    "output": "output",
    "writer": "writer",
    "confidence": "confidence",
    "published": "published",
    "words": "words",
    "counted": "counted",
    "effect": "effect",
    "random": "random",
}
# Differences that the page talks about: of concepts with words, and of styles.
PAIRS = {
    "": (
        ("output", "sae_a"), ("sae_a", "diff_means"), ("sae_a", "random"), ("writer", "sae_a"),
        ("label", "sae_a"), ("words", "sae_a"), ("words", "diff_means"), ("words", "effect"),
        ("counted", "sae_a"), ("counted", "words"),
        ("clamp", "matched"),
    ),
    "style_": (("words", "writer"), ("words", "diff_means"), ("words", "sae_a"),
               ("counted", "words")),
}  # fmt: skip


def record_all(found: Mapping[str, Shards]) -> None:
    """Record every claim."""
    _quality(found["quality"])
    _recovered(found["recovered"])
    _sizes(found["sizes"])
    _harness(found["steering"])
    _geometry()


def _write(name: str, found: Interval, tol: float, n: int) -> None:
    st.record(f"sae.{name}", found.estimate, tol, (found.low, found.high), n)


def _mean(name: str, values: pd.Series | np.ndarray, tol: float) -> None:
    x = np.asarray(values, dtype=float)
    if len(x) > 1:
        _write(name, bootstrap_mean(x), tol, len(x))
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
            _mean(f"{measure}_{kind}{SUFFIX[str(model)]}", own[measure], tol)
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
            _mean(f"share_{name}_{features}{suffix}", shares, 0.05)
            medians = part.groupby("seed")["auroc"].median()
            _mean(f"median_{name}_{features}{suffix}", medians, 0.03)
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


# --- the table of AxBench


def _harness(shards: Shards) -> None:
    tables = {}
    for of in (("world", "topk"), ("world-b", "topk"), ("world", "nested")):
        own = {key[2:]: shard for key, shard in shards.items() if key[:2] == of}
        suffix = SUFFIX[of[0]] + ("_nested" if of[1] == "nested" else "")
        _detection(own, suffix)
        _agreement(own, suffix)
        tables[of] = steering(own).groupby(["of", "method"])["score"].mean().unstack()
        for kind, names in KINDS.items():
            wide = tables[of].loc[list(names)]
            for method in wide:
                _mean(f"{kind}steer_{method}{suffix}", wide[method], 0.05)
            for a, b in PAIRS[kind]:
                gap = bootstrap_difference(wide[a].to_numpy(), wide[b].to_numpy())
                _write(f"{kind}{a}_minus_{b}{suffix}", gap, 0.05, len(wide))
    for kind, names in KINDS.items():
        nested, plain = (tables["world", of].loc[list(names)] for of in ("nested", "topk"))
        for method in ("sae_a", "words"):
            gap = bootstrap_difference(nested[method].to_numpy(), plain[method].to_numpy())
            _write(f"{kind}nested_minus_topk_{method}", gap, 0.05, len(nested))


def _agreement(shards: Shards, suffix: str) -> None:
    """In how many runs a way to choose takes the feature that labelled texts take."""
    for kind, names in KINDS.items():
        chosen = [shard["features"] for key, shard in shards.items() if key[0] in names]
        for way in ("mean_difference", "output", "published", "words", "counted", "effect"):
            same = float(np.mean([f[way] == f["auroc"] for f in chosen]))
            st.record(f"sae.{kind}same_{WAYS[way]}{suffix}", same, 0.05, n=len(chosen))
        for way in ("auroc", "words"):
            first = float(np.mean([f[way] < FIRST for f in chosen]))
            st.record(f"sae.{kind}first_{WAYS[way]}{suffix}", first, 0.05, n=len(chosen))


def _detection(shards: Shards, suffix: str) -> None:
    rows = []
    for (concept, seed), shard in shards.items():
        table = pd.DataFrame(shard["detect"])
        table = table[table["pool"] == "own"]
        for way, feature in shard["features"].items():
            own = table[table["detector"] == str(feature)]
            rows += [
                {"of": concept, "seed": seed, "way": WAYS[way], "auroc": r.auroc,
                 "against": "one_word" if r.texts == "one_word" else r.against}
                for r in own.itertuples()
            ]  # fmt: skip
    every = pd.DataFrame(rows)
    every = every[every["of"].isin(LEXICAL)]
    for (way, against), own in every.groupby(["way", "against"]):
        name = {"neutral": "plain"}.get(str(against), str(against))
        _mean(f"auroc_{way}_{name}{suffix}", own.groupby("of")["auroc"].mean(), 0.03)


def steering(shards: Shards) -> pd.DataFrame:
    """The score on requests that chose nothing, of each method, concept and seed.

    The strength, and for a clamp the target, is the one with the best score on other requests.
    """
    rows = []
    for (concept, seed), shard in shards.items():
        curves = pd.DataFrame(shard["curves"])
        curves["group"] = [a.split()[0] if a.split()[0] != "add" else a for a in curves["arm"]]
        best = {group: _reported(own) for group, own in curves.groupby("group")}
        found = {WAYS[way]: best[f"add {f}"] for way, f in shard["features"].items()}
        found |= {name: best[name] for name in ("clamp", "min_clamp", "diff_means")}
        # Adding with the strengths that a clamp's targets have.
        own = curves["group"] == f"add {shard['features']['output']}"
        found["matched"] = _reported(curves[own & curves["strength"].isin(CLAMPS)])
        rows += [
            {"of": concept, "seed": seed, "method": name, "score": score}
            for name, score in found.items()
        ]
    return pd.DataFrame(rows)


def _reported(curves: pd.DataFrame) -> float:
    wide = curves.pivot_table(index=["arm", "strength"], columns="part", values="score", sort=False)
    return float(wide.loc[wide["choose"].idxmax(), "report"])
