"""AxBench's file format: for each concept the texts that fit a detector and those that test it.

Chapter: axbench. Nothing is left out: the hard negatives, which the published evaluator loses to a
label of another name, are a kind of their own here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from steerlib.core.prompts import Chat

SHARED = -1  # the concept_id of the negatives that all concepts of a genre share
POSITIVE, NEGATIVE, HARD = "positive", "negative", "hard negative"
_COLUMNS = ("input", "output", "output_concept", "concept_genre", "category", "concept_id")


@dataclass(frozen=True)
class Examples:
    """Chats of a user and an assistant, each with its label, its kind and what it is about.

    Args:
        texts: chats [user, assistant].
        labels: True where the answer shows the concept.
        kinds: "positive", "negative" or "hard negative".
        about: the concept of the answer; of a hard negative "word//its other sense".

    Chapter: axbench.

    Example:
        >>> chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
        >>> texts = Examples((chat,), (True,), ("positive",), ("greetings",))
        >>> len(texts.only("positive")), len(texts.only("negative"))
        (1, 0)
    """

    texts: tuple[Chat, ...]
    labels: tuple[bool, ...]
    kinds: tuple[str, ...]
    about: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def only(self, *kinds: str) -> Examples:
        """The examples of some kinds, in their order; of a kind that is not here, none."""
        unknown = set(kinds) - {POSITIVE, NEGATIVE, HARD}
        if unknown:
            raise ValueError(
                f"kinds are {POSITIVE!r}, {NEGATIVE!r}, {HARD!r}; got {min(unknown)!r}"
            )
        rows = [row for row, kind in enumerate(self.kinds) if kind in kinds]
        return Examples(
            texts=tuple(self.texts[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
            kinds=tuple(self.kinds[row] for row in rows),
            about=tuple(self.about[row] for row in rows),
        )


@dataclass(frozen=True)
class AxBenchConcept:
    """One concept: its name, and its texts to fit and to test.

    Args:
        id: its number in the files.
        name: what it is in words.
        genre: "text", "code" or "math": that of its positives.
        reference: the page of the SAE feature that it was named after.
        train: 72 positives, and the 72 shared negatives of its genre.
        test: 36 positives, 36 negatives, and 0 to 9 hard negatives.

    Chapter: axbench.

    Example:
        >>> detection(model, found, concept.test, chat=True)  # doctest: +SKIP
    """

    id: int
    name: str
    genre: str
    reference: str
    train: Examples
    test: Examples


@dataclass(frozen=True)
class AxBench:
    """The concepts of one folder of AxBench, by their ids.

    Chapter: axbench.

    Example:
        >>> AxBench(())[3]
        Traceback (most recent call last):
        KeyError: 'there is no concept 3; the ids are []'
    """

    concepts: tuple[AxBenchConcept, ...]

    def __getitem__(self, concept: int) -> AxBenchConcept:
        for known in self.concepts:
            if known.id == concept:
                return known
        ids = [known.id for known in self.concepts]
        raise KeyError(f"there is no concept {concept!r}; the ids are {ids}")


def read_axbench(folder: Path | str) -> AxBench:
    """Any data in AxBench's format: `train.parquet`, `test.parquet` and `metadata.jsonl`.

    Every row of a concept is used once, but for the negatives of train, which its genre shares.

    Args:
        folder: with the three files; those of another suite, or your own.

    Returns:
        The concepts in the order of `metadata.jsonl`.

    Raises:
        FileNotFoundError: one of the files is not there. ValueError: columns or values that are
            missing, a category or concept id that is unknown, a concept without positives or
            negatives, with two genres, or with different names in the files.

    Source: Wu et al. 2025 (AxBench), section 3. Chapter: axbench.

    Example:
        >>> read_axbench("my_concepts")[0].test.only("hard negative").texts  # doctest: +SKIP
    """
    home = Path(folder).expanduser()
    entries = _metadata(home / "metadata.jsonl")
    train = _table(home / "train.parquet", {*entries, SHARED}, {POSITIVE, NEGATIVE})
    test = _table(home / "test.parquet", set(entries), {POSITIVE, NEGATIVE, HARD})
    return AxBench(tuple(_concept(entry, train, test) for entry in entries.values()))


def _metadata(path: Path) -> dict[int, dict[str, object]]:
    """The entries of the concepts, by id."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    for row in rows:
        missing = {"concept_id", "concept", "ref"} - set(row)
        if missing:
            raise ValueError(f"{path}: an entry has no {sorted(missing)}; it is {row!r}")
    entries = {row["concept_id"]: row for row in rows}
    if not rows or len(entries) != len(rows):
        raise ValueError(
            f"{path}: needed is one entry per concept, got {len(rows)} entries with "
            f"{len(entries)} different ids"
        )
    return entries


