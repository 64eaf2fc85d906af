"""Files that are there whole or not at all, whatever stops the process that writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from torch import Tensor


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write(partial)`, then rename the partial file to the path: all of it or nothing.

    Missing folders are made. What `write` raises is raised, and the partial file is removed; after
    a kill it stays, under a name that nobody reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that two processes that write the same file do not mix.
    partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name without its content
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_tensors(path: Path, remedy: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and the texts of its header.

    Raises:
        FileNotFoundError: there is no such file; the remedy says what to do about it.
        ValueError: it is no complete safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}{remedy}")
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no complete safetensors file ({error}); save it again"
        ) from error


def write_json(path: Path, value: object) -> None:
    """A value as JSON, whole or not at all."""
    text = json.dumps(value)
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
