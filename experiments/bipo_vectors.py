"""The vectors that are compared: learned from preferences, or differences of mean activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from random import Random

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import steerlib as st
from experiments.bipo_data import AT, NORMS, PAIRS, SITES, TRAITS, load, measure, pairs, personas
from experiments.bipo_data import units as units_of
from steerlib.core.fitting import Plan
from steerlib.core.labelled import Texts
from steerlib.core.prompts import encode, render
from steerlib.evaluation import Choice
from steerlib.evaluation.shards import Shard

PLAN = Plan(epochs=10, batch_size=12, lr=0.1)  # 80 steps
LEARNED = ("bipo", "dpo", "bipo_per_token", "split", "reps")
CAA = ("caa_letter", "caa_text", "caa_persona")
RANDOM = 8
CHOOSING = 32  # answers to each scenario that chooses
MIDDLE = 2  # the middle block, fixed in advance

Setting = tuple[int, float]  # layer, norm


@lru_cache(maxsize=256)
def vector(model: str, behaviour: str, seed: int, layer: int, name: str) -> Float[Tensor, " d"]:
    """One direction; see the table of the page."""
    net, site = load(model), SITES[layer]
    taught = pairs(behaviour, seed)
    if name.startswith("random"):
        return st.random_direction(net, site, seed=int(name.split()[1])).direction
    if name.startswith("shuffled"):
        return _bipo(net, _exchanged(taught, int(name.split()[1])), site, seed)
    if name == "caa_persona":
        return _persona(net, behaviour, taught, site)
    if name == "caa_letter":
        return _mean_gap(net, _letters(behaviour, seed), site, last=True)
    if name == "caa_text":
        return _mean_gap(net, taught, site)
    return _LEARN[name](net, taught, site, seed)


def _bipo(
    net: st.Model, taught: Sequence[Choice], site: st.Site, seed: int, **options: object
) -> Float[Tensor, " d"]:
    plan = replace(PLAN, seed=seed)
    return st.bipo(net, taught, site, plan=plan, **options).direction  # type: ignore[arg-type]


def _dpo(net: st.Model, taught: Sequence[Choice], site: st.Site, seed: int) -> Float[Tensor, " d"]:
    return _bipo(net, taught, site, seed, both_ways=False)


def _per_token(
    net: st.Model, taught: Sequence[Choice], site: st.Site, seed: int
) -> Float[Tensor, " d"]:
    # beta times the mean number of tokens: the same loss if all responses had one length.
    tokens = st.Pairs.of(net, taught).tokens.float().mean().item()
    return _bipo(net, taught, site, seed, per_token=True, beta=0.1 * tokens)


def _split(
    net: st.Model, taught: Sequence[Choice], site: st.Site, seed: int
) -> Float[Tensor, " d"]:
    return st.split_vector(net, taught, site, plan=replace(PLAN, seed=seed)).direction


def _reps(net: st.Model, taught: Sequence[Choice], site: st.Site, seed: int) -> Float[Tensor, " d"]:
    plan = replace(PLAN, seed=seed, lr=1.0)
    return st.reps(net, st.talks_of(taught), site, plan=plan).direction


_LEARN: dict[str, Callable[[st.Model, Sequence[Choice], st.Site, int], Float[Tensor, " d"]]] = {
    "bipo": _bipo,
    "dpo": _dpo,
    "split": _split,
    "bipo_per_token": _per_token,
    "reps": _reps,
}


def _exchanged(taught: Sequence[Choice], seed: int) -> list[Choice]:
    """Half of the pairs the other way round: labels without meaning."""
    rng = Random(f"shuffled-{seed}")
    swaps = [row < len(taught) // 2 for row in range(len(taught))]
    rng.shuffle(swaps)
    return [
        replace(pair, positive=pair.negative, negative=pair.positive) if swap else pair
        for pair, swap in zip(taught, swaps, strict=True)
    ]


def _letters(behaviour: str, seed: int) -> list[Choice]:
    if behaviour not in TRAITS:
        raise ValueError(f"{behaviour} has no A/B questions")
    return st.world.trait_pairs(behaviour, PAIRS, seed, form="letters")


def _mean_gap(
    net: st.Model, taught: Sequence[Choice], site: st.Site, *, last: bool = False
) -> Float[Tensor, " d"]:
    """Mean activation over the tokens of the positive answers - that of the negative ones.

    Args:
        last: the last token of each answer only, as CAA does with letters.
    """
    prompts = [render(net, choice.prompt) for choice in taught]
    sides = []
    for side in ("positive", "negative"):
        texts = [f"{p} {getattr(c, side)}" for p, c in zip(prompts, taught, strict=True)]
        starts = [len(ids) - 1 for ids in encode(net, prompts, chat=False)]
        ends = [len(ids) - 1 for ids in encode(net, texts, chat=False)]
        h = st.capture(net, texts, site, at=AT, chat=False)[site]
        before = np.cumsum([0, *ends])
        rows = [
            h[b + end - 1 : b + end] if last else h[b + start : b + end]
            for b, start, end in zip(before, starts, ends, strict=False)
        ]
        sides.append(torch.stack([row.mean(0) for row in rows]).mean(0))
    return sides[0] - sides[1]


def _persona(
    net: st.Model, behaviour: str, taught: Sequence[Choice], site: st.Site
) -> Float[Tensor, " d"]:
    """The questions under personas that have the behaviour - under those of its opposite.

    Refusal has no persona: forbidden requests - allowed ones (Arditi et al. 2024).
    """
    asked = list(dict.fromkeys(choice.prompt for choice in taught))
    if behaviour == "refusal":
        other = st.world.refusal_pairs(PAIRS, 0, forbidden=False)
        allowed = list(dict.fromkeys(choice.prompt for choice in other))
        data = Texts([*asked, *allowed], [True] * len(asked) + [False] * len(allowed))
        return st.diff_means(net, data, site, st.last, reduce=None, chat=None).direction
    chats = [
        ([{"role": "system", "content": text}, {"role": "user", "content": prompt}], label)
        for texts, label in zip(personas(behaviour), (True, False), strict=True)
        for text in texts
        for prompt in asked
    ]
    data = Texts([chat for chat, _ in chats], [label for _, label in chats])
    return st.diff_means(net, data, site, chat=None).direction


def push(direction: Float[Tensor, " d"], layer: int, norm: float) -> st.Intervention:
    """A direction at a layer with a length, at every token but BOS."""
    return st.Add(SITES[layer], norm * direction / direction.norm()).at(AT)


def tune(model: str, behaviour: str) -> Shard:
    """The best layer and norm of each method on units that are never reported on.

    The best have the largest [net(+1) - net(-1)] / 2 there; the vectors are those of seed 0.
    """
    net, asked = load(model), units_of(behaviour, "selection", 0)
    samples = CHOOSING if behaviour in TRAITS else None
    rows = []
    for name in methods(model, behaviour):
        for layer in range(len(SITES)):
            found = vector(model, behaviour, 0, layer, name)
            for norm in NORMS:
                nets = {}
                for sign in (1, -1):
                    with st.steer(net, push(found, layer, norm), strength=sign):
                        nets[sign] = float(measure(net, asked, samples=samples).net.mean())
                effect = (nets[1] - nets[-1]) / 2
                rows.append({"arm": name, "layer": layer, "norm": norm, "effect": effect,
                             "plus": nets[1], "minus": nets[-1],
                             "own": float(found.norm())})  # fmt: skip
    return {"rows": rows}


def methods(model: str, behaviour: str) -> tuple[str, ...]:
    """The methods of a behaviour; only traits have A/B questions. A random direction is tuned too.

    In the second model only what a vector that is carried there is compared with.
    """
    if behaviour not in TRAITS:
        return (*LEARNED[:3], *CAA[1:], "random 100")
    return (*(LEARNED if model == "world" else LEARNED[:2]), *CAA, "random 100")


def chosen(tuned: Shard, layers: Sequence[int] = range(len(SITES))) -> dict[str, Setting]:
    """The setting of each method with the largest effect on the selection units."""
    best: dict[str, Shard] = {}
    for row in tuned["rows"]:
        first = row["arm"] not in best and row["layer"] in layers
        if first or (row["layer"] in layers and row["effect"] > best[row["arm"]]["effect"]):
            best[row["arm"]] = row
    return {name: (row["layer"], row["norm"]) for name, row in best.items()}
