"""Model: a language model, its tokenizer, and what steering needs to know about them.

Chapter: hooks. `load` takes a shipped model ("world"), a Hugging Face name or a local folder;
`wrap` takes a model that you hold already. Two engines answer to the same site names: "bridge"
is TransformerLens' TransformerBridge, "hf" the plain Hugging Face model (2-3 times faster per
step at small sizes).
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from steerlib.core.loading import (
    KNOWN_MODELS,
    SHIPPED,
    boot_bridge,
    find_folder,
    folder_hash,
    from_pretrained,
    refuse_quantised,
)

Engine = Literal["bridge", "hf"]


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

    Chapter: hooks.

    Example:
        >>> model = load("world")
    """
    if engine not in ("bridge", "hf"):
        raise ValueError(f"engine is 'bridge' or 'hf', got {engine!r}")
    folder = find_folder(str(name))
    if device is None:
        device = "cuda" if torch.cuda.is_available() and str(name) not in SHIPPED else "cpu"
    if dtype is None:
        known = KNOWN_MODELS.get(str(name))
        dtype = getattr(torch, known.dtype) if known else torch.float32
    hf, tokenizer = from_pretrained(str(folder or name), str(name), dtype, revision)
    refuse_quantised(hf, str(name))
    hf = hf.to(device).eval()
    found = folder_hash(folder) if folder else getattr(hf.config, "_commit_hash", None)
    module = boot_bridge(hf, tokenizer, str(name)) if engine == "bridge" else hf
    # After the bridge, which makes parameters of its own (GPT-2's query, key and value apart).
    hf.requires_grad_(False)
    return Model(module, tokenizer, engine, str(name), found or revision or "unknown")


def wrap(module: Any, tokenizer: Any, *, id: str | None = None) -> Model:
    """A Model from a Hugging Face model (or PEFT model, or TransformerBridge) that you hold.

    The module is used as it is and not changed.

    Raises:
        ValueError: a quantised model.

    Chapter: hooks.

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
    if module.training:
        warnings.warn(
            f"{name} is in training mode, so dropout makes its activations random; call "
            "model.eval() unless you train it",
            stacklevel=2,
        )
    refuse_quantised(draft.hf, name)
    return Model(module, tokenizer, engine, name, _fingerprint(draft))


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
