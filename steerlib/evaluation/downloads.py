"""One file from the internet, with a known checksum: all of it or nothing.

Chapter: axbench. Nothing is trusted but the sha256, which travels with this package; what comes
over the network is written under another name and renamed when it is complete and right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from steerlib.core.files import write_whole

_CHUNK = 1 << 16


def home(folder: Path | str | None, name: str) -> Path:
    """Where files lie or go to: the folder, or one of this name in the user's cache."""
    if folder is not None:
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steerlib" / name


def fetch(url: str, sha256: str, path: Path, *, timeout: float = 60.0) -> Path:
    """The file at `path`, downloaded where it is not there yet.

    A download that was cut off leaves nothing behind under this name: the next call starts anew.

    Args:
        url: where it comes from.
        sha256: of its content, 64 hexadecimal digits; a file that is there already is checked too.
        path: where it lies afterwards; missing folders are made.
        timeout: seconds without an answer.

    Returns:
        The path.

    Raises:
        ConnectionError: it could not be downloaded.
        ValueError: a checksum that is none, or content with another one; both are named.

    Chapter: axbench.

    Example:
        >>> fetch(url, "9483c9...", Path("train.parquet"))  # doctest: +SKIP
    """
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError(f"a sha256 is 64 hexadecimal digits in lower case, got {sha256!r}")
    if path.exists():
        _check(path, sha256, f"remove {path} to download it anew")
        return path

    def download(partial: Path) -> None:
        with partial.open("wb") as file:
            for chunk in _chunks(url, path, timeout):
                file.write(chunk)
        _check(partial, sha256, f"it came from {url}; the download was cut off or the file changed")

    write_whole(path, download)
    return path


def _chunks(url: str, path: Path, timeout: float) -> Iterator[bytes]:
    """The content piece by piece; whatever the network does wrong is one kind of error."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            while chunk := response.read(_CHUNK):
                yield chunk
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConnectionError(
            f"{url} could not be downloaded: {reason}. Try again, or put the file at {path}"
        ) from error


def _check(path: Path, sha256: str, remedy: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{path.name} has the sha256 {found}, expected was {sha256}; {remedy}")
