"""The prompts and the fits of `experiments.scaling`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pandas as pd

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan

RELATIONS = st.world.geography.CONFLICT_RELATIONS
TEMPLATES = (0, 1, 2, 3, 4)
CUES = ("", "book", "liar")
TRAIN, CHOOSE, REPORT = 128, 64, 144
SHARED = 192  # prompts of several relations and templates to fit on
# Selections of positions that vectors were tried at, on the selection split.
WHERE = {
    "two": [st.last, st.prompt - st.last],
    "last": st.last,
    "everywhere": st.everywhere,
}
# Where a dial acts on prompts of different lengths; "aligned" counts positions from the start.
POSITIONS = {"activ": st.last, "vec": WHERE["two"], "dyn": st.everywhere, "aligned": None}
# What is fitted on: relations and templates. "rest_city" is all relations but one.
SETS: dict[str, dict[str, Any]] = {
    "all": {"relations": RELATIONS, "templates": (0, 1, 2)},
    **{f"one_{r}": {"relations": (r,), "templates": (0,)} for r in RELATIONS},
    **{
        f"rest_{r}": {
            "relations": tuple(other for other in RELATIONS if other != r),
            "templates": (0, 1, 2),
        }
        for r in RELATIONS
    },
}
# Learning rates that were tried on the selection split; the first is the one in use.
RATES = {"activ": (0.05, 0.02, 0.1), "vec": (0.1, 0.03, 0.3), "dyn": (0.1, 0.03, 0.3)}
# Prices of size that were tried there, for prompts of several lengths; the first is in use. For
# vectors it is the best one. Scalars and DynScalar keep the library's, though less would flip more.
PRICES = {
    "activ": (0.05, 0.0, 0.2),
    "vec": (0.0, 0.003, 0.01, 0.05),
    "dyn": (0.05, 0.0, 0.2),
}
FITS = {"activ": st.activ_scalar, "vec": st.steer_vec, "dyn": st.dyn_scalar}


@cache
def load(name: str) -> st.Model:
    """One of the two models."""
    return st.load(name, engine="hf")


def prompts(name: str, split: str, seed: int, n: int) -> list[st.world.Contest]:
    """Conflicts of one of the sets."""
    return st.world.conflicts(n, split=split, seed=seed, **SETS[name])  # type: ignore[arg-type]


def fitted(
    net: st.Model,
    method: str,
    data: Sequence[st.world.Contest],
    at: Any = None,
    *,
    sites: Sequence[st.Site] | None = None,
    objective: st.Objective | None = None,
    rate: float | None = None,
    epochs: int = 30,
    seed: int = 0,
) -> st.Intervention:
    """One fit; `at` is for scalars and vectors, DynScalar acts everywhere unless told otherwise."""
    objective = objective or st.Objective(minimality=PRICES[method][0])
    plan = Plan(epochs=epochs, batch_size=32, lr=rate or RATES[method][0], clip=None, seed=seed)
    positions = at or (st.everywhere if method == "dyn" else None)
    where = sites or st.components(net)
    return FITS[method](net, data, where, positions, objective=objective, plan=plan)


def country(choice: st.world.Contest) -> str:
    """The unit of an interval: the country of a city, or the subject itself."""
    return st.world.geography.COUNTRY_OF.get(choice.subject, choice.subject)


def by_unit(table: pd.DataFrame, choices: Sequence[st.world.Contest]) -> list[dict[str, Any]]:
    """The means of `flips` per country, relation, template and cue."""
    keys = [
        {"unit": country(c), "relation": c.relation, "template": c.template, "cue": c.cue}
        for c in choices
    ]
    labels = pd.DataFrame(keys)
    numbers = table.astype(float).reset_index(drop=True)
    means = pd.concat([labels, numbers], axis=1).groupby(list(labels), as_index=False).mean()
    return means.to_dict("records")


def measured(
    net: st.Model, data: Sequence[st.world.Contest], dial: st.Intervention | None, size: float = 1.0
) -> list[dict[str, Any]]:
    """`flips` of some prompts, averaged per country."""
    return by_unit(ev.flips(net, data, dial, size), data)


def swapped(data: Sequence[st.world.Contest], seed: int) -> list[st.world.Contest]:
    """The same prompts; in a random half of them, exactly, the two answers trade places."""
    half = set(Random(seed).sample(range(len(data)), len(data) // 2))
    return [
        replace(c, positive=c.negative, negative=c.positive) if number in half else c
        for number, c in enumerate(data)
    ]


def total(net: st.Model, data: Sequence[st.world.Contest]) -> int:
    """How many places there are: components times positions."""
    ids = net.tokenizer(data[0].prompt).input_ids
    return len(st.components(net)) * len(ids)


def frame(shards: Mapping[tuple[str, ...], Mapping[str, Any]], part: str) -> pd.DataFrame:
    """The rows of one part of all shards, each with the key of its shard."""
    rows = [row | {"key": key} for key, shard in shards.items() for row in shard[part]]
    return pd.DataFrame(rows)
