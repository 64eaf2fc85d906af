"""Where the files lie that travel with the package: in an installation, or in a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def shipped_file(folder: str, name: str) -> Path | None:
    """`data/<folder>/<name>` of the package or of the checkout; None if it is in neither."""
    packaged = Path(str(resources.files("steerlib"))) / "data" / folder / name
    checkout = Path(__file__).parents[2] / "data" / folder / name
    return next((path for path in (packaged, checkout) if path.is_file()), None)
