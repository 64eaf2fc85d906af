"""The exercises as they stand in the notebooks: each stub fails, each printed solution passes."""

import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import torch

from steerlib.teaching import checks

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
CHECK = re.compile(r"checks\.test_(\w+)\((\w+)\)\s*$")
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)


def exercises():
    """Notebook, name, stub and solution of every exercise."""
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        for cell, after in pairwise(cells):
            found = CHECK.search(cell.source) if cell.cell_type == "code" else None
            if found:
                assert found[1] == found[2]
                yield pytest.param(cell, after.source, found[1], id=f"{path.stem}-{found[1]}")


ALL = list(exercises())


def test_each_notebook_has_three_exercises():
    for path in NOTEBOOKS:
        assert sum(case.id.startswith(f"{path.stem}-") for case in ALL) >= 3


@pytest.mark.parametrize(("cell", "answer", "name"), ALL)
def test_the_stub_fails_and_its_cell_says_so(cell, answer, name):
    assert cell.metadata["tags"] == ["raises-exception"]
    with pytest.raises(AssertionError, match="still the stub"):
        exec(cell.source, {"torch": torch, "checks": checks})


@pytest.mark.parametrize(("cell", "answer", "name"), ALL)
def test_the_printed_solution_passes(cell, answer, name, capsys):
    space = {"torch": torch}
    exec(SOLUTION.search(answer)[1], space)
    getattr(checks, f"test_{name}")(space[name])
    assert f"{name}: all checks passed." in capsys.readouterr().out


@pytest.mark.parametrize(("cell", "answer", "name"), ALL)
def test_two_hints_and_the_expected_output_come_before_the_solution(cell, answer, name):
    summaries = re.findall(r"<summary>(.*?)</summary>", answer)
    assert summaries == ["Hint 1", "Hint 2", "Expected output", "Solution"]
    assert f"`{name}: all checks passed.`" in answer
