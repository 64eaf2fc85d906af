"""Where models come from: the shipped ones, local folders and the hub; and what is refused.

Chapter: hooks (the page "Your own model").
"""

from __future__ import annotations

import copy
import difflib
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steerlib.core.shipped import places


@dataclass(frozen=True)
class Known:
    """A public model of a tested architecture: its size and the dtype to use."""

    layers: int
    d_model: int
    parameters: float
    dtype: str

    @property
    def gigabytes(self) -> float:
        """Memory of the weights in this dtype, in GB."""
        return self.parameters * (4 if self.dtype == "float32" else 2) / 1e9


# Their architectures are tested on small folders; bfloat16 where float32 needs more than 16 GB.
KNOWN_MODELS = {
    "gpt2": Known(12, 768, 0.124e9, "float32"),
    "gpt2-medium": Known(24, 1024, 0.355e9, "float32"),
    "Qwen/Qwen2.5-0.5B-Instruct": Known(24, 896, 0.494e9, "float32"),
    "Qwen/Qwen2.5-1.5B-Instruct": Known(28, 1536, 1.54e9, "float32"),
    "meta-llama/Llama-3.2-1B-Instruct": Known(16, 2048, 1.24e9, "float32"),
    "google/gemma-2-2b-it": Known(26, 2304, 2.61e9, "float32"),
    "meta-llama/Llama-3.1-8B-Instruct": Known(32, 4096, 8.03e9, "bfloat16"),
    "google/gemma-2-9b-it": Known(42, 3584, 9.24e9, "bfloat16"),
}
SHIPPED = ("world", "world-b")


def find_folder(name: str) -> Path | None:
    """The local folder of a model, if it has one."""
    if name in SHIPPED:
        packaged, checkout = places(name)
        for folder in (packaged, checkout):
            if (folder / "config.json").is_file():
                return folder
        raise ValueError(
            f"the shipped model {name!r} is not in this installation (looked in {packaged} and "
            f"{checkout}); reinstall steerlib, or run `make world` in a checkout"
        )
    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"{name} is a folder without config.json: no Hugging Face model")
    return folder if folder.is_dir() else None


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars while a model loads; the user's setting comes back."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def from_pretrained(
    path: str, name: str, dtype: torch.dtype, revision: str | None
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = {} if revision is None else {"revision": revision}
    options: dict[str, Any] = {"dtype": dtype, **source}
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(path, **source)
            refuse_quantised(config, name)
            if getattr(config.get_text_config(), "attn_logit_softcapping", None):
                # transformers < 5.23 takes a fused attention by default, which drops the soft cap.
                options["attn_implementation"] = "eager"
            hf = AutoModelForCausalLM.from_pretrained(path, **options)
            return hf, AutoTokenizer.from_pretrained(path, **source)
    except OSError as error:
        names = [*SHIPPED, *KNOWN_MODELS]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise ValueError(
            f"cannot load a model {name!r}: it is no local folder, and Hugging Face says: "
            f"{str(error).splitlines()[0]} Models known to work: {', '.join(close)}"
        ) from error


def boot_bridge(hf: Any, tokenizer: Any, name: str) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    # The bridge gives its tokenizer a BOS token where there is none: ours stays as it is.
    own = copy.deepcopy(tokenizer)
    with _quiet():
        return TransformerBridge.boot_transformers(name, hf_model=hf, tokenizer=own)


def refuse_quantised(thing: Any, name: str) -> None:
    """Quantised weights differ between devices and backends; vectors would not carry over."""
    config = thing if not isinstance(thing, nn.Module) else thing.config
    quantised = getattr(config, "quantization_config", None) is not None
    if not quantised and isinstance(thing, nn.Module):
        quantised = any(not p.is_floating_point() or p.itemsize < 2 for p in thing.parameters())
    if quantised:
        raise ValueError(
            f"{name} is quantised, which steerlib does not support: load it in float32, bfloat16 "
            "or float16 (a smaller model if memory is short; see the page 'Your own model')"
        )


def folder_hash(folder: Path) -> str:
    """A content hash of a model folder: its configuration and weights (sampled where large)."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name == "config.json" or path.suffix == ".safetensors":
            digest.update(path.name.encode())
            _hash_file(path, digest)
    return digest.hexdigest()[:16]


def _hash_file(path: Path, digest: Any, block: int = 1 << 20, blocks: int = 32) -> None:
    size = path.stat().st_size
    digest.update(str(size).encode())
    step = max(block, size // blocks)
    with path.open("rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            digest.update(file.read(block))
