"""Directions on every concept of the world, both models, three seeds. `make experiments`.

Six tables, each resumable piece by piece (about an hour and a half on one core):

* `geometry`: cosines of the methods with DiffMean; distance and gain of words and of positions;
* `detect`: AUROC of each method's direction on texts with unseen words;
* `steer`: each method at block 2, its strength chosen on selection prompts, graded on test prompts
  with the controls; side effects at the chosen strength;
* `reliability`: per-choice slopes (Tan et al. 2024) and what shifts of the prompt do to them;
* `recommended`: what `st.recommend` picks;
* `finalists`: the picked setting against the best one of its grid, on test prompts.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from pathlib import Path

import torch

import steerlib as st
from experiments.directions_geometry import cosines, distance_and_gain, dominance
from steerlib import evaluation as ev
from steerlib.core.labelled import Labelled
from steerlib.evaluation.controls import Fit
from steerlib.evaluation.shards import Shard, collect
from steerlib.recommendation import METHODS, STRENGTHS

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "directions"
SITE = st.resid(2)  # the middle block, fixed in advance
SEEDS = ("0", "1", "2")
MODELS = ("world", "world-b")
LEXICAL, STYLES = tuple(st.world.LEXICAL), tuple(st.world.STYLES)
SHIFTS = ("none", "request", "raw", "system")
FITS: dict[str, Fit] = {
    "diff_means": st.diff_means,
    "probe": st.probe,
    "pca": st.pca,
    "pca_all": partial(st.pca, of="all"),
    "lat": st.lat,
    "lat_positive": partial(st.lat, of="positive"),
}


@cache
def load(name: str) -> st.Model:
    """One of the two models."""
    return st.load(name, engine="hf")


def prompts(split: str, seed: int) -> list[str]:
    """Every different request of a split once: 18 for selection, 24 for test."""
    count = {"selection": 18, "test": 24}[split]
    return [asked.text for asked in st.world.instruction_prompts(count, seed, split)]  # type: ignore[arg-type]


def geometry(model: str, concept: str, seed: str) -> Shard:
    """Cosines with the difference in means, and what the direction does to the concept's tokens."""
    net, data = load(model), st.world.concept(concept, int(seed))
    fits = {name: fit(net, data.train, SITE) for name, fit in FITS.items()}
    for C in (0.001, 0.1, 10.0):
        fits[f"probe_{C:g}"] = st.probe(net, data.train, SITE, C=C)
    moved = distance_and_gain(net, fits["diff_means"], concept)
    share = dominance(net, data.train, SITE)
    return {"concept": concept, "cosines": cosines(fits), "moved": moved, "dominance": share}


def detect(model: str, concept: str, seed: str) -> Shard:
    """AUROC of each direction at block 2 on texts whose concept words are unseen.

    `rows` are of texts full of the concept, `one_word` of texts in which a single word decides.
    """
    net, data = load(model), st.world.concept(concept, int(seed))
    detectors = {name: fit(net, data.train, SITE) for name, fit in FITS.items()}
    # A random axis with its sign from the labels, as the components have.
    drawn = st.random_direction(net, SITE, seed=int(seed))
    same = bool(drawn.direction @ detectors["diff_means"].direction > 0)
    detectors["random"] = drawn if same else -drawn
    table = ev.detection(net, detectors, data.test, seed=int(seed))
    rare = ev.detection(net, detectors, st.world.one_word(concept, int(seed)), seed=int(seed))
    return {
        "concept": concept,
        "rows": table.to_dict("records"),
        "one_word": rare.to_dict("records"),
    }


def steer(model: str, concept: str, seed: str) -> Shard:
    """Each method at the strength that the selection prompts choose, and DiffMean's controls."""
    net, number = load(model), int(seed)
    train, grade = st.world.concept(concept, number).train, ev.world_judge(concept)
    fits = {name: fit(net, train, SITE) for name, fit in FITS.items()}
    arms = [ev.Arm(name, fit, STRENGTHS) for name, fit in fits.items()]
    curves = ev.summary(ev.score(net, arms, prompts("selection", number), grade, seed=number))
    best = {name: _best(curves[curves["arm"] == name]) for name in fits}
    steered = [ev.Arm(name, fits[name], (best[name],)) for name in fits]
    others = _controls(net, steered[0], train, concept, number)
    answers = ev.score(net, [*steered, *others], prompts("test", number), grade, seed=100 + number)
    rows = answers.drop(columns="text").to_dict("records")
    side = _side_effects(net, fits["diff_means"], best["diff_means"], number)
    shard = {"concept": concept, "chosen": best, "rows": rows, "side": side}
    return shard | {"curves": curves.to_dict("records")}


def _best(curve) -> float:  # type: ignore[no-untyped-def]
    """The strength with the highest score; of equal ones the smallest."""
    return float(curve.loc[curve["score"].idxmax(), "strength"])


