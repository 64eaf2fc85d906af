"""The problems of the chapter, the answers to them, and the settings that are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

import steerlib as st
from steerlib.core.classification import Answers
from steerlib.evaluation import world_problems
from steerlib.methods.error_probes import ErrorProbe, Kind, read_problems
from steerlib.statistics import Flips
from steerlib.world.datasets import SplitName

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "mera"
MODELS, SEEDS = ("world", "world-b"), ("0", "1", "2")
ONE_SIDED = ("verdict", "agreement", "advice")
# Not looked at when the gated form was found; the second model is asked these.
CONFIRMING = ("advice", "reviews")
TASKS = (*ONE_SIDED, "reviews", "spam", "majority")
SIZES: dict[SplitName, int] = {"train": 2000, "selection": 1000, "test": 1000}
SITES = tuple(st.resid(layer) for layer in range(5))
LOG_ODDS = (-16.0, -11.0, -7.0, -5.0, -3.0, -2.0, -1.0, 0.0)
ALPHAS = tuple(float(1 / (1 + np.exp(-x))) for x in LOG_ODDS)
DELTA, BATCH = 0.05, 250
# Where the word stands that sets the rate of errors, 0 = BOS.
CUE = {"verdict": 3, "agreement": 5, "advice": 3, "reviews": 3}
# System texts of the prompting control; an own one (the guide of `agreement`) gives way.
ORDERS = ("you are honest .", "you are a exact guide .", "you are a calm guide .")


def total(parts: Sequence[st.Intervention]) -> st.Intervention:
    """All of them at once."""
    return sum(parts[1:], parts[0])


@lru_cache(maxsize=1)
def load(model: str) -> st.Model:
    """One of the two models."""
    return st.load(model, engine="hf")


@dataclass(frozen=True)
class Case:
    """A task on a model: its three splits, and the answers without steering."""

    model: str
    task: str
    seed: int
    preface: bool = True

    def problems(self, split: SplitName, system: str | None = None) -> list[st.Problem]:
        """The problems of a split, perhaps with a system text."""
        return world_problems(
            self.task, SIZES[split], split=split, seed=self.seed, preface=self.preface,
            system=system,
        )  # fmt: skip

    @cached_property
    def net(self) -> st.Model:
        return load(self.model)

    @cached_property
    def train(self) -> list[st.Problem]:
        return self.problems("train")

    @cached_property
    def selection(self) -> list[st.Problem]:
        return self.problems("selection")

    @cached_property
    def test(self) -> list[st.Problem]:
        return self.problems("test")

    @cached_property
    def known(self) -> dict[str, Answers]:
        """The answers of each split."""
        splits = {"train": self.train, "selection": self.selection, "test": self.test}
        return {
            name: st.classify(self.net, problems, batch_size=BATCH)
            for name, problems in splits.items()
        }

    @cached_property
    def held(self) -> dict[st.Site, Float[Tensor, "n d"]]:
        """Activations of the training problems at the last token."""
        return read_problems(self.net, self.train, SITES, batch_size=BATCH)

    @cached_property
    def shuffled(self) -> list[st.Problem]:
        """The training problems with permuted labels."""
        order = np.random.default_rng(self.seed).permutation(len(self.train))
        return [
            replace(p, label=self.train[i].label) for p, i in zip(self.train, order, strict=True)
        ]

    def probes(self, kind: Kind = "lasso", **options: Any) -> dict[st.Site, ErrorProbe]:
        """Error probes of all layers at the last token."""
        return st.error_probes(
            self.net, self.train, SITES, kind=kind, answers=self.known["train"], seed=self.seed,
            **options,
        )  # fmt: skip

    def flips(self, after: Answers, split: str = "test") -> Flips:
        """Against no steering."""
        return Flips.of(self.known[split].correct.numpy(), after.correct.numpy())
