"""Exercises proved both ways: right solutions pass, wrong ones are named."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from steerlib.teaching import checks

Case = tuple[Any, ...]


def both_ways(
    found: dict[str, Any], names: Sequence[str], right: Sequence[Case], wrong: Sequence[Case]
) -> tuple[Callable[..., None], Callable[..., None], Callable[..., None]]:
    """Three tests of a chapter's checks.

    Args:
        found: the checks by name, `test_<exercise>`.
        names: the exercises.
        right: (exercise, solution).
        wrong: (exercise, solution, pattern of the message).
    """

    @pytest.mark.parametrize(("name", "fn"), right)
    def passes(name, fn, capsys):
        found[f"test_{name}"](fn)
        assert f"{name}: all checks passed." in capsys.readouterr().out

    @pytest.mark.parametrize(("name", "fn", "message"), wrong)
    def is_named(name, fn, message):
        with pytest.raises(AssertionError, match=message):
            found[f"test_{name}"](fn)

    def are_enough():
        assert {n for n in found if n.startswith("test_")} == {f"test_{n}" for n in names}
        for name in names:
            assert f"test_{name}" in checks.__all__
            assert sum(case[0] == name for case in right) >= 2, name
            assert sum(case[0] == name for case in wrong) >= 6, name

    return passes, is_named, are_enough
