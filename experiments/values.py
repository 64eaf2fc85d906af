"""Value graphs on the world: recovery, do-effects, steering along a graph. `make experiments`.

One shard per model, seed and part, so that a run that was killed loses one of them; `-j 2` shares
them between two processes. A seed decides which roles answer, choose and report.

* `recovery`: graphs from more and more roles, by several methods, against the true one;
* `noise`, `dags`: the same without a model: what measurement noise does, and 200 random graphs;
* `orders`: what do-prompts change, and the paper's measure on them;
* `steer`: directions along values, plain and adjusted by a graph, at the strength that other roles
  chose;
* `features`: the same with features of a sparse autoencoder.

`python -m experiments.values_replication` looks at the published answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch

import steerlib as st
from experiments import values_claims, values_figures
from experiments.parts import Part, compute
from experiments.values_data import (
    ALPHA,
    FOLDER,
    MOVED,
    NAMES,
    SHORT,
    SYSTEM,
    TRUE,
    answers,
    changed,
    do_effects,
    load,
    part,
    prompts,
    random_dag,
    texts,
    truth,
)
from steerlib import evaluation as ev
from steerlib.evaluation.shards import Shard, collect
from steerlib.world import values as world

MODELS, SEEDS = ("world", "world-b", "young"), ("0", "1", "2")
SIZES = (100, 200, 400, 800, 1600)
ALPHAS = (1e-4, 1e-3, 1e-2, 5e-2)
EDGES = len(world.EDGES)
SITE = st.resid_pre(0)
STRENGTHS = (1.0, 2.0, 4.0, 8.0)
TARGET = 0.5  # standard deviations: the own effect at which methods are compared
METHODS = (
    "plain", "halves", "true", "pc", "pc_do", "unmoved", "wrong", "others", "shuffled", "noise",
)  # fmt: skip


# --- recovery


def recovery(model: str, seed: str) -> Shard:
    """Every method's graph against the equivalence class of the true one, by number of roles."""
    sources = {"answers": answers(model, int(seed)), "truth": truth(int(seed))}
    rows = []
    for (source, scores), n in product(sources.items(), SIZES):
        for name, graph in graphs(scores[:n], int(seed)).items():
            measured = st.compare_graphs(graph, TRUE.cpdag()).to_dict()
            rows.append({"source": source, "n": n, "method": name} | measured)
    right = [float(np.corrcoef(sources["answers"][v], sources["truth"][v])[0, 1]) for v in NAMES]
    return {"rows": rows, "reliability": right}


def graphs(scores: pd.DataFrame, seed: int) -> dict[str, st.ValueGraph]:
    """Graphs from the same scores; those without a test get the right number of edges."""
    found = {f"pc {alpha:g}": st.value_graph(scores, alpha=alpha) for alpha in ALPHAS}
    found["ges"] = st.value_graph(scores, "ges")
    for method in ("correlation", "partial"):
        found[method] = st.value_graph(scores, method, edges=EDGES)
        found[f"{method} {ALPHA:g}"] = st.value_graph(scores, method, alpha=ALPHA)
    drawn = random_dag(seed)
    found["random"] = st.ValueGraph(NAMES, frozenset(), drawn.skeleton)
    return found


def noise(correlation: str, n: str) -> Shard:
    """Ten draws of true values, measured with noise: F1 of PC's skeleton and of correlation's."""
    share = float(correlation)
    rows = []
    for draw in range(10):
        rng = np.random.default_rng([draw, int(n)])
        total = np.linalg.inv(np.eye(len(NAMES)) - world.coefficients())
        values = rng.normal(size=(int(n), len(NAMES))) @ total.T
        spread = values.std(0) * np.sqrt(1 / share**2 - 1)
        scores = pd.DataFrame(values + spread * rng.normal(size=values.shape), columns=list(NAMES))
        rows.append({"draw": draw} | _skeletons(scores, TRUE))
    return {"rows": rows}


def dags(first: str) -> Shard:
    """Twenty random graphs of the world's size, 800 draws each; number -1 is the world's own."""
    numbers = range(int(first), int(first) + 20) if first != "own" else [-1]
    rows = []
    for number in numbers:
        rng = np.random.default_rng(1000 + number)
        graph = TRUE if number < 0 else random_dag(number)
        b = np.zeros((len(NAMES), len(NAMES)))
        for cause, effect in sorted(graph.directed):
            size = rng.choice([-1, 1]) * rng.uniform(0.6, 1.1)
            b[NAMES.index(effect), NAMES.index(cause)] = size
        b = world.coefficients() if number < 0 else b
        values = rng.normal(size=(800, len(NAMES))) @ np.linalg.inv(np.eye(len(NAMES)) - b).T
        rows.append({"dag": number} | _skeletons(pd.DataFrame(values, columns=list(NAMES)), graph))
    return {"rows": rows}


