"""Build the HTML book strictly: a warning, a broken link or a request elsewhere is a failure."""

import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
# What a browser fetches by itself, from another machine. Links that a reader may follow are fine.
REQUEST = re.compile(
    r"""<(?:script|link|img|iframe|source|video|audio|object)\b[^>]*?\s(?:src|href|data)=["']"""
    r"""(?:https?:)?//[^"']*["']|url\(\s*["']?(?:https?:)?//[^)]*\)|@import\s*["'](?:https?:)?//"""
    r"""|\bimport\(["']https?://[^"']*["']\)""",
    re.IGNORECASE,
)


def outside_requests(folder: Path) -> Iterator[str]:
    """Every place in the pages and styles that would need the network."""
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("*.css")]):
        for found in REQUEST.finditer(path.read_text(encoding="utf-8", errors="replace")):
            if 'rel="canonical"' not in found[0]:
                yield f"{path.relative_to(folder)}: {found[0][:120]}"


def build() -> int:
    """Run Jupyter Book from the repository's root."""
    script = Path(sysconfig.get_path("scripts")) / "jupyter-book"
    command = [str(script), "build", ".", "-W", "-n", "--keep-going", "--quiet"]
    return subprocess.run(command, cwd=ROOT).returncode


def main() -> int:
    """Build, look for requests that leave the machine, and say where the pages are."""
    status = build()
    requests = list(outside_requests(HTML)) if status == 0 else []
    for request in requests:
        print(f"asks another machine: {request}", file=sys.stderr)
    if status == 0 and not requests:
        print(f"The book is at {(HTML / 'index.html').as_uri()}")
    return status or int(bool(requests))


if __name__ == "__main__":
    sys.exit(main())
