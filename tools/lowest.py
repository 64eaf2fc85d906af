"""Run the core tests with the lowest versions that pyproject.toml allows: `make lowest`.

It makes `.venv-lowest` with exactly those versions of the direct dependencies. PyTorch is the
exception: its build comes from `.venv`, because an old one costs gigabytes of GPU libraries;
`python tools/lowest.py --torch` installs the lowest PyTorch too.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-lowest"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "steerlib-environment"
TOOLS = ["pytest", "pytest-xdist", "hypothesis", "pyyaml"]
TESTS = ["tests/core", "tests/methods", "tests/evaluation", "tests/test_statistics.py"]
BORROWED = ("torch", "functorch", "torchgen")


def lowest_pins() -> list[str]:
    """`numpy>=1.26` becomes `numpy==1.26`, for the package and its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    bounds = [*project["dependencies"], *(bound for extra in extras for bound in extra)]
    return [bound.replace(">=", "==") for bound in bounds]


def borrow_torch() -> None:
    """Lend the PyTorch of `.venv` to the new environment.

    It comes from a folder of its own and without a list of its files: an installer that wants
    another PyTorch can then neither remove nor overwrite the one that is lent.
    """
    ours, lent = Path(sysconfig.get_path("purelib")), VENV / "lent"
    lent.mkdir()
    for name in BORROWED:
        if (ours / name).exists():
            (lent / name).symlink_to(ours / name, target_is_directory=True)
    for folder in ours.glob("torch-*.dist-info"):
        shutil.copytree(folder, lent / folder.name, ignore=shutil.ignore_patterns("RECORD"))
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([str(PYTHON), "-c", ask], check=True, capture_output=True, text=True)
    Path(found.stdout.strip(), "lent.pth").write_text(f"{lent}\n", encoding="utf-8")


def install(pins: list[str]) -> None:
    """A new environment with these pins and what the tests need."""
    venv.create(VENV, with_pip=True, clear=True, symlinks=os.name != "nt")
    if not any(pin.startswith("torch==") for pin in pins):
        borrow_torch()
        # Asked for by version, it stays: pip would write another one through the links, into .venv.
        pins = [*pins, f"torch=={version('torch').split('+')[0]}"]
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
