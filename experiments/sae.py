"""Sparse autoencoders on the world: quality, recovered latents, steering. `make experiments`.

One shard per model, concept and seed, so that a run that was killed loses one of them; `-j 2`
shares them between two processes.

* `quality`: FVU, L0, dead latents and loss recovered on fresh documents, by section;
* `recovered`: the best feature for each exact latent, chosen on some documents, reported on others;
  raw neurons and an SAE that learned nothing beside it;
* `sizes`: both for other sizes, other numbers of active latents and other blocks;
* `steering`: features as detectors and as steering vectors in the harness of `experiments.axbench`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch

import steerlib as st
from experiments import sae_claims, sae_figures, sae_steering_claims
from experiments.parts import Part, compute
from experiments.sae_data import (
    CHOOSE,
    FOLDER,
    KINDS,
    QUALITY,
    REPORT,
    SITE,
    SPLIT,
    learned,
    load,
    shipped,
    trained,
)
from experiments.sae_steering import bounded, steering
from steerlib.evaluation.shards import Shard
from steerlib.methods.feature_areas import areas, latent_values
from steerlib.methods.sae_quality import quality as measured
from steerlib.world import latents as exact
from steerlib.world.corpus import balanced
from steerlib.world.documents import Document

MODELS, SEEDS = ("world", "world-b"), ("0", "1", "2")
OFTEN = 15  # a word is looked for where it stands so often in both splits


# --- quality and latents


def quality(model: str, kind: str, seed: str) -> Shard:
    """What the SAE loses on documents that nothing was trained on or chosen with."""
    return {"rows": _quality(trained(model, kind, int(seed)), model, int(seed))}


def _quality(sae: st.SAE, model: str, seed: int) -> list[dict[str, Any]]:
    documents = balanced(QUALITY + seed, SPLIT)
    table = measured(
        sae,
        load(model),
        [document.text for _, document in documents],
        groups=[section for section, _ in documents],
        targets=[document.targets for _, document in documents],
    )
    return table.to_dict("records")


def recovered(model: str, kind: str, seed: str) -> Shard:
    """For each exact latent the feature with the largest AUROC on some documents, and on others."""
    number = int(seed)
    texts, truths, words = _splits(number)
    if kind == "labels":
        choose, report = _with_labels(model, texts, truths)
    else:
        choose, report = (
            areas(_values(model, kind, number, own), truth)
            for own, truth in zip(texts, truths, strict=True)
        )
    return {"rows": _best(choose, report, words)}


def sizes(block: str, n: str, k: str) -> Shard:
    """Another size, another number of active latents, another block: what is lost and found."""
    sae = learned(f"size-{block}-{n}-{k}", st.resid(int(block)), st.SAEPlan(n=int(n), k=int(k)))
    texts, truths, words = _splits(0)
    choose, report = (
        areas(latent_values(sae, load("world"), own), truth)
        for own, truth in zip(texts, truths, strict=True)
    )
    whole = next(row for row in _quality(sae, "world", 0) if row["group"] == "all")
    return {"quality": whole, "rows": _best(choose, report, words)}


@cache
def _splits(seed: int) -> tuple[list[list[str]], list[np.ndarray], list[str]]:
    """Texts and truths of the documents that choose and of those that report; frequent words."""
    splits = [balanced(first + seed, SPLIT) for first in (CHOOSE, REPORT)]
    counts = [Counter(word for _, d in part for word in d.words) for part in splits]
    words = sorted(w for w in counts[0] if min(c[w] for c in counts) >= OFTEN)
    texts = [[document.text for _, document in part] for part in splits]
    return texts, [_truths(part, words) for part in splits], words


def _best(choose: np.ndarray, report: np.ndarray, words: list[str]) -> list[dict[str, Any]]:
    """For each exact latent the feature that is best on one split, and how good it is on both."""
    known = [(latent.name, latent.kind, latent.family) for latent in exact.latents()]
    rows = []
    for column, (name, sort, family) in enumerate(known + [(w, "single", "word") for w in words]):
        if np.isnan(choose[:, column]).all() or np.isnan(report[:, column]).all():
            continue
        best = int(np.nanargmax(choose[:, column]))
        rows.append(
            {
                "latent": name, "kind": sort, "family": family, "feature": best,
                "chosen_on": float(choose[best, column]), "auroc": float(report[best, column]),
                "luckiest": float(np.nanmax(report[:, column])),
            }
        )  # fmt: skip
    return rows


def _truths(documents: list[tuple[str, Document]], words: Sequence[str]) -> np.ndarray:
    """The truth of every exact latent, and whether a token is each of the words."""
    column = {word: i for i, word in enumerate(words)}
    tokens = [word for _, document in documents for word in document.words]
    single = np.zeros((len(tokens), len(words)), np.int8)
    for row, word in enumerate(tokens):
        if word in column:
            single[row, column[word]] = 1
    return np.concatenate([exact.labels(documents), single], axis=1)


def _with_labels(
    model: str, texts: list[list[str]], truths: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What labels can do: for each latent the difference of means as its one direction."""
    choose, report = (
        st.capture(load(model), part, [SITE], at=st.prompt)[SITE].numpy() for part in texts
    )
    found: list[tuple[float, ...]] = []
    for column in range(truths[0].shape[1]):
        truth = truths[0][:, [column]]
        if not {0, 1} <= set(truth[:, 0].tolist()):
            found.append((np.nan, np.nan))
            continue
        gap = choose[truth[:, 0] == 1].mean(0) - choose[truth[:, 0] == 0].mean(0)
        scores = [(h @ gap)[:, None] for h in (choose, report)]
        found.append(
            tuple(
                float(areas(score, part[:, [column]])[0, 0])
                for score, part in zip(scores, truths, strict=True)
            )
        )
    both = np.array(found).T
    return both[:1], both[1:]


