"""What the shards of `experiments.axbench` say, recorded as claims, and the two figures.

Seeds of a concept are averaged first; the concepts are the units of an interval. Concepts with
words and styles are kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

import steerlib as st
from experiments.axbench_methods import RATE, TUNED
from steerlib import evaluation as ev
from steerlib.statistics import Interval, bootstrap_difference, bootstrap_mean

Shards = Mapping[tuple[str, ...], dict[str, Any]]
LEXICAL, STYLES = tuple(st.world.LEXICAL), tuple(st.world.STYLES)
SUFFIX = {"world": "", "world-b": "_b"}
KINDS = {"": LEXICAL, "style_": STYLES}
# Differences that the page talks about.
PAIRS = (
    ("prompt", "reps"),
    ("prompt", "lora"),
    ("reft_r1", "diff_means"),
    ("reps", "diff_means"),
    ("reps", "reft_r1"),
    ("sampled", "supervised"),
    ("supervised", "diff_means"),
    ("diff_means", "probe"),
    ("diff_means", "random"),
    ("diff_means", "shuffled"),
    ("loreft", "reps"),
    ("lora", "reps"),
    ("full", "lora"),
)


def record_all(shards: Shards) -> None:
    """Record every claim of the models that are there."""
    for model, suffix in SUFFIX.items():
        own = {key[1:]: shard for key, shard in shards.items() if key[0] == model}
        if own:
            _steering(own, suffix)
            _detection(own, suffix)
            _costs(own, suffix)
            _geometry(own, suffix)


def record_rates(shards: Mapping[tuple[str, str, str], dict[str, float]]) -> None:
    """The learning rate with the best mean over the concepts that chose it: the one in use."""
    table = pd.DataFrame([(m, float(r), s["score"]) for (m, r, _), s in shards.items()])
    means = table.groupby([0, 1])[2].mean()
    for method, own in means.groupby(level=0):
        best = float(own.idxmax()[1])
        if best != RATE[str(method)]:
            raise ValueError(f"{method} does best at the rate {best}, not {RATE[str(method)]}")
        st.record(f"axbench.rate_{method}", best, 0)


def record_effects(shards: Mapping[tuple[str, str], dict[str, float]]) -> None:
    """Cosines with the effect and gains, over concepts with words and over styles."""
    for model, suffix in SUFFIX.items():
        for kind, names in KINDS.items():
            own = pd.DataFrame(
                [shards[model, c] | {"of": c} for c in names if (model, c) in shards]
            )
            for measure in [] if own.empty else [c for c in own if c not in ("of", "length")]:
                values = own.set_index("of")[measure]
                _record(f"{kind}effect_{measure}{suffix}", values, 0.03)


def frame(shards: Shards, part: str) -> pd.DataFrame:
    """The rows of one part of all shards, with the concept and the seed that they belong to."""
    rows = [
        row | {"of": concept, "seed": int(seed)}
        for (concept, seed), shard in shards.items()
        for row in shard.get(part, [])
    ]
    return pd.DataFrame(rows)


def per_concept(table: pd.DataFrame, value: str) -> pd.Series:
    """The mean of a column for each concept, seeds and prompts averaged."""
    return table.groupby(["of", "seed"])[value].mean().groupby("of").mean()


def _record(name: str, values: pd.Series, tol: float) -> None:
    found = bootstrap_mean(values.to_numpy())
    _write(name, found, tol, len(values))


def _write(name: str, found: Interval, tol: float, n: int) -> None:
    st.record(f"axbench.{name}", found.estimate, tol, (found.low, found.high), n)


# --- steering


def _steering(shards: Shards, suffix: str) -> None:
    answers = frame(shards, "rows")
    for kind, names in KINDS.items():
        rows = answers[answers["of"].isin(names)]
        scores = {method: per_concept(own, "score") for method, own in rows.groupby("method")}
        for method, own in rows.groupby("method"):
            _record(f"{kind}steer_{method}{suffix}", scores[method], 0.05)
            if not kind and not suffix:
                _details(str(method), own)
        for a, b in PAIRS:
            found = bootstrap_difference(
                scores[a].to_numpy(), scores[b].loc[scores[a].index].to_numpy()
            )
            _write(f"{kind}{a}_minus_{b}{suffix}", found, 0.05, len(names))
        if not kind:
            _wins(rows.assign(concept=rows["of"]), suffix)
            _null(scores, suffix)
        for method, own in scores.items():
            untuned = own.drop([name for name in TUNED if name in own.index])
            _record(f"{kind}untuned_{method}{suffix}", untuned, 0.05)


def _details(method: str, own: pd.DataFrame) -> None:
    """The grades, the strength, and how much the choice of the strength promised too much."""
    for grade in ("concept", "instruction", "fluency"):
        _record(f"{grade}_{method}", per_concept(own, f"grade_{grade}"), 0.05)
    gap = own.assign(gap=own["chosen_on"] - own["score"])
    _record(f"optimism_{method}", per_concept(gap, "gap"), 0.05)
    strength = float(own.groupby(["of", "seed"])["strength"].first().median())
    st.record(f"axbench.factor_{method}", strength, 0.1, n=own["of"].nunique())


def _wins(rows: pd.DataFrame, suffix: str) -> None:
    """How often each method wins against DiffMean on the same request."""
    for method in rows["method"].unique():
        if method != "diff_means":
            found = ev.win_rate(rows, method, "diff_means")
            _write(f"win_{method}{suffix}", found, 0.05, rows["of"].nunique())


def _null(scores: Mapping[str, pd.Series], suffix: str) -> None:
    """On how many concepts each method scores more than its best null."""
    null = pd.concat([scores[name] for name in ("nothing", "random", "shuffled")], axis=1).max(
        axis=1
    )
    for method, own in scores.items():
        count = int((own > null.loc[own.index]).sum())
        st.record(f"axbench.above_null_{method}{suffix}", count, 0, n=len(own))


# --- detection


def _detection(shards: Shards, suffix: str) -> None:
    table = frame(shards, "detect")
    table = table[table["pool"].isin(("max", "own"))]
    for kind, names in KINDS.items():
        rows = table[table["of"].isin(names)]
        for (detector, against), own in rows.groupby(["detector", "against"]):
            name = {"neutral": "plain"}.get(against, against)
            if own["of"].nunique() > 1:
                _record(f"{kind}auroc_{detector}_{name}{suffix}", per_concept(own, "auroc"), 0.02)
    one = frame(shards, "one_word")
    for (detector, pool), own in one[one["against"] == "all"].groupby(["detector", "pool"]):
        _record(f"one_{detector}_{pool}{suffix}", per_concept(own, "auroc"), 0.02)
    _thresholds(shards, suffix)
    _detect_and_steer(shards, suffix)


def _thresholds(shards: Shards, suffix: str) -> None:
    table = frame(shards, "threshold")
    table = table[table["of"].isin(LEXICAL)]
    measures = [name for name in table if name not in ("detector", "of", "seed")]
    for detector, own in table.groupby("detector"):
        for measure in measures:
            _record(f"{measure}_{detector}{suffix}", per_concept(own, measure), 0.05)


def _detect_and_steer(shards: Shards, suffix: str) -> None:
    """The rank correlation, over methods, of how well they detect and how well they steer."""
    for kind, own in scatter(shards).groupby("kind"):
        rows = own[own["method"] != "random"]
        found = float(spearmanr(rows["auroc"], rows["score"])[0])
        name = "rank_correlation" if kind == "words" else "style_rank_correlation"
        st.record(f"axbench.{name}{suffix}", found, 0.1, n=len(rows))


def record_lengths() -> None:
    """The mean number of words of the responses that are detected."""
    for kind, names in KINDS.items():
        talks = [t for c in names for t in st.world.dialogues(c, 36, 0, "test")]
        words = pd.DataFrame([(t.label, len(t.response.split())) for t in talks])
        means = words.groupby(0)[1].mean()
        st.record(f"axbench.tokens_{kind.rstrip('_') or 'concept'}", means[True], 0.5)
        st.record(f"axbench.tokens_{kind}plain", means[False], 0.5)


# --- what it costs, and what the vectors are like


def _costs(shards: Shards, suffix: str) -> None:
    table = frame(shards, "costs")
    for kind, names in KINDS.items():
        rows = table[table["of"].isin(names)]
        for (method, measure), own in rows.groupby(["method", "measure"]):
            tol = 0.005 if measure == "kl" else 0.03
            _record(f"{kind}{measure}_{method}{suffix}", per_concept(own, "mean"), tol)
    seconds = pd.DataFrame([shard["seconds"] for shard in shards.values()])
    for method, column in seconds.items():
        typical = float(column.median())
        st.record(f"axbench.seconds_{method}{suffix}", typical, max(0.1, typical), n=len(column))


def _geometry(shards: Shards, suffix: str) -> None:
    table = pd.DataFrame([s["norms"] | {"of": c, "seed": int(n)} for (c, n), s in shards.items()])
    table = table[table["of"].isin(LEXICAL)]
    for measure in (name for name in table if name not in ("of", "seed")):
        tol = 0.03 if measure.startswith("cosine") else 1.0
        _record(f"{measure}{suffix}", per_concept(table, measure), tol)


def frontier(shards: Shards) -> pd.DataFrame:
    """Score on requests that chose nothing and KL, by method and strength, over concepts."""
    curves, costs = frame(shards, "curves"), frame(shards, "frontier")
    lexical = curves[curves["of"].isin(LEXICAL) & (curves["part"] == "report")]
    score = lexical.groupby(["method", "strength"])["score"].mean()
    kl = costs[costs["of"].isin(LEXICAL)].groupby(["method", "strength"])["kl"].mean()
    return pd.concat([score, kl], axis=1).dropna().reset_index()


def scatter(shards: Shards) -> pd.DataFrame:
    """Detection and steering by kind of concept and method: kind, method, auroc, score.

    Words are detected where one of them decides, styles among plain texts and texts with words.
    """
    one, every, answers = (frame(shards, part) for part in ("one_word", "detect", "rows"))
    every = every[every["of"].isin(STYLES)]
    found = []
    for kind, table, names in (("words", one, LEXICAL), ("styles", every, STYLES)):
        areas = table[(table["against"] == "all") & (table["pool"] == "max")]
        detects = areas.groupby("detector")["auroc"].mean().rename("auroc")
        steers = answers[answers["of"].isin(names)].groupby("method")["score"].mean()
        both = pd.concat([detects, steers], axis=1).dropna().rename_axis("method").reset_index()
        found.append(both.assign(kind=kind))
    return pd.concat(found, ignore_index=True)
