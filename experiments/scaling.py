"""Activation scaling on the world: planes, components, transfer and controls. `make experiments`.

One shard per fit, so that a run that was killed loses one fit; `-j 2` shares them between two
processes. Every part has three seeds: of the split by country, of the prompts and of the fit.
"""

from __future__ import annotations

import argparse
import logging
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

import steerlib as st
from experiments import scaling_claims, scaling_components, scaling_figures, scaling_parts
from experiments.scaling_data import (
    CHOOSE,
    CUES,
    POSITIONS,
    PRICES,
    RATES,
    RELATIONS,
    REPORT,
    SETS,
    SHARED,
    TEMPLATES,
    TRAIN,
    WHERE,
    fitted,
    load,
    measured,
    prompts,
    total,
)
from steerlib import evaluation as ev
from steerlib.evaluation.shards import Shard, collect

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "scaling"
SEEDS = ("0", "1", "2")
MODELS = ("world", "world-b")
FAITHFUL = ("0", "0.1", "1", "10")
# From "everything stays" to "nothing does"; a vector is some ten times longer than a scalar.
MINIMAL = {
    "activ": ("0", "0.02", "0.1", "0.5", "2"),
    "vec": ("0", "0.01", "0.03", "0.1", "0.3"),
    "dyn": ("0", "0.02", "0.1", "0.5", "2"),
}
SITES = ("components", "attn_out", "mlp_out", "resid", "all_three")
QUESTIONS = [question for question, _ in st.world.geography.fact_questions()]


def plane(model: str, method: str, faithful: str, minimal: str, seed: str) -> Shard:
    """One point of the two planes: prompts of one template, a number for each position."""
    net, number = load(model), int(seed)
    objective = st.Objective(faithfulness=float(faithful), minimality=float(minimal))
    data = prompts("one_city", "train", number, TRAIN)
    start = time.perf_counter()
    dial = fitted(net, method, data, objective=objective, seed=number)
    seconds = time.perf_counter() - start
    return {
        "seconds": [{"seconds": seconds}],
        "places": st.places(dial).to_dict("records"),
        "total": [{"total": total(net, data)}],
        "train": measured(net, data, dial),
        "selection": measured(net, prompts("one_city", "selection", number, CHOOSE), dial),
        "test": measured(net, prompts("one_city", "test", number, REPORT), dial),
    }


def rate(method: str, lr: str, seed: str) -> Shard:
    """The loss on the selection split at one learning rate."""
    net, number = load("world"), int(seed)
    dial = fitted(net, method, prompts("one_city", "train", number, TRAIN), rate=float(lr),
                  seed=number)  # fmt: skip
    table = ev.flips(net, prompts("one_city", "selection", number, CHOOSE), dial)
    return {"loss": [{"loss": scaling_parts.loss(table)}]}


def where(place: str, seed: str) -> Shard:
    """The loss of vectors on the selection split, by the positions that they are added at."""
    net, number = load("world"), int(seed)
    dial = fitted(net, "vec", prompts("all", "train", number, SHARED), WHERE[place], seed=number)
    table = ev.flips(net, prompts("all", "selection", number, CHOOSE), dial)
    return {"loss": [{"loss": scaling_parts.loss(table)}]}


def price(method: str, minimal: str, seed: str) -> Shard:
    """The loss on the selection split at one price of size, over all relations."""
    net, number = load("world"), int(seed)
    dial = fitted(net, method, prompts("all", "train", number, SHARED), POSITIONS[method],
                  objective=st.Objective(minimality=float(minimal)), seed=number)  # fmt: skip
    table = ev.flips(net, prompts("all", "selection", number, CHOOSE), dial)
    return {"loss": [{"loss": scaling_parts.loss(table)}], "places": [{"n": len(st.places(dial))}]}


def sites(model: str, kind: str, seed: str) -> Shard:
    """Scalars on other sites than the components, among them the paper's three."""
    net, number = load(model), int(seed)
    layers = range(net.n_layers)
    kinds: dict[str, list[st.Site]] = {
        "components": st.components(net),
        "attn_out": [st.attn_out(layer) for layer in layers],
        "mlp_out": [st.mlp_out(layer) for layer in layers],
        "resid": [st.resid(layer) for layer in layers],
    }
    kinds["all_three"] = kinds["attn_out"] + kinds["mlp_out"] + kinds["resid"]
    dial = fitted(net, "activ", prompts("one_city", "train", number, TRAIN), sites=kinds[kind],
                  seed=number)  # fmt: skip
    return {
        "places": st.places(dial).to_dict("records"),
        "test": measured(net, prompts("one_city", "test", number, REPORT), dial),
    }


def transfer(model: str, method: str, name: str, seed: str) -> Shard:
    """A dial that was fitted on one set, on every relation, template and cue, IOI and facts."""
    net, number = load(model), int(seed)
    data = prompts(name, "train", number, TRAIN if method == "aligned" else SHARED)
    kind = "activ" if method == "aligned" else method
    dial = fitted(net, kind, data, POSITIONS[method], seed=number)
    rows: list[dict[str, Any]] = []
    for relation, template, cue in product(RELATIONS, TEMPLATES, CUES):
        report = st.world.conflicts(
            48, relations=(relation,), templates=(template,), cue=cue, split="test", seed=number
        )
        rows += measured(net, report, dial)
    names = st.world.indirect_objects(96, split="test", seed=number)
    arm = ev.Arm("dial", dial, (0.0, 1.0, -1.0))
    cost = ev.price(net, arm, QUESTIONS, measures={"facts": ev.world_facts}, batch_size=256)
    return {
        "places": st.places(dial).to_dict("records"),
        "test": rows,
        "ioi": measured(net, names, dial),
        "price": cost.to_dict("records"),
    }


def main() -> None:
    """Compute what is missing, then record it and draw the figures."""
    parser = argparse.ArgumentParser(description="activation scaling on the world")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes")
    jobs = parser.parse_args().jobs
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    found = {
        name: dict(zip(keys, collect(FOLDER / name, keys, work, n_jobs=jobs), strict=True))
        for name, (work, keys) in parts().items()
    }
    scaling_claims.record_all(found)
    scaling_figures.planes(found["planes"])
    scaling_figures.transfer(found["transfer"])
    scaling_figures.components(found["components"])


def parts() -> dict[str, tuple[Any, list[Any]]]:
    """Every part of the experiment: its work and its keys."""
    rates = [(m, str(r), s) for m, values in RATES.items() for r in values for s in SEEDS]
    planes = [
        (model, method, f, m, s)
        for method, minimal in MINIMAL.items()
        for model, f, m, s in product(("world",), FAITHFUL, minimal, SEEDS)
    ]
    sets = [("activ", name) for name in SETS]
    sets += [(m, name) for m in ("vec", "dyn") for name in ("all", "one_city")]
    sets += [("aligned", "one_city"), ("aligned", "one_capital")]
    prices = [(m, str(v), s) for m, values in PRICES.items() for v in values for s in SEEDS]
    moved = [(model, *pair, s) for model, pair, s in product(MODELS, sets, SEEDS)]
    return {
        "rates": (rate, rates),
        "prices": (price, prices),
        "where": (where, [(place, s) for place in WHERE for s in SEEDS]),
        "sites": (sites, list(product(MODELS, SITES, SEEDS))),
        "transfer": (transfer, moved),
        **{
            name: (work, list(product(MODELS, SEEDS))) for name, work in scaling_parts.PARTS.items()
        },
        "components": (scaling_components.components, list(product(MODELS, SEEDS))),
        "planes": (plane, planes),
    }


if __name__ == "__main__":
    from experiments.scaling import main as run

    run()
