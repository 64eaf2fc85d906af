"""The released value scores: every cell in its place, and the published graphs found again."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from experiments.values_replication import arrows, pc
from steerlib.evaluation import value_files
from steerlib.evaluation.value_files import released_values
from steerlib.methods.value_graphs import reduce_transitively

ROLES = {"gemma": (101, 26), "llama": (74, 17)}  # with "NONE"
EDGES = {
    "human1": 18,
    "gemma": 28,
    "llama": 19,
    "gemma_gen": 11,
    "llama_gen": 12,
    "reference": 10,
    "valuebench": 1,
}


@pytest.fixture(scope="module")
def home(external):
    folder = external / "data" / "value_causal_graph"
    if not folder.exists():
        pytest.skip(f"{folder} does not exist")
    return folder


@pytest.fixture(scope="module", params=ROLES)
def real(request, home):
    return released_values(request.param, home)


def raw(path):
    """The cells of a file as they are."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def name_of(real, part):
    return value_files._FILES[real.model][part]


@pytest.mark.parametrize("part", ["train", "test", "positive", "negative"])
def test_every_score_is_that_of_the_file(real, home, part):
    table = getattr(real, part, None) if part in ("train", "test") else real.compare[part]
    rows = raw(home / name_of(real, part))
    assert list(table.columns) == ["role", "feature", *real.values]
    assert table["role"].tolist() == [row["player_name"] or "NONE" for row in rows]
    assert table["feature"].tolist() == [row["steer_dim"] or "NONE" for row in rows]
    scores = [[float(row[value]) for value in real.values] for row in rows]
    assert (table[list(real.values)].to_numpy() == scores).all()


def test_there_are_17_values_and_nothing_else(real, home):
    assert len(real.values) == 17
    assert {real.values[0], real.values[-1]} == {"Achievement", "Understanding"}
    graphs = json.loads((home / "value_graphs.json").read_text(encoding="utf-8"))
    assert set(real.values) == set(graphs["nodes"])


def test_no_role_and_no_feature_are_rows_like_others(real):
    for table, roles in zip((real.train, real.test), ROLES[real.model], strict=True):
        assert not table.isna().to_numpy().any()
        counts = table.groupby("feature")["role"].nunique()
        assert len(counts) == 25
        assert (counts == roles).all()
        assert not table.duplicated(["role", "feature"]).any()
        assert len(table[(table["role"] == "NONE") & (table["feature"] == "NONE")]) == 1
        assert {type(cell) for cell in table["feature"]} == {str}


def test_the_rows_of_the_published_graph_are_unsteered_or_of_a_kept_feature(real):
    rows = real.observational
    assert len(rows) == {"gemma": 1111, "llama": 814}[real.model]
    assert set(rows["feature"]) == {"NONE", *real.kept}
    assert len(real.kept) == len(set(real.kept)) == 10
    assert len(rows) == 11 * ROLES[real.model][0]


def test_graphs_are_pairs_in_the_order_of_the_file(real, home):
    written = json.loads((home / "value_graphs.json").read_text(encoding="utf-8"))["edges"]
    assert {name: len(edges) for name, edges in real.graphs.items()} == EDGES
    for name, edges in real.graphs.items():
        assert [list(edge) for edge in edges] == [edge[:2] for edge in written[name]]
        assert {kind for *_, kind in written[name]} == {"single-arrow"}  # so that none is lost


def test_our_search_finds_the_published_graph_edge_for_edge(real):
    found = pc(real.observational[list(real.values)])
    directed = arrows(found)
    counts = {"gemma": (44, 47), "llama": (40, 41)}[real.model]
    assert (len(found.skeleton), len(directed)) == counts
    assert tuple(reduce_transitively(directed)) == real.graphs[real.model]


@pytest.mark.parametrize(("chosen", "edges"), [("all", (56, 49)), ("NONE", (7, 10))])
def test_other_rows_give_another_graph(real, chosen, edges):
    rows = real.train if chosen == "all" else real.train[real.train["feature"] == "NONE"]
    graph = pc(rows[list(real.values)])
    assert len(graph.skeleton) == edges[real.model == "llama"]


def test_a_change_of_role_is_against_the_first_named_role(real, home):
    before, after = real.prompt_setting()
    rows = [r for r in raw(home / name_of(real, "test")) if not r["steer_dim"] and r["player_name"]]
    assert before.shape == after.shape == (ROLES[real.model][1] - 2, 17)
    assert list(after.index) == [row["player_name"] for row in rows[1:]]
    for value in real.values:
        assert set(before[value]) == {float(rows[0][value])}
        assert after[value].tolist() == [float(row[value]) for row in rows[1:]]


