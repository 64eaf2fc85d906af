"""AxBench's own concepts for Gemma-2-2B, downloaded once from a pinned commit.

Chapter: axbench. The texts are those of the paper, so that the harness of this book runs on
Gemma-2-2B as well as on the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from steerlib.core.sites import Site, resid
from steerlib.evaluation.axbench_files import AxBench, read_axbench
from steerlib.evaluation.downloads import fetch, home

_MODEL, _COMMIT = "google/gemma-2-2b-it", "e9b8cd4"
_SOURCE = f"https://raw.githubusercontent.com/stanfordnlp/axbench/{_COMMIT}/axbench/concept10"
_ORIGINAL = {
    "train.parquet": "generate/train_data.parquet",
    "test.parquet": "inference/latent_eval_data.parquet",
    "metadata.jsonl": "generate/metadata.jsonl",
}
_SHA256: Mapping[str, Mapping[str, str]] = {
    "2b_l10": {
        "train.parquet": "527e54bfd2a322772312e7b6a04568e88f0e2f50aa558e0724f15327d1358f14",
        "test.parquet": "35378348de14924fcd269c97d1c619930e320202e7c4a2dcf018a3e762a6fc7b",
        "metadata.jsonl": "e2b1a11178b034dbdf3d1b0b18f6011d076f02afc2cc68346f216e2e04ff2ba9",
    },
    "2b_l20": {
        "train.parquet": "9483c9934bc51882049f88f90bc3d4ebd9ffbcb4bf049623063cacf51407dfc4",
        "test.parquet": "39d9d3c8dac118250d0cca5b5386397c29539b4ead42ccd00394e5e362102178",
        "metadata.jsonl": "b3d23061a242ebe586f3b9d63551a9562d25d9f330332002aba69416cb20c320",
    },
}
_SITES = {"2b_l10": resid(10), "2b_l20": resid(20)}


def axbench_site(suite: str) -> tuple[str, Site]:
    """The model and the site that a suite was made for.

    Raises:
        KeyError: no such suite.

    Chapter: axbench.

    Example:
        >>> name, site = axbench_site("2b_l20")
        >>> name, str(site)
        ('google/gemma-2-2b-it', 'blocks.20.hook_resid_post')
    """
    _known(suite)
    return _MODEL, _SITES[suite]


def axbench(suite: str = "2b_l20", folder: Path | str | None = None) -> AxBench:
    """CONCEPT10 for a layer of Gemma-2-2B-it, downloaded once where it is not there.

    Args:
        suite: "2b_l10" or "2b_l20": the model and the layer that the concepts come from.
        folder: where the suites lie or go to; by default the user's cache.

    Returns:
        Ten concepts; `data[3].train` fits a detector, `data[3].test` tests it.

    Raises:
        KeyError: no such suite. ConnectionError: not there and not to be had. ValueError: a file
            with another checksum. ImportError: pandas cannot read parquet files.

    Source: Wu et al. 2025 (AxBench), section 3; github.com/stanfordnlp/axbench (Apache-2.0).
    Chapter: axbench.

    Example:
        >>> axbench("2b_l20")[5].name  # doctest: +SKIP
        'terms related to root in mathematical contexts'
    """
    _known(suite)
    place = home(folder, "axbench_concept10") / suite
    for name, original in _ORIGINAL.items():
        fetch(f"{_SOURCE}/prod_{suite}_v1/{original}", _SHA256[suite][name], place / name)
    return read_axbench(place)


def _known(suite: str) -> None:
    if suite not in _SHA256:
        raise KeyError(f"there is no suite {suite!r}; there are {sorted(_SHA256)}")
