"""What the `cfg.json` of a SAELens folder says, whatever version of SAELens wrote it.

Chapter: sae. Until version 5 all keys lie on one level (`hook_point`, then `hook_name`; k in
`activation_fn_kwargs`); since version 6 what concerns the model lies in `metadata`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from steerlib.core.sites import Site
from steerlib.core.sites import site as site_of
from steerlib.methods.sae import Activation

_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    # These two are written as "jumprelu" when their training ends; before, they have one threshold.
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
}
_OLD_KEYS = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}


@dataclass(frozen=True)
class Settings:
    """What one SAE does with s h.

    Args:
        d, n: the sizes of an activation and of the latents.
        hook: the name of its site; a single head has its number in brackets.
        activation, k: as of an `SAE`.
        subtracts: whether the decoder's bias is subtracted first.
        one_threshold: whether all latents share one threshold.
        lengths: whether it is x_f ||D_f|| that is ranked, or compared with the one threshold.
        scale: s; None where activations are scaled and the file does not say by what.
        centred: whether activations lose their mean over the d numbers first.
    """

    d: int
    n: int
    hook: str | None
    activation: Activation
    k: int | None
    subtracts: bool
    one_threshold: bool
    lengths: bool
    scale: float | None
    centred: bool

    @property
    def site(self) -> Site:
        """The site of the hook.

        Raises:
            ValueError: the file names none. KeyError: it is none of steerlib's.
        """
        if self.hook is None:
            raise ValueError("cfg.json names no hook; give site=, such as st.resid(6)")
        return site_of(self.hook)

    def factor(self, given: float | None) -> float:
        """s, from the file or given.

        Raises:
            ValueError: neither, both, or no positive number.
        """
        if given is None and self.scale is not None:
            return self.scale
        if self.scale is not None:
            raise ValueError(
                f"norm_scaling_factor={given} is given, but the factor of its activations is known "
                f"to be {self.scale:g}"
            )
        if given is None or not 0 < given < inf:
            raise ValueError(
                "it reads activations times a number that the folder does not hold: give a "
                "positive norm_scaling_factor= (1 where the weights are folded already), got "
                f"{given}"
            )
        return given


def read_settings(path: Path) -> Settings:
    """Read a cfg.json.

    Raises:
        FileNotFoundError: there is none. ValueError: it is damaged, or describes something else
            than one of our SAEs.
    """
    cfg = _flat(path)
    missing = [key for key in ("d_in", "d_sae") if not isinstance(cfg.get(key), int)]
    if missing:
        raise ValueError(f"{path} needs whole numbers for {', '.join(missing)}")
    name = _architecture(cfg)
    options = cfg.get("model_from_pretrained_kwargs") or {}
    return Settings(
        d=cfg["d_in"],
        n=cfg["d_sae"],
        hook=_hook(cfg),
        activation=_ACTIVATIONS[name],
        k=_k(cfg) if name == "topk" else None,
        subtracts=bool(cfg.get("apply_b_dec_to_input", True)),
        one_threshold=name.endswith("batchtopk"),
        lengths=bool(cfg.get("rescale_acts_by_decoder_norm")),
        scale=_scale(cfg),
        centred=bool(options.get("center_writing_weights")),
    )


def _flat(path: Path) -> dict[str, Any]:
    """The settings under their newest names, all on one level."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no table of settings, got {type(found).__name__}")
    flat = {**(found.get("metadata") or {}), **found}
    return {_OLD_KEYS.get(key, key): value for key, value in flat.items()}


def _architecture(cfg: dict[str, Any]) -> str:
    name, function = cfg.get("architecture", "standard"), cfg.get("activation_fn") or "relu"
    if name == "standard" and function == "topk":
        name = "topk"  # before TopK was an architecture of its own
    into, out = cfg.get("hook_name"), cfg.get("hook_name_out")
    allowed = ("relu", "topk") if name == "topk" else ("relu",)
    if name not in _ACTIVATIONS or function not in allowed or out not in (None, into):
        raise ValueError(
            f"read are SAEs of the architectures {', '.join(_ACTIVATIONS)} with relu or topk; got "
            f"{name!r} with {function!r} from {into!r} to {into if out is None else out!r}"
        )
    return str(name)


def _k(cfg: dict[str, Any]) -> int:
    k = cfg.get("k", (cfg.get("activation_fn_kwargs") or {}).get("k"))
    if not isinstance(k, int):
        raise ValueError(f"cfg.json of a topk SAE needs a whole number k, got {k!r}")
    return k


def _hook(cfg: dict[str, Any]) -> str | None:
    name, head = cfg.get("hook_name"), cfg.get("hook_head_index")
    return name if name is None or head is None else f"{name}[{head}]"


def _scale(cfg: dict[str, Any]) -> float | None:
    """s where it is known: 1 where nothing is scaled."""
    how = cfg.get("normalize_activations") or "none"
    if how in (True, "expected_average_only_in"):
        return None
    if how != "none":
        raise ValueError(
            f"normalize_activations={how!r} divides each activation by a number of its own, so "
            "that it is no SAE of raw activations; 'none' and 'expected_average_only_in' are read"
        )
    return 1.0
