"""Long experiments: a piece is computed once, and an interrupted one leaves nothing behind."""

import json
import os

import pytest
import torch

from steerlib.evaluation.shards import collect

KEYS = [("world", "a"), ("world", "b"), ("world-b", "a")]


def test_pieces_come_in_order_and_are_computed_once(tmp_path):
    calls = []

    def work(model, concept):
        calls.append((model, concept))
        return {"value": f"{model} {concept}"}

    first = collect(tmp_path / "table", KEYS, work)
    again = collect(tmp_path / "table", reversed(KEYS), work)
    assert calls == KEYS
    assert [piece["value"] for piece in first] == ["world a", "world b", "world-b a"]
    assert again == first[::-1]


def test_an_interrupted_piece_is_computed_again_and_finished_ones_are_kept(tmp_path):
    def breaks(model, concept):
        if concept == "b":
            raise KeyboardInterrupt
        return {"value": 1}

    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path, KEYS, breaks)
    assert [path.name for path in tmp_path.iterdir()] == ["world-a.json"]
    found = collect(tmp_path, KEYS, lambda model, concept: {"value": 2})
    assert [piece["value"] for piece in found] == [1, 2, 2]


def test_half_a_file_is_never_read(tmp_path):
    # What a kill during writing leaves: a partial file under another name.
    (tmp_path / "world-a.123.tmp").write_text('{"value": ')
    assert collect(tmp_path, KEYS[:1], lambda *key: {"value": 3}) == [{"value": 3}]
    assert json.loads((tmp_path / "world-a.json").read_text()) == {"value": 3}


def test_a_damaged_piece_is_computed_again(tmp_path, caplog):
    (tmp_path / "world-a.json").write_text('{"value": ')
    assert collect(tmp_path, KEYS[:1], lambda *key: {"value": 4}) == [{"value": 4}]
    assert "world-a.json is damaged" in caplog.text


def test_several_processes_give_the_pieces_of_one_in_order(tmp_path):
    def work(model, concept):
        return {"value": f"{model} {concept}", "process": os.getpid(), "threads": threads()}

    def threads():
        return torch.get_num_threads()

    found = collect(tmp_path, KEYS, work, n_jobs=2)
    assert [piece["value"] for piece in found] == ["world a", "world b", "world-b a"]
    assert os.getpid() not in {piece["process"] for piece in found}
    assert {piece["threads"] for piece in found} == {1}


def test_a_failure_in_a_process_is_told_and_finished_pieces_stay(tmp_path):
    def work(model, concept):
        if concept == "b":
            raise ValueError("no such concept")
        return {"value": 1}

    with pytest.raises(ValueError, match="no such concept"):
        collect(tmp_path, KEYS, work, n_jobs=2)
    found = collect(tmp_path, KEYS, lambda *key: {"value": 2})
    assert found[1] == {"value": 2}
    assert len(found) == 3


@pytest.mark.parametrize("n_jobs", [0, -1, 1.5])
def test_a_bad_number_of_processes_is_refused(tmp_path, n_jobs):
    with pytest.raises(ValueError, match=f"from 1, got {n_jobs}"):
        collect(tmp_path, KEYS, dict, n_jobs=n_jobs)
