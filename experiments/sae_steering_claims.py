"""Claims on features in the harness of AxBench: how they were chosen, detect and steer.

Units of an interval: concepts, their seeds averaged first. Concepts with words and styles are kept
apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import steerlib as st
from experiments.sae_claims import SUFFIX, write_interval, write_mean
from experiments.sae_data import CLAMPS
from experiments.sae_steering import counted, training
from steerlib.statistics import bootstrap_difference

Shards = Mapping[tuple[str, ...], dict[str, Any]]
LEXICAL, STYLES = tuple(st.world.LEXICAL), tuple(st.world.STYLES)
KINDS = {"": LEXICAL, "style_": STYLES}
FIRST = 128  # of the features of a nested SAE these are called general
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
        ("label", "sae_a"), ("words", "sae_a"), ("words", "diff_means"), ("effect", "sae_a"),
        ("counted", "sae_a"), ("counted", "words"),
        ("clamp", "matched"),
    ),
    "style_": (("words", "writer"), ("words", "diff_means"), ("words", "sae_a"),
               ("counted", "words")),
}  # fmt: skip


def record_all(shards: Shards, bounded: Shards) -> None:
    """Record every claim."""
    tables = {}
    for of in (("world", "topk"), ("world-b", "topk"), ("world", "nested")):
        own = {key[2:]: shard for key, shard in shards.items() if key[:2] == of}
        suffix = SUFFIX[of[0]] + ("_nested" if of[1] == "nested" else "")
        _detection(own, suffix)
        _agreement(own, suffix)
        _lists(own, suffix)
        tables[of] = steering(own).groupby(["of", "method"])["score"].mean().unstack()
        for kind, names in KINDS.items():
            wide = tables[of].loc[list(names)]
            for method in wide:
                write_mean(f"{kind}steer_{method}{suffix}", wide[method], 0.05)
            for a, b in PAIRS[kind]:
                gap = bootstrap_difference(wide[a].to_numpy(), wide[b].to_numpy())
                write_interval(f"{kind}{a}_minus_{b}{suffix}", gap, 0.05, len(wide))
        if of[1] == "topk":
            scores = {k[1:]: shard for k, shard in bounded.items() if k[0] == of[0]}
            _bounded(scores, tables[of], suffix)
    _general({k[2:]: shard for k, shard in shards.items() if k[:2] == ("world", "nested")})
    for kind, names in KINDS.items():
        nested, plain = (tables["world", of].loc[list(names)] for of in ("nested", "topk"))
        for method in ("sae_a", "words"):
            gap = bootstrap_difference(nested[method].to_numpy(), plain[method].to_numpy())
            write_interval(f"{kind}nested_minus_topk_{method}", gap, 0.05, len(nested))


def _bounded(shards: Shards, plain: pd.DataFrame, suffix: str) -> None:
    """The bounded score with both lists, and what the bound changes."""
    rows = []
    for (of, _), shard in shards.items():
        curves = pd.DataFrame(shard["curves"])
        for name in ("words", "counted"):
            score = _reported(curves[curves["arm"] == f"add {name}"])
            rows.append({"of": of, "method": name, "score": score})
    table = pd.DataFrame(rows).groupby(["of", "method"])["score"].mean().unstack()
    for kind, names in KINDS.items():
        for name in ("words", "counted"):
            own = table.loc[list(names), name]
            write_mean(f"{kind}bounded_{name}{suffix}", own, 0.05)
            gap = bootstrap_difference(own.to_numpy(), plain.loc[list(names), name].to_numpy())
            write_interval(f"{kind}bounded_minus_plain_{name}{suffix}", gap, 0.05, len(names))


def _lists(shards: Shards, suffix: str) -> None:
    """Steering for counted lists with words of the concept only, and for the others."""
    scores = steering(shards).set_index(["of", "seed", "method"])["score"]
    runs = [key for key in shards if key[0] in LEXICAL]
    foreign = {
        key: counted(training(key[0], int(key[1]))) - set(st.world.lexicon_words(key[0]))
        for key in runs
    }
    for name, own in (("clean", [k for k in runs if not foreign[k]]),
                      ("mixed", [k for k in runs if foreign[k]])):  # fmt: skip
        for way in ("counted", "words"):
            mean = float(np.mean([scores[(*key, way)] for key in own]))
            st.record(f"sae.{name}_{way}{suffix}", mean, 0.05, n=len(own))
        st.record(f"sae.n_{name}{suffix}", len(own), 0)


def _general(shards: Shards) -> None:
    """Runs in which labelled texts choose one of the first features of the nested SAE; others."""
    scores = steering(shards).set_index(["of", "seed", "method"])["score"]
    runs = {key: shard["features"]["auroc"] for key, shard in shards.items() if key[0] in LEXICAL}
    for name, is_first in (("general", True), ("special", False)):
        own = [key for key, feature in runs.items() if (feature < FIRST) == is_first]
        mean = float(np.mean([scores[(*key, "sae_a")] for key in own]))
        st.record(f"sae.{name}_steer_nested", mean, 0.05, n=len(own))
        hard = [
            row["auroc"]
            for key in own
            for row in shards[key]["detect"]
            if row["detector"] == str(runs[key]) and row["pool"] == "own"
            and row["texts"] == "dialogues" and row["against"] == "polysemous"
        ]  # fmt: skip
        st.record(f"sae.{name}_hard_nested", float(np.mean(hard)), 0.03, n=len(hard))


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
    for kind, names in KINDS.items():
        part = every[every["of"].isin(names)]
        for (way, against), own in part.groupby(["way", "against"]):
            name = {"neutral": "plain"}.get(str(against), str(against))
            write_mean(f"{kind}auroc_{way}_{name}{suffix}", own.groupby("of")["auroc"].mean(), 0.03)


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
