"""Dose and response: each vector at each strength on units that neither taught nor chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

import steerlib as st
from experiments.bipo_data import (
    FOLDER,
    FULL,
    STRENGTHS,
    TRAITS,
    Unit,
    load,
    measure,
    pairs,
    personas,
    units,
)
from experiments.bipo_vectors import CAA, MIDDLE, RANDOM, chosen, push, tune, vector
from steerlib import evaluation as ev
from steerlib.evaluation.shards import Shard, collect

FEW = (-4.0, -2.0, 0.0, 2.0, 4.0)
MAIN = ("bipo", *CAA)  # what is measured in every respect
COMPARED = ("bipo", "dpo", "split", *CAA)
FREE = ("bipo", "dpo", *CAA, "random 100")


def settings(model: str, behaviour: str, *, free: bool = False) -> dict[str, tuple[int, float]]:
    """Layer and norm of each method: the best norm at the middle block, or the best of all."""
    tuned = collect(FOLDER / "tune", [(model, behaviour)], tune)[0]
    return chosen(tuned) if free else chosen(tuned, (MIDDLE,))


def arms(model: str, behaviour: str, seed: int) -> dict[str, st.Intervention]:
    """Each method at the middle block; then all, and controls, with BiPO's norm; then at any block.

    At the strength `FULL` a vector has the norm that was chosen for it.
    Shuffled pairs give a shorter vector, which is stretched by the same factor as BiPO's.
    """
    own, free = settings(model, behaviour), settings(model, behaviour, free=True)
    layer, norm = own["bipo"]
    chosen_norms = {name: own[name] for name in COMPARED if name in own}
    chosen_norms |= {f"equal {name}": (layer, norm) for name in CAA if name in own}
    chosen_norms |= {f"equal random {draw}": (layer, norm) for draw in range(RANDOM)}
    factor = norm / vector(model, behaviour, seed, layer, "bipo").norm().item()
    shuffled = vector(model, behaviour, seed, layer, f"shuffled {seed}").norm().item()
    chosen_norms["shuffled"] = layer, factor * shuffled
    chosen_norms |= {f"free {name}": free[name] for name in FREE if name in free}
    found = {}
    for arm, (where, length) in chosen_norms.items():
        name = arm.removeprefix("equal ").removeprefix("free ")
        name = f"shuffled {seed}" if name == "shuffled" else name
        found[arm] = push(vector(model, behaviour, seed, where, name), where, length / FULL)
    return found


def dose(model: str, behaviour: str, seed: str) -> Shard:
    """The answers under every arm at every strength."""
    number, net = int(seed), load(model)
    asked, made = units(behaviour, "test", number), arms(model, behaviour, number)
    shard: Shard = {"groups": [unit.group for unit in asked], "arms": {}}
    for name, intervention in made.items():
        strengths = STRENGTHS if name.removeprefix("equal ") in MAIN else FEW
        shard["arms"][name] = _curve(net, intervention, strengths, behaviour, asked, number)
    shard["prompt"] = _prompted(net, behaviour, asked, number)
    measured = (*MAIN, "equal random 0", *(f"free {name}" for name in MAIN))
    main = {name: made[name] for name in measured if name in made}
    shard["parts"] = _parts(model, behaviour, number)
    shard["effects"] = _effects(net, main)
    if behaviour in TRAITS:
        shard["letters"] = _letters(net, main, behaviour, number)
        shard["others"] = _others(net, main, behaviour)
    return shard


def _curve(
    net: st.Model,
    intervention: st.Intervention,
    strengths: Sequence[float],
    behaviour: str,
    asked: Sequence[Unit],
    seed: int,
) -> Shard:
    rows: dict[str, Shard] = {}
    for strength in strengths:
        with st.steer(net, intervention, strength=strength):
            rows[str(strength)] = measure(net, asked, seed=seed).rounded()
            if behaviour in TRAITS:
                rows[str(strength)]["p"] = _p(net, st.world.trait_choices(behaviour, seed))
    return rows


def _p(net: st.Model, choices: Sequence[ev.Choice]) -> list[float]:
    """p(positive) / (p(positive) + p(negative)) of the whole answers."""
    return [round(float(p), 5) for p in torch.sigmoid(ev.propensity(net, choices))]


def _prompted(net: st.Model, behaviour: str, asked: Sequence[Unit], seed: int) -> Shard:
    """The control that asks: personas in place of the units' own system texts."""
    found = {}
    for sign, texts in zip(("1", "-1"), personas(behaviour), strict=True):
        each = [measure(net, asked, system=text, seed=seed).rounded() for text in texts]
        if each:
            found[sign] = {k: np.mean([e[k] for e in each], axis=0).tolist() for k in each[0]}
    return found


