"""Features of a sparse autoencoder in the harness of `experiments.axbench`: detection and steering.

The dialogues, requests, judge and factors are those of the methods there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor

import steerlib as st
from experiments.axbench import CHOOSE as CHOOSING
from experiments.axbench import prompts
from experiments.axbench_effects import effect
from experiments.sae_data import CHOOSE, CLAMPS, SITE, SPLIT, load, trained
from steerlib import evaluation as ev
from steerlib.core.prompts import Prompt
from steerlib.evaluation.shards import Shard
from steerlib.methods.feature_areas import latent_values
from steerlib.world.corpus import balanced

NEUTRAL = "tell me about the dog ."
CANDIDATES = 20
WRITES = 0.01  # the output score below which a feature is no candidate, as a filter
FACTORS = ev.FACTORS[1::2]
MOST = 0.1  # what one word can count in the bounded score; fixed in advance
KINDS_OF_CHANGE: tuple[Literal["raised", "alone"], ...] = ("raised", "alone")


@cache
def _labels(model: str, kind: str, seed: int) -> tuple[csr_array, tuple[str, ...]]:
    """The latents at every token of a corpus without labels, and the tokens' words."""
    documents = balanced(CHOOSE + seed, SPLIT)
    values = latent_values(trained(model, kind, seed), load(model), [d.text for _, d in documents])
    return values, tuple(word for _, document in documents for word in document.words)


def labelled(model: str, kind: str, seed: int, concept: str, top: int = 20) -> int:
    """The feature whose label is the concept: most of the words at its top activations are of it.

    What an automatic interpreter does that sees the top activations; ties go to the larger value.
    """
    values, words = _labels(model, kind, seed)
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


def training(concept: str, seed: int) -> list[st.world.Dialogue]:
    """The dialogues that choose a feature and give its unit."""
    return st.world.dialogues(concept, 72, seed)


def chosen(model: str, kind: str, concept: str, seed: int) -> dict[str, int]:
    """The feature of each way to choose one; `random` is any that is ever active."""
    net, sae = load(model), trained(model, kind, seed)
    talks = training(concept, seed)
    data = st.Dialogues(talks)
    scores = st.feature_scores(sae, net, data, chat=None)
    candidates = st.best_features(scores, CANDIDATES)
    asked: dict[str, Any] = {"prompt": NEUTRAL, "chat": True}
    outputs = st.output_scores(sae, net, candidates, **asked)
    scores = scores.join(outputs[["output"]])
    for change in KINDS_OF_CHANGE:
        changes = st.confidence_changes(sae, net, candidates, change, **asked)["confidence"]
        scores = scores.join(-changes.rename(change))
    for name, words in (("words", st.world.lexicon_words(concept)), ("counted", counted(talks))):
        written = st.output_scores(sae, net, range(sae.n), words=sorted(words), **asked)
        scores = scores.join(written["mass"].rename(name))
    scores["effect"] = (sae.decoder @ _effect(net, talks)).numpy()
    writing = scores[scores["output"] >= WRITES]
    rng = np.random.default_rng(seed)
    active = scores.index[scores["active"] > 0]
    return {
        "label": labelled(model, kind, seed, concept),
        "auroc": st.best_feature(scores),
        "mean_difference": st.best_feature(scores, "mean_difference", None),
        # The score as a filter of what labels found, and as the choice among all candidates.
        "output": st.best_feature(writing if len(writing) else scores),
        "writer": st.best_feature(scores, "output", CANDIDATES),
        "confidence": st.best_feature(scores, "raised", CANDIDATES),
        "published": st.best_feature(scores, "alone", CANDIDATES),
        # Among all features: what they write is asked, and no text is read.
        "words": st.best_feature(scores, "words", None),
        "counted": st.best_feature(scores, "counted", None),
        "effect": st.best_feature(scores, "effect", None),
        "random": int(rng.choice(active)),
    }


