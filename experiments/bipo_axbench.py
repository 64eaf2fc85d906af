"""BiPO in the comparison of the chapter axbench: the same dialogues, requests and judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

import steerlib as st
from experiments.axbench import prompts
from experiments.axbench_methods import SITE, VECTORS, scaled
from experiments.bipo_data import FOLDER, load
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.evaluation import Choice
from steerlib.evaluation.shards import Shard
from steerlib.world.datasets import SplitName

CONCEPTS = (*st.world.LEXICAL, *st.world.STYLES)
# Learning rates: the best of RATES on the requests that choose, over TUNED.
RATES = (0.1, 0.3, 1.0, 3.0)
RATE = {"bipo": 3.0, "dpo": 1.0, "split": 0.3}
TUNED = ("weather", "war", "pirate")  # as for the learned vectors of that chapter
PLAN = Plan(epochs=6, batch_size=6)  # as theirs

Fit = Callable[[st.Model, list[Choice]], st.Intervention]
_FITS: dict[str, Callable[..., st.Intervention]] = {
    "bipo": st.bipo,
    "dpo": partial(st.bipo, both_ways=False),
    "split": st.split_vector,
}
_OTHERS = ("diff_means", "reps")  # as in that chapter


def concept_pairs(concept: str, seed: int, split: SplitName = "train", n: int = 72) -> list[Choice]:
    """The dialogues of axbench as pairs: a response with the concept against one without."""
    return ev.choices_of(st.world.dialogues(concept, n, seed, split))


def learn(name: str, rate: float) -> Fit:
    """A variant with its learning rate."""
    return lambda net, taught: _FITS[name](net, taught, SITE, plan=replace(PLAN, lr=rate))


def rates(method: str, rate: str, concept: str) -> Shard:
    """The best score on the requests that choose, at one learning rate."""
    net = load("world")
    found = learn(method, float(rate))(net, concept_pairs(concept, 0))
    arm = ev.Arm(method, found, ev.FACTORS)
    answers = ev.score(net, [arm], prompts("selection", 0), ev.world_judge(concept), progress=False)
    return {"score": float(ev.summary(answers)["score"].max())}


def concept(name: str, seed: str) -> Shard:
    """Score of each method at its chosen strength, and what this does to both responses."""
    net, number = load("world"), int(seed)
    data, taught = st.Dialogues(st.world.dialogues(name, 72, number)), concept_pairs(name, number)
    vectors = {other: scaled(net, VECTORS[other](net, data), other, data) for other in _OTHERS}
    vectors |= {own: learn(own, RATE[own])(net, taught) for own in _FITS}
    arms = [ev.Arm(key, vector, ev.FACTORS) for key, vector in vectors.items()]
    choose, report = prompts("selection", number), prompts("test", number)
    study = ev.Study(name, arms, [*choose, *report], ev.world_judge(name))
    table = ev.sweep(
        net, [study], FOLDER / "sweeps" / f"{name}-{seed}", seed=number, progress=False
    )
    rows = ev.reported(table, choose)
    known = st.Pairs.of(net, concept_pairs(name, number, "test", 24))
    as_learned = table[(table["strength"] == 1) & table["prompt"].isin(report)]
    found = []
    for key, own in rows.groupby("method"):
        vector, strength = vectors[str(key)], float(own["strength"].iloc[0])
        at_one = as_learned[as_learned["method"] == key]["score"]
        found.append({"arm": str(key), "strength": strength, "score": float(own["score"].mean()),
                      "at_one": float(at_one.mean()), "norm": float(vector.direction.norm()),
                      **_gains(known, vector, strength)})  # fmt: skip
    return {"rows": found}


def _gains(known: st.Pairs, vector: st.Intervention, strength: float) -> dict[str, float]:
    """Nats per token that the responses with and without the concept gain."""
    with torch.no_grad():
        log_p = known.log_p(vector, range(len(known.encoded)), (strength,))[0]
    gain = ((log_p - known.reference) / known.tokens).mean(0)
    return {"gain_target": float(gain[0]), "gain_opposite": float(gain[1])}
