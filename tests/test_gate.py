"""The notebook gate of `make test` catches what it is there for."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.loading import ROOT

CHECKED = {"tags": ["nbval-check-output"]}


def flags() -> list[str]:
    """The options with which the Makefile runs nbval."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.search(r"^NBVAL := (.*)$", makefile, re.MULTILINE)
    assert found
    # Split first: the folder of this checkout may have a space in its name.
    return [flag.replace("tests/", f"{ROOT}/tests/") for flag in found[1].split()]


def gate(folder: Path, source: str, stored: str, metadata: dict) -> int:
    """The exit status of nbval on a notebook of one cell with a stored output."""
    output = new_output("stream", name="stdout", text=stored)
    cell = new_code_cell(source, outputs=[output], execution_count=1, metadata=metadata)
    nbformat.write(new_notebook(cells=[cell]), folder / "one.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *flags(), "one.ipynb"]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode


@pytest.mark.parametrize(
    ("source", "stored", "metadata", "passes"),
    [
        ("print(1 + 1)", "2\n", CHECKED, True),
        ("print(1 + 1)", "3\n", CHECKED, False),  # an output that was changed by hand
        ("print(1 + 1)", "3\n", {}, True),  # only tagged cells are compared
        ("print(2)\nassert 1 > 2", "2\n", {}, False),  # a claim that fails
        ("print(object())", "<object object at 0x7f3c5e1d2a90>\n", CHECKED, True),
        ("print('took 3.1 s')", "took 2.7 s\n", CHECKED, True),
    ],
)
def test_the_gate(tmp_path: Path, source: str, stored: str, metadata: dict, passes: bool) -> None:
    assert (gate(tmp_path, source, stored, metadata) == 0) == passes
