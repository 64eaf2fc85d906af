"""The rows of BiPO's and CAA's files, at pinned commits and with known checksums.

Chapter: bipo. What makes no choice is left out: rows without a question or without two different
responses, repeated rows, and questions of a test set that are in train too.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from steerlib.evaluation.downloads import fetch, home
from steerlib.evaluation.problem_parts import plain

Part = Literal["train", "test"]
Row = tuple[str, ...]  # a question and two responses or options, then whatever else

_BIPO = (
    "https://raw.githubusercontent.com/CaoYuanpu/BiPO/a577418426088a51c2bc6d8d7251554f896e4298/data"
)
_BIPO_NAMES = ("train.csv", "test.csv", "test_infer.csv")
# sha256 of the three files of each behaviour.
_BIPO_FILES = {
    "power-seeking": (
        "6e09e0e2eed1ef3a98449a97e04bc07d638b47f93365b8cfaff7b2e3ab47bfab",
        "085fb8ec3cca4975e6d12a1b4633b0e7c35372300a8aa6e0add6707452800088",
        "b55ed103405e46196211078507cee35e67602a46f28970685aa172bc8da2ad96",
    ),
    "wealth-seeking": (
        "4fc2a59fe506f4ae42e42be0b8d52621f662294794dba51eb032abffda93ecc5",
        "3a3e598160f5fe6cdcb3fecae4d981ed79d4db3b598e4ef2f00c2b8f6d98a3c2",
        "2d632d828e0ce9031136f66c2c68718b9cf16fdd688e17af7d29ca8d7fdc6d98",
    ),
    "hallucination": (
        "8f4795afb0bfd80503990eb9f5222b59239303ea50cefcbd4c311cabf3e55be9",
        "72e82fb5b19d3336fe4bf83af9ed06d07ab6038b0050df0dcb4d8eaf46511b27",
        "40adef8d1ebaf41b4d48c53f005968e345ec5d5f04c8bfa6f1ee104b5dad8af7",
    ),
}
_CAA = "https://raw.githubusercontent.com/nrimsky/CAA"
_CAA_NAMES = (
    "generate/{}/generate_dataset.json",
    "test/{}/test_dataset_ab.json",
    "test/{}/test_dataset_open_ended.json",
)
_COMMITS = (
    "8900aed8b2d828095d1ed0e856f59b245e9bb13a",
    "e1fce128b6165a9926093c6abdf6ea9a24f4b5c4",
    "59f33bb3cd9b710ce57693a50a569ef72c4815db",
    "0aec415b166171f84c7034bd0d9d1ddf5e6ebf46",
)
# The commit, by how it begins, and the sha256 of the three files of each behaviour.
_CAA_FILES = {
    "coordinate-other-ais": (
        ("8900aed", "643717af88eeef37468ceb9f80322b1ebdb4e3934a114a79fc9b930105d6ac71"),
        ("e1fce12", "9f315149225f1c1daeb65a684eca097f884b87a153d1ed8ce2c2c15abe5fae23"),
        ("8900aed", "170b7aa95ac6650a69eba281892ae486e34c4dc03265025abed3a5fc34a11f78"),
    ),
    "corrigible-neutral-HHH": (
        ("8900aed", "c93d4d8db72ab1de875b79367d08e00b3ba27675480d4315fd942bf676359893"),
        ("e1fce12", "847759b4daf48b7d941f08a213ed7095414d1a3063354eb4ebe1dfffc4522cd0"),
        ("8900aed", "65f8a9bd2bb9fd2d31deb1a2699b7c7ec47de1c040aae8c4938beffebacf3a50"),
    ),
    "hallucination": (
        ("8900aed", "11dfb47cee064d037b9c66a1e56da6dfb9257f5c53bc29a4310c83a45de1bfe3"),
        ("8900aed", "aca893768df46b7fb4a546b220fab327a58fd77dedcb49210b396bd24efe7dc6"),
        ("8900aed", "f89d149f24eea3be3caf5e6fa32ea7b31f25798666062489374316b2b303b3ae"),
    ),
    "myopic-reward": (
        ("e1fce12", "3ae9dc68fc4a6f3dbc441ef9956e543b5c7a5a5d97a3cc770f1942477f212b7e"),
        ("e1fce12", "5a7446706263e4bb67965fa48a3beb433cede5476ac735b0e2d26dd7e155d2fe"),
        ("e1fce12", "3129eef01e2e7da60648839920dc09a8826fa18948af3c1153750edf57baadb3"),
    ),
    "survival-instinct": (
        ("8900aed", "249a1807e6938223e66795cdd7a7212340d8612aa9bb185947669135b052697a"),
        ("8900aed", "750a96d7864c864b39168efed636cd79289bad6746024922a7367ccc171f951f"),
        ("e1fce12", "9b660b7d0ef3ab32ba64f7967100a416f4b9fffe50571fe36a4d0679e0a213af"),
    ),
    "sycophancy": (
        ("59f33bb", "1394c959d97ffae28fe9df71ce07a402c13c9333159307a28bd664fbe355b8b0"),
        ("e1fce12", "96391f0468cadb5214c34dff9f614be6725699d9f395387f8a9b6ca630d9cb77"),
        ("0aec415", "6182d58715f29ee38be7427cbcc9da0a9b9c8a09d3f1fda17809e724e062611d"),
    ),
}
# What is in files of these names, and why it is not offered.
_WITHHELD = {
    "jailbreak": "harmful requests and answers to them",
    "refusal": "requests for harm",
}


def bipo_rows(behaviour: str, folder: Path | str | None, name: str, *columns: str) -> list[Row]:
    """The rows of a file; those of a test set share no question with train."""
    _offered(behaviour, _BIPO_FILES)
    rows = _bipo_csv(behaviour, folder, name, ("question", *columns))
    if name == "train.csv":
        return _usable(rows, f"{behaviour}/{name}")
    train = _bipo_csv(behaviour, folder, "train.csv", ("question",))
    return _usable(rows, f"{behaviour}/{name}", {plain(question) for (question,) in train})


def _bipo_csv(behaviour: str, folder: Path | str | None, name: str, columns: Row) -> list[Row]:
    sha256 = _BIPO_FILES[behaviour][_BIPO_NAMES.index(name)]
    path = home(folder, "bipo") / behaviour / name
    fetch(f"{_BIPO}/{behaviour}/{name}", sha256, path)
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row[c].strip() for c in columns) for row in csv.DictReader(file)]


def caa_choices(behaviour: str, folder: Path | str | None, split: Part) -> list[Row]:
    """The questions of a split and their two answers; test shares no question with train."""
    rows = {part: _caa_rows(behaviour, folder, part) for part in dict.fromkeys(("train", split))}
    known = {plain(question) for question, _, _ in rows["train"]} if split == "test" else ()
    return _usable(rows[split], f"{behaviour} ({split})", known)


def _caa_rows(behaviour: str, folder: Path | str | None, split: Part) -> list[Row]:
    columns = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
    rows = caa_rows(behaviour, folder, get_args(Part).index(split))
    return [tuple(row[column].strip() for column in columns) for row in rows]


def caa_rows(behaviour: str, folder: Path | str | None, number: int) -> list[dict[str, str]]:
    """The rows of one of a behaviour's files: of train, test, or the open-ended test."""
    _offered(behaviour, _CAA_FILES)
    name = _CAA_NAMES[number].format(behaviour)
    short, sha256 = _CAA_FILES[behaviour][number]
    commit = next(commit for commit in _COMMITS if commit.startswith(short))
    path = fetch(f"{_CAA}/{commit}/datasets/{name}", sha256, home(folder, "caa") / name)
    return json.loads(path.read_text(encoding="utf-8"))


