"""The figures of both embedded models, measured anew on fresh prompts and held to what they claim.

One test per model: measuring takes a minute, and all misses are shown together.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from steerlib.world import geography, reviews, traits, values
from steerlib.world.export import corpus_hash
from steerlib.world.figures import measure
from steerlib.world.lexicon import CONCEPTS
from steerlib.world.reader import Reader

DATA = Path(__file__).parents[2] / "data"
MODELS = ("world", "world-b")


# What one network did not reach, and did not with more training either: the page of the world
# shows its curve, experiments/world.py measures it.
REACHED = {("world-b", "completions", "ioi"): 0.97}


def misses(figures: dict[str, dict[str, float]], model: str = "world") -> list[str]:
    """Every requirement that the figures do not meet, in words."""
    found: list[str] = []

    def need(section: str, name: str, low: float, high: float = 1e9) -> None:
        x = figures[section][name]
        low = REACHED.get((model, section, name), low)
        if not low <= x <= high:
            found.append(f"{section}: {name} is {x}, outside {low:.3f} to {high:.3f}")

    for name in figures["facts"]:
        need("facts", name, 0.99)
    need("completions", "ioi", 0.99)
    need("completions", "p of a later year", 0.85)
    for cue, p in geography.P_CONTEXT.items():
        need("conflict", cue or "no cue", p - 0.08, p + 0.08)
    need("honesty", "honest", 0.97)
    need("honesty", "nobody", 0.97)
    need("honesty", "liar", 0, 0.08)
    for concept in CONCEPTS:
        need("instructions", concept, 1.6)
    need("instructions", "mean", 1.8)
    need("instructions", "grammatical", 0.95)
    for trait in traits.TRAITS.values():
        for side, p in (("positive", 0.95), ("negative", 0.05), ("none", trait.prior)):
            need("traits", f"{trait.name}, {side}", p - 0.05, p + 0.05)
    need("refusal", "forbidden", 0.99)
    need("refusal", "allowed", 0, 0.01)
    for value in values.VALUES:
        need("values", value, 0.975)
    need("values", "do-effects", 0.98)
    for source in reviews.FLIP_RATE:
        reachable = figures["reviews"][f"{source}, reachable"]
        need("reviews", source, reachable - 0.05, reachable + 0.05)
    for task in reviews.ONE_SIDED:
        need("one-sided", task, 0.65, 0.85)
        need("one-sided", f"{task}, errors that say yes", 0.95)
    need("counting", "spam", 0.75, 0.95)
    need("counting", "majority", 0.75, 0.95)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_what_its_report_card_says(name):
    report = json.loads((DATA / name / "report.json").read_text())
    figures = measure(Reader.load(DATA / name))
    assert misses(figures, name) == []
    for section, entries in report["figures"].items():
        for key, recorded in entries.items():
            assert figures[section][key] == pytest.approx(recorded, abs=0.05), (section, key)


@pytest.mark.parametrize("name", MODELS)
def test_the_report_card_is_complete(name):
    report = json.loads((DATA / name / "report.json").read_text())
    assert report["corpus"] == corpus_hash(report["seed"]), "the corpus changed since training"
    assert report["tokens"] >= report["recipe"]["tokens"]
    assert sum(report["mixture"].values()) == 100
    tokens, losses = np.array(report["loss_curve"]).T
    assert (np.diff(tokens) > 0).all()
    assert losses[-5:].mean() < losses[:5].mean() / 3


def test_both_models_are_small_and_differ():
    weights = [DATA / name / "model.safetensors" for name in MODELS]
    size = sum(f.stat().st_size for name in MODELS for f in (DATA / name).iterdir())
    assert size <= 12e6
    assert weights[0].read_bytes() != weights[1].read_bytes()


def test_a_miss_is_found():
    """The requirements can fail: a model that knows nothing meets almost none."""
    report = json.loads((DATA / "world" / "report.json").read_text())
    broken = {s: dict.fromkeys(f, 0.5) for s, f in report["figures"].items()}
    assert len(misses(broken)) > 60
