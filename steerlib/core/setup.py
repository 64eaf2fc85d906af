"""setup: seeds, threads and versions, so that a notebook prints the same numbers twice.

Chapter: hooks.
"""

from __future__ import annotations

import random
import textwrap
from dataclasses import dataclass
from importlib import metadata

from steerlib import __version__

PACKAGES = ("torch", "transformers", "transformer-lens", "numpy")


@dataclass(frozen=True)
class Setup:
    """What a session runs on."""

    seed: int
    threads: int
    device: str
    versions: dict[str, str]

    def __str__(self) -> str:
        versions = (f"{name} {version}" for name, version in self.versions.items())
        text = ", ".join([f"seed {self.seed}", f"threads {self.threads}", self.device, *versions])
        return textwrap.fill(text, 45, break_on_hyphens=False)


def setup(seed: int = 0, threads: int = 1) -> Setup:
    """Seed Python, numpy and torch, set the number of threads, and check the installation.

    One thread is quicker than two as soon as anything else runs, and keeps numbers reproducible.

    Raises:
        RuntimeError: numpy was upgraded under a running kernel; restart it.

    Chapter: hooks.

    Example:
        >>> st.setup(seed=0).versions["torch"]
    """
    import numpy
    import torch

    check_numpy(numpy.__version__, metadata.version("numpy"))
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    versions = {"steerlib": __version__} | {name: metadata.version(name) for name in PACKAGES}
    return Setup(seed, threads, device, versions)


def check_numpy(loaded: str, installed: str) -> None:
    """Stop if the numpy in memory is not the one on disk (a broken Colab install)."""
    if loaded != installed:
        raise RuntimeError(
            f"numpy {loaded} is loaded but {installed} installed: it was replaced while in use. "
            "Restart the kernel (Runtime > Restart session) and run again"
        )
