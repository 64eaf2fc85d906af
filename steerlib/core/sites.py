"""A Site is a place in the model that can be read or changed, under its TransformerLens name.

Chapter: hooks. Every site resolves to a torch module and its input or its output, on the
TransformerBridge (one of its HookPoints) as on the plain Hugging Face model (one of its layers),
so that one mechanism, plain torch forward hooks, serves both engines.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from steerlib.core.model import Model

# The order in which one block computes its sites.
HOOKS = {
    "resid_pre": "hook_resid_pre",
    "head": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "resid_mid": "hook_resid_mid",
    "mlp_post": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
    "resid": "hook_resid_post",
}
KINDS = list(HOOKS)
_NAME = re.compile(r"blocks\.(\d+)\.([a-z_.]+?)(?:\[(\d+)\])?")


@dataclass(frozen=True)
class Site:
    """One place in the model: a kind (see `HOOKS`), a 0-based layer and, for "head", a head.

    Example:
        >>> resid(2).name
        'blocks.2.hook_resid_post'
    """

    kind: str
    layer: int
    index: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in HOOKS:
            raise KeyError(f"unknown kind of site {self.kind!r}; there are {', '.join(HOOKS)}")
        for number in (self.layer, self.index):
            if number is not None and (not isinstance(number, int) or number < 0):
                raise ValueError(
                    f"layers and heads are counted from 0, got {number!r}; "
                    "the input of the first block is st.resid_pre(0)"
                )
        if self.index is not None and self.kind != "head":
            raise ValueError(f"only a head site has an index, got {self.kind!r}[{self.index}]")

    @property
    def name(self) -> str:
        """The TransformerLens hook name; a single head adds its number in brackets."""
        head = "" if self.index is None else f"[{self.index}]"
        return f"blocks.{self.layer}.{HOOKS[self.kind]}{head}"

    @property
    def depth(self) -> tuple[int, int]:
        """Sorts sites in the order in which a forward pass reaches them."""
        return self.layer, KINDS.index(self.kind)

    def __str__(self) -> str:
        return self.name


def resid(layer: int) -> Site:
    """The residual stream after block `layer`: "blocks.{layer}.hook_resid_post"."""
    return Site("resid", layer)


def resid_pre(layer: int) -> Site:
    """The residual stream before block `layer`; `resid_pre(0)` holds the embeddings."""
    return Site("resid_pre", layer)


def attn_out(layer: int) -> Site:
    """What the attention of block `layer` writes into the residual stream."""
    return Site("attn_out", layer)


def mlp_out(layer: int) -> Site:
    """What the MLP of block `layer` writes into the residual stream."""
    return Site("mlp_out", layer)


def mlp_post(layer: int) -> Site:
    """The MLP's hidden activations (d_mlp), the input of its last projection."""
    return Site("mlp_post", layer)


def head(layer: int, index: int) -> Site:
    """The output z (d_head) of one attention head, before the output projection."""
    return Site("head", layer, index)


def site(name: str) -> Site:
    """The site with a TransformerLens name, such as "blocks.2.hook_resid_post".

    Raises:
        KeyError: the name is none of the sites that steerlib knows.
    """
    match = _NAME.fullmatch(name)
    kinds = {hook: kind for kind, hook in HOOKS.items()}
    kinds["hook_in"], kinds["hook_out"] = "resid_pre", "resid"
    if match is None or match[2] not in kinds:
        known = [f"blocks.0.{hook}" for hook in HOOKS.values()]
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise KeyError(f"unknown site {name!r}; did you mean {close[0]!r}? Sites: {known}")
    return Site(kinds[match[2]], int(match[1]), None if match[3] is None else int(match[3]))


Sites = Sequence[Site | str] | Site | str


def as_site(value: Site | str) -> Site:
    """A Site from a Site or its name."""
    return value if isinstance(value, Site) else site(value)


def as_sites(value: Sites) -> list[Site]:
    """Sites from one or several Sites or their names."""
    return [as_site(s) for s in ([value] if isinstance(value, Site | str) else value)]


@dataclass(frozen=True, eq=False)
class Place:
    """A site in one model: a torch module, and whether its input or its output is meant."""

    module: nn.Module
    is_input: bool

    @property
    def key(self) -> tuple[int, bool]:
        return id(self.module), self.is_input


def width(model: Model, site: Site) -> int:
    """The size of an activation at a site: d_model, d_mlp or d_head (all heads: all of them)."""
    if site.kind == "head":
        return model.d_head if site.index is not None else model.n_heads * model.d_head
    return model.d_mlp if site.kind == "mlp_post" else model.d_model


def resolve(model: Model, site: Site) -> Place:
    """The torch module (and side) that stands for a site in this model.

    Raises:
        ValueError: the model has no such layer or head, or its blocks have another layout.
    """
    if site.layer >= model.n_layers:
        raise ValueError(
            f"{model.id} has {model.n_layers} layers (0 to {model.n_layers - 1}), got {site.name}"
        )
    if site.index is not None and site.index >= model.n_heads:
        raise ValueError(
            f"{model.id} has {model.n_heads} heads (0 to {model.n_heads - 1}), got {site.name}"
        )
    if model.engine == "bridge":
        name = f"blocks.{site.layer}.{HOOKS[site.kind]}"
        return Place(model.module.hook_dict[name], is_input=False)
    return _resolve_hf(model.blocks[site.layer], site)


def _resolve_hf(block: nn.Module, site: Site) -> Place:
    """Where a Hugging Face block computes a site."""
    if site.kind in ("resid", "resid_pre"):
        return Place(block, is_input=site.kind == "resid_pre")
    # Gemma-2 normalises a branch once more before it enters the residual stream.
    post_norm = hasattr(block, "post_feedforward_layernorm")
    attn, mlp = _child(block, "self_attn", "attn"), _child(block, "mlp")
    if site.kind == "head":
        return Place(_child(attn, "o_proj", "c_proj"), is_input=True)
    if site.kind == "mlp_post":
        return Place(_child(mlp, "down_proj", "c_proj"), is_input=True)
    if site.kind == "attn_out":
        return Place(_child(block, "post_attention_layernorm") if post_norm else attn, False)
    if site.kind == "mlp_out":
        return Place(_child(block, "post_feedforward_layernorm") if post_norm else mlp, False)
    names = ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2")
    return Place(_child(block, *names), is_input=True)


def _child(module: nn.Module, *names: str) -> nn.Module:
    for name in names:
        if hasattr(module, name):
            return getattr(module, name)
    raise ValueError(
        f"{type(module).__name__} has no {' or '.join(names)}: its layout is none that steerlib "
        "knows (GPT-2, Llama, Mistral, Gemma-2/3, Qwen-2/3); try engine='bridge'"
    )


def attach(place: Place, change: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `change` with the activation at a place in every forward pass until removed.

    What `change` returns replaces the activation; None leaves it as it is.
    """

    def on_output(module: nn.Module, args: Any, output: Any) -> Any:
        is_tuple = isinstance(output, tuple)
        new = change(output[0] if is_tuple else output)
        if new is None:
            return None
        return (new, *output[1:]) if is_tuple else new

    def on_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
        new = change(args[0] if args else kwargs["hidden_states"])
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    if place.is_input:
        return place.module.register_forward_pre_hook(on_input, with_kwargs=True)
    return place.module.register_forward_hook(on_output)


def part(model: Model, site: Site, h: Tensor) -> Tensor:
    """What belongs to the site of the activation at its place: one head's z, else all of it."""
    if site.index is None:
        return h
    return h.unflatten(-1, (model.n_heads, model.d_head))[..., site.index, :]
