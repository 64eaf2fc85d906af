"""Build the HTML book strictly: a warning, a broken link or a request elsewhere is a failure."""

import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
# What a browser fetches by itself, from another machine. Links that a reader may follow are fine.
REQUEST = re.compile(
    r"""<(?:script|link|img|iframe|source|video|audio|object)\b[^>]*?\s(?:src|href|data)=["']"""
    r"""(?:https?:)?//[^"']*["']|url\(\s*["']?(?:https?:)?//[^)]*\)|@import\s*["'](?:https?:)?//"""
    r"""|\bimport\(["']https?://[^"']*["']\)""",
    re.IGNORECASE,
)

# A relative address, up to its query or anchor.
LOCAL = re.compile(r"""\s(?:src|href)="(?![a-z]+:|//|#|\?)([^"#?]+)""")


def outside_requests(folder: Path) -> Iterator[str]:
    """Every place in the pages and styles that would need the network."""
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("*.css")]):
        for found in REQUEST.finditer(path.read_text(encoding="utf-8", errors="replace")):
            if 'rel="canonical"' not in found[0]:
                yield f"{path.relative_to(folder)}: {found[0][:120]}"


def missing_files(folder: Path) -> Iterator[str]:
    """Every script, style, picture or page that a page names and that is not there."""
    for path in sorted(folder.rglob("*.html")):
        if "_static" in path.parts:
            continue
        for target in LOCAL.findall(path.read_text(encoding="utf-8")):
            if not (path.parent / unquote(target)).exists():
                yield f"{path.relative_to(folder)}: {target}"


def build() -> int:
    """Run Jupyter Book from the repository's root."""
    script = Path(sysconfig.get_path("scripts")) / "jupyter-book"
    command = [str(script), "build", ".", "-W", "-n", "--keep-going", "--quiet"]
    return subprocess.run(command, cwd=ROOT).returncode


def main() -> int:
    """Build, look for what a reader without a network would miss, and say where the pages are."""
    status = build()
    if status != 0:
        return status
    wrong = [f"asks another machine: {place}" for place in outside_requests(HTML)]
    wrong += [f"leads nowhere: {place}" for place in missing_files(HTML)]
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    print(f"The book is at {(HTML / 'index.html').as_uri()}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
