"""Make or refresh .venv: a virtual environment with requirements.txt and this checkout's steerlib.

Standard library only, so that any Python 3.11 can run it: `python3 tools/environment.py`. A second
run finds its stamp (the hash of what the environment was made from) and returns at once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "steerlib-environment"


def fingerprint() -> str:
    """What the environment depends on: the pins, the Python, and the place (scripts hold it)."""
    digest = hashlib.sha256()
    for name in ("requirements.txt", "pyproject.toml", "tools/environment.py"):
        digest.update((ROOT / name).read_bytes())
    return f"{digest.hexdigest()} {sys.version_info[:2]} {VENV}\n"


def install_with_uv(uv: str) -> bool:
    """Install the pins with uv, which reads pip's find-links only when told; False if it cannot."""
    command = [uv, "pip", "install", "--quiet", "--python", str(PYTHON), "-r", "requirements.txt"]
    if "PIP_FIND_LINKS" in os.environ:
        command += ["--find-links", os.environ["PIP_FIND_LINKS"]]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def install_with_pip() -> None:
    """Install the pins with the environment's own pip."""
    command = [str(PYTHON), "-m", "pip", "install", "-qq", "-r", "requirements.txt"]
    subprocess.run(command, cwd=ROOT, check=True)


def link_checkout() -> None:
    """Put this checkout on the environment's path, so that edits to steerlib are seen at once."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([str(PYTHON), "-c", ask], check=True, capture_output=True, text=True)
    Path(found.stdout.strip(), "steerlib-checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")


def main() -> None:
    """Bring .venv up to date, with uv where it is found and works, else with pip."""
    if sys.version_info < (3, 11):
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(
            f"steerlib needs Python 3.11 or newer, this is {found}: try PYTHON=python3.12 make"
        )
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    print("Setting up .venv: about a minute and 2 GB ...", flush=True)
    moved = STAMP.exists() and not STAMP.read_text(encoding="utf-8").endswith(f" {VENV}\n")
    if moved or not PYTHON.exists():
        venv.create(VENV, with_pip=True, clear=True, symlinks=os.name != "nt")
    uv = shutil.which("uv")
    if not (uv and install_with_uv(uv)):
        install_with_pip()
    link_checkout()
    STAMP.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