def _skeletons(scores: pd.DataFrame, true: st.ValueGraph) -> dict[str, float]:
    by_tests = st.value_graph(scores, alpha=ALPHA)
    strongest = {m: st.value_graph(scores, m, edges=EDGES) for m in ("correlation", "partial")}
    return {name: st.skeleton_f1(g, true) for name, g in ({"pc": by_tests} | strongest).items()}


# --- orders


def orders(model: str, seed: str) -> Shard:
    """Effects of orders, and the paper's measure on generated answers under them."""
    number, net = int(seed), load(model)
    some = part(number, "report")
    before = st.value_scores(net, SHORT, prompts(some), readout="generated")
    after = [
        st.value_scores(net, SHORT, prompts(some, world.Do(name, seek)), readout="generated")
        for name, seek in product(NAMES, (True, False))
    ]
    pairs = pd.concat([before] * len(after), ignore_index=True)
    frequencies = ev.change_frequencies(pairs, pd.concat(after, ignore_index=True))
    found = st.value_graph(answers(model, number)[:800], alpha=ALPHA)
    candidates = {"pc": found, "true": TRUE} | {f"random {i}": random_dag(i) for i in range(20)}
    measured = []
    for name, graph in candidates.items():
        expected = {v: graph.descendants(v) for v in NAMES}
        gap = ev.mean_gap(ev.expected_unexpected(frequencies, expected))
        measured.append({"graph": name, "gap": float(gap)})
    effects = do_effects(model, number, "report")
    return {"effects": effects.to_numpy().tolist(), "paper": measured}


# --- steering


def steered(
    net: st.Model, directions: Mapping[str, st.Intervention], strength: float, seed: int, which: str
) -> pd.DataFrame:
    """Effects of steering along each direction, [cause, effect]."""
    some, unit = prompts(part(seed, which)), answers_of(net, seed).std()

    def ask(name: str, sign: float) -> pd.DataFrame:
        with st.steer(net, directions[name], strength=sign * strength):
            return st.value_scores(net, SHORT, some)

    return changed(st.value_scores(net, SHORT, some), ask, unit)


def answers_of(net: st.Model, seed: int) -> pd.DataFrame:
    """The answers that belong to a loaded model."""
    return answers(next(name for name in MODELS if load(name) is net), seed)


def at_target(
    net: st.Model, directions: Mapping[str, st.Intervention], seed: int
) -> tuple[float, pd.DataFrame]:
    """The strength with a mean own effect nearest to the target on other roles; its effects."""
    own = {s: float(np.diag(steered(net, directions, s, seed, "choose")).mean()) for s in STRENGTHS}
    best = min(STRENGTHS, key=lambda s: abs(own[s] - TARGET))
    return best, steered(net, directions, best, seed, "report")


def directions(model: str, method: str, seed: int) -> dict[str, st.Intervention]:
    """The directions of a method, from the roles that answer everything."""
    net, scores = load(model), answers(model, seed)
    at = st.mask(SYSTEM)
    if method == "shuffled":
        order = np.random.default_rng(seed).permutation(len(scores))
        scores = scores.iloc[order].set_index(scores.index)
    if method == "noise":
        plain = directions(model, "plain", seed)
        return {v: _random_like(plain[v], 10 * seed + i) for i, v in enumerate(NAMES)}
    if method == "halves":
        scores = (scores > scores.median()).astype(float)
    read = texts(part(seed, "answer"))
    return st.value_directions(
        net, read, scores, SITE, _graph(model, method, seed), at=at, aligned=True, chat=False
    )


def _graph(model: str, method: str, seed: int) -> Any:
    """What a method residualizes on."""
    if method == "true":
        return TRUE
    if method == "wrong":
        return random_dag(100 + seed)
    if method == "others":
        return {v: [name for name in NAMES if name != v] for v in NAMES}
    if method == "unmoved":
        return st.unmoved(do_effects(model, seed, "choose"), MOVED)
    if method not in ("pc", "pc_do"):
        return None
    found = st.value_graph(answers(model, seed)[:800], alpha=ALPHA)
    return found if method == "pc" else st.orient(found, do_effects(model, seed, "choose"))


