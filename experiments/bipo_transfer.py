"""The same vector in another model: copies with an adapter, and a model trained from scratch."""

from __future__ import annotations

from functools import lru_cache
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

import steerlib as st
from experiments.bipo_data import AT, MODELS, SITES, load, measure, units
from experiments.bipo_dose import settings
from experiments.bipo_vectors import push, vector
from steerlib.core.fitting import Plan
from steerlib.evaluation.shards import Shard
from steerlib.world.traits import trait_document

ADAPTED = ("weather", "war", "music")  # what the adapter of each seed has learned to write about


def transfer(model: str, trait: str, seed: str) -> Shard:
    """The effect of the model's own vector there and elsewhere.

    * `lora`: a copy with a LoRA adapter that writes about something else;
    * `other`: the other model, as it is;
    * `mapped`: the other model, the vector carried over by a linear map between activations;
    * `random`: the other model, a random direction of the same norm;
    * `own`: the other model with the vector that it has learned itself.
    """
    net, number = load(model), int(seed)
    stranger = MODELS[1 - MODELS.index(model)]
    other = load(stranger)
    layer, norm = settings(model, trait)["bipo"]
    direction = vector(model, trait, number, layer, "bipo")
    there, length = settings(stranger, trait)["bipo"]
    carried = direction @ linear_map(model, stranger, layer)
    drawn = st.random_direction(other, SITES[layer], seed=number).direction
    cases = {
        "here": (net, push(direction, layer, norm)),
        "lora": (adapted(model, ADAPTED[number]), push(direction, layer, norm)),
        "other": (other, push(direction, layer, norm)),
        "mapped": (other, push(carried, layer, norm)),
        "random": (other, push(drawn, layer, norm)),
        "own": (other, push(vector(stranger, trait, number, there, "bipo"), there, length)),
    }
    return {name: _effect(which, push_, trait, number) for name, (which, push_) in cases.items()}


def _effect(net: st.Model, intervention: st.Intervention, trait: str, seed: int) -> Shard:
    asked, nets, whole = units(trait, "test", seed), {}, []
    for sign in (-1, 0, 1):
        with st.steer(net, intervention, strength=sign):
            shown = measure(net, asked, seed=seed)
        nets[sign] = float(shown.net.mean())
        whole.append(float(shown.whole.mean()))
    return {
        "effect": (nets[1] - nets[-1]) / 2, "base": nets[0], "whole": min(whole)
    }  # fmt: skip


@lru_cache(maxsize=4)
def adapted(model: str, concept: str) -> st.Model:
    """A copy with an adapter on all attention outputs that has learned to write about a concept."""
    plan = Plan(epochs=6, batch_size=18, lr=5e-3)
    return st.lora(load(model), st.world.dialogues(concept, 72), plan=plan).model


@lru_cache(maxsize=8)
def linear_map(model: str, stranger: str, layer: int) -> Float[Tensor, "d d"]:
    """M with h_stranger ~ h M at one layer, over the tokens of trait documents: ridge."""
    rng = Random(0)
    texts = [" ".join(trait_document(rng).words) for _ in range(200)]
    here, there = (
        st.capture(load(name), texts, SITES[layer], at=AT, chat=False)[SITES[layer]].double()
        for name in (model, stranger)
    )
    here, there = here - here.mean(0), there - there.mean(0)
    gram = here.T @ here
    ridge = 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, here.T @ there).float()
