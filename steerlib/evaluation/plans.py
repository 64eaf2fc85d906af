"""The plan of a sweep: what decides its rows, by content, so that a folder belongs to one plan.

Chapter: axbench. A plan is plain JSON. Its hash lies in the folder beside the plan itself: a run
that asks for something else is refused, and told what is different.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from steerlib.core import positions
from steerlib.core.files import write_json
from steerlib.core.interventions import Intervention, Term
from steerlib.core.model import Model

Plan = dict[str, Any]
FORMAT = "steerlib-sweep-1"
_SHOWN = 3
_MISSING = object()


def digest(value: Any) -> str:
    """sha256 of a value as JSON, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def name_of(function: Callable[..., object]) -> str:
    """Where a function or a callable object is defined; of a `partial`, what it calls."""
    while isinstance(function, partial):
        function = function.func
    home = function if hasattr(function, "__qualname__") else type(function)
    return f"{home.__module__}.{home.__qualname__}"


def model_facts(model: Model) -> dict[str, str]:
    """What about a model decides its answers; where its folder lies does not."""
    dtype = str(next(model.hf.parameters()).dtype)
    return {"revision": model.revision, "engine": model.engine, "dtype": dtype}


def fingerprint(intervention: Intervention | None) -> str:
    """A hash of all that an intervention does: sites, edits, positions and conditions.

    Raises:
        ValueError: positions that belong to one batch, such as a mask.
    """
    terms = () if intervention is None else intervention.terms
    return digest([_term(term) for term in terms])


def _term(term: Term) -> dict[str, Any]:
    condition = None
    if term.condition is not None:
        read = term.condition.readout
        limits = [term.condition.threshold, term.condition.above]
        condition = [read.site.name, read.w.tolist(), read.b, read.pool, *map(float, limits)]
    return {
        "site": term.site.name,
        "edit": type(term.edit).__name__,
        "tensors": {name: tensor.tolist() for name, tensor in term.edit.tensors.items()},
        "at": positions.to_json(term.positions),
        "when": condition,
    }


def claim(folder: Path, plan: Plan) -> None:
    """Make a folder the one of a plan, or refuse it.

    A folder in which nothing is finished is anybody's.

    Raises:
        ValueError: the folder holds shards of another plan, or of none.
    """
    path, plan = folder / "plan.json", json.loads(json.dumps(plan))
    if any((folder / "shards").glob("*.json")):
        _compare(folder, _stored(path), plan)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": FORMAT, "hash": digest(plan), "plan": plan})


def _stored(path: Path) -> Plan:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        whole = stored["format"] == FORMAT and stored["hash"] == digest(stored["plan"])
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(
            f"{path.parent} holds shards, but its plan.json is missing, damaged or of another "
            f"format than {FORMAT!r}; use another folder, or remove this one to start anew"
        )
    return stored["plan"]


def _compare(folder: Path, theirs: Plan, ours: Plan) -> None:
    found = list(_differences(theirs, ours))
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(
            f"{folder} holds another sweep: {'; '.join(found[:_SHOWN])}{more}; "
            "use another folder, or remove this one to start anew"
        )


def _differences(theirs: Plan, ours: Plan, above: str = "") -> Iterator[str]:
    """What two plans disagree about, by its path, such as "decoding.seed"."""
    for name in sorted({*theirs, *ours}):
        there, here = theirs.get(name, _MISSING), ours.get(name, _MISSING)
        if isinstance(there, dict) and isinstance(here, dict):
            yield from _differences(there, here, f"{above}{name}.")
        elif there != here:
            yield f"{above}{name} is {_brief(there)} there and {_brief(here)} here"


def _brief(value: Any) -> str:
    if value is _MISSING or isinstance(value, dict):
        return "missing" if value is _MISSING else "given"
    text = repr(value)
    count = f"{len(value)} values " if isinstance(value, list) else ""
    return count + (text if len(text) <= 60 else f"{text[:57]}...")