def _controls(net: st.Model, arm: ev.Arm, train: Labelled, concept: str, seed: int) -> list[ev.Arm]:
    """The four controls, and the shuffled fits stretched to the length of the real one."""
    made = ev.controls(net, arm, st.diff_means, train, ask=ev.world_request(concept), seed=seed)
    assert arm.intervention is not None
    length = arm.intervention.direction.norm().item()
    longer = [
        ev.Arm(other.name.replace("shuffled", "stretched"), length * fit.unit(), arm.strengths)
        for other in made
        if other.name.startswith("shuffled") and (fit := other.intervention) is not None
    ]
    return [*made, *longer]


def _side_effects(net: st.Model, fit: st.Intervention, strength: float, seed: int) -> list[Shard]:
    """KL and facts of the direction and of a random one of its length, on fact questions."""
    length = fit.direction.norm().item()
    pairs = (("diff_means", fit), ("random", st.random_direction(net, SITE, length, seed)))
    found = []
    for name, vector in pairs:
        table = ev.side_effects(
            net, vector, (0.0, strength), _questions(), measures={"facts": ev.world_facts}
        )
        found += [{"arm": name} | row for row in table.to_dict("records")]
    return found


def _questions() -> list[str]:
    return [question for question, _ in st.world.geography.fact_questions()]


def reliability(model: str, concept: str, seed: str) -> Shard:
    """Slopes of every choice under DiffMean and a random direction, with and without a shift."""
    net, number = load(model), int(seed)
    fit = st.diff_means(net, st.world.concept(concept, number).train, SITE)
    drawn = st.random_direction(net, SITE, fit.direction.norm().item(), number)
    found: dict[str, list[float]] = {}
    for shift in SHIFTS:
        choices = st.world.concept_choices(concept, 48, number, "test", shift)  # type: ignore[arg-type]
        found[shift] = ev.steerability(net, fit, choices).slopes.tolist()
        if shift == "none":
            found["random"] = ev.steerability(net, drawn, choices).slopes.tolist()
    return {"concept": concept, "slopes": found}


def recommended(model: str, concept: str) -> Shard:
    """What `recommend` picks from training texts and selection prompts."""
    net, data = load(model), st.world.concept(concept)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        r = st.recommend(
            net,
            data.train,
            prompts("selection", 0),
            ev.world_judge(concept),
            ask=ev.world_request(concept),
            held_out=prompts("test", 0),
        )
    setting = [r.method, str(r.site), r.strength]
    table = r.table.to_dict("records")
    return {"concept": concept, "warning": r.warning, "picked_setting": setting, "table": table}


def finalists(model: str, concept: str) -> Shard:
    """The picked setting against the best of its grid on test prompts.

    The best of 160 settings on the same 24 answers is a lucky one. So the 20 best of them, and the
    picked one, are graded on 96 fresh answers each: `picked` and `best` come from these, `luckiest`
    and `picked_first` from the first round.
    """
    key = (model, concept)
    [found] = collect(FOLDER / "recommended", [key], recommended)
    method, at, strength = found["picked_setting"]
    picked = (f"{method} {at}", strength)
    net, data, grade = load(model), st.world.concept(concept), ev.world_judge(concept)
    arms = [
        ev.Arm(f"{name} {site}", fit(net, data.train, site), STRENGTHS)
        for (name, fit), site in product(METHODS.items(), map(st.resid, range(net.n_layers)))
    ]
    keys, tests = ["arm", "strength"], prompts("test", 0)
    first = ev.summary(ev.score(net, arms, tests, grade, seed=200)).set_index(keys)["score"]
    chosen = {picked, *first.nlargest(20).index}
    again = [
        ev.Arm(arm.name, arm.intervention, kept)
        for arm in arms
        if (kept := tuple(s for s in STRENGTHS if (arm.name, s) in chosen))
    ]
    fresh = ev.summary(ev.score(net, again, tests * 4, grade, seed=300)).set_index(keys)["score"]
    return {
        "concept": concept,
        "picked": float(fresh[picked]),
        "best": float(fresh.max()),
        "picked_first": float(first[picked]),
        "luckiest": float(first.max()),
        "luckiest_fresh": float(fresh[first.idxmax()]),
    }


TABLES: dict[str, tuple[Callable[..., Shard], list[tuple[str, ...]]]] = {
    "geometry": (geometry, list(product(MODELS, LEXICAL + STYLES, SEEDS))),
    "detect": (detect, list(product(MODELS, LEXICAL, SEEDS))),
    "reliability": (reliability, list(product(MODELS, LEXICAL, SEEDS))),
    "steer": (steer, list(product(MODELS, LEXICAL + STYLES, SEEDS))),
    "recommended": (recommended, list(product(MODELS, LEXICAL))),
    "finalists": (finalists, list(product(MODELS, LEXICAL))),
}


def main(names: list[str]) -> None:
    """Compute the tables that are named, or all, then record what is complete."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    tables = {}
    for name in names or list(TABLES):
        work, keys = TABLES[name]
        tables[name] = dict(zip(keys, collect(FOLDER / name, keys, work), strict=True))
    from experiments.directions_claims import record_all

    record_all(tables)


if __name__ == "__main__":
    main(sys.argv[1:])
