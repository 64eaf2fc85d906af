"""Norm against strength: what sets the length, what length does, and two vectors at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

import steerlib as st
from experiments.bipo_data import AT, SITES, TRAITS, Unit, load, measure, pairs, units
from experiments.bipo_dose import settings
from experiments.bipo_vectors import PLAN, push, vector
from steerlib.evaluation.shards import Shard

LADDER = (10.0, 20.0, 40.0, 60.0, 80.0, 120.0, 160.0, 240.0)
EPOCHS = (1, 2, 5, 10, 20)
RATES = (0.03, 0.1)


def overdose(model: str, trait: str, seed: str) -> Shard:
    """Effect and whole texts over the norm, at BiPO's layer."""
    net, number, asked = load(model), int(seed), units(trait, "test", int(seed))
    layer, _ = settings(model, trait)["bipo"]
    rows = []
    for name in ("bipo", "caa_text", "caa_persona", "random 0"):
        direction = vector(model, trait, number, layer, name)
        for norm in LADDER:
            found = {}
            for sign in (1, -1):
                with st.steer(net, push(direction, layer, norm), strength=sign):
                    found[sign] = measure(net, asked, seed=number)
            rows.append(
                {
                    "arm": name,
                    "norm": norm,
                    "effect": float((found[1].net - found[-1].net).mean() / 2),
                    "whole": float(np.mean([f.whole.mean() for f in found.values()])),
                }
            )
    prompts = [unit.prompt for unit in asked]
    h = st.capture(net, prompts, SITES[layer], at=AT, chat=None)[SITES[layer]]
    return {"rows": rows, "h": float(h.norm(dim=-1).mean())}


def length(model: str, trait: str, seed: str) -> Shard:
    """Runs of several lengths and rates, and a run that is stopped early: norm, effect, cosine."""
    net, number, asked = load(model), int(seed), units(trait, "test", int(seed))
    layer, norm = settings(model, trait)["bipo"]
    taught, last = pairs(trait, number), vector(model, trait, number, layer, "bipo")
    plans = [replace(PLAN, epochs=epochs, lr=rate) for rate in RATES for epochs in EPOCHS]
    plans += [replace(PLAN, epochs=epochs, schedule_epochs=EPOCHS[-1]) for epochs in EPOCHS[:-1]]
    rows = []
    for plan in plans:
        found = st.bipo(net, taught, SITES[layer], plan=replace(plan, seed=number)).direction
        effects = {}
        for name, size in (("own", found.norm().item()), ("fixed", norm)):
            nets = {}
            for sign in (1, -1):
                with st.steer(net, push(found, layer, size), strength=sign):
                    nets[sign] = float(measure(net, asked, seed=number).net.mean())
            effects[name] = (nets[1] - nets[-1]) / 2
        cosine = float(torch.cosine_similarity(found, last, dim=0))
        rows.append({"epochs": plan.epochs, "lr": plan.lr, "of": plan.schedule_epochs,
                     "norm": float(found.norm()), "cosine": cosine, **effects})  # fmt: skip
    return {"rows": rows}


def two(model: str, seed: str) -> Shard:
    """Each trait under its own vector, and under the sum with that of each other trait."""
    net, number = load(model), int(seed)
    made = {
        trait: push(vector(model, trait, number, layer, "bipo"), layer, norm)
        for trait in TRAITS
        for layer, norm in [settings(model, trait)["bipo"]]
    }
    rows = []
    for trait in TRAITS:
        asked = units(trait, "test", number)
        for other in TRAITS:
            both = made[trait] if other == trait else made[trait] + made[other]
            mixed = made[trait] if other == trait else made[trait] - made[other]
            # Orthogonal vectors: together as long as one of them.
            shared = both if other == trait else both / 2**0.5
            found = {
                name: _net(net, intervention, sign, asked, number)
                for name, sign, intervention in (
                    ("plus", 1, both),
                    ("minus", -1, both),
                    ("plus_against", 1, mixed),
                    ("plus_shared", 1, shared),
                    ("minus_shared", -1, shared),
                )
            }
            row = {name: value for name, (value, _) in found.items()}
            row |= {f"whole_{name}": whole for name, (_, whole) in found.items()}
            rows.append({"trait": trait, "other": other, **row})
    cosines = {
        f"{a} {b}": float(torch.cosine_similarity(made[a].direction, made[b].direction, dim=0))
        for a in TRAITS
        for b in TRAITS
        if a < b and made[a].site == made[b].site
    }
    return {"rows": rows, "cosines": cosines}


def _net(
    net: st.Model, intervention: st.Intervention, sign: int, asked: Sequence[Unit], seed: int
) -> tuple[float, float]:
    """Net and whole texts at one sign."""
    with st.steer(net, intervention, strength=sign):
        shown = measure(net, asked, seed=seed)
    return float(shown.net.mean()), float(shown.whole.mean())
