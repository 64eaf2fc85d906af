"""The embedded model reaches a `pip install`: a wheel, an empty environment, another folder."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("world", "world-b")
PROGRAM = """
import pathlib, steerlib as st
from steerlib.claims import _results
assert _results() == pathlib.Path(st.__file__).parent / "data" / "results"
assert "site-packages" in st.__file__, st.__file__
for name in ("world", "world-b"):
    text = st.generate(st.load(name), "tell me about the dog .", max_new_tokens=4, seed=0)
    assert text, name
print("loaded from", pathlib.Path(st.__file__).parent)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built offline with the build backend that is installed here."""
    absent = [name for name in MODELS if not (ROOT / "data" / name / "config.json").exists()]
    if absent:
        pytest.skip(f"data/{absent[0]} is not there yet: `make world` trains it")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel, whose dependencies are borrowed from this one."""
    folder = tmp_path_factory.mktemp("empty environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    there = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    # As names on the path, not as site folders: a .pth in them would bring this checkout along.
    Path(there, "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(there)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def test_the_wheel_holds_code_models_and_results(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for model in MODELS:
        for path in (ROOT / "data" / model).rglob("*"):
            if path.is_file():
                assert f"steerlib/{path.relative_to(ROOT).as_posix()}" in names
    for path in (ROOT / "data" / "sae").iterdir():
        assert f"steerlib/{path.relative_to(ROOT).as_posix()}" in names
    assert "steerlib/__init__.py" in names
    assert any(name.startswith("steerlib/data/results/") for name in names)
    assert not any(name.startswith(("tests/", "book/", "notebooks/")) for name in names)


def test_the_wheel_stays_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 14e6


def test_models_load_from_another_directory(python: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    ran = subprocess.run(
        [str(python), "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert str(python.parent.parent) in ran.stdout
