"""Long tables piece by piece: each piece is written once, whole, and never computed again."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Shard = dict[str, Any]


def collect(
    folder: Path, keys: Iterable[tuple[str, ...]], work: Callable[..., Shard]
) -> list[Shard]:
    """`work(*key)` for every key, read from the folder where it is there already.

    A piece that was interrupted leaves nothing behind: the file is renamed when it is complete.
    The folder belongs to one version of the work; remove it to start anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted, found = list(keys), []
    for number, key in enumerate(wanted, 1):
        path = folder / f"{'-'.join(key)}.json"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}.tmp")
            partial.write_text(json.dumps(work(*key)), encoding="utf-8")
            os.replace(partial, path)
            logging.info("%s %d of %d: %s", folder.name, number, len(wanted), " ".join(key))
        found.append(json.loads(path.read_text(encoding="utf-8")))
    return found
