"""Sparse autoencoders on the world: quality, recovered latents, steering. `make experiments`.

One shard per model, concept and seed, so that a run that was killed loses one of them; `-j 2`
shares them between two processes.

* `quality`: FVU, L0, dead latents and loss recovered on fresh documents, by section;
* `recovered`: the best feature for each exact latent, chosen on some documents, reported on others;
  raw neurons and an SAE that learned nothing beside it;
* `axbench`: features as detectors and as steering vectors in the harness of `experiments.axbench`:
  the same dialogues, requests, judge and factors.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array

import steerlib as st
from experiments import sae_claims, sae_figures
from experiments.axbench import CHOOSE as CHOOSING
from experiments.axbench import prompts
from experiments.parts import Part, compute
from experiments.sae_claims import CLAMPS
from experiments.sae_data import CHOOSE, FOLDER, QUALITY, REPORT, SITE, load, shipped, trained
from steerlib import evaluation as ev
from steerlib.core.prompts import Prompt
from steerlib.evaluation.shards import Shard
from steerlib.methods.feature_areas import areas, latent_values
from steerlib.methods.sae_quality import quality as measured
from steerlib.world import latents as exact
from steerlib.world.corpus import balanced
from steerlib.world.documents import Document

MODELS, SEEDS = ("world", "world-b"), ("0", "1", "2")
KINDS = ("topk", "jumprelu", "relu", "early")
DOCUMENTS = 1_300  # of each split; about 48,000 tokens
OFTEN = 15  # a word is looked for where it stands so often in both splits
NEUTRAL = "tell me about the dog ."
CANDIDATES = 20
WRITES = 0.01  # the output score below which a feature is no candidate, as a filter
FACTORS = ev.FACTORS[1::2]
KINDS_OF_CHANGE: tuple[Literal["raised", "alone"], ...] = ("raised", "alone")


# --- quality and latents


def quality(model: str, kind: str, seed: str) -> Shard:
    """What the SAE loses on documents that nothing was trained on or chosen with."""
    documents = balanced(QUALITY + int(seed), DOCUMENTS)
    table = measured(
        trained(model, kind, int(seed)),
        load(model),
        [document.text for _, document in documents],
        groups=[section for section, _ in documents],
        targets=[document.targets for _, document in documents],
    )
    return {"rows": table.to_dict("records")}


def recovered(model: str, kind: str, seed: str) -> Shard:
    """For each exact latent the feature with the largest AUROC on some documents, and on others."""
    number = int(seed)
    splits = [balanced(first + number, DOCUMENTS) for first in (CHOOSE, REPORT)]
    counts = [Counter(word for _, d in part for word in d.words) for part in splits]
    words = sorted(w for w in counts[0] if min(c[w] for c in counts) >= OFTEN)
    truths = [_truths(part, words) for part in splits]
    texts = [[document.text for _, document in part] for part in splits]
    if kind == "labels":
        choose, report = _with_labels(model, texts, truths)
    else:
        choose, report = (
            areas(_values(model, kind, number, own), truth)
            for own, truth in zip(texts, truths, strict=True)
        )
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
    return {"rows": rows}


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


# --- features in the harness of AxBench


@cache
def _labels(model: str, seed: int) -> tuple[csr_array, tuple[str, ...]]:
    """The latents at every token of a corpus without labels, and the tokens' words."""
    documents = balanced(CHOOSE + seed, DOCUMENTS)
    values = latent_values(
        trained(model, "topk", seed), load(model), [d.text for _, d in documents]
    )
    return values, tuple(word for _, document in documents for word in document.words)


def labelled(model: str, seed: int, concept: str, top: int = 20) -> int:
    """The feature whose label is the concept: most of the words at its top activations are of it.

    What an automatic interpreter does that sees the top activations; ties go to the larger value.
    """
    values, words = _labels(model, seed)
    own = st.world.lexicon_words(concept)
    by_feature = values.tocsc()
    best, found = (-1.0, -1.0), 0
    for feature in range(by_feature.shape[1]):
        start, end = by_feature.indptr[feature : feature + 2]
        if end - start < top:
            continue
        data, rows = by_feature.data[start:end], by_feature.indices[start:end]
        first = np.argsort(-data, kind="stable")[:top]
        share = float(np.mean([words[row] in own for row in rows[first]]))
        if (share, float(data.max())) > best:
            best, found = (share, float(data.max())), feature
    return found


