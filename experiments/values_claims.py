"""What the shards of `experiments.values` say, recorded as claims.

The units of an interval are seeds and causes: a table of effects [cause, effect] of each seed is
drawn again by its seeds and by its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

import steerlib as st
from experiments.values_data import MOVED, NAMES, TRUE, answers, do_effects
from steerlib.statistics import Interval, bootstrap_difference, bootstrap_mean
from steerlib.world import values as world

Shards = Mapping[tuple[str, ...], dict[str, Any]]
SUFFIX = {"world": "", "world-b": "_b", "young": "_young"}
EFFECTS = world.total_effects()
# Differences in the correlation with causal effects that the page talks about.
PAIRS = (("pc", "plain"), ("pc_do", "plain"), ("true", "plain"), ("pc_do", "pc"), ("pc", "wrong"),
         ("unmoved", "plain"), ("unmoved", "pc_do"))  # fmt: skip


def record_all(found: Mapping[str, Shards]) -> None:
    """Record every claim."""
    _noise(found["noise"])
    _dags(found["dags"])
    _ideal()
    for model, suffix in SUFFIX.items():
        own = {
            part: {key[1:]: shard for key, shard in shards.items() if key[0] == model}
            for part, shards in found.items()
        }
        _recovery(own["recovery"], suffix)
        _orders(own["orders"], model, suffix)
        _steering(own, model, suffix)


def _write(name: str, found: Interval, tol: float, n: int) -> None:
    st.record(f"values.{name}", found.estimate, tol, (found.low, found.high), n)


# --- recovery


def _noise(shards: Shards) -> None:
    for (correlation, n), shard in shards.items():
        for method, ending in (("pc", ""), ("partial", "_partial")):
            f1 = np.array([row[method] for row in shard["rows"]])
            name = f"noise_{correlation.replace('.', '')}_{n}{ending}"
            _write(name, bootstrap_mean(f1), 0.03, len(f1))


def _dags(shards: Shards) -> None:
    rows = pd.DataFrame([row for shard in shards.values() for row in shard["rows"]])
    own, others = rows[rows["dag"] < 0].iloc[0], rows[rows["dag"] >= 0]
    for method in ("pc", "correlation", "partial"):
        _write(f"dags_{method}", bootstrap_mean(others[method].to_numpy()), 0.02, len(others))
        st.record(f"values.dags_own_{method}", own[method], 0.02)
    gap = bootstrap_difference(others["pc"].to_numpy(), others["correlation"].to_numpy())
    _write("dags_pc_minus_correlation", gap, 0.02, len(others))
    easier = float((others["correlation"] > own["correlation"]).mean())
    st.record("values.dags_easier", easier, 0.03, n=len(others))


def _recovery(shards: Shards, suffix: str) -> None:
    rows = pd.DataFrame([r | {"seed": k[0]} for k, s in shards.items() for r in s["rows"]])
    reliability = [x for shard in shards.values() for x in shard["reliability"]]
    st.record(f"values.reliability{suffix}", float(np.mean(reliability)), 0.01, n=len(reliability))
    st.record(f"values.reliability_least{suffix}", min(reliability), 0.02, n=len(reliability))
    by = ["source", "n", "method"]
    for (_, n, method), own in rows[rows["source"] == "answers"].groupby(by):
        name = f"{_name(str(method))}_{n}{suffix}"
        _write(f"f1_{name}", _seeds(own["skeleton_f1"]), 0.05, len(own))
        if str(method).startswith(("pc", "ges")):
            _write(f"arrows_{name}", _seeds(own["arrow_f1"]), 0.1, len(own))
            _write(f"shd_{name}", _seeds(own["structural_hamming"]), 1.0, len(own))
    at = rows[(rows["source"] == "answers") & (rows["n"] == 800)]
    wide = at.pivot(index="seed", columns="method", values="skeleton_f1")
    for other in ("correlation", "partial", "ges"):
        gap = bootstrap_difference(wide["pc 0.01"].to_numpy(), wide[other].to_numpy())
        _write(f"pc_minus_{other}{suffix}", gap, 0.05, len(wide))
    true = rows[(rows["source"] == "truth") & (rows["method"] == "pc 0.01") & (rows["n"] == 800)]
    _write(f"f1_truth{suffix}", _seeds(true["skeleton_f1"]), 0.05, len(true))


def _name(method: str) -> str:
    """`pc 0.01` -> `pc_001`."""
    return method.replace(" ", "_").replace("0.", "0").replace("-", "")


def _seeds(values: pd.Series) -> Interval:
    return bootstrap_mean(values.to_numpy(float))


# --- effects


def correlation(effects: np.ndarray, target: np.ndarray, rows: np.ndarray | None = None) -> float:
    """The correlation of the off-diagonal numbers of tables (seeds, causes, effects)."""
    causes = np.arange(len(NAMES)) if rows is None else rows
    off = ~np.eye(len(NAMES), dtype=bool)
    pairs = [
        (e[cause][off[cause]], t[cause][off[cause]])
        for e, t in zip(effects, target, strict=True)
        for cause in causes
    ]
    x, y = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return float(np.corrcoef(x, y)[0, 1])


def interval(
    measure: Callable[[np.ndarray, np.ndarray], float], seeds: int, draws: int = 1000
) -> Interval:
    """`measure(seeds, causes)` with both drawn again."""
    rng, all_of = np.random.default_rng(0), np.arange(len(NAMES))
    estimate = measure(np.arange(seeds), all_of)
    found = [
        measure(rng.integers(0, seeds, seeds), rng.integers(0, len(NAMES), len(NAMES)))
        for _ in range(draws)
    ]
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def _correlated(name: str, effects: np.ndarray, target: np.ndarray, tol: float = 0.05) -> None:
    def measure(seeds: np.ndarray, causes: np.ndarray) -> float:
        return correlation(effects[seeds], target[seeds], causes)

    _write(name, interval(measure, len(effects)), tol, len(effects) * 90)


def _causal(n: int) -> np.ndarray:
    return np.broadcast_to(EFFECTS, (n, *EFFECTS.shape))


def _observed(model: str, seeds: list[str]) -> np.ndarray:
    return np.stack([np.corrcoef(answers(model, int(seed)).T) for seed in seeds])


def _orders(shards: Shards, model: str, suffix: str) -> None:
    effects = np.stack([np.array(shard["effects"]) for shard in shards.values()])
    _correlated(f"do_causal{suffix}", effects, _causal(len(effects)))
    paper = pd.DataFrame([r | {"seed": k[0]} for k, s in shards.items() for r in s["paper"]])
    paper["kind"] = paper["graph"].str.split().str[0]
    gaps = paper.groupby(["kind", "seed"])["gap"].mean()
    for kind, own in gaps.groupby(level=0):
        _write(f"paper_gap_{kind}{suffix}", _seeds(own), 0.05, len(own))
    random = paper[paper["kind"] == "random"]
    best = paper[paper["kind"] == "pc"].set_index("seed")["gap"]
    beaten = [(own["gap"] >= best[seed]).mean() for seed, own in random.groupby("seed")]
    st.record(f"values.paper_as_good{suffix}", float(np.mean(beaten)), 0.1, n=len(random))


def _steering(parts: Mapping[str, Shards], model: str, suffix: str) -> None:
    tables: dict[str, dict[str, np.ndarray]] = {}
    for (method, seed), shard in parts["steer"].items():
        if "effects" in shard:
            tables.setdefault(method, {})[seed] = np.array(shard["effects"])
    for method, by_seed in tables.items():
        _method(method, np.stack(list(by_seed.values())), model, list(by_seed), suffix)
        strengths = [parts["steer"][method, seed]["strength"] for seed in by_seed]
        st.record(
            f"values.strength_{method}{suffix}", float(np.median(strengths)), 0, n=len(by_seed)
        )
    for a, b in PAIRS:
        both = [seed for seed in tables.get(a, {}) if seed in tables.get(b, {})]
        if both:
            first, second = (np.stack([tables[m][seed] for seed in both]) for m in (a, b))
            _difference(f"{a}_minus_{b}{suffix}", first, second)
    _ratios(tables, model, suffix)
    _misjudged(model, [int(seed) for seed in tables["unmoved"]], suffix)
    told = parts["predicted"]
    distances = [shard["distance"] for shard in told.values()]
    st.record(f"values.oriented_shd{suffix}", float(np.mean(distances)), 1.0, n=len(distances))
    predicted = np.stack([np.array(shard["pc_do"]) for shard in told.values()])
    _correlated(f"told_pc_do{suffix}", predicted, _causal(len(predicted)))
    orders = {k[0]: np.array(s["effects"]) for k, s in parts["orders"].items()}
    _method("asking", np.stack(list(orders.values())), model, list(orders), suffix)
    if parts["features"]:
        _features(parts, tables, model, suffix)


def _misjudged(model: str, seeds: list[int], suffix: str) -> None:
    """What the roles that decide take for moved, against what the causal model moves."""
    off = ~np.eye(len(NAMES), dtype=bool)
    is_effect = (np.abs(EFFECTS) > 1e-9)[off]
    found = np.stack([np.abs(do_effects(model, seed, "choose").to_numpy())[off] for seed in seeds])
    for name, wrong in (
        ("moved", found[:, ~is_effect] >= MOVED),
        ("still", found[:, is_effect] < MOVED),
    ):
        count = float(wrong.sum(1).mean())
        st.record(f"values.wrongly_{name}{suffix}", count, 1.0, n=len(seeds))
    st.record(f"values.largest_nothing{suffix}", float(found[:, ~is_effect].max()), 0.03)
    st.record(f"values.smallest_effect{suffix}", float(found[:, is_effect].min()), 0.03)


def _ratios(tables: Mapping[str, Mapping[str, np.ndarray]], model: str, suffix: str) -> None:
    """Effects divided by the own one, and beside what the scores alone let expect."""
    for method, graph in (("plain", None), ("true", TRUE)):
        by_seed = tables.get(method)
        if not by_seed:
            continue
        effects = np.stack(list(by_seed.values()))
        own = np.diagonal(effects, axis1=1, axis2=2)[:, :, None]
        _correlated(f"{method}_ratio{suffix}", effects / own, _causal(len(effects)))
        computed = np.stack([_computed(answers(model, int(s)), graph) for s in by_seed])
        _correlated(f"{method}_computed{suffix}", effects, computed)
        _correlated(f"{method}_computed_causal{suffix}", computed, _causal(len(computed)))


def _computed(scores: pd.DataFrame, graph: st.ValueGraph | None) -> np.ndarray:
    """Cov(z_k, r_j) / sd(r_j), [j, k]: the side effects of a model that answers linearly."""
    left = st.residuals(scores, graph).to_numpy()
    z = st.residuals(scores).to_numpy()
    return left.T @ z / len(z) / left.std(0)[:, None]


def _ideal() -> None:
    """The same for the true values of all roles and exact graphs."""
    every = np.array([world.true_values(role) for role in np.ndindex(12, 12, 12, 12)])
    scores = pd.DataFrame(every, columns=list(NAMES))
    for name, graph in (("plain", None), ("true", TRUE)):
        value = correlation(_computed(scores, graph)[None], EFFECTS[None])
        st.record(f"values.ideal_{name}", value, 0.01, n=90)


def _method(name: str, effects: np.ndarray, model: str, seeds: list[str], suffix: str) -> None:
    """Correlations of the side effects of one method, and their size."""
    _correlated(f"{name}_causal{suffix}", effects, _causal(len(effects)))
    _correlated(f"{name}_observed{suffix}", effects, _observed(model, seeds))
    off = ~np.eye(len(NAMES), dtype=bool)
    own = np.array([np.diag(table).mean() for table in effects])
    side = np.array([np.abs(table[off]).mean() for table in effects])
    _write(f"{name}_own{suffix}", bootstrap_mean(own), 0.1, len(own))
    _write(f"{name}_side{suffix}", bootstrap_mean(side), 0.05, len(side))
    if name in ("plain", "true", "pc", "pc_do", "unmoved", "others", "wrong", "halves", "asking"):
        _write(f"{name}_per_own{suffix}", bootstrap_mean(side / own), 0.1, len(own))


def _difference(name: str, first: np.ndarray, second: np.ndarray) -> None:
    causal = _causal(len(first))

    def measure(seeds: np.ndarray, causes: np.ndarray) -> float:
        return correlation(first[seeds], causal[seeds], causes) - correlation(
            second[seeds], causal[seeds], causes
        )

    _write(name, interval(measure, len(first)), 0.05, len(first))


def _features(
    parts: Mapping[str, Shards], tables: Mapping[str, Any], model: str, suffix: str
) -> None:
    """Features of an SAE: what they move, and whether the recovered graph had said so."""
    shards = parts["features"]
    effects = np.stack([np.array(shard["effects"]) for shard in shards.values()])
    seeds = [key[0] for key in shards]
    _method("features", effects, model, seeds, suffix)
    found = [abs(x) for shard in shards.values() for x in shard["correlations"].values()]
    st.record(f"values.features_match{suffix}", float(np.mean(found)), 0.05, n=len(found))
    for kind in ("pc", "pc_do"):
        told = np.stack([np.array(parts["predicted"][seed,][kind]) for seed in seeds])
        _correlated(f"features_predicted_{kind}{suffix}", effects, told)
    for method in ("plain", "pc_do"):
        by_seed = tables[method]
        said = np.stack([np.array(parts["predicted"][seed,]["pc_do"]) for seed in by_seed])
        _correlated(f"{method}_predicted{suffix}", np.stack(list(by_seed.values())), said)