@pytest.mark.parametrize("role", ["Mary Holt", "NONE"])
def test_a_feature_is_against_none_of_the_same_role(real, home, role):
    before, after = real.feature_setting(role)
    rows = {r["steer_dim"]: r for r in raw(home / name_of(real, "test"))
            if (r["player_name"] or "NONE") == role}  # fmt: skip
    assert tuple(after.index) == tuple(before.index) == real.kept
    for value in real.values:
        assert set(before[value]) == {float(rows[""][value])}
        assert after[value].tolist() == [float(rows[name][value]) for name in real.kept]


def test_the_reported_role_is_the_default(real):
    for got, wanted in zip(real.feature_setting(), real.feature_setting("Mary Holt"), strict=True):
        pd.testing.assert_frame_equal(got, wanted)


def test_unknown_names_are_named_with_what_there_is(real):
    with pytest.raises(KeyError, match=r"no released model 'gpt2'.*gemma.*llama"):
        released_values("gpt2")
    with pytest.raises(KeyError, match=r"no test role 'Mary'.*Mary Holt"):
        real.feature_setting("Mary")


def test_a_changed_file_is_refused_by_its_name(home, tmp_path):
    for name in [*value_files._FILES["llama"].values(), "value_graphs.json"]:
        (tmp_path / name).write_bytes((home / name).read_bytes())
    with (tmp_path / "ans_llama_test_formal.csv").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(ValueError, match=r"ans_llama_test_formal\.csv has the sha256"):
        released_values("llama", tmp_path)


# Without the real files.

SCORES = {"peace": [0.5, -1.0, 0.0], "wealth": [0.25, 0.0, 1.0]}
TABLE = pd.DataFrame(
    {"steer_dim": ["", "7", ""], "player_name": ["", "", "Ann Lee"]}
    | {name: cells for value, scores in SCORES.items()
       for name, cells in ((value, scores), (f"{value}:scstd", [-1, -1, -1]))}
    | {"stds": [0.1] * 3, "scstds": ["", "", 0.2]}
)  # fmt: skip


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """What is downloaded, in place of which small files of the same kind are written."""
    asked = []

    def write(url, sha256, path):
        asked.append((url, sha256, path))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            edges = {"gemma": [["peace", "wealth", 1, "single-arrow"]]}
            path.write_text(json.dumps({"nodes": {}, "edges": edges}), encoding="utf-8")
        else:
            TABLE.to_csv(path, index=False)
        return path

    monkeypatch.setattr(value_files, "fetch", write)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return asked


def test_only_the_files_of_a_model_are_asked_for_each_from_the_commit(fetched, tmp_path):
    released_values("gemma")
    prefix = (
        "https://raw.githubusercontent.com/bigai-nlco/ValueCausalGraph/"
        "d78dff0dd6377e1b50f433a3b783b6101c21daab/tutorials/"
    )
    assert [url.removeprefix(prefix) for url, _, _ in fetched] == [
        "useful_data/ans_gemma_train_formal.csv",
        "useful_data/ans_gemma_test_formal.csv",
        "useful_data/ans_gemma_test_compare_positive_s1.csv",
        "useful_data/ans_gemma_test_compare_negative_s1.csv",
        "value_graph_data1.json",
    ]
    assert {path.parent for _, _, path in fetched} == {tmp_path / "steerlib" / "value_causal_graph"}
    assert [sha for _, sha, _ in fetched] == [
        value_files._SHA256[path.name] for _, _, path in fetched
    ]


def test_empty_cells_become_a_word_and_standard_deviations_go(fetched, tmp_path):
    data = released_values("gemma", tmp_path)
    assert data.values == ("peace", "wealth")
    assert data.train["role"].tolist() == ["NONE", "NONE", "Ann Lee"]
    assert data.train["feature"].tolist() == ["NONE", "7", "NONE"]
    assert data.observational["role"].tolist() == ["NONE", "Ann Lee"]  # 7 was not kept
    assert np.array_equal(data.train[["peace", "wealth"]], np.array([*SCORES.values()]).T)
    assert data.graphs == {"gemma": (("peace", "wealth"),)}


def test_a_missing_file_is_named_where_there_is_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(value_files, "_SOURCE", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"put the file at .*ans_gemma_train_formal\.csv"):
        released_values("gemma", tmp_path)
