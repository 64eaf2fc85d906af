"""Interventions as safetensors files with their provenance; no pickle.

Chapter: hooks. The header says which model (id and revision) the file was made for; a file that
does not fit is refused with the reason, at loading and again in `steer`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerlib.core import positions
from steerlib.core.edits import LowRank, Scaling, Vectors
from steerlib.core.files import read_tensors
from steerlib.core.interventions import Intervention, Origin, Term
from steerlib.core.latents import Latents
from steerlib.core.model import Model
from steerlib.core.readouts import Condition, Readout
from steerlib.core.sites import site as site_of
from steerlib.core.steering import check_fits

FORMAT = "steerlib-intervention-1"
EDITS = {"LowRank": LowRank, "Scale": Scaling, "Vectors": Vectors, "Latents": Latents}


def save(intervention: Intervention, path: str | Path) -> None:
    """Write an intervention, its positions, conditions and origin to a safetensors file."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    terms = []
    for number, term in enumerate(intervention.terms):
        kind = next(name for name, cls in EDITS.items() if isinstance(term.edit, cls))
        for name, tensor in term.edit.tensors.items():
            # A copy of its own: the file cannot hold memory that several terms share.
            tensors[f"{number}.{name}"] = tensor.detach().cpu().contiguous().clone()
        condition = None
        if term.condition is not None:
            tensors[f"{number}.condition"] = term.condition.readout.w.detach().cpu().contiguous()
            condition = _condition_to_json(term.condition)
        terms.append(
            {
                "site": term.site.name,
                "edit": kind,
                "at": positions.to_json(term.positions),
                "when": condition,
            }
        )
    origin = None if intervention.origin is None else asdict(intervention.origin)
    header = {"terms": terms, "origin": origin, "basis": "raw", "steerlib": _version()}
    save_file(tensors, str(path), {"format": FORMAT, "steerlib": json.dumps(header)})


def load_intervention(path: str | Path, model: Model | None = None) -> Intervention:
    """Read an intervention that `Intervention.save` wrote.

    Args:
        model: if given, check at once that the file was made for it.

    Raises:
        ValueError: a truncated or foreign file, or one made for another model.

    Chapter: hooks.

    Example:
        >>> st.load_intervention("weather.safetensors", model=model)
    """
    tensors, header = _read(Path(path))
    try:
        terms = tuple(_term(n, entry, tensors) for n, entry in enumerate(header["terms"]))
        origin = None if header["origin"] is None else Origin(**header["origin"])
        intervention = Intervention(terms, origin)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a damaged steerlib file: {error}") from error
    if model is not None:
        check_fits(model, intervention)
    return intervention


def _read(path: Path) -> tuple[dict[str, Tensor], Any]:
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} was not written by steerlib: its format is {metadata.get('format')!r}, "
            f"needed is {FORMAT!r}"
        )
    return tensors, json.loads(metadata["steerlib"])


def _term(number: int, entry: dict[str, Any], tensors: dict[str, Tensor]) -> Term:
    prefix = f"{number}."
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    w = own.pop("condition", torch.empty(0))
    edit: Callable[..., Any] = EDITS[entry["edit"]]
    return Term(
        site_of(entry["site"]),
        edit(**own),
        positions.from_json(entry["at"]),
        None if entry["when"] is None else _condition_from_json(entry["when"], w),
    )


def _condition_to_json(condition: Condition) -> dict[str, Any]:
    readout = condition.readout
    return {
        "site": readout.site.name,
        "b": readout.b,
        "pool": readout.pool,
        "threshold": condition.threshold,
        "above": condition.above,
    }


def _condition_from_json(value: dict[str, Any], w: Tensor) -> Condition:
    readout = Readout(site_of(value["site"]), w, value["b"], value["pool"])
    return Condition(readout, value["threshold"], value["above"])


def _version() -> str:
    from steerlib import __version__

    return __version__
