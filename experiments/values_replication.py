"""A critical replication of Kang et al. 2025 on the scores they released. `make experiments`.

No model is needed; the files are downloaded, or read from `$STEERLIB_EXTERNAL`. Five parts for each
of the two models, some eight minutes on one core, most of it for `stability`:

* `graphs`: the published graph anew; what it depends on: rows, features, the order of edges;
* `stability`: which edges come back when roles, or rows, are drawn anew;
* `effects`: does the graph predict what else changes, beyond how often values change anyway?
* `table`: the released effects of features on train and test roles, against another feature;
* `choice`: the best feature for each value against a prompt, the feature chosen on other roles.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import steerlib as st
from experiments import values_replication_effects as further
from steerlib.evaluation.shards import Shard, collect
from steerlib.evaluation.side_effect_prediction import descendants
from steerlib.evaluation.value_files import NONE, ReleasedValues, released_values
from steerlib.methods.graph_search import edge_frequencies, value_graph
from steerlib.methods.value_graphs import ValueGraph, reduce_transitively

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "values_replication"
MODELS = ("gemma", "llama")
ALPHA = 0.05  # the authors' level
OFTEN = 0.8  # an edge that comes back in this share of resamples is called stable
REPEATS = 100
ORDERS = 5


@cache
def released(model: str) -> ReleasedValues:
    """The released files of a model."""
    home = os.environ.get("STEERLIB_EXTERNAL")
    folder = Path(home) / "data" / "value_causal_graph" if home else None
    return released_values(model, folder if folder and folder.is_dir() else None)


def pc(scores: pd.DataFrame) -> ValueGraph:
    """The authors' search: PC with Fisher's test at .05, every row as if it were independent."""
    return value_graph(scores, "pc", alpha=ALPHA)


def arrows(graph: ValueGraph) -> list[tuple[str, str]]:
    """The edges as pairs, in the authors' order; an open direction is both pairs."""
    found = []
    for a, b in combinations(graph.nodes, 2):
        open_either_way = {a, b} in graph.undirected
        found += [(a, b)] if (a, b) in graph.directed or open_either_way else []
        found += [(b, a)] if (b, a) in graph.directed or open_either_way else []
    return found


def jaccard(a: ValueGraph, b: ValueGraph) -> float:
    """The share of edges, of any direction, that two graphs have in common."""
    return len(a.skeleton & b.skeleton) / len(a.skeleton | b.skeleton)


def graphs(model: str) -> Shard:
    """The published graph anew, and what becomes of it on other rows."""
    data = released(model)
    rows, values = data.observational, list(data.values)
    full = pc(rows[values])
    pairs = arrows(full)
    reduced = reduce_transitively(pairs)
    unsteered = rows[rows["feature"] == NONE]
    return {
        "rows": len(rows),
        "roles": unsteered["role"].nunique(),
        "pc_edges": len(full.skeleton),
        "directed": len(pairs),
        "reduced": len(reduced),
        "as_published": int(tuple(reduced) == data.graphs[model]),
        "edges_all_rows": len(pc(data.train[values]).skeleton),
        "edges_unsteered": len(pc(unsteered[values]).skeleton),
        **_cycles(full),
        **_orders(pairs, data.values),
        **_rows_per_role(rows, values),
        **_features(data, full),
        **_other_features(data, full),
    }


def _cycles(graph: ValueGraph) -> Shard:
    """Groups of values of which each reaches each other, and how much a value is said to reach."""
    import networkx as nx

    groups = sorted(map(len, nx.strongly_connected_components(graph.to_networkx())))
    reached = [len(graph.descendants(value)) for value in graph.nodes]
    return {
        "largest_cycle": groups[-1],
        "second_cycle": groups[-2],
        "most_descendants": max(reached),
        "without_descendants": reached.count(0),
    }


def _orders(pairs: list[tuple[str, str]], values: Sequence[str]) -> Shard:
    """How many graphs the reduction leaves when the edges come in other orders."""
    rng, found = np.random.default_rng(0), set()
    for _ in range(ORDERS):
        shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
        found.add(frozenset(reduce_transitively(shuffled)))
    whole = descendants(values, pairs)
    same = [descendants(values, edges) == whole for edges in found]
    return {"order_graphs": len(found), "order_reach_as_before": float(np.mean(same))}


def _rows_per_role(rows: pd.DataFrame, values: list[str], draws: int = 100) -> Shard:
    """How many edges there are with each role once, and how alike the rows of a role are."""
    rng = np.random.default_rng(0)
    grouped = rows.groupby("role", sort=False)
    places = list(grouped.indices.values())
    counts = [
        len(pc(rows.iloc[[rng.choice(place) for place in places]][values]).skeleton)
        for _ in range(draws)
    ]
    # Variances of one-way analysis: of the mean of a role, and within a role.
    k = len(rows) / len(places)
    between = k * grouped[values].mean().var()
    within = grouped[values].var().mean()
    alike = ((between - within) / (between + (k - 1) * within)).mean()
    return {
        "edges_one_row": float(np.mean(counts)),
        "edges_one_row_most": max(counts),
        "edges_role_means": len(pc(grouped[values].mean()).skeleton),
        "alike": float(alike),
        "effective_rows": float(len(rows) / (1 + (k - 1) * alike)),
    }


