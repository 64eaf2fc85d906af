"""The speed table: made from records, and from measures that count what they say."""

import numpy as np
import pytest
import torch

from benchmarks.bench import held
from benchmarks.table import END, ROWS, START, insert, render
from benchmarks.timing import summary

RESULTS = {"steered_hf": {"value": 0.987}, "hidden_bytes": {"value": 2605056.0}}


def test_the_table_has_a_row_for_each_recorded_figure_and_no_other() -> None:
    lines = render(RESULTS).splitlines()
    assert len(lines) == 2 + len(RESULTS)
    assert "0.99 ×" in lines[2]
    assert "2,605,056 bytes" in lines[3]


def test_names_of_rows_are_distinct() -> None:
    names = [name for _, name, _, _ in ROWS]
    assert len(set(names)) == len(names)


def test_renewing_the_table_twice_changes_nothing_more() -> None:
    readme = f"above\n\n{START}\nold\n{END}\n\nbelow\n"
    once = insert(readme, RESULTS)
    assert "old" not in once
    assert once.startswith("above\n")
    assert once.endswith("\n\nbelow\n")
    assert insert(once, RESULTS) == once


def test_a_ratio_is_the_median_of_paired_ratios_inside_its_interval() -> None:
    ratio = summary(np.array([0.9, 1.0, 1.1, 1.0, 30.0]))
    assert ratio.value == 1.0
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.rounds == 5


def test_a_view_holds_all_that_it_was_cut_from() -> None:
    whole = torch.zeros(100, 8)
    assert held(iter([whole[:, :1]])) == whole.nbytes
    assert held(iter([whole[:1], whole[1:]])) == whole.nbytes
    assert held(iter([whole[:, :1].clone()])) == pytest.approx(whole.nbytes / 8)
