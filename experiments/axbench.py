"""AxBench on the world: every concept, method and seed, detected and steered. `make experiments`.

One shard per model, concept and seed (a minute or two on one core); the answers of each are a
sweep of their own, so that a run that was killed loses one batch. With `-j 2` two processes share
the work.

A shard holds

* `detect`: AUROC on unseen words and topics, hard negatives apart; `one_word`: where one decides;
* `threshold`: F1 where half and where 1% of the texts show the concept, hard negatives at Youden's
  threshold; like attributions, which are slow, for seed 0 only;
* `curves`: grades at every strength; `rows`: answers at the strength that other prompts chose;
* `costs`: KL and facts at that strength; `frontier`: KL at every strength;
* `seconds` to learn, `norms` and cosines of the vectors.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import steerlib as st
from experiments import axbench_claims, axbench_effects, axbench_figures
from experiments.axbench_methods import RATES, SITE, TUNED, Learned, at_rate, learn, scaled
from steerlib import evaluation as ev
from steerlib.evaluation.shards import Shard, collect

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "axbench"
CONCEPTS = (*st.world.LEXICAL, *st.world.STYLES)
SEEDS = ("0", "1", "2")  # of data and fit
# The second model checks that a finding is not one network's accident.
MODELS = ("world", "world-b")
CHOOSE, REPORT = 12, 24  # requests; their topics differ
PREVALENCE = 0.01
QUESTIONS = [question for question, _ in st.world.geography.fact_questions()]


@cache
def load(name: str) -> st.Model:
    """One of the two models."""
    return st.load(name, engine="hf")


def prompts(split: str, seed: int) -> list[str]:
    """Different requests of a split: what chooses a strength, and what reports."""
    count = {"selection": CHOOSE, "test": REPORT}[split]
    return [asked.text for asked in st.world.instruction_prompts(count, seed, split)]  # type: ignore[arg-type]


def unit(model: str, concept: str, seed: str) -> Shard:
    """All that is measured for one concept and seed."""
    net, number = load(model), int(seed)
    found = learn(net, concept, number)
    shard = {"concept": concept, "seconds": dict(found.seconds), "norms": _norms(found)}
    shard |= _detection(net, found, concept, number)
    return shard | _steering(
        net, found, concept, number, FOLDER / "sweeps" / f"{model}-{concept}-{seed}"
    )


def _norms(found: Learned) -> dict[str, float]:
    """Lengths of the vectors, and the cosines of all with DiffMean."""
    first = found.vectors["diff_means"].direction
    norms = {f"norm_{name}": float(v.direction.norm()) for name, v in found.vectors.items()}
    for name, v in found.vectors.items():
        norms[f"cosine_{name}"] = float(torch.cosine_similarity(v.direction, first, dim=0))
    return norms


# --- detection


def _detection(net: st.Model, found: Learned, concept: str, seed: int) -> Shard:
    train = st.Dialogues(st.world.dialogues(concept, 72, seed))
    texts = {split: _texts(concept, seed, split) for split in ("selection", "test")}
    drawn = st.random_direction(net, SITE, seed=seed)
    same = float(drawn.direction @ found.vectors["diff_means"].direction) > 0
    directions: dict[str, Any] = {**found.vectors, "random": drawn if same else -drawn}
    read = directions | {"bag_of_words": st.bag_of_words(train)}
    attributed = _attributions(net, train) if seed == 0 else {}
    table = ev.detection(net, read | attributed, texts["test"], chat=None, seed=seed)
    shard = {"detect": table.to_dict("records")}
    if concept in st.world.LEXICAL:
        table = ev.detection(net, read, st.world.one_word(concept, seed), seed=seed)
        shard["one_word"] = table.to_dict("records")
    if seed == 0:
        shard["threshold"] = _thresholds(net, read, texts, concept, seed)
    return shard


def _attributions(net: st.Model, train: st.Dialogues) -> dict[str, Any]:
    """Integrated Gradients and InputXGradient, without signs as in AxBench and with them."""
    return {
        "ig": st.attribution(net, train, SITE, kind="ig"),
        "ig_signed": st.attribution(net, train, SITE, kind="ig", signed=True),
        "ixg": st.attribution(net, train, SITE, kind="ixg"),
        "ixg_signed": st.attribution(net, train, SITE, kind="ixg", signed=True),
    }


def _texts(concept: str, seed: int, split: str) -> st.Dialogues:
    """36 dialogues with the concept, 36 without any, 36 of another concept."""
    talks = st.world.dialogues(concept, 36, seed, split)  # type: ignore[arg-type]
    return st.Dialogues([*talks, *st.world.contrasts(concept, 36, seed, split)])  # type: ignore[arg-type]


def _thresholds(
    net: st.Model,
    detectors: Mapping[str, Any],
    texts: Mapping[str, st.Dialogues],
    concept: str,
    seed: int,
) -> list[Shard]:
    """F1 and hard negatives: the threshold from the selection texts, and from the test texts."""
    hard = ("polysemous", "other")
    parts = {
        split: ev.scored(net, detectors, data, hard=hard, chat=None)
        for split, data in texts.items()
    }
    pools = {split: _rare(net, detectors, concept, seed, split) for split in texts}
    lines = []
    for name in detectors:
        choose, report = parts["selection"][name], parts["test"][name]
        few = [
            ev.rare(parts[s][name], pools[s][name], PREVALENCE, seed) for s in ("selection", "test")
        ]
        apart = ev.hard_negative_accuracy(choose, report)
        lines.append(
            {
                "detector": name,
                "f1": ev.f1(choose, report).f1,
                "f1_optimistic": ev.f1(report).f1,
                "f1_rare": ev.f1(*few).f1,
                "f1_rare_optimistic": ev.f1(few[1]).f1,
                "f1_rare_from_balanced": ev.f1(choose, few[1]).f1,
                "hard": apart.accuracy,
                "hard_negatives": apart.hard_negatives,
                "positives": apart.positives,
            }
        )
    return lines


def _rare(
    net: st.Model, detectors: Mapping[str, Any], concept: str, seed: int, split: str
) -> dict[str, np.ndarray]:
    """Scores of some 4,000 more texts without the concept; every second shows nothing."""
    talks: list[st.world.Dialogue] = []
    others = [c for c in CONCEPTS if c != concept]
    for number, other in enumerate(others):
        share = st.world.dialogues(other, 2200 // len(others), 1000 * seed + number, split)  # type: ignore[arg-type]
        talks += [st.world.Dialogue(d.prompt, d.response, False) for d in share]
    shown = st.world.dialogues(concept, 1, seed, split)[:1]  # type: ignore[arg-type]
    data = st.Dialogues([*shown, *(t for t in talks if not _shows(t, concept))])
    found = ev.scored(net, detectors, data, chat=None, batch_size=128)
    return {name: scored.scores[1:] for name, scored in found.items()}


def _shows(talk: st.world.Dialogue, concept: str) -> bool:
    """Whether another concept's response has a word of this one, so that it is no negative."""
    return bool(st.world.lexicon_words(concept) & set(talk.response.split()))


