"""AxBench's files: every row in its place, hard negatives kept, anything wrong said."""

import json
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import steerlib as st
from steerlib.evaluation import datasets, detection
from steerlib.evaluation.axbench_files import read_axbench
from steerlib.evaluation.datasets import axbench, axbench_site

pytest.importorskip("pyarrow", reason="pandas has no engine for parquet files")

SUITES = {"2b_l10": 50, "2b_l20": 35}  # and their hard negatives
# How the published evaluator names the classes; the files say "hard negative".
PUBLISHED = {"positive": 1, "negative": 0, "hard negative seen": 0, "hard negative unseen": 0}


@pytest.fixture(scope="module", params=SUITES)
def real(request, external):
    """A suite as we read it, and its two tables as they are."""
    home = external / "data" / "axbench_concept10"
    if not home.exists():
        pytest.skip(f"{home} does not exist")
    train, test = (pd.read_parquet(home / request.param / f"{part}.parquet") for part in PARTS)
    return SimpleNamespace(
        suite=request.param, data=axbench(request.param, home), train=train, test=test
    )


PARTS = ("train", "test")


def rows(examples):
    """The examples as countable rows."""
    columns = (examples.texts, examples.kinds, examples.about)
    chats = [(*(m["content"] for m in t), k, a) for t, k, a in zip(*columns, strict=True)]
    return Counter(chats)


def table_rows(table):
    return Counter(
        map(tuple, table[["input", "output", "category", "output_concept"]].to_numpy().tolist())
    )


def test_every_concept_has_the_published_number_of_texts(real):
    assert [concept.id for concept in real.data.concepts] == list(range(10))
    for concept in real.data.concepts:
        assert Counter(concept.train.kinds) == {"positive": 72, "negative": 72}
        counts = Counter(concept.test.kinds)
        assert (counts["positive"], counts["negative"]) == (36, 36)
        assert counts["hard negative"] == len(concept.test) - 72 <= 9
        assert sum(concept.train.labels) == 72
        assert sum(concept.test.labels) == 36


def test_no_row_is_lost_or_counted_twice(real):
    assert len(real.train) == 936
    assert len(real.test) == 720 + SUITES[real.suite]
    tested = sum((rows(concept.test) for concept in real.data.concepts), Counter())
    assert tested == table_rows(real.test)
    positives = sum(
        (rows(concept.train.only("positive")) for concept in real.data.concepts), Counter()
    )
    assert positives == table_rows(real.train[real.train["concept_id"] >= 0])


def test_negatives_to_fit_are_the_shared_ones_of_the_genre_of_the_concept(real):
    for concept in real.data.concepts:
        shared = real.train.query("concept_id == -1 and concept_genre == @concept.genre")
        assert len(shared) == 72
        assert rows(concept.train.only("negative")) == table_rows(shared)
        own = real.train.query("concept_id == @concept.id")
        assert set(own["concept_genre"]) == {concept.genre}


def test_genres_and_names_are_those_of_the_metadata(real, external):
    lines = external / "data" / "axbench_concept10" / real.suite / "metadata.jsonl"
    for line in lines.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        concept = real.data[entry["concept_id"]]
        assert (concept.name, concept.reference) == (entry["concept"], entry["ref"])
        assert entry["concept_genres_map"] == {concept.name: [concept.genre]}
        sources = real.test.query("concept_id == @concept.id")["sae_link"]
        assert set(sources) == {concept.reference}


def test_published_labels_lose_exactly_the_hard_negatives_that_we_keep(real):
    lost = real.test[real.test["category"].map(PUBLISHED).isna()]
    assert len(lost) == SUITES[real.suite]
    hard = [concept.test.only("hard negative") for concept in real.data.concepts]
    assert sum(map(rows, hard), Counter()) == table_rows(lost)
    assert not any(label for part in hard for label in part.labels)
    assert all("//" in about for part in hard for about in part.about)


