"""Long tables piece by piece: each piece is written once, whole, and never computed again.

Chapter: axbench. A piece (a shard) is one file, renamed when it is complete: what `kill -9` leaves
behind is either a whole shard or a partial file under another name, which nobody reads.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from steerlib.core.files import write_json

Key = tuple[str, ...]
Shard = dict[str, Any]
Work = Callable[..., Shard]
# Work for a process: several pieces, so that the model travels to it once for all of them.
_SHARES_PER_PROCESS = 4


def collect(
    folder: Path,
    keys: Iterable[Key],
    work: Work,
    *,
    n_jobs: int = 1,
    progress: bool = False,
) -> list[Shard]:
    """`work(*key)` for every key, read from the folder where it is there already.

    The folder belongs to one version of the work; remove it to start anew.

    Args:
        folder: where the shards lie, `<key>.json` each.
        work: makes a shard, which JSON can hold; with several processes it is sent to them.
        n_jobs: processes. Each of several has one thread.
        progress: show a bar with the time that is left where it takes more than two seconds.

    Returns:
        The shards in the order of the keys.

    Raises:
        ValueError: n_jobs below 1. What `work` raises; finished pieces stay.

    Chapter: axbench.

    Example:
        >>> collect(folder, [("world", "weather")], lambda model, concept: {"auroc": 0.9})
        [{'auroc': 0.9}]
    """
    check_jobs(n_jobs)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(keys)
    paths = {key: folder / f"{'-'.join(key)}.json" for key in wanted}
    found = {key: _read(path) for key, path in paths.items()}
    missing = {key: paths[key] for key, shard in found.items() if shard is None}
    done, total = len(paths) - len(missing), len(paths)
    # The estimate counts from what was there: a resumed run is no faster than a fresh one.
    options: dict[str, Any] = {"desc": folder.name, "delay": 2, "disable": not progress}
    with tqdm(total=total, initial=done, leave=False, **options) as bar:
        for number, key in enumerate(_made(work, missing, n_jobs), done + 1):
            found[key] = json.loads(paths[key].read_text(encoding="utf-8"))
            logging.info("%s %d of %d: %s", folder.name, number, total, " ".join(key))
            bar.update()
    return [shard for key in wanted if (shard := found[key]) is not None]


def check_jobs(n_jobs: int) -> None:
    """Raise a ValueError if a number of processes is none."""
    if not isinstance(n_jobs, int) or n_jobs < 1:
        raise ValueError(f"n_jobs is a number of processes from 1, got {n_jobs!r}")


def _read(path: Path) -> Shard | None:
    """A finished shard, or None. A damaged one (a full disk, a copy cut short) is made again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        logging.warning("%s is damaged and computed again", path)
        return None


def _made(work: Work, missing: dict[Key, Path], n_jobs: int) -> Iterator[Key]:
    """The missing keys, each once its shard is written."""
    if n_jobs == 1:
        for key, path in missing.items():
            write_json(path, work(*key))
            yield key
        return
    from joblib import Parallel, delayed

    pieces, count = list(missing.items()), _SHARES_PER_PROCESS * n_jobs
    shares = [share for start in range(count) if (share := pieces[start::count])]
    run = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    for keys in run(delayed(_share)(work, share) for share in shares):
        yield from keys


def _share(work: Work, pieces: list[tuple[Key, Path]]) -> list[Key]:
    """What one process does at a time."""
    torch.set_num_threads(1)
    for key, path in pieces:
        write_json(path, work(*key))
    return [key for key, _ in pieces]