def _values(model: str, kind: str, seed: int, texts: list[str]) -> Any:
    """What may be a feature, at every token: latents, or neurons with both signs."""
    net = load(model)
    if kind in KINDS:
        return latent_values(trained(model, kind, seed), net, texts)
    if kind == "untrained":
        return latent_values(untrained(model, seed), net, texts)
    site = SITE if kind == "stream" else st.mlp_post(SITE.layer)
    h = st.capture(net, texts, [site], at=st.prompt)[site].numpy()
    return np.concatenate([h, -h], axis=1)


def untrained(model: str, seed: int) -> st.SAE:
    """The same shape with random unit rows, centred as the trained one is."""
    like = trained(model, "topk", seed)
    rows = torch.randn(like.n, like.d, generator=torch.Generator().manual_seed(seed))
    rows = torch.nn.functional.normalize(rows, dim=1)
    return replace(like, encoder=rows.T, decoder=rows, bias=-(rows @ like.offset))


OTHERS = ("untrained", "stream", "mlp", "labels")
SIZES = [(2, n, 16) for n in (128, 256, 512, 1024, 2048, 4096)]
SIZES += [(2, 1024, k) for k in (4, 8, 32)] + [(block, 1024, 16) for block in (0, 1, 3, 4)]
CONCEPTS = (*st.world.LEXICAL, *st.world.STYLES)
PARTS: dict[str, Part] = {
    "quality": (
        quality,
        [*product(("world",), KINDS, SEEDS), *product(("world-b",), ("topk", "nested"), SEEDS)],
    ),
    "recovered": (
        recovered,
        [
            *product(("world",), (*(k for k in KINDS if k != "unrenewed"), *OTHERS), SEEDS),
            *product(("world-b",), ("topk", "nested", *OTHERS), SEEDS),
        ],
    ),
    "sizes": (sizes, [tuple(map(str, size)) for size in SIZES]),
    "steering": (
        steering,
        [
            *product(MODELS, ("topk",), CONCEPTS, SEEDS),
            *product(("world",), ("nested",), CONCEPTS, SEEDS),
        ],
    ),
    "bounded": (bounded, list(product(MODELS, CONCEPTS, SEEDS))),
}


def train_all() -> None:
    """Train the autoencoders that are missing."""
    for model, kind, seed in PARTS["quality"][1]:
        trained(model, kind, int(seed))


def main() -> None:
    """Compute what is missing, then record it and draw the figures."""
    found = compute("sparse autoencoders on the world", FOLDER, PARTS, train_all)
    if found is not None:
        sae_claims.record_all(found)
        sae_steering_claims.record_all(found["steering"], found["bounded"])
        if os.environ.get("STEERLIB_RECORD") == "1":
            shipped()
            sae_figures.draw(found)


if __name__ == "__main__":
    # By its name, so that other processes can import what they are sent.
    from experiments.sae import main as run

    run()