def counted(talks: Sequence[st.world.Dialogue], least: float = 2.0) -> set[str]:
    """The words that stand in more responses with the concept than without, by `least` errors.

    The test of two proportions: (a / n - b / m) / sqrt(p (1 - p) (1 / n + 1 / m)).
    """
    groups = [
        [set(t.response.split()) for t in talks if t.label == label] for label in (True, False)
    ]
    n, m = map(len, groups)
    a, b = (Counter(chain.from_iterable(group)) for group in groups)
    shares = {word: (a[word] + b[word]) / (n + m) for word in a}
    errors = {word: (p * (1 - p) * (1 / n + 1 / m)) ** 0.5 for word, p in shares.items()}
    return {word for word, e in errors.items() if a[word] / n - b[word] / m > least * e}


def _effect(net: st.Model, talks: Sequence[st.world.Dialogue]) -> Float[Tensor, " d"]:
    """The gradient of log p of the responses with the concept minus that of those without it."""
    with_it, without = ([t for t in talks if t.label == label] for label in (True, False))
    return effect(net, with_it) - effect(net, without)


def detector(sae: st.SAE, net: st.Model, feature: int) -> Any:
    """The largest value of a feature over the tokens of a text."""

    def scores(texts: Sequence[Prompt]) -> np.ndarray:
        h = [st.capture(net, [t], [sae.site], at=st.prompt, chat=None)[sae.site] for t in texts]
        return np.array([float(sae.encode(rows)[:, feature].max()) for rows in h])

    return scores


def steering(model: str, kind: str, concept: str, seed: str) -> Shard:
    """Detection and steering by features of one concept."""
    net, number = load(model), int(seed)
    sae = trained(model, kind, number)
    data = st.Dialogues(training(concept, number))
    features = chosen(model, kind, concept, number)
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
    units = _units(sae, net, data)
    arms = [
        ev.Arm(f"add {f}", units[f] * sae.add(f), FACTORS) for f in sorted(set(features.values()))
    ]
    f = features["output"]
    unit = units[f]
    for factor in CLAMPS:
        arms.append(ev.Arm(f"clamp {factor:g}", sae.clamp(f, factor * unit)))
        arms.append(ev.Arm(f"min_clamp {factor:g}", sae.min_clamp(f, factor * unit)))
    plain = st.diff_means(net, data, SITE, reduce=None, chat=None)
    unit = ev.max_activation(net, plain, data.texts, chat=None)
    arms.append(ev.Arm("diff_means", unit * plain.unit(), FACTORS))
    return {"curves": _curves(net, arms, concept, seed)}


def bounded(model: str, concept: str, seed: str) -> Shard:
    """The features that write most words of the two lists, no word counting more than `MOST`."""
    net, number = load(model), int(seed)
    sae, talks = trained(model, "topk", number), training(concept, number)
    units = _units(sae, net, st.Dialogues(talks))
    features, arms = {}, []
    for name, words in (("words", st.world.lexicon_words(concept)), ("counted", counted(talks))):
        options: dict[str, Any] = {"words": sorted(words), "most": MOST, "prompt": NEUTRAL}
        mass = st.output_scores(sae, net, range(sae.n), chat=True, **options)["mass"]
        f = features[name] = int(mass.idxmax())
        arms.append(ev.Arm(f"add {name}", units[f] * sae.add(f), FACTORS))
    return {"features": features, "curves": _curves(net, arms, concept, number)}


def _units(sae: st.SAE, net: st.Model, data: st.Dialogues) -> list[float]:
    """The largest value of each feature; as AxBench, 50 for one that no text activates."""
    largest = st.feature_scores(sae, net, data, chat=None)["max"]
    return [float(value) or 50.0 for value in largest]


def _curves(net: st.Model, arms: list[ev.Arm], concept: str, seed: int) -> list[dict[str, Any]]:
    """Mean scores of each arm and strength, on requests that choose and on those that report."""
    choose, report = prompts("selection", seed), prompts("test", seed)
    table = ev.score(
        net, arms, [*choose, *report], ev.world_judge(concept), seed=seed, progress=False
    )
    table["part"] = np.where(np.arange(len(table)) % (len(choose) + len(report)) < CHOOSING,
                             "choose", "report")  # fmt: skip
    grades = [name for name in table if str(name).startswith("grade_")]
    means = table.groupby(["arm", "strength", "part"], sort=False)[["score", *grades]].mean()
    return means.reset_index().to_dict("records")
