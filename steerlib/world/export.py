"""Writes a trained model as an ordinary Hugging Face folder with its report card."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from steerlib.world.corpus import MIXTURE, shard
from steerlib.world.figures import measure
from steerlib.world.reader import Reader

if TYPE_CHECKING:
    from steerlib.world.train import Progress, Recipe

_CARD = """---
license: mit
language: en
tags: [steerlib, toy-model, interpretability]
---
# A small language model of an exactly known world

A GPT-2 of {parameters:.2f} million parameters ({layers} layers, width {width}, {heads} heads,
context 128), trained from scratch on {tokens:.1f} million tokens of a procedurally generated,
English-like corpus (seed {seed}). The truth behind every text is known: see `steerlib.world`.

It knows {vocabulary} words and nothing beyond them. It is made to test methods of steering, and
its answers about people and values mean nothing outside its world.

`report.json` holds the recipe, the loss curve and everything that was measured. Weights are
stored in half precision; load them as float32. Retrain with `make world`.
"""


def corpus_hash(seed: int) -> str:
    """A fingerprint of the first shard: changes when the world's text does."""
    text = "\n".join(document.text for _, document in shard(seed, 0))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def export(
    folder: Path,
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    progress: Progress,
    seed: int,
) -> None:
    """Half-precision weights, tokenizer with chat template, model card and `report.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _edit(folder / "config.json", dtype="float32")  # what to compute in, whatever is stored
    # transformers 5 writes a class name that version 4 does not know
    _edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    parameters = sum(p.numel() for p in model.parameters())
    card = _CARD.format(
        parameters=parameters / 1e6,
        layers=recipe.layers,
        width=recipe.width,
        heads=recipe.heads,
        tokens=progress.tokens / 1e6,
        seed=seed,
        vocabulary=len(tokenizer),
    )
    (folder / "README.md").write_text(card)
    report = {
        "seed": seed,
        "recipe": asdict(recipe),
        "mixture": MIXTURE,
        "corpus": corpus_hash(seed),
        "parameters": parameters,
        "steps": progress.step,
        "budgets": progress.budgets,
        "tokens": progress.tokens,
        "hours": round(progress.seconds / 3600, 2),
        "loss_curve": progress.curve,
    }
    write_report(folder, report)


def write_report(folder: Path, report: dict[str, object] | None = None) -> dict[str, object]:
    """Measures the model in a folder anew and writes `report.json`."""
    path = folder / "report.json"
    report = json.loads(path.read_text()) if report is None else report
    torch.manual_seed(0)
    report["figures"] = measure(Reader.load(folder))
    path.write_text(json.dumps(report, indent=1) + "\n")
    return report


def _edit(path: Path, **entries: object) -> None:
    settings = json.loads(path.read_text()) | entries
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Measure a world model and write its report card")
    parser.add_argument("folder", type=Path)
    write_report(parser.parse_args().folder)