# --- steering


def _steering(net: st.Model, found: Learned, concept: str, seed: int, folder: Path) -> Shard:
    choose, report = prompts("selection", seed), prompts("test", seed)
    study = ev.Study(concept, found.arms, [*choose, *report], ev.world_judge(concept))
    table = ev.sweep(net, [study], folder, seed=seed, progress=False)
    table["method"] = table["method"].str.removesuffix(" 0")
    rows = ev.reported(table, choose)
    keep = ["method", "strength", "prompt", "score", "chosen_on"]
    grades = [name for name in rows if name.startswith("grade_")]
    chosen = dict(zip(rows["method"], rows["strength"], strict=True))
    return {
        "rows": rows[[*keep, *grades]].to_dict("records"),
        "curves": _curves(table, set(choose), grades),
        "costs": _costs(net, found.arms, chosen),
        "frontier": _frontier(net, found.arms),
    }


def _curves(table: pd.DataFrame, choose: set[str], grades: Sequence[str]) -> list[Shard]:
    """Mean grades at every strength, on the prompts that choose and on those that report."""
    part = np.where(table["prompt"].isin(choose), "choose", "report")
    keys = ["method", "strength", "part"]
    means = table.assign(part=part).groupby(keys, sort=False)[["score", *grades]].mean()
    return means.reset_index().to_dict("records")


