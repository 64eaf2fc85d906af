"""What nbval cannot see: a notebook that was stripped, run out of order, or checks nothing."""

from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECKED = "nbval-check-output"
SKIPPED = {"nbval-skip", "skip-execution"}


def tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def executed_cells(notebook: Any) -> list[Any]:
    """Code cells that a run executes."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    return [cell for cell in code if not tags(cell) & SKIPPED]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def test_a_notebook_is_valid(notebook: Any) -> None:
    nbformat.validate(notebook)


def test_cells_were_executed_in_order_without_a_gap(notebook: Any) -> None:
    counts = [cell.execution_count for cell in executed_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_a_notebook_has_outputs(notebook: Any) -> None:
    assert sum(bool(cell.outputs) for cell in executed_cells(notebook)) >= 3


def test_only_stubs_end_in_an_error(notebook: Any) -> None:
    for cell in executed_cells(notebook):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        assert bool(errors) == ("raises-exception" in tags(cell)), cell.source


def test_stubs_raise_because_they_are_not_written_yet(notebook: Any) -> None:
    for cell in executed_cells(notebook):
        if "raises-exception" in tags(cell):
            names = {output.ename for output in cell.outputs if output.output_type == "error"}
            assert names <= {"NotImplementedError", "AssertionError"}, cell.source


def test_key_results_are_compared(notebook: Any) -> None:
    checked = [cell for cell in executed_cells(notebook) if CHECKED in tags(cell)]
    assert len(checked) >= 3
    for cell in checked:
        assert cell.outputs, f"compares nothing: {cell.source}"


def test_skipped_cells_are_skipped_by_every_tool(notebook: Any) -> None:
    for cell in notebook.cells:
        assert tags(cell) & SKIPPED in (set(), SKIPPED), cell.source


def pictures(cell: Any) -> list[str]:
    """The PNG outputs of a cell, in base64."""
    data = [output.get("data", {}) for output in cell.outputs]
    return [item["image/png"] for item in data if "image/png" in item]


def test_figures_have_alternative_text_and_are_small(notebook: Any) -> None:
    for cell in executed_cells(notebook):
        images = pictures(cell)
        if images:
            assert cell.metadata.get("mystnb", {}).get("image", {}).get("alt"), cell.source
            assert max(map(len, images)) * 3 / 4 < 100_000, cell.source


def test_no_progress_bars_or_widget_state_are_stored(notebook: Any) -> None:
    assert "widgets" not in notebook.metadata
    for cell in executed_cells(notebook):
        for output in cell.outputs:
            assert "it/s" not in output.get("text", ""), cell.source
