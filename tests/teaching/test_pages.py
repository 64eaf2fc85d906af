"""What the pages state is true: numbers follow from their formula, programs run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "book" / "own-model.md"

# From each model's config.json: blocks, key-value heads, head width.
SHAPES = {
    "gpt2": (12, 12, 64),
    "Qwen2.5-0.5B": (24, 2, 64),
    "Llama-3.2-1B": (16, 8, 64),
    "Qwen2.5-1.5B": (28, 2, 128),
    "gemma-2-2b": (26, 4, 256),
    "Llama-3.1-8B": (32, 8, 128),
    "gemma-2-9b": (42, 8, 256),
}


def table():
    for text in PAGE.read_text(encoding="utf8").splitlines():
        cells = [cell.strip(" `") for cell in text.strip("|").split("|")]
        if text.startswith("|") and cells[0] in SHAPES:
            yield cells


ROWS = list(table())


def test_the_memory_table_lists_each_model_once():
    assert sorted(row[0] for row in ROWS) == sorted(SHAPES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_memory_table_follows_from_the_shapes(row):
    name, billions, full, half, cache = row
    blocks, heads, width = SHAPES[name]
    assert float(full) == round(float(billions) * 4e9 / 2**30, 1)
    assert float(half) == round(float(billions) * 2e9 / 2**30, 1)
    assert int(cache) == round(2 * blocks * heads * width * 1000 * 2 / 2**20)


def programs(name):
    """The Python programs of a page that start from nothing."""
    page = (ROOT / "book" / f"{name}.md").read_text(encoding="utf8")
    found = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return [program for program in found if 'load("world")' in program]


@pytest.mark.parametrize("name", ["intro", "nothing-happens"])
def test_the_programs_on_the_pages_run(name, capsys):
    if not (ROOT / "data" / "world" / "config.json").exists():
        pytest.skip("data/world is not there yet: `make world` trains it")
    import steerlib as st

    found = programs(name)
    assert found
    for program in found:
        exec(program, {"st": st})
        assert capsys.readouterr().out.strip()
