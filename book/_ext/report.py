"""The report cards of the embedded models as tables: `{{ report.facts }}` on the page *The world*.

Each section of `data/world*/report.json` becomes a table with one column per model, so the page
shows what was measured and nothing that was typed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

MODELS = ("world", "world-b")


@dataclass(frozen=True)
class Cards:
    """The report cards by model; each section is an attribute in `tables`."""

    cards: dict[str, dict[str, Any]]

    def tables(self) -> dict[str, str]:
        """A table for each section of figures, and one for the training."""
        if not self.cards:
            return Untrained()
        first = next(iter(self.cards.values()))
        sections = {
            name.replace("-", "_"): self._table({key: key for key in rows}, ("figures", name))
            for name, rows in first["figures"].items()
        }
        return {**sections, "training": self._table(_TRAINING, ())}

    def _table(self, rows: dict[str, str], path: tuple[str, ...]) -> str:
        lines = [f"| | {' | '.join(f'`{name}`' for name in self.cards)} |"]
        lines.append("|---" * (len(self.cards) + 1) + "|")
        for key, label in rows.items():
            values = [show(_walk(card, (*path, key))) for card in self.cards.values()]
            lines.append(f"| {label} | {' | '.join(values)} |")
        return "\n".join(lines)


_TRAINING = {
    "seed": "seed",
    "parameters": "parameters",
    "tokens": "tokens, padding included",
    "steps": "steps",
    "hours": "hours on one core",
    "final loss": "loss at the end, nats per token",
}


def _walk(card: dict[str, Any], path: tuple[str, ...]) -> float:
    if path == ("final loss",):
        return float(card["loss_curve"][-1][1])
    found: Any = card
    for key in path:
        found = found[key]
    return found


def show(value: float) -> str:
    """Counts with commas, measured numbers with two digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


class Untrained(dict[str, str]):
    """What the page says before `make world` has run."""

    def __missing__(self, name: str) -> str:
        return "*The models have not been trained yet: `make world` does it.*"


def provide_report(app: Sphinx, config: Config) -> None:
    """Offer the tables to MyST's substitutions under the name `report`."""
    paths = {name: Path(app.confdir, "data", name, "report.json") for name in MODELS}
    cards = {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in paths.items()
        if path.exists()
    }
    tables = Cards(cards).tables()
    config.myst_substitutions = {**config.myst_substitutions, "report": tables}


def setup(app: Sphinx) -> None:
    """Read the cards once the configuration is known, before MyST reads it."""
    app.connect("config-inited", provide_report, priority=401)
