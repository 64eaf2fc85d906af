"""The sparse autoencoders of the chapter: how they are trained, and where they lie."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

import steerlib as st
from steerlib.world.corpus import balanced

ROOT = Path(__file__).resolve().parents[1]
FOLDER, SHIPPED = ROOT / "_build" / "sae", ROOT / "data" / "sae"
SITE = st.resid(2)  # the middle block, as in the chapter axbench
EARLY = st.resid(0)  # where a word is still mostly itself
DOCUMENTS = 40_000  # some 1.5 million tokens, as many documents of each section
# The price at which ReLU keeps about as many latents as the others.
PLANS: dict[str, st.SAEPlan] = {
    "topk": st.SAEPlan(activation="topk", k=16),
    "jumprelu": st.SAEPlan(activation="jumprelu", k=16),
    "relu": st.SAEPlan(activation="relu", l1=2.7),
    # The same, and no dead one starts anew.
    "unrenewed": st.SAEPlan(activation="relu", l1=2.7, dead_after=10**9),
    "early": st.SAEPlan(activation="topk", k=16),
    "nested": st.SAEPlan(activation="topk", k=16, nested=(32, 64, 128, 256, 512)),
}
KINDS = tuple(PLANS)
SHIPPING = (("world", "topk"), ("world", "jumprelu"), ("world", "early"), ("world-b", "topk"))
# Seeds of the corpus: those of training begin at 0, the others are apart.
CHOOSE, REPORT, QUALITY = 100, 200, 300
CLAMPS = (0.4, 0.8, 1.6, 3.0)  # targets, in units of the largest value
SPLIT = 1_300  # documents that choose, that report, that measure; about 48,000 tokens each


@cache
def load(model: str) -> st.Model:
    """One of the two models."""
    return st.load(model, engine="hf")


def trained(model: str, kind: str, seed: int) -> st.SAE:
    """An SAE of a kind, trained where it is not there yet."""
    return learned(f"{model}-{kind}-{seed}", site(kind), replace(PLANS[kind], seed=seed), model)


def learned(name: str, where: st.Site, plan: st.SAEPlan, model: str = "world") -> st.SAE:
    """An SAE by its name; training goes on where it was stopped."""
    path = FOLDER / "trained" / f"{name}.safetensors"
    if not path.exists():
        logging.info("training %s", name)
        documents = [document.text for _, document in balanced(plan.seed, DOCUMENTS)]
        checkpoint = path.with_suffix(".checkpoint")
        st.train_sae(load(model), documents, where, plan, checkpoint=checkpoint).save(path)
    return st.load_sae(path)


def site(kind: str) -> st.Site:
    """Where an SAE of a kind reads."""
    return EARLY if kind == "early" else SITE


def shipped() -> None:
    """Write the SAEs of seed 0 that travel with the package, at half precision."""
    for model, kind in SHIPPING:
        trained(model, kind, 0).save(SHIPPED / f"{model}-{kind}.safetensors", half=True)
