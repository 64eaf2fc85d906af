"""Numbers in prose come from `data/results/<chapter>.json`, never from a keyboard.

`{{ claims.hooks.happy_shift }}` prints the recorded value, rounded to the digits that its tolerance
supports; `.percent`, `.interval`, `.n` and `.seed` print the rest. A name that is not recorded is a
warning of Sphinx, and so a failed build.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config


@dataclass(frozen=True)
class Recorded:
    """One recorded number that knows how to print itself."""

    value: float
    tol: float
    bounds: tuple[float, ...] = ()
    n: int | None = None
    seed: int | None = None

    def _show(self, number: float, scale: float = 1.0) -> str:
        tol = self.tol * scale
        if tol > 0:
            digits = max(0, math.ceil(-math.log10(tol)))
            return f"{number * scale:.{digits}f}".replace("-", "\N{MINUS SIGN}")
        return f"{number * scale:g}".replace("-", "\N{MINUS SIGN}")

    def __str__(self) -> str:
        return self._show(self.value)

    @property
    def percent(self) -> str:
        """The value as a percentage, with its sign."""
        return self._show(self.value, 100.0) + "%"

    @property
    def interval(self) -> str:
        """The 95% interval, `[low, high]`."""
        if not self.bounds:
            raise ValueError("this claim was recorded without an interval")
        return "[" + ", ".join(self._show(bound) for bound in self.bounds) + "]"


def read_results(folder: Path) -> dict[str, dict[str, Recorded]]:
    """Every claim of every chapter, by chapter and name."""
    chapters = {}
    for path in sorted(folder.glob("*.json")):
        entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        chapters[path.stem] = {name: _claim(entry) for name, entry in entries.items()}
    return chapters


def _claim(entry: dict[str, Any]) -> Recorded:
    bounds = tuple(entry.get("interval") or ())
    return Recorded(entry["value"], entry["tol"], bounds, entry.get("n"), entry.get("seed"))


def provide_claims(app: Sphinx, config: Config) -> None:
    """Offer the recorded numbers to MyST's substitutions under the name `claims`."""
    claims = read_results(Path(app.confdir) / "data" / "results")
    config.myst_substitutions = {**config.myst_substitutions, "claims": claims}


def setup(app: Sphinx) -> None:
    """Read the results once the configuration is known (MyST reads it right after, at 500)."""
    app.connect("config-inited", provide_claims, priority=400)