def chosen(model: str, concept: str, seed: int, data: st.Dialogues) -> dict[str, int]:
    """The feature of each way to choose one; `random` is any that is ever active."""
    net, sae = load(model), trained(model, "topk", seed)
    scores = st.feature_scores(sae, net, data, chat=None)
    candidates = st.best_features(scores, CANDIDATES)
    asked: dict[str, Any] = {"prompt": NEUTRAL, "chat": True}
    outputs = st.output_scores(sae, net, candidates, **asked)
    scores = scores.join(outputs[["output"]])
    for kind in KINDS_OF_CHANGE:
        changes = st.confidence_changes(sae, net, candidates, kind, **asked)["confidence"]
        scores = scores.join(-changes.rename(kind))
    writing = scores[scores["output"] >= WRITES]
    rng = np.random.default_rng(seed)
    active = scores.index[scores["active"] > 0]
    return {
        "label": labelled(model, seed, concept),
        "auroc": st.best_feature(scores),
        "mean_difference": st.best_feature(scores, "mean_difference", None),
        # The score as a filter of what labels found, and as the choice among all candidates.
        "output": st.best_feature(writing if len(writing) else scores),
        "writer": st.best_feature(scores, "output", CANDIDATES),
        "confidence": st.best_feature(scores, "raised", CANDIDATES),
        "published": st.best_feature(scores, "alone", CANDIDATES),
        "random": int(rng.choice(active)),
    }


def detector(sae: st.SAE, net: st.Model, feature: int) -> Any:
    """The largest value of a feature over the tokens of a text."""

    def scores(texts: Sequence[Prompt]) -> np.ndarray:
        h = [st.capture(net, [t], [sae.site], at=st.prompt, chat=None)[sae.site] for t in texts]
        return np.array([float(sae.encode(rows)[:, feature].max()) for rows in h])

    return scores


def axbench(model: str, concept: str, seed: str) -> Shard:
    """Detection and steering by features of one concept."""
    net, number = load(model), int(seed)
    sae = trained(model, "topk", number)
    data = st.Dialogues(st.world.dialogues(concept, 72, number))
    features = chosen(model, concept, number, data)
    return {
        "features": features,
        "detect": _detection(sae, net, features, concept, number),
        **_steering(sae, net, features, data, concept, number),
    }


def _detection(
    sae: st.SAE, net: st.Model, features: dict[str, int], concept: str, seed: int
) -> list[dict[str, Any]]:
    talks = st.world.dialogues(concept, 36, seed, "test")
    texts = st.Dialogues([*talks, *st.world.contrasts(concept, 36, seed, "test")])
    detectors = {str(f): detector(sae, net, f) for f in set(features.values())}
    tables = [ev.detection(net, detectors, texts, chat=None, seed=seed).assign(texts="dialogues")]
    if concept in st.world.LEXICAL:
        one = st.world.one_word(concept, seed)
        tables.append(ev.detection(net, detectors, one, seed=seed).assign(texts="one_word"))
    return pd.concat(tables).to_dict("records")


def _steering(
    sae: st.SAE,
    net: st.Model,
    features: dict[str, int],
    data: st.Dialogues,
    concept: str,
    seed: int,
) -> dict[str, Any]:
    """Answers along every chosen feature, once each, and with the best one set to values."""
    largest = st.feature_scores(sae, net, data, chat=None)["max"]
    arms = []
    for f in sorted(set(features.values())):
        # A feature that no text of the concept activates has no unit: as AxBench, 50.
        unit = float(largest[f]) or 50.0
        arms.append(ev.Arm(f"add {f}", unit * sae.add(f), FACTORS))
    f = features["output"]
    unit = float(largest[f]) or 50.0
    for factor in CLAMPS:
        arms.append(ev.Arm(f"clamp {factor:g}", sae.clamp(f, factor * unit)))
        arms.append(ev.Arm(f"min_clamp {factor:g}", sae.min_clamp(f, factor * unit)))
    plain = st.diff_means(net, data, SITE, reduce=None, chat=None)
    unit = ev.max_activation(net, plain, data.texts, chat=None)
    arms.append(ev.Arm("diff_means", unit * plain.unit(), FACTORS))
    choose, report = prompts("selection", seed), prompts("test", seed)
    table = ev.score(
        net, arms, [*choose, *report], ev.world_judge(concept), seed=seed, progress=False
    )
    table["part"] = np.where(np.arange(len(table)) % (len(choose) + len(report)) < CHOOSING,
                             "choose", "report")  # fmt: skip
    grades = [name for name in table if str(name).startswith("grade_")]
    means = table.groupby(["arm", "strength", "part"], sort=False)[["score", *grades]].mean()
    return {"curves": means.reset_index().to_dict("records")}


OTHERS = ("early", "jumprelu", "relu", "untrained", "stream", "mlp", "labels")
PARTS: dict[str, Part] = {
    "quality": (
        quality,
        [*product(MODELS, ("topk",), SEEDS), *(("world", k, "0") for k in KINDS[1:])],
    ),
    "recovered": (
        recovered,
        [
            *product(("world",), ("topk",), SEEDS),
            *(("world", k, "0") for k in OTHERS),
            ("world-b", "topk", "0"),
            ("world-b", "untrained", "0"),
        ],
    ),
    "axbench": (
        axbench,
        [
            *product(("world",), st.world.LEXICAL, SEEDS),
            *product(("world",), st.world.STYLES, ("0",)),
            *product(("world-b",), st.world.LEXICAL, ("0",)),
        ],
    ),
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
        if os.environ.get("STEERLIB_RECORD") == "1":
            shipped()
            sae_figures.draw(found)


if __name__ == "__main__":
    # By its name, so that other processes can import what they are sent.
    from experiments.sae import main as run

    run()
