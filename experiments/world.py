"""Does the second model reach the first one's IOI with more training? `make experiments`.

It trains `world-b` to 26 M tokens, on to 29 M (what is shipped) and on to 36 M, and measures the
share of correct names on the same fresh prompts each time. About two hours on one core; a stage
that was stopped goes on where it was, a finished one is only measured.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import torch
from scipy.stats import binomtest

from steerlib.claims import record
from steerlib.world.figures import correct_names
from steerlib.world.reader import Reader
from steerlib.world.train import Recipe, train

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "_build" / "world-b"
MILLIONS = (26, 29, 36)
SEED = 1
PROMPTS = 3000


def record_share(claim: str, reader: Reader) -> None:
    """Record the share of correct names with its Wilson interval."""
    result = binomtest(correct_names(reader, PROMPTS, SEED), PROMPTS)
    low, high = result.proportion_ci(method="wilson")
    share = record(f"world.{claim}", result.statistic, 0.01, (low, high), PROMPTS, SEED)
    logging.info("%s: %.3f [%.3f, %.3f]", claim, share, low, high)


def main() -> None:
    """Train each stage from the one before, measure, record."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    record_share("ioi", Reader.load(ROOT / "data" / "world"))
    before: Path | None = None
    for millions in MILLIONS:
        stage = FOLDER / f"{millions}.safetensors"
        if before and not stage.exists():
            shutil.copy(before, stage)
        model, tokenizer, _ = train(Recipe(tokens=millions * 1_000_000), SEED, stage)
        record_share(f"ioi_b_{millions}", Reader(model, tokenizer))
        before = stage


if __name__ == "__main__":
    main()