def _table(path: Path, ids: set[int], categories: set[str]) -> pd.DataFrame:
    """A table of the needed columns, in which each row is known to have its place."""
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise ImportError(
            f"pandas needs pyarrow to read {path.name}; install it with `pip install pyarrow`"
        ) from error
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise ValueError(f"{path} has no columns {missing}; it has {list(table)}")
    table = table[list(_COLUMNS)]
    empty = [column for column in _COLUMNS if table[column].isna().any()]
    if empty:
        raise ValueError(f"{path} has rows without a value in {empty}; every row needs one")
    for column, allowed in (("category", categories), ("concept_id", ids)):
        strange = table.loc[~table[column].isin(allowed), column].tolist()
        if strange:
            raise ValueError(
                f"{path} has {len(strange)} rows with the {column} {strange[0]!r}; "
                f"known are {sorted(allowed)}"
            )
    return table


def _concept(
    entry: Mapping[str, object], train: pd.DataFrame, test: pd.DataFrame
) -> AxBenchConcept:
    """One concept; the negatives that it fits on are the shared ones of its own genre."""
    number, name = entry["concept_id"], entry["concept"]
    own, tested = train[train["concept_id"] == number], test[test["concept_id"] == number]
    positives = own[own["category"] == POSITIVE]
    genres = positives["concept_genre"].unique().tolist()
    if len(genres) != 1:
        raise ValueError(
            f"concept {number} needs training positives of one genre, got {len(positives)} of "
            f"{genres}"
        )
    shared = train[(train["concept_id"] == SHARED) & (train["concept_genre"] == genres[0])]
    fitted = pd.concat([own, shared])
    for split, table in (("train", fitted), ("test", tested)):
        _check_concept(number, name, split, table)
    parts = (_examples(fitted), _examples(tested))
    return AxBenchConcept(int(str(number)), str(name), genres[0], str(entry["ref"]), *parts)


def _check_concept(number: object, name: object, split: str, table: pd.DataFrame) -> None:
    """Both classes are there, and the positives are those of the metadata's concept."""
    counts = {kind: int((table["category"] == kind).sum()) for kind in (POSITIVE, NEGATIVE)}
    if not all(counts.values()):
        raise ValueError(
            f"concept {number} ({name}) needs positives and negatives in {split}, got {counts}"
        )
    named = set(table.loc[table["category"] == POSITIVE, "output_concept"])
    if named != {name}:
        raise ValueError(
            f"concept {number} is {name!r} in metadata.jsonl but {sorted(named)} in {split}; the "
            "files belong to different runs"
        )


def _examples(table: pd.DataFrame) -> Examples:
    kinds = tuple(table["category"].tolist())
    return Examples(
        texts=tuple(
            [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
            for asked, said in zip(table["input"].tolist(), table["output"].tolist(), strict=True)
        ),
        labels=tuple(kind == POSITIVE for kind in kinds),
        kinds=kinds,
        about=tuple(table["output_concept"].tolist()),
    )
