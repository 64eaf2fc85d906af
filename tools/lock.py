"""Write requirements.txt: exact pins of everything that the book, the notebooks and the tests need.

`uv pip compile` resolves for every platform at once. Then torch loses its local suffix (`+cpu`)
and its platform markers, and its CUDA packages go: an ordinary machine gets the torch build of its
platform, with what that build asks for.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Written by `make lock` from pyproject.toml and requirements.in."
CUDA = re.compile(r"^(nvidia-|triton|cuda-|pytorch-triton)")


def resolve() -> str:
    """The pins of pyproject.toml (with its extras) and requirements.in, in uv's universal form."""
    find_links = os.environ.get("PIP_FIND_LINKS")
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "requirements.in"]
    command += ["--all-extras", "--universal", "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", "--quiet"]
    command += ["--find-links", find_links] if find_links else []
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def clean(pins: str) -> str:
    """The pins without local suffixes and without torch's CUDA packages."""
    kept = [line for line in pins.splitlines() if not CUDA.match(line)]
    plain = [re.sub(r"^(torch==[\d.]+)\S*( ;.*)?$", r"\1", line) for line in kept]
    lines = [
        HEADER,
        *dict.fromkeys(plain),
    ]  # torch's lines, one for each platform, are now the same
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "requirements.txt").write_text(clean(resolve()), encoding="utf-8")