def _features(data: ReleasedValues, full: ValueGraph) -> Shard:
    """The graph without each kept feature, and which feature breaks the answers.

    `slope` is that of the score under a feature on the score without one, over roles and values: 1
    where it changes nothing, 0 where the answers no longer depend on role and question.
    """
    rows, values = data.observational, list(data.values)
    plain = rows[rows["feature"] == NONE].set_index("role")[values]
    without, slope, scores = {}, {}, {NONE: plain.to_numpy()}
    for feature in data.kept:
        without[feature] = jaccard(full, pc(rows[rows["feature"] != feature][values]))
        steered = rows[rows["feature"] == feature].set_index("role")[values]
        scores[feature] = steered.loc[plain.index].to_numpy()
        slope[feature] = np.polyfit(scores[NONE].ravel(), scores[feature].ravel(), 1)[0]
    decisive, next_decisive = sorted(without, key=without.__getitem__)[:2]
    flattest, next_flattest = sorted(slope, key=slope.__getitem__)[:2]
    return {
        "decisive_feature": int(decisive),
        "without_decisive": without[decisive],
        "without_next": without[next_decisive],
        "flattest_feature": int(flattest),
        "slope_flattest": float(slope[flattest]),
        "slope_next": float(slope[next_flattest]),
        "size_flattest": float(abs(scores[flattest]).mean()),
        "size_unsteered": float(abs(scores[NONE]).mean()),
        "zero_flattest": float((scores[flattest] == 0).mean()),
        "zero_unsteered": float((scores[NONE] == 0).mean()),
    }


def _other_features(data: ReleasedValues, full: ValueGraph, draws: int = 20) -> Shard:
    """The graph with ten features drawn at random in place of the ten that were kept."""
    names = [name for name in data.train["feature"].unique() if name != NONE]
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        chosen = data.train["feature"].isin([NONE, *rng.choice(names, 10, replace=False)])
        found.append(pc(data.train.loc[chosen, list(data.values)]))
    shared = [jaccard(full, graph) for graph in found]
    return {
        "edges_other_features": float(np.mean([len(graph.skeleton) for graph in found])),
        "shared_other_features": float(np.mean(shared)),
        "shared_other_features_least": min(shared),
        "shared_other_features_most": max(shared),
    }


def stability(model: str, unit: str) -> Shard:
    """How many of the published edges come back when roles ("role") or rows ("row") are drawn."""
    data = released(model)
    rows, values = data.observational, list(data.values)
    full = pc(rows[values])
    clusters = rows["role"].tolist() if unit == "role" else None
    found = edge_frequencies(rows[values], pc, clusters=clusters, repeats=REPEATS, seed=0)
    edges = found[[frozenset(pair) in full.skeleton for pair in found.index]]
    same = [
        row.forward if (a, b) in full.directed else row.backward
        for (a, b), row in edges.iterrows()
        if frozenset((a, b)) not in full.undirected
    ]
    return {
        f"stable_by_{unit}": int((edges["edge"] >= OFTEN).sum()),
        f"mean_share_by_{unit}": float(edges["edge"].mean()),
        f"stable_arrows_by_{unit}": int((np.array(same) >= OFTEN).sum()),
        f"arrows_by_{unit}": len(same),
    }


def _of(work: Callable[[ReleasedValues], Shard]) -> Callable[..., Shard]:
    """A part that needs nothing but the data of a model."""
    return lambda model: work(released(model))


PARTS: dict[str, tuple[Callable[..., Shard], list[tuple[str, ...]]]] = {
    "graphs": (graphs, [(model,) for model in MODELS]),
    "effects": (_of(further.effects), [(model,) for model in MODELS]),
    "table": (_of(further.table), [(model,) for model in MODELS]),
    "choice": (_of(further.choice), [(model,) for model in MODELS]),
    "stability": (stability, list(product(MODELS, ("role", "row")))),
}


def record_all(found: dict[str, dict[tuple[str, ...], dict[str, Any]]]) -> None:
    """Record every number: `values.rep_<model>_<name>`.

    All are computed from fixed files and fixed seeds; counts are exact, and what is drawn may
    differ a little with another generator.
    """
    for shards in found.values():
        for (model, *_), shard in shards.items():
            for name, entry in shard.items():
                value, *interval = entry if isinstance(entry, list) else [entry]
                tol = 0 if isinstance(value, int) else 0.01 + 0.02 * abs(value)
                st.record(f"values.rep_{model}_{name}", value, tol, interval or None)
    further.record_adjusted(found["effects"])


def main() -> None:
    """Compute what is missing, then record it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    found = {}
    for name, (work, keys) in PARTS.items():
        found[name] = dict(zip(keys, collect(FOLDER / name, keys, work), strict=True))
    record_all(found)


if __name__ == "__main__":
    main()
