"""What a judge has said already, on disk: a rating that was paid for is never paid for again.

Chapter: axbench. One small file per question. A file is renamed when it is complete, so that a
run that is killed leaves whole files only. What a call may cost is written down before the call,
so that a call whose end was never seen still counts.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from steerlib.core.files import write_json


@dataclass(frozen=True)
class Request:
    """One question to a model.

    Args:
        model: its name at the endpoint.
        prompt: the whole question, sent as one user message.
        temperature: 0 for the most likely reply.
        max_tokens: how long a reply may be.

    Chapter: axbench.
    """

    model: str
    prompt: str
    temperature: float
    max_tokens: int

    def key(self) -> str:
        """The name of this question in the cache: SHA-256 of all that decides the reply."""
        whole = json.dumps(asdict(self), sort_keys=True).encode()
        return hashlib.sha256(whole).hexdigest()


@dataclass(frozen=True)
class Record:
    """What is known about a question: what it has cost so far, and the reply if there is one."""

    spent: float = 0.0
    reply: str | None = None


@dataclass(frozen=True)
class Cache:
    """A folder of records; use one folder per endpoint.

    Chapter: axbench.

    Example:
        >>> import tempfile
        >>> cache = Cache(Path(tempfile.mkdtemp()))
        >>> cache.put("ab", Record(0.25, "Rating: [[2]]"))
        >>> cache.get("ab"), cache.get("cd")
        (Record(spent=0.25, reply='Rating: [[2]]'), Record(spent=0.0, reply=None))
    """

    folder: Path

    def get(self, key: str) -> Record:
        """The record of a question; an empty one where there is none that can be read."""
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
            record = Record(float(found["spent"]), found["reply"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Record()
        readable = isinstance(record.reply, str | None) and 0 <= record.spent < math.inf
        return record if readable else Record()

    def put(self, key: str, record: Record) -> None:
        """Write a record, whole or not at all."""
        write_json(self._path(key), asdict(record))

    def _path(self, key: str) -> Path:
        # Two letters per folder: tens of thousands of files in one are slow to list.
        return self.folder / key[:2] / f"{key}.json"
