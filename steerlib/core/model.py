"""Model: a language model, its tokenizer, and what steering needs to know about them.

Chapter: hooks. `load` takes a shipped model ("world"), a Hugging Face name or a local folder;
`wrap` takes a model that you hold already. Two engines answer to the same site names: "bridge"
is TransformerLens' TransformerBridge, "hf" the plain Hugging Face model (2-3 times faster per
step at small sizes).
"""

from __future__ import annotations

import copy
import difflib
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Engine = Literal["bridge", "hf"]


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


@dataclass(frozen=True, eq=False)
class Model:
    """A language model as steerlib sees it.

    Args:
        module: the TransformerBridge or the Hugging Face model.
        tokenizer: its Hugging Face tokenizer.
        engine: "bridge" or "hf".
        id: its name, for messages and files.
        revision: a commit or a content hash; a vector made for another revision is refused.
    """

    module: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    engine: Engine
    id: str
    revision: str

    @cached_property
    def runner(self) -> Any:
        """The Hugging Face module that is called, adapters included."""
        return self.module.original_model if self.engine == "bridge" else self.module

    @cached_property
    def hf(self) -> Any:
        """The Hugging Face model without an adapter's wrapper."""
        is_peft = hasattr(self.runner, "get_base_model")
        return self.runner.get_base_model() if is_peft else self.runner

    @cached_property
    def decoder(self) -> nn.Module:
        """The stack of blocks; every forward pass calls it once."""
        return self.hf.get_decoder()

    @cached_property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        for name in ("layers", "h"):
            if hasattr(self.decoder, name):
                return getattr(self.decoder, name)
        raise ValueError(f"{type(self.decoder).__name__} has no `layers` or `h`: unknown layout")

    @cached_property
    def config(self) -> Any:
        """The configuration of the text model."""
        return self.hf.config.get_text_config()

    @cached_property
    def n_layers(self) -> int:
        return self.config.num_hidden_layers

    @cached_property
    def n_heads(self) -> int:
        return self.config.num_attention_heads

    @cached_property
    def d_model(self) -> int:
        return self.config.hidden_size

    @cached_property
    def d_head(self) -> int:
        return getattr(self.config, "head_dim", None) or self.d_model // self.n_heads

    @cached_property
    def d_mlp(self) -> int:
        if hasattr(self.config, "n_inner"):
            return self.config.n_inner or 4 * self.d_model
        return self.config.intermediate_size

    @cached_property
    def d_vocab(self) -> int:
        return self.config.vocab_size

    @cached_property
    def n_ctx(self) -> int:
        """The longest text in tokens."""
        return self.config.max_position_embeddings

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        return self.hf.get_input_embeddings().weight.device

    @cached_property
    def bos_id(self) -> int | None:
        """The token that opens every text: the tokenizer's, else the model's, else EOS."""
        for value in (
            self.tokenizer.bos_token_id,
            getattr(self.config, "bos_token_id", None),
            self.tokenizer.eos_token_id,
        ):
            if value is not None:
                return value
        return None

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end a generation."""
        configured = getattr(self.hf, "generation_config", None)
        ids = getattr(configured, "eos_token_id", None)
        listed = ids if isinstance(ids, list) else [ids]
        return frozenset(i for i in (*listed, self.tokenizer.eos_token_id) if i is not None)

    @cached_property
    def pad_id(self) -> int:
        """The token that fills a batch on the left; it is masked."""
        for value in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if value is not None:
                return value
        return 0


def load(
    name: str | Path,
    *,
    engine: Engine = "bridge",
    device: str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
) -> Model:
    """Load a language model for steering; its weights are frozen.

    Args:
        name: "world" or "world-b" (shipped), a local folder, or a Hugging Face name.
        engine: "bridge" (TransformerLens, default) or "hf".
        device: such as "cuda"; default: the GPU where there is one, the CPU for shipped models.
        dtype: of the weights; default: float32, or what `KNOWN_MODELS` says. Edits are computed in
            float32 whatever it is.
        revision: a branch or commit on the hub.

    Raises:
        ValueError: no such model (the message names close ones), or a quantised one.

    Example:
        >>> model = load("world")
    """
    if engine not in ("bridge", "hf"):
        raise ValueError(f"engine is 'bridge' or 'hf', got {engine!r}")
    folder = _folder(str(name))
    if device is None:
        device = "cuda" if torch.cuda.is_available() and str(name) not in SHIPPED else "cpu"
    if dtype is None:
        known = KNOWN_MODELS.get(str(name))
        dtype = getattr(torch, known.dtype) if known else torch.float32
    hf, tokenizer = _from_pretrained(str(folder or name), str(name), dtype, revision)
    _refuse_quantised(hf, str(name))
    hf = hf.to(device).eval()
    found = folder_hash(folder) if folder else getattr(hf.config, "_commit_hash", None)
    module = _bridge(hf, tokenizer, str(name)) if engine == "bridge" else hf
    # After the bridge, which makes parameters of its own (GPT-2's query, key and value apart).
    hf.requires_grad_(False)
    return Model(module, tokenizer, engine, str(name), found or revision or "unknown")


def wrap(module: Any, tokenizer: Any, *, id: str | None = None) -> Model:
    """A Model from a Hugging Face model (or PEFT model, or TransformerBridge) that you hold.

    The module is used as it is and not changed.

    Raises:
        ValueError: a quantised model.

    Example:
        >>> model = wrap(hf_model, tokenizer)
    """
    engine: Engine = "bridge" if hasattr(module, "original_model") else "hf"
    if not hasattr(module, "original_model") and not hasattr(module, "config"):
        raise TypeError(
            f"wrap takes a Hugging Face causal language model, got {type(module).__name__}"
        )
    draft = Model(module, tokenizer, engine, "", "")
    name = id or getattr(draft.config, "name_or_path", "") or type(draft.hf).__name__
    _refuse_quantised(draft.hf, name)
    return Model(module, tokenizer, engine, name, _fingerprint(draft))


def _folder(name: str) -> Path | None:
    """The local folder of a model, if it has one."""
    if name in SHIPPED:
        packaged = Path(str(resources.files("steerlib"))) / "data" / name
        checkout = Path(__file__).parents[2] / "data" / name
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


def _from_pretrained(
    path: str, name: str, dtype: torch.dtype, revision: str | None
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = {} if revision is None else {"revision": revision}
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(path, **source)
            _refuse_quantised(config, name)
            # Only the eager kernel applies Gemma-2's soft cap on attention scores.
            capped = getattr(config.get_text_config(), "attn_logit_softcapping", None)
            kernel = {"attn_implementation": "eager"} if capped else {}
            hf = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **source, **kernel)
            return hf, AutoTokenizer.from_pretrained(path, **source)
    except OSError as error:
        names = [*SHIPPED, *KNOWN_MODELS]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise ValueError(
            f"cannot load a model {name!r}: it is no local folder, and Hugging Face says: "
            f"{str(error).splitlines()[0]} Models known to work: {', '.join(close)}"
        ) from error


def _bridge(hf: Any, tokenizer: Any, name: str) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    # The bridge gives its tokenizer a BOS token where there is none: ours stays as it is.
    own = copy.deepcopy(tokenizer)
    with _quiet():
        return TransformerBridge.boot_transformers(name, hf_model=hf, tokenizer=own)


def _refuse_quantised(thing: Any, name: str) -> None:
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


def _fingerprint(model: Model) -> str:
    """A hash of embeddings, what blocks write, and adapters; the same on both engines."""
    weights = [model.hf.get_input_embeddings().weight]
    for layer in range(model.n_layers):
        weights += [module.weight for module in _projections(model, layer)]
    weights += [p for name, p in model.hf.named_parameters() if "lora_" in name]
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(str(tuple(weight.shape)).encode() + _sample(weight).numpy().tobytes())
    return digest.hexdigest()[:16]


def _projections(model: Model, layer: int) -> list[nn.Module]:
    """The modules by which attention and MLP write into the residual stream."""
    from steerlib.core.sites import Site, resolve

    if model.engine == "bridge":
        block = model.module.blocks[layer]
        return [block.attn.o.original_component, block.mlp.out.original_component]
    return [resolve(model, Site(kind, layer)).module for kind in ("head", "mlp_post")]


def _sample(weight: Float[Tensor, ...]) -> Float[Tensor, " n"]:
    flat = weight.detach().flatten()
    return flat[:: max(1, flat.numel() // 256)].float().cpu()