def _random_like(plain: st.Intervention, seed: int) -> st.Intervention:
    """Random vectors of the same length at each position."""
    [term] = plain.terms
    vectors = term.edit.tensors["vectors"]
    drawn = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed))
    lengths = vectors.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    return st.Add(term.site, drawn * lengths).at(term.positions)


def steer(model: str, method: str, seed: str) -> Shard:
    """The side effects of one method."""
    net, number = load(model), int(seed)
    try:
        vectors = directions(model, method, number)
    except ValueError as error:  # a graph without members has no class mean
        return {"failed": str(error)}
    if method in ("shuffled", "noise"):
        strength = float(collect(FOLDER / "steer", [(model, "plain", seed)], steer)[0]["strength"])
        found = steered(net, vectors, strength, number, "report")
    else:
        strength, found = at_target(net, vectors, number)
    return {"strength": strength, "effects": found.to_numpy().tolist()}


def features(model: str, seed: str) -> Shard:
    """The feature that goes best with each value over roles, and what adding it changes.

    What is predicted: the total effects of the value, by the recovered graph.
    """
    net, number = load(model), int(seed)
    sae = st.load_sae(f"{model}-topk")
    scores, at = answers(model, number), st.mask(SYSTEM)
    h = st.capture(net, texts(part(number, "answer")), [sae.site], at=at)[sae.site]
    z = sae.encode(h).unflatten(0, (len(scores), -1)).mean(1).double().numpy()
    # Active in a twentieth of the roles; what is the same in all has no correlation.
    numbers = np.flatnonzero(((z > 0).mean(0) > 0.05) & (z.std(0) > 1e-3))
    table = np.corrcoef(z[:, numbers].T, scores.T)[: len(numbers), len(numbers) :]
    chosen = {v: int(np.abs(table[:, j]).argmax()) for j, v in enumerate(NAMES)}
    length = float(h.norm(dim=1).mean())
    vectors = {
        v: (float(0.1 * length * np.sign(table[i, j])) * sae.add(int(numbers[i]))).at(at)
        for j, (v, i) in enumerate(chosen.items())
    }
    strength, found = at_target(net, vectors, number)
    return {
        "strength": strength,
        "effects": found.to_numpy().tolist(),
        "features": {v: int(numbers[i]) for v, i in chosen.items()},
        "correlations": {v: float(table[i, j]) for j, (v, i) in enumerate(chosen.items())},
    }


def predicted(model: str, seed: str) -> Shard:
    """Total effects by the recovered graph: the mean over its class, and oriented by orders."""
    number = int(seed)
    scores = answers(model, number)[:800]
    graph = st.value_graph(scores, alpha=ALPHA)
    oriented = st.orient(graph, do_effects(model, number, "choose"))
    found: Shard = {
        "pc_do": st.total_effects(scores, oriented).to_numpy().tolist(),
        "distance": st.structural_hamming(oriented, TRUE),
    }
    try:
        mean = st.class_effects(scores, graph)["mean"].unstack().reindex(NAMES)[list(NAMES)]
        found["pc"] = mean.fillna(0.0).to_numpy().tolist()
    except ValueError as error:
        found["failed"] = str(error)
    return found


PARTS: dict[str, Part] = {
    "noise": (noise, list(product(("0.9", "0.95", "0.975", "0.99", "1"), ("400", "800", "3200")))),
    "dags": (dags, [("own",), *((str(first),) for first in range(0, 200, 20))]),
    "recovery": (recovery, list(product(MODELS, SEEDS))),
    "orders": (orders, list(product(MODELS, SEEDS))),
    "predicted": (predicted, list(product(MODELS, SEEDS))),
    "steer": (
        steer,
        [
            *product(("world", "world-b"), METHODS, SEEDS),
            *product(("young",), ("plain", "true", "pc_do", "unmoved"), SEEDS),
        ],
    ),
    "features": (features, list(product(("world", "world-b"), SEEDS))),
}


def main() -> None:
    """Compute what is missing, then record it and draw the figures."""
    found = compute("value graphs on the world", FOLDER, PARTS, partial(load, "young"))
    if found is not None:
        values_claims.record_all(found)
        values_figures.draw(found)


if __name__ == "__main__":
    # By its name, so that other processes can import what they are sent.
    from experiments.values import main as run

    run()
