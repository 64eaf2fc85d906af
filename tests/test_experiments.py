"""Long experiments: a piece is computed once, and an interrupted one leaves nothing behind."""

import json

import pytest

from experiments.shards import collect

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