@pytest.mark.filterwarnings("ignore:.*vocabulary")
def test_detection_reports_hard_negatives_apart(real, models):
    """The chats go to a model as they are: here a small one, with the ends cut to its context."""
    model = models("gpt2")
    detector = {"random": st.Readout(st.resid(1), _direction(model.d_model))}
    concept = real.data[2]
    short = [[{**m, "content": m["content"][:20]} for m in text] for text in concept.test.texts]
    data = SimpleNamespace(texts=short, labels=concept.test.labels, kinds=concept.test.kinds)
    table = detection(model, detector, data, ("max",), chat=True).set_index("against")
    counts = table["negatives"].to_dict()
    hard = len(concept.test.only("hard negative"))
    assert counts == {"all": 36 + hard, "negative": 36, "hard negative": hard}


def _direction(size):
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def test_the_files_are_those_with_the_pinned_checksums(real, external):
    assert axbench_site(real.suite) == (
        "google/gemma-2-2b-it",
        st.resid(int(real.suite.removeprefix("2b_l"))),
    )
    assert set(datasets._SHA256) == set(SUITES)
    for sums in datasets._SHA256.values():
        assert set(sums) == set(datasets._ORIGINAL)


# Files of our own, in which one thing is wrong.

TRAIN = [
    *[("q", f"a{n}", "red", "text", "positive", 0) for n in range(2)],
    *[("q", f"b{n}", "blue", "code", "positive", 1) for n in range(2)],
    *[("q", f"c{n}", "EEEEE", genre, "negative", -1) for genre in ("text", "code") for n in "xy"],
]
TEST = [
    ("q", f"{name} {kind}", about or name, genre, kind, number)
    for number, (name, genre) in enumerate([("red", "text"), ("blue", "code")])
    for kind, about in [("positive", ""), ("negative", ""), ("hard negative", "w//s")]
]
COLUMNS = ["input", "output", "output_concept", "concept_genre", "category", "concept_id"]


@pytest.fixture
def write(tmp_path):
    """`write(train=..., test=..., metadata=...)`: a folder with the tables changed by functions."""

    def make(train=None, test=None, metadata=None):
        for name, lines, change in (("train", TRAIN, train), ("test", TEST, test)):
            table = pd.DataFrame(lines, columns=COLUMNS)
            (change(table) if change else table).to_parquet(tmp_path / f"{name}.parquet")
        entries = [{"concept_id": n, "concept": c, "ref": "r"} for n, c in enumerate(NAMES)]
        entries = metadata(entries) if metadata else entries
        text = "\n".join(map(json.dumps, entries)) + "\n"
        (tmp_path / "metadata.jsonl").write_text(text, encoding="utf-8")
        return tmp_path

    return make


NAMES = ("red", "blue")


def test_a_folder_of_the_same_format_is_read(write):
    data = read_axbench(write())
    assert [text[1]["content"] for text in data[1].train.texts] == ["b0", "b1", "cx", "cy"]
    assert data[1].train.texts[0] == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "b0"},
    ]
    assert data[0].test.kinds == ("positive", "negative", "hard negative")
    assert data[0].test.labels == (True, False, False)


def test_the_order_of_the_rows_does_not_matter(write):
    turned = read_axbench(write(train=lambda t: t[::-1], test=lambda t: t[::-1]))
    plain = read_axbench(write())
    for number in (0, 1):
        assert rows(turned[number].train) == rows(plain[number].train)
        assert rows(turned[number].test) == rows(plain[number].test)


def test_an_unknown_concept_suite_or_kind_is_named_with_what_there_is(write):
    data = read_axbench(write())
    with pytest.raises(KeyError, match=r"no concept 7.*\[0, 1\]"):
        data[7]
    with pytest.raises(KeyError, match="no concept -1"):
        data[-1]
    with pytest.raises(KeyError, match=r"9b_l20.*2b_l10"):
        axbench("9b_l20")
    with pytest.raises(ValueError, match="got 'hard'"):
        data[0].test.only("hard")


