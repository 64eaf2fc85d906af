"""Roles, answers and graphs that the experiments of the chapter values share."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import torch

import steerlib as st
from steerlib.core.files import write_json
from steerlib.world import values as world

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "values"
NAMES = world.VALUES
TRUE = st.ValueGraph.of(NAMES, [(cause, effect) for cause, effect, _ in world.EDGES])
ALL = st.Questionnaire.from_triples(world.questions(), world.LEVELS)
# One question per value: what steered roles answer.
SHORT = st.Questionnaire(tuple(ALL.of(name)[0] for name in NAMES), world.LEVELS)
ROLES, CHOOSE, REPORT = 1600, 8, 24  # that answer everything; that choose; that report
ALPHA = 0.01  # fixed in advance
# What an order must move to count, in standard deviations over roles. Fixed on the choosing roles
# of seed 0 of `world`, where all effects are below .1 or above .3.
MOVED = 0.25
YOUNG_TOKENS = 8_000_000  # of the under-trained model
SYSTEM = torch.tensor([False] + [True] * 13)  # BOS, then `<system> you are a young ... chess .`


@cache
def load(name: str) -> st.Model:
    """One of the two models, or the young one, which is trained where it is not there yet."""
    if name != "young":
        return st.load(name, engine="hf")
    folder = FOLDER / "young"
    if not (folder / "config.json").exists():
        logging.info("training a model on %d tokens: half an hour", YOUNG_TOKENS)
        made = ["--out", str(folder), "--seed", "0", "--tokens", str(YOUNG_TOKENS)]
        subprocess.run([sys.executable, "-m", "steerlib.world.train", *made], check=True)
    return st.load(folder, engine="hf")


@cache
def roles(seed: int) -> tuple[world.Role, ...]:
    """Different roles: those that answer everything, those that choose, those that report."""
    rng, found = Random(f"values-{seed}"), dict[world.Role, None]()
    while len(found) < ROLES + CHOOSE + REPORT:
        found[world.random_role(rng)] = None
    return tuple(found)


def part(seed: int, name: str) -> list[world.Role]:
    """The roles of one part."""
    starts = {"answer": 0, "choose": ROLES, "report": ROLES + CHOOSE}
    sizes = {"answer": ROLES, "choose": CHOOSE, "report": REPORT}
    return list(roles(seed)[starts[name] :][: sizes[name]])


def prompts(some: list[world.Role], do: world.Do | None = None) -> dict[str, str]:
    """The system prompt of each role, perhaps with an order."""
    return {world.role_prompt(role): world.role_prompt(role, do) for role in some}


def texts(some: list[world.Role]) -> list[str]:
    """What directions are read from: each role, asked the same question."""
    question = ALL.items[0].question
    return [f"<system> {world.role_prompt(r)} <user> {question} <assistant>" for r in some]


def answers(model: str, seed: int) -> pd.DataFrame:
    """The scores of all roles that answer everything."""
    path = FOLDER / "answers" / f"{model}-{seed}.json"
    if not path.exists():
        scores = st.value_scores(load(model), ALL, prompts(part(seed, "answer")))
        write_json(path, scores.to_numpy().tolist())
    found = np.array(pd.read_json(path, orient="values"))
    return pd.DataFrame(found, columns=list(NAMES), index=list(prompts(part(seed, "answer"))))


def truth(seed: int) -> pd.DataFrame:
    """The true values of the same roles."""
    some = part(seed, "answer")
    return pd.DataFrame([world.true_values(role) for role in some], columns=list(NAMES))


def random_dag(seed: int, edges: int = len(world.EDGES)) -> st.ValueGraph:
    """A directed acyclic graph over the values with as many edges, drawn uniformly for an order."""
    rng = Random(f"dag-{seed}")
    order = rng.sample(NAMES, len(NAMES))
    pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    return st.ValueGraph.of(NAMES, rng.sample(pairs, edges))


def changed(
    before: pd.DataFrame, ask: Callable[[str, float], pd.DataFrame], unit: pd.Series
) -> pd.DataFrame:
    """Half of what +1 and -1 change, [cause, effect], in standard deviations over roles."""
    both = {name: before + (ask(name, 1.0) - ask(name, -1.0)) / 2 for name in NAMES}
    return st.effects(before, both, unit)


def do_effects(model: str, seed: int, which: str) -> pd.DataFrame:
    """What "you must seek ..." against "you must reject ..." changes."""
    net, some = load(model), part(seed, which)

    def ask(name: str, sign: float) -> pd.DataFrame:
        return st.value_scores(net, SHORT, prompts(some, world.Do(name, sign > 0)))

    return changed(st.value_scores(net, SHORT, prompts(some)), ask, answers(model, seed).std())
