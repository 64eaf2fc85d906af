"""The command line of an experiment in parts: which of them are computed, and by how many."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from steerlib.evaluation.shards import Key, Shard, collect

Part = tuple[Callable[..., Shard], Sequence[Key]]
Found = dict[str, dict[Key, Shard]]


def compute(
    description: str, folder: Path, parts: Mapping[str, Part], prepare: Callable[[], object]
) -> Found | None:
    """The shards of all parts; None where the command line names some, which are then computed.

    Args:
        folder: where the shards of each part lie, in a folder of its name.
        parts: name -> what makes a shard, and the keys of all shards.
        prepare: what all parts need, made before several processes would make it at once.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes")
    parser.add_argument("parts", nargs="*", help=f"only these, unrecorded, of {list(parts)}")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    prepare()
    found: Found = {}
    for name, (work, keys) in parts.items():
        if not asked.parts or name in asked.parts:
            shards = collect(folder / name, keys, work, n_jobs=asked.jobs)
            found[name] = dict(zip(keys, shards, strict=True))
    return None if asked.parts else found
