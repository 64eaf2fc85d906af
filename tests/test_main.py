"""`python -m steerlib` prints an unsteered and a steered generation side by side."""

import subprocess
import sys

import pytest

from steerlib import __main__ as main
from steerlib.core.loading import find_folder


def test_two_texts_stand_side_by_side(monkeypatch):
    monkeypatch.setenv("COLUMNS", "23")
    text = main.side_by_side(("left", "one two three four"), ("right", "five"))
    assert text.splitlines() == [
        "left       | right",
        "---------- | ----------",
        "one two    | five",
        "three four |",
    ]


def _world() -> bool:
    try:
        return find_folder("world") is not None
    except ValueError:
        return False


needs_world = pytest.mark.skipif(not _world(), reason="data/world is not there yet: make world")


@needs_world
def test_the_steered_text_has_the_concept_and_the_plain_one_has_not():
    from steerlib import world

    options = main.parser().parse_args([])
    plain, steered = main.generations(options)
    assert world.judge(plain, "weather", topic="dog").concept < 1
    assert world.judge(steered, "weather", topic="dog").concept >= 1


@needs_world
def test_strength_zero_prints_the_same_twice(capsys):
    assert main.main(["--strength", "0", "--raw"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line][2:]
    assert rows
    assert all(left.strip() == right.strip() for left, right in rows)


@needs_world
def test_the_command_runs_in_a_process_of_its_own():
    command = [sys.executable, "-m", "steerlib", "--concept", "weather"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "unsteered" in done.stdout


@pytest.mark.parametrize("arguments", [["--model", "wrold"], ["--concept", "nothing"]])
def test_an_error_is_one_line(arguments, capsys):
    assert main.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
