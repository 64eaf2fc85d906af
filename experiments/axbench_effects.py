"""What a step along each direction does to responses that show the concept, without writing a word.

The effect e is the gradient of the responses' log-probability in a vector that is added everywhere
(prop-text-gradient of the page). The gain is what the best of AxBench's factors adds to it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import steerlib as st
from experiments.axbench_methods import SITE, VECTORS, scaled
from steerlib import evaluation as ev
from steerlib.core.responses import encode_response, mean_loss

QUICK = ("diff_means", "probe", "pca", "lat", "sampled", "reft_r1", "reps")


def effects(model: st.Model, concept: str, seed: int = 0) -> dict[str, Any]:
    """For each direction: its cosine with the effect, and the gain in nats per token.

    Vectors come from the training dialogues, effect and gain from 36 responses of the test split.
    """
    data = st.Dialogues(st.world.dialogues(concept, 72, seed))
    talks = st.world.dialogues(concept, 36, seed, "test")[:36]
    e, before = effect(model, talks), -loss(model, talks)
    found: dict[str, Any] = {"length": float(e.norm())}
    vectors = {name: VECTORS[name](model, data) for name in QUICK}
    vectors["random"] = st.random_direction(model, SITE, seed=seed)
    for name, vector in vectors.items():
        found[f"cosine_{name}"] = float(torch.cosine_similarity(vector.direction, e, dim=0))
        if name != "random":
            unit = scaled(model, vector, name, data)
            gains = [gain(model, talks, unit, factor) for factor in ev.FACTORS]
            found[f"gain_{name}"] = max(gains) - before
    return found


def effect(model: st.Model, talks: list[st.world.Dialogue]) -> Float[Tensor, " d"]:
    """Minus the gradient of the loss of the responses in a vector that is added everywhere."""
    zero = torch.zeros(model.d_model, requires_grad=True)
    with st.steer(model, st.Add(SITE, zero)):
        total = mean_loss(model, [encode_response(model, talk) for talk in talks])
    total.backward()
    assert zero.grad is not None
    return -zero.grad


@torch.no_grad()
def loss(model: st.Model, talks: list[st.world.Dialogue]) -> float:
    """Minus the mean log-probability per token of the responses."""
    return float(mean_loss(model, [encode_response(model, talk) for talk in talks]))


def gain(
    model: st.Model, talks: list[st.world.Dialogue], unit: st.Intervention, factor: float
) -> float:
    """The mean log-probability per token of the responses under a step."""
    with st.steer(model, unit, strength=factor):
        return -loss(model, talks)
