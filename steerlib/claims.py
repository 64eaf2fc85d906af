"""Claims: numbers that the book states, recorded once and compared ever after.

A notebook or an experiment says `record("hooks.happy_shift", value, tol=0.05)`. Ordinarily that
only compares with `data/results/hooks.json` and fails beyond the tolerance. Under `make notebooks`,
which sets `STEERLIB_RECORD=1`, it writes the value with interval, sample size, seed and provenance.
The pages read their numbers from the same files: text, notebook and test cannot drift apart.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGE = Path(__file__).resolve().parent
_NAME = re.compile(r"[a-z][a-z0-9_-]*\.[a-z][a-z0-9_]*")
_VERSIONS = ("torch", "transformers", "transformer-lens", "numpy")


class Recorded(NamedTuple):
    """A recorded number and the ends of its interval."""

    value: float
    low: float
    high: float


def record(
    name: str,
    value: float,
    tol: float,
    interval: Sequence[float] | None = None,
    n: int | None = None,
    seed: int | None = None,
) -> float:
    """Compare a measured number with the recorded one, or record it.

    The claim holds where `abs(value - recorded) <= tol`.

    Args:
        name: `<chapter>.<claim>`, for example `"hooks.happy_shift"`.
        value: the measured number.
        tol: the largest allowed difference, in units of the value; 0 for an exact count.
        interval: its 95% interval, low and high.
        n: the sample size behind it.
        seed: the seed behind it.

    Returns:
        The value, as a float, so that a cell can print it.

    Raises:
        ValueError: the number is not finite, drifted, or the name or the tolerance is malformed.
        KeyError: the claim was never recorded.

    Example:
        >>> from steerlib.claims import record
        >>> record("no-such-chapter.spi", 1.0, tol=0.1)
        Traceback (most recent call last):
        ...
        KeyError: "claim 'no-such-chapter.spi' is not recorded; ..."
    """
    value = float(value)
    chapter, claim = _check(name, value, tol, interval)
    entries = _entries(chapter)
    if os.environ.get("STEERLIB_RECORD") == "1":
        _write(
            _results() / f"{chapter}.json", entries, claim, _entry(value, tol, interval, n, seed)
        )
    else:
        _compare(name, value, tol, entries.get(claim))
    return value


def recorded(name: str) -> Recorded:
    """A recorded number with its interval, for tables and figures of what took hours to measure.

    Returns:
        value, low, high; both ends are the value where no interval was recorded.

    Raises:
        KeyError: the claim was never recorded. ValueError: a malformed name.

    Example:
        >>> from steerlib.claims import recorded
        >>> value, low, high = recorded("hooks.weather_steered")
        >>> low <= value <= high
        True
    """
    chapter, claim = _split(name)
    entry = _entries(chapter).get(claim)
    if entry is None:
        raise _unknown(name)
    low, high = entry["interval"] or (entry["value"], entry["value"])
    return Recorded(entry["value"], low, high)


def _check(
    name: str, value: float, tol: float, interval: Sequence[float] | None
) -> tuple[str, str]:
    chapter, claim = _split(name)
    if not math.isfinite(value):
        raise ValueError(f"claim {name!r} is {value}, not a finite number: mend what computes it")
    if not (math.isfinite(tol) and tol >= 0):
        raise ValueError(f"claim {name!r} has tolerance {tol}: give a finite number >= 0")
    if interval is not None and not (len(interval) == 2 and interval[0] <= value <= interval[1]):
        raise ValueError(
            f"claim {name!r} = {value} has interval {list(interval)}: "
            "give (low, high) with low <= value <= high"
        )
    return chapter, claim


def _split(name: str) -> tuple[str, str]:
    """The chapter and the claim of a name."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"claim name {name!r} is malformed: write '<chapter>.<claim>' in lower case, "
            "for example 'hooks.happy_shift'"
        )
    chapter, claim = name.split(".")
    return chapter, claim


def _entries(chapter: str) -> dict[str, Any]:
    """All claims of a chapter."""
    path = _results() / f"{chapter}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _unknown(name: str) -> KeyError:
    return KeyError(
        f"claim {name!r} is not recorded; run `make notebooks` (it sets STEERLIB_RECORD=1) "
        "and commit data/results"
    )


def _results() -> Path:
    """`data/results` of the checkout; inside an installed wheel, of the package."""
    packaged = _PACKAGE / "data" / "results"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "data" / "results"


def _compare(name: str, value: float, tol: float, entry: Mapping[str, Any] | None) -> None:
    if entry is None:
        raise _unknown(name)
    drift = abs(value - entry["value"])
    if drift > tol:
        raise ValueError(
            f"claim {name!r} drifted: measured {value:.6g}, recorded {entry['value']:.6g}, "
            f"difference {drift:.3g}, allowed {tol:.3g}; mend the code, or, if the new number is "
            "right, record it with `make notebooks` and reread the text that quotes it"
        )


def _entry(
    value: float, tol: float, interval: Sequence[float] | None, n: int | None, seed: int | None
) -> dict[str, Any]:
    measured = {
        "value": value,
        "tol": float(tol),
        "interval": None if interval is None else [float(bound) for bound in interval],
        "n": n,
        "seed": seed,
    }
    versions = {package: metadata.version(package) for package in _VERSIONS}
    return measured | {"commit": _commit(), "versions": versions}


def _commit() -> str:
    """The commit of the checkout that measured the number, marked where it had changes."""
    command = ["git", "-C", str(_PACKAGE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _write(path: Path, entries: dict[str, Any], claim: str, entry: dict[str, Any]) -> None:
    """Store one claim atomically; an unchanged number keeps the commit that first measured it."""
    old = entries.get(claim, {})
    if {**old, "commit": None} == {**entry, "commit": None}:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**entries, claim: entry}, indent=1, sort_keys=True) + "\n"
    partial = path.with_suffix(".json.tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
