"""Where the files lie that travel with the package: in an installation, or in a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def places(name: str) -> tuple[Path, Path]:
    """Where `data/<name>` would lie: in the package, and in a checkout."""
    packaged = Path(str(resources.files("steerlib"))) / "data" / name
    return packaged, Path(__file__).parents[2] / "data" / name


def shipped_file(name: str) -> Path | None:
    """`data/<name>` of the package or of the checkout; None if it is in neither."""
    return next((path for path in places(name) if path.is_file()), None)