def _costs(net: st.Model, arms: Sequence[ev.Arm], chosen: Mapping[str, float]) -> list[Shard]:
    """KL on questions of fact, and the share of right answers, at the chosen strength."""
    lines = []
    for arm in arms:
        if arm.ask is not None or arm.name == "nothing":
            continue  # asking for a concept makes no sense of a question of fact
        name = arm.name.removesuffix(" 0")
        at = ev.Arm(arm.name, arm.intervention, (chosen[name],), model=arm.model)
        table = ev.price(net, at, QUESTIONS, measures={"facts": ev.world_facts}, batch_size=256)
        lines += [{"method": name, **row} for row in table.to_dict("records")]
    return lines


def _frontier(net: st.Model, arms: Sequence[ev.Arm]) -> list[Shard]:
    """KL at every strength of every arm, on every fifth question."""
    lines = []
    for arm in arms:
        if arm.ask is None and arm.name != "nothing":
            table = ev.price(net, arm, QUESTIONS[::5], batch_size=256)
            name = arm.name.removesuffix(" 0")
            lines += [
                {"method": name, "strength": row["strength"], "kl": row["mean"]}
                for row in table.to_dict("records")
            ]
    return lines


def rates(method: str, rate: str, concept: str) -> Shard:
    """The best score of a learned vector on the requests that choose, at one learning rate."""
    net, data = load("world"), st.Dialogues(st.world.dialogues(concept, 72, 0))
    vector = at_rate(method, float(rate))(net, data)
    arm = ev.Arm(method, scaled(net, vector, method, data), ev.FACTORS)
    answers = ev.score(net, [arm], prompts("selection", 0), ev.world_judge(concept), progress=False)
    return {"score": float(ev.summary(answers)["score"].max())}


def effects(model: str, concept: str) -> Shard:
    """Cosines with the effect and gains of the directions, for seed 0."""
    return axbench_effects.effects(load(model), concept)


def main() -> None:
    """Compute what is missing, then record it and draw the figures."""
    parser = argparse.ArgumentParser(description="AxBench on the world")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes")
    jobs = parser.parse_args().jobs
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    tried = [(m, str(r), c) for m, values in RATES.items() for r, c in product(values, TUNED)]
    found = collect(FOLDER / "rates", tried, rates, n_jobs=jobs)
    keys = list(product(MODELS, CONCEPTS, SEEDS))
    shards = collect(FOLDER / "units", keys, unit, n_jobs=jobs)
    pairs = list(product(MODELS, CONCEPTS))
    gains = collect(FOLDER / "effects", pairs, effects, n_jobs=jobs)
    units: dict[tuple[str, ...], Shard] = dict(zip(keys, shards, strict=True))
    axbench_claims.record_rates(dict(zip(tried, found, strict=True)))
    axbench_claims.record_lengths()
    axbench_claims.record_all(units)
    axbench_claims.record_effects(dict(zip(pairs, gains, strict=True)))
    if os.environ.get("STEERLIB_RECORD") == "1":
        _draw({key[1:]: shard for key, shard in units.items() if key[0] == "world"})


def _draw(shards: Mapping[tuple[str, ...], Shard]) -> None:
    """Renew the figures of the page."""
    asked = st.claims.recorded("axbench.steer_prompt").value
    axbench_figures.frontier(axbench_claims.frontier(shards), asked)
    axbench_figures.scatter(axbench_claims.scatter(shards))


if __name__ == "__main__":
    # By its name, so that other processes can import what they are sent.
    from experiments.axbench import main as run

    run()