def without(kind, number):
    return lambda t: t[~((t["category"] == kind) & (t["concept_id"] == number))]


def changed(column, value):
    """The value of the first row changed."""

    def change(table):
        table = table.copy()
        table[column] = [value, *table[column].tolist()[1:]]
        return table

    return change


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"train": lambda t: t.drop(columns="output")}, r"no columns \['output'\]"),
        ({"test": lambda t: t.drop(columns=["category"])}, r"no columns \['category'\]"),
        ({"test": changed("output", None)}, r"without a value in \['output'\]"),
        ({"test": changed("category", "hard negative seen")}, "category 'hard negative seen'"),
        ({"train": changed("category", "hard negative")}, "category 'hard negative'"),
        ({"test": changed("concept_id", 5)}, r"concept_id 5; known are \[0, 1\]"),
        ({"test": changed("concept_id", -1)}, r"concept_id -1; known are \[0, 1\]"),
        ({"train": without("positive", 1)}, "concept 1 needs training positives of one genre"),
        ({"train": without("negative", -1)}, r"concept 0 \(red\).*train, got .*'negative': 0"),
        ({"test": without("positive", 0)}, r"concept 0 \(red\).*test, got .*'positive': 0"),
        ({"test": without("negative", 1)}, r"concept 1 \(blue\).*test, got .*'negative': 0"),
        ({"train": changed("concept_genre", "math")}, r"one genre, got 2 of \['math', 'text'\]"),
        ({"train": changed("output_concept", "blue")}, r"'red' in metadata.jsonl but \['blue'"),
        ({"test": changed("output_concept", "blue")}, r"'red' in metadata.jsonl but \['blue'\]"),
        ({"metadata": lambda e: [e[0], e[0]]}, "2 entries with 1 different"),
        ({"metadata": lambda e: []}, "0 entries"),
        ({"metadata": lambda e: [{"concept_id": 0, "concept": "red"}]}, r"no \['ref'\]"),
        ({"metadata": lambda e: e[:1]}, r"concept_id 1; known are \[-1, 0\]"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(write, wrong, said):
    with pytest.raises(ValueError, match=said):
        read_axbench(write(**wrong))


def test_a_concept_may_have_no_hard_negatives(write):
    data = read_axbench(write(test=without("hard negative", 0)))
    assert len(data[0].test.only("hard negative")) == 0
    assert len(data[1].test.only("hard negative")) == 1


def test_a_missing_file_and_a_missing_engine_are_named(write, monkeypatch):
    folder = write()
    with monkeypatch.context() as patch:

        def no_engine(path):
            raise ImportError("Unable to find a usable engine")

        patch.setattr(pd, "read_parquet", no_engine)
        with pytest.raises(ImportError, match="pip install pyarrow"):
            read_axbench(folder)
    (folder / "test.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.parquet"):
        read_axbench(folder)


def test_a_reader_without_the_files_downloads_each_from_the_commit(write, monkeypatch, tmp_path):
    asked = []

    def remember(url, sha256, path):
        asked.append((url, sha256, path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source / path.name).read_bytes())
        return path

    source = write()
    monkeypatch.setattr(datasets, "fetch", remember)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(axbench("2b_l10").concepts) == 2
    home = tmp_path / "cache" / "steerlib" / "axbench_concept10" / "2b_l10"
    assert {path for _, _, path in asked} == {home / name for name in datasets._ORIGINAL}
    prefix = "https://raw.githubusercontent.com/stanfordnlp/axbench/e9b8cd4/axbench/concept10/"
    assert [url.removeprefix(prefix) for url, _, _ in asked] == [
        "prod_2b_l10_v1/generate/train_data.parquet",
        "prod_2b_l10_v1/inference/latent_eval_data.parquet",
        "prod_2b_l10_v1/generate/metadata.jsonl",
    ]
    assert [sha for _, sha, _ in asked] == list(datasets._SHA256["2b_l10"].values())
