"""Claims: compared by default, written only on request, and never silently wrong."""

import json
from pathlib import Path

import pytest

from steerlib import claims


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder in the place of the repository's."""
    monkeypatch.setattr(claims, "_results", lambda: tmp_path)
    monkeypatch.delenv("STEERLIB_RECORD", raising=False)
    return tmp_path


@pytest.fixture
def recorded(results: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder that holds `hooks.shift` = 2.0."""
    with monkeypatch.context() as patch:
        patch.setenv("STEERLIB_RECORD", "1")
        claims.record("hooks.shift", 2.0, tol=0.1, interval=(1.5, 2.5), n=40, seed=3)
    return results


def entry(folder: Path, chapter: str = "hooks", name: str = "shift") -> dict:
    return json.loads((folder / f"{chapter}.json").read_text())[name]


def test_recording_writes_the_number_and_where_it_came_from(recorded: Path) -> None:
    stored = entry(recorded)
    assert (stored["value"], stored["tol"], stored["interval"]) == (2.0, 0.1, [1.5, 2.5])
    assert (stored["n"], stored["seed"]) == (40, 3)
    assert set(stored["versions"]) == {"torch", "transformers", "transformer-lens", "numpy"}
    assert stored["commit"]


def test_a_value_within_the_tolerance_passes_and_is_returned(recorded: Path) -> None:
    assert claims.record("hooks.shift", 2.09, tol=0.1) == 2.09


@pytest.mark.parametrize("value", [1.89, 2.11, -2.0])
def test_drift_fails_and_names_claim_allowance_and_fix(recorded: Path, value: float) -> None:
    with pytest.raises(ValueError, match=r"'hooks.shift' drifted.*allowed 0\.1.*make notebooks"):
        claims.record("hooks.shift", value, tol=0.1)


def test_a_claim_that_was_never_recorded_fails(recorded: Path) -> None:
    with pytest.raises(KeyError, match=r"'hooks\.other' is not recorded.*make notebooks"):
        claims.record("hooks.other", 2.0, tol=0.1)


def test_comparing_writes_nothing(recorded: Path) -> None:
    before = {path: path.read_bytes() for path in recorded.iterdir()}
    claims.record("hooks.shift", 2.05, tol=0.1)
    with pytest.raises(KeyError):
        claims.record("mera.spi", 1.0, tol=0.1)
    assert {path: path.read_bytes() for path in recorded.iterdir()} == before


def test_recording_one_claim_keeps_the_others(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERLIB_RECORD", "1")
    claims.record("hooks.second", 1.0, tol=0.0)
    assert entry(recorded)["value"] == 2.0
    assert entry(recorded, name="second")["value"] == 1.0


def test_an_unchanged_number_keeps_its_commit(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERLIB_RECORD", "1")
    first = entry(recorded)["commit"]
    monkeypatch.setattr(claims, "_commit", lambda: "later")
    claims.record("hooks.shift", 2.0, tol=0.1, interval=(1.5, 2.5), n=40, seed=3)
    assert entry(recorded)["commit"] == first
    claims.record("hooks.shift", 2.01, tol=0.1, interval=(1.5, 2.5), n=40, seed=3)
    assert entry(recorded)["commit"] == "later"


def test_a_broken_write_leaves_the_old_file(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("STEERLIB_RECORD", "1")
    monkeypatch.setattr(claims.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        claims.record("hooks.shift", 9.0, tol=0.1)
    assert entry(recorded)["value"] == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "shift"}, "malformed"),
        ({"name": "../hooks.shift"}, "malformed"),
        ({"name": "Hooks.Shift"}, "malformed"),
        ({"value": float("nan")}, "not a finite number"),
        ({"tol": -1.0}, "tolerance -1.0"),
        ({"tol": float("inf")}, "tolerance inf"),
        ({"interval": (3.0, 4.0)}, "low <= value <= high"),
        ({"interval": (1.0,)}, "low, high"),
    ],
)
def test_bad_input_is_refused(recorded: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        claims.record(**{"name": "hooks.shift", "value": 2.0, "tol": 0.1, **arguments})


def test_the_results_of_this_checkout_are_the_ones_that_are_compared() -> None:
    assert claims._results() == Path(__file__).resolve().parent.parent / "data" / "results"


def test_a_recorded_number_is_read_with_its_interval(recorded: Path) -> None:
    assert claims.recorded("hooks.shift") == (2.0, 1.5, 2.5)
    with pytest.raises(KeyError, match=r"'hooks\.other' is not recorded"):
        claims.recorded("hooks.other")
    with pytest.raises(KeyError, match=r"'nowhere\.shift' is not recorded"):
        claims.recorded("nowhere.shift")
    with pytest.raises(ValueError, match="malformed"):
        claims.recorded("shift")


def test_a_number_without_an_interval_is_its_own_ends(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERLIB_RECORD", "1")
    claims.record("hooks.count", 3, tol=0)
    assert claims.recorded("hooks.count") == (3.0, 3.0, 3.0)