def _usable(rows: Iterable[Row], name: str, known: Iterable[str] = ()) -> list[Row]:
    """The rows that make a choice, each once; a warning counts the others."""
    kept: dict[Row, None] = {}
    odd: Counter[str] = Counter()
    for row in rows:
        if reason := _odd(row, kept, known):
            odd[reason] += 1
        else:
            kept[row] = None
    if odd:
        why = ", ".join(f"{n} {reason}" for reason, n in odd.items())
        total = odd.total()
        warnings.warn(
            f"{total} of {total + len(kept)} rows of {name} left out: {why}", stacklevel=4
        )
    return list(kept)


def _odd(row: Row, kept: Iterable[Row], known: Iterable[str]) -> str:
    """Why a row makes no choice, or ""."""
    if not row[0]:
        return "without a question"
    if not row[1] or not row[2] or row[1] == row[2]:
        return "without two different responses"
    if row in kept:
        return "said before"
    return "with a question of the train set" if plain(row[0]) in known else ""


def _offered(behaviour: str, files: Iterable[str]) -> None:
    there = ", ".join(files)
    if behaviour in _WITHHELD:
        raise KeyError(
            f"{behaviour!r} is not offered, as the set holds {_WITHHELD[behaviour]}; there are "
            f"{there}. For refusal there is st.world.refusal_pairs, which is harmless"
        )
    if behaviour not in files:
        raise KeyError(f"no behaviour {behaviour!r}; there are {there}")


def checked(split: Part) -> Part:
    """The split, if the authors have it."""
    if split not in get_args(Part):
        raise ValueError(
            f"the split is one of {get_args(Part)}, got {split!r}; to choose on, keep some of train"
        )
    return split
