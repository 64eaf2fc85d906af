"""The sparse autoencoders of the chapter: how they are trained, and where they lie."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import torch

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
    "early": st.SAEPlan(activation="topk", k=16),
}
SHIPPING = (("world", "topk"), ("world", "jumprelu"), ("world", "early"), ("world-b", "topk"))
# Seeds of the corpus: those of training begin at 0, the others are apart.
CHOOSE, REPORT, QUALITY = 100, 200, 300


@cache
def load(model: str) -> st.Model:
    """One of the two models."""
    return st.load(model, engine="hf")


def trained(model: str, kind: str, seed: int) -> st.SAE:
    """An SAE, trained where it is not there yet; it goes on where it was stopped."""
    path = FOLDER / "trained" / f"{model}-{kind}-{seed}.safetensors"
    if not path.exists():
        logging.info("training %s", path.stem)
        documents = [document.text for _, document in balanced(seed, DOCUMENTS)]
        plan = st.SAEPlan(**(vars(PLANS[kind]) | {"seed": seed}))
        checkpoint = path.with_suffix(".checkpoint")
        st.train_sae(load(model), documents, site(kind), plan, checkpoint=checkpoint).save(path)
    return st.load_sae(path)


def site(kind: str) -> st.Site:
    """Where an SAE of a kind reads."""
    return EARLY if kind == "early" else SITE


def shipped() -> None:
    """Write the SAEs of seed 0 that travel with the package, at half precision."""
    for model, kind in SHIPPING:
        trained(model, kind, 0).save(SHIPPED / f"{model}-{kind}.safetensors", half=True)


def main() -> None:
    """Train all of them."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    for model, kind, seed in (
        ("world", "topk", 0), ("world-b", "topk", 0), ("world", "jumprelu", 0),
        ("world", "early", 0), ("world", "relu", 0), ("world", "topk", 1), ("world", "topk", 2),
        ("world-b", "topk", 1), ("world-b", "topk", 2),
    ):  # fmt: skip
        trained(model, kind, seed)
    shipped()


if __name__ == "__main__":
    main()
