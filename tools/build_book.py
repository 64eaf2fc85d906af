"""Build the HTML book strictly: any warning, any broken reference, is a failure."""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / "_build" / "html" / "index.html"


def main() -> int:
    """Run Jupyter Book from the repository's root and say where the pages are."""
    script = Path(sysconfig.get_path("scripts")) / "jupyter-book"
    build = [str(script), "build", ".", "-W", "-n", "--keep-going", "--quiet"]
    status = subprocess.run(build, cwd=ROOT).returncode
    if status == 0:
        print(f"The book is at {INDEX.as_uri()}")
    return status


if __name__ == "__main__":
    sys.exit(main())
