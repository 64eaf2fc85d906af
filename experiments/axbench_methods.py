"""Every method of the chapter axbench, learned from the same 144 dialogues, as arms of a sweep.

A direction is steered in units of its maximum activation M on the dialogues that it was learned
from; a vector that was learned as something to add, in units of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from time import perf_counter

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.core.labelled import Labelled
from steerlib.methods.learned import Talk

SITE = st.resid(2)  # the middle block, fixed in advance
SAMPLED = (0.5, 1.0, 1.5, 2.0)

Fit = Callable[[st.Model, st.Dialogues], st.Intervention]


def _directions() -> dict[str, Fit]:
    fits: dict[str, Callable[..., st.Intervention]] = {
        "diff_means": st.diff_means,
        "probe": st.probe,
        "pca": st.pca,
        "lat": partial(st.lat, of="positive"),
    }
    # As AxBench: each token is a row, dialogues are read as chats.
    return {name: partial(_read, fit) for name, fit in fits.items()}


def _read(
    fit: Callable[..., st.Intervention], model: st.Model, data: st.Dialogues
) -> st.Intervention:
    return fit(model, data, SITE, reduce=None, chat=None)


# Learning rates: the best of RATES on the requests that choose, over TUNED (`rates` of the table).
RATE = {"supervised": 3.0, "sampled": 1.0, "reft_r1": 0.1, "reps": 3.0}
RATES = {
    "supervised": (0.1, 0.3, 1.0, 3.0),
    "sampled": (0.1, 0.3, 1.0, 3.0),
    "reft_r1": (0.003, 0.01, 0.03, 0.1),
    "reps": (0.1, 0.3, 1.0, 3.0),
}
TUNED = ("weather", "war", "pirate")


def at_rate(name: str, rate: float) -> Fit:
    """A learned vector, with its learning rate."""
    fits: dict[str, Callable[..., st.Intervention]] = {
        "supervised": st.supervised_vector,
        "sampled": partial(st.supervised_vector, factors=SAMPLED),
        "reft_r1": st.reft_r1,
        "reps": st.reps,
    }
    epochs = 3 if name == "reft_r1" else 6
    return partial(_from_dialogues, fits[name], Plan(epochs=epochs, lr=rate))


def _from_dialogues(
    fit: Callable[..., st.Intervention], plan: Plan, model: st.Model, data: st.Dialogues
) -> st.Intervention:
    return fit(model, data.dialogues, SITE, plan=plan)


VECTORS: Mapping[str, Fit] = _directions() | {n: at_rate(n, rate) for n, rate in RATE.items()}
_IN_UNITS_OF_M = ("diff_means", "probe", "pca", "lat", "reft_r1")


@dataclass(frozen=True)
class Learned:
    """What the methods found for one concept: vectors, arms to steer with, seconds to learn."""

    vectors: Mapping[str, st.Intervention]
    arms: Sequence[ev.Arm]
    seconds: Mapping[str, float]


def learn(model: st.Model, concept: str, seed: int) -> Learned:
    """All methods and their controls for one concept of the world."""
    talks = st.world.dialogues(concept, 72, seed)
    data, seconds = st.Dialogues(talks), {}
    vectors = {}
    for name, fit in VECTORS.items():
        start = perf_counter()
        vectors[name] = fit(model, data)
        seconds[name] = perf_counter() - start
    arms = [ev.Arm(name, scaled(model, v, name, data), ev.FACTORS) for name, v in vectors.items()]
    arms.append(_published(model, vectors["supervised"], data))
    for name, tune in WITHOUT_FACTOR.items():
        start = perf_counter()
        arms.append(tune(model, data))
        seconds[name] = perf_counter() - start
    arms += _controls(model, arms[0], vectors["diff_means"], data, concept, seed)
    return Learned(vectors, arms, seconds)


def scaled(
    model: st.Model, vector: st.Intervention, name: str, data: st.Dialogues
) -> st.Intervention:
    """The unit of strength that the sweep multiplies."""
    if name not in _IN_UNITS_OF_M:
        return vector
    return ev.max_activation(model, vector, data.texts, chat=None) * vector.unit()


def _published(model: st.Model, vector: st.Intervention, data: st.Dialogues) -> ev.Arm:
    """The supervised vector as AxBench's code steers with it: times max relu(h . w), w not unit."""
    largest = ev.max_activation(model, vector, data.texts, chat=None)
    # The readout of an intervention is of length 1; the published score is not.
    length = float(vector.direction.norm())
    return ev.Arm("supervised_published", length * largest * vector, (0.2, 0.6, 1.0, 2.0, 5.0))


def _loreft(model: st.Model, data: st.Dialogues) -> ev.Arm:
    sites = [st.resid(layer) for layer in range(model.n_layers)]
    return ev.Arm("loreft", st.loreft(model, data.dialogues, sites))


def _lora(model: st.Model, data: st.Dialogues) -> ev.Arm:
    return ev.Arm("lora", model=st.lora(model, data.dialogues).model)


def _full(model: st.Model, data: st.Dialogues) -> ev.Arm:
    return ev.Arm("full", model=st.full_finetune(model, data.dialogues).model)


# What has no strength to choose: it is used as it was learned.
WITHOUT_FACTOR: Mapping[str, Callable[[st.Model, st.Dialogues], ev.Arm]] = {
    "loreft": _loreft,
    "lora": _lora,
    "full": _full,
}


def _controls(
    model: st.Model,
    arm: ev.Arm,
    fitted: st.Intervention,
    data: st.Dialogues,
    concept: str,
    seed: int,
) -> list[ev.Arm]:
    """The four controls of DiffMean, and two of what is learned from the positives alone.

    `supervised_shuffled` learns from permuted labels, `supervised_plain` from the responses that do
    not show the concept.
    """
    assert arm.intervention is not None
    scale = float(arm.intervention.direction.norm() / fitted.direction.norm())

    def same_multiple(model: st.Model, data: Labelled, site: st.Site) -> st.Intervention:
        return scale * st.diff_means(model, data, site, reduce=None, chat=None)

    made = ev.controls(
        model, arm, same_multiple, data, ask=ev.world_request(concept), draws=1, seed=seed
    )
    labels = list(data.labels)
    Random(seed).shuffle(labels)
    others = {
        "supervised_shuffled": _relabelled(data, labels),
        "supervised_plain": _relabelled(data, [not label for label in data.labels]),
    }
    fit = VECTORS["supervised"]
    return [*made, *(ev.Arm(name, fit(model, d), ev.FACTORS[1::2]) for name, d in others.items())]


def _relabelled(data: st.Dialogues, labels: Sequence[bool]) -> st.Dialogues:
    pairs = zip(data.dialogues, labels, strict=True)
    return st.Dialogues([Talk(d.prompt, d.response, label) for d, label in pairs])
