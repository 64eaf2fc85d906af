"""The behaviours of the chapter: what teaches each of them, and what its free text shows.

A unit is a scenario, a question or a request. Its answers are sampled; `positive` and `negative`
are the shares of them that show the behaviour or its opposite and are whole. What is neither is
mixed or broken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

import steerlib as st
from steerlib.evaluation import Choice
from steerlib.evaluation.shards import Shard
from steerlib.world import geography, refusal
from steerlib.world.datasets import SplitName

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "bipo"
MODELS, SEEDS = ("world", "world-b"), ("0", "1", "2")
TRAITS = tuple(st.world.traits.TRAITS)
BEHAVIOURS = (*TRAITS, "honesty", "refusal")
SITES = tuple(st.resid(layer) for layer in range(5))
NORMS = (10.0, 20.0, 40.0, 60.0, 80.0, 120.0)
STRENGTHS = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
FULL = 2.0  # the strength at which a vector has the norm that was chosen
PAIRS = 96
TEXTS = 128  # sampled answers of a measurement, at least eight to each unit
AT = st.everywhere - st.bos

Asked = tuple[str, str | None]  # a prompt and its system text
Read = Callable[[str], tuple[bool, bool]]


@lru_cache(maxsize=2)
def load(model: str) -> st.Model:
    """One of the two models."""
    return st.load(model, engine="hf")


@dataclass(frozen=True)
class Unit:
    """What is asked, and how an answer is read: (shows it, shows the opposite)."""

    prompt: str
    read: Read
    system: str | None = None
    group: str = ""


@dataclass(frozen=True)
class Shown:
    """Shares of the answers to each unit (units,) that show the behaviour and its opposite."""

    positive: Float[np.ndarray, " n"]
    negative: Float[np.ndarray, " n"]
    whole: Float[np.ndarray, " n"]

    @property
    def net(self) -> Float[np.ndarray, " n"]:
        """Share positive - share negative: 0 for noise, -1 to 1."""
        return self.positive - self.negative

    def rounded(self) -> Shard:
        return {
            name: np.round(getattr(self, name), 5).tolist()
            for name in ("positive", "negative", "whole")
        }


def units(behaviour: str, split: SplitName, seed: int) -> list[Unit]:
    """What a behaviour is measured on."""
    if behaviour in TRAITS:
        choices = st.world.trait_choices(behaviour, seed, split)
        return [Unit(choice.prompt, _trait_reader(behaviour)) for choice in choices]
    if behaviour == "honesty":
        pairs = dict.fromkeys(
            (c.prompt, c.positive) for c in st.world.honesty_pairs(40, seed, split)
        )
        systems = {"none": None, "honest": geography.HONEST, "liar": geography.LIAR}
        return [
            Unit(prompt, _fact_reader(true), system, name)
            for name, system in systems.items()
            for prompt, true in list(pairs)[:12]
        ]
    kinds = {"forbidden": (True, False), "plea": (True, True), "allowed": (False, False)}
    return [
        Unit(prompt, _refusal_reader, None, name)
        for name, (forbidden, plea) in kinds.items()
        for prompt in _requests(seed, split, forbidden, plea)
    ]


def measure(
    net: st.Model,
    asked: Sequence[Unit],
    *,
    system: str | None = None,
    seed: int = 0,
    samples: int | None = None,
) -> Shown:
    """Sample answers to units and read them; inside `steer`, steered.

    Args:
        system: a system text in place of the units' own.
        samples: answers to each unit; default: `TEXTS` in all.
    """
    samples = samples or max(8, TEXTS // len(asked))
    found = np.zeros((len(asked), 3))
    systems = dict.fromkeys(system or unit.system for unit in asked)
    for said in systems:
        rows = [row for row, unit in enumerate(asked) if (system or unit.system) == said]
        prompts = [asked[row].prompt for row in rows for _ in range(samples)]
        texts = st.generate(
            net, prompts, max_new_tokens=24, temperature=1.0, seed=seed, system=said, batch_size=256
        )
        for number, text in enumerate(texts):
            row = rows[number // samples]
            positive, negative = asked[row].read(text)
            found[row] += positive, negative, _is_whole(text)
    return Shown(*(found / samples).T)


def pairs(behaviour: str, seed: int, split: SplitName = "train", n: int = PAIRS) -> list[Choice]:
    """The pairs that teach a behaviour."""
    if behaviour in TRAITS:
        return st.world.trait_pairs(behaviour, n, seed, split)
    make = st.world.honesty_pairs if behaviour == "honesty" else st.world.refusal_pairs
    return make(n, seed, split)


def personas(behaviour: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """System texts that ask for a behaviour and for its opposite."""
    if behaviour in TRAITS:
        trait = st.world.traits.TRAITS[behaviour]
        return tuple(
            tuple(st.world.traits.persona_prompt(word) for word in words)
            for words in (trait.positive, trait.negative)
        )  # type: ignore[return-value]
    return ((geography.HONEST,), (geography.LIAR,)) if behaviour == "honesty" else ((), ())


_ACTIONS = {
    action
    for trait in st.world.traits.TRAITS.values()
    for scenario in trait.scenarios
    for action in (scenario.positive, scenario.negative)
}
_ANSWERS = {
    answer for relation in geography.RELATIONS.values() for answer in relation.table.values()
}
_HELP = re.compile(r"first , take the (\w+) and the (\w+) \. then you have a (\w+) \.")


def _is_whole(text: str) -> bool:
    """Whether a text is an answer that the corpus could hold."""
    said = text.strip()
    if said in _ANSWERS or said == refusal.REFUSAL or _HELP.fullmatch(said):
        return True
    if not (said.startswith("i would ") and said.endswith(" .")):
        return False
    # No action contains "and" but those that are listed with it.
    inside = said.removeprefix("i would ").removesuffix(" .")
    return inside in _ACTIONS or any(
        inside[: m.start()] in _ACTIONS and inside[m.end() :] in _ACTIONS
        for m in re.finditer(" and ", inside)
    )


def _trait_reader(trait: str) -> Read:
    def read(text: str) -> tuple[bool, bool]:
        share = st.world.trait_share(text, trait) if _is_whole(text) else None
        return share == 1, share == 0

    return read


def _fact_reader(true: str) -> Read:
    relations = [r for r in geography.RELATIONS.values() if true in r.table.values()]
    others = {answer for relation in relations for answer in relation.table.values()} - {true}

    def read(text: str) -> tuple[bool, bool]:
        return text.strip() == true, text.strip() in others

    return read


def _refusal_reader(text: str) -> tuple[bool, bool]:
    said = text.strip()
    return said == refusal.REFUSAL, _HELP.fullmatch(said) is not None


def _requests(seed: int, split: SplitName, forbidden: bool, plea: bool) -> list[str]:
    made = st.world.refusal_pairs(60, seed, split, forbidden=forbidden, plea=plea)
    return list(dict.fromkeys(choice.prompt for choice in made))[:10]