def _parts(model: str, behaviour: str, seed: int) -> list[Shard]:
    """Odd and even part of Delta on pairs of unseen units, for vectors of BiPO's norm and layer."""
    layer, norm = settings(model, behaviour)["bipo"]
    known = st.Pairs.of(load(model), pairs(behaviour, seed, "test", 48))
    names = [name for name in settings(model, behaviour) if name != "random 100"]
    rows = []
    for name in [*names, "random 0"]:
        direction = vector(model, behaviour, seed, layer, name)
        with torch.no_grad():
            both = push(direction, layer, norm)
            gain = known.log_p(both, range(len(known.encoded)), (1.0, -1.0)) - known.reference
        plus, minus = gain[..., 0] - gain[..., 1]
        odd, even = (plus - minus) / 2, (plus + minus) / 2
        cosine = torch.cosine_similarity(
            direction, vector(model, behaviour, seed, layer, "bipo"), dim=0
        )
        rows.append({"arm": name, "odd": float(odd.mean()), "even": float(even.mean()),
                     "even_size": float(even.abs().mean()),
                     "wrong_plus": float((plus < 0).float().mean()),
                     "wrong_minus": float((minus > 0).float().mean()),
                     "gain_target": float(gain[0, :, 0].mean()),
                     "gain_opposite": float(gain[0, :, 1].mean()),
                     "cosine": float(cosine), "own": float(direction.norm())})  # fmt: skip
    return rows


def _effects(net: st.Model, made: Mapping[str, st.Intervention]) -> dict[str, list[Shard]]:
    """Facts, grammar and KL on neutral questions."""
    neutral = [question for question, _ in st.world.geography.fact_questions()][::5]
    measures = {
        "facts": ev.world_facts,
        "grammar": ev.world_grammar,
    }
    return {
        name: ev.side_effects(
            net, intervention, FEW, neutral, measures=measures, batch_size=128
        ).to_dict("records")
        for name, intervention in made.items()
    }


def _letters(
    net: st.Model, made: Mapping[str, st.Intervention], behaviour: str, seed: int
) -> dict[str, Shard]:
    """The same scenarios as A/B questions: p of the letter of the positive action."""
    choices = st.world.trait_choices(behaviour, seed, form="letters")
    found: dict[str, Shard] = {}
    for name, intervention in made.items():
        found[name] = {}
        for strength in FEW:
            with st.steer(net, intervention, strength=strength):
                found[name][str(strength)] = _p(net, choices)
    return found


def _others(
    net: st.Model, made: Mapping[str, st.Intervention], behaviour: str
) -> dict[str, dict[str, float]]:
    """By how much p moves on the scenarios of the other traits, with its sign."""
    found: dict[str, dict[str, float]] = {name: {} for name in made}
    for other in TRAITS:
        if other == behaviour:
            continue
        choices = st.world.trait_choices(other)
        values = {}
        for name, intervention in made.items():
            for strength in (-FULL, FULL):
                with st.steer(net, intervention, strength=strength):
                    values[strength] = float(np.mean(_p(net, choices)))
            found[name][other] = round((values[FULL] - values[-FULL]) / 2, 5)
    return found
