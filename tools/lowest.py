"""Run the core tests with the lowest versions that pyproject.toml allows: `make lowest`.

It makes `.venv-lowest` with exactly those versions of the direct dependencies. PyTorch is the
exception: its build comes from `.venv`, because an old one costs gigabytes of GPU libraries;
`python tools/lowest.py --torch` installs the lowest PyTorch too.
"""

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-lowest"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "steerlib-environment"
TOOLS = ["pytest", "pytest-xdist", "hypothesis", "pyyaml"]
TESTS = ["tests/core", "tests/methods"]
BORROWED = ("torch", "functorch", "torchgen")


def lowest_pins() -> list[str]:
    """`numpy>=1.26` becomes `numpy==1.26`, for the package and its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    bounds = [*project["dependencies"], *(bound for extra in extras for bound in extra)]
    return [bound.replace(">=", "==") for bound in bounds]


def borrow_torch() -> None:
    """Put the PyTorch of `.venv` into the new environment, so that nothing asks for another."""
    ours = Path(sysconfig.get_path("purelib"))
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([str(PYTHON), "-c", ask], check=True, capture_output=True, text=True)
    theirs = Path(found.stdout.strip())
    for path in ours.iterdir():
        if re.fullmatch(rf"({'|'.join(BORROWED)})(-[\d.+a-z]+\.dist-info)?", path.name):
            link = theirs / path.name
            if not link.exists():
                link.symlink_to(path, target_is_directory=True)


def install(pins: list[str]) -> None:
    """A new environment with these pins and what the tests need."""
    venv.create(VENV, with_pip=True, clear=True, symlinks=os.name != "nt")
    if not any(pin.startswith("torch==") for pin in pins):
        borrow_torch()
    command = [str(PYTHON), "-m", "pip", "install", "-qq", *pins, *TOOLS]
    subprocess.run(command, cwd=ROOT, check=True)


def main(arguments: list[str]) -> int:
    """Install where the bounds changed, then run the tests."""
    with_torch = "--torch" in arguments
    pins = [pin for pin in lowest_pins() if with_torch or not pin.startswith("torch==")]
    wanted = hashlib.sha256(f"{pins} {TOOLS} {VENV}".encode()).hexdigest()
    if not (STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted):
        install(pins)
        STAMP.write_text(wanted, encoding="utf-8")
    print("lowest versions:", *pins, flush=True)
    command = [str(PYTHON), "-m", "pytest", "-n", "2", *TESTS]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
