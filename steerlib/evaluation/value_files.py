"""The scores and graphs that Kang et al. 2025 released, downloaded once from a pinned commit.

Chapter: values. Gemma-2B-IT and Llama3-8B-IT answered a questionnaire of 17 values as some hundred
roles, without and with a feature of a sparse autoencoder added to the residual stream.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from steerlib.evaluation.downloads import fetch, home

NONE = "NONE"  # no role, or no feature; an empty cell would be lost in a pivot
_COMMIT = "d78dff0dd6377e1b50f433a3b783b6101c21daab"
_SOURCE = f"https://raw.githubusercontent.com/bigai-nlco/ValueCausalGraph/{_COMMIT}/tutorials"
_GRAPHS = "value_graphs.json"
# Of Gemma's two tries of a prompt, the one that the authors compare with.
_FILES: Mapping[str, Mapping[str, str]] = {
    "gemma": {
        "train": "ans_gemma_train_formal.csv",
        "test": "ans_gemma_test_formal.csv",
        "positive": "ans_gemma_test_compare_positive_s1.csv",
        "negative": "ans_gemma_test_compare_negative_s1.csv",
    },
    "llama": {
        "train": "ans_llama_train_formal.csv",
        "test": "ans_llama_test_formal.csv",
        "positive": "ans_llama_test_compare_positive.csv",
        "negative": "ans_llama_test_compare_negative.csv",
    },
}
_SHA256: Mapping[str, str] = {
    "ans_gemma_train_formal.csv": (
        "faa632849af5817267418f1e7e4c6f4ef8525ce408e04d4baa94c7ffa4c1e38f"
    ),
    "ans_gemma_test_formal.csv": (
        "4ec8780962e18970a3836d1a56205bed821311d02f83efe9cbd7d99a6faecbc9"
    ),
    "ans_gemma_test_compare_positive_s1.csv": (
        "465c6d0e819624b68bf12bdddfc14c6194d15fdb80a816df0b8934ae111abf68"
    ),
    "ans_gemma_test_compare_negative_s1.csv": (
        "2563e94d485774fcbfc4a60be3c42e164bf700a8475d39b57821a4ed25a049e2"
    ),
    "ans_llama_train_formal.csv": (
        "40df82d9588988e90f5af970a109a4c3072eda717c5d9508b08f326303baabe7"
    ),
    "ans_llama_test_formal.csv": (
        "73f803726d3cd238789e0d23f529b04c0f4db09c0f2b40d4ad1a472075b84142"
    ),
    "ans_llama_test_compare_positive.csv": (
        "e5608a424b69b0a9299c77d08ed7b0caa67237066b9ce426c61dc04214287c52"
    ),
    "ans_llama_test_compare_negative.csv": (
        "60c9898c893660efcb09830d0e3ee6ec343c0a6c3348cdc99ab27d474d86b372"
    ),
    _GRAPHS: "22b2b824f927df2e0fee24779d09cd7d2ab6bfe7714b87413c2d7f2102fc7796",
}
_KEPT: Mapping[str, tuple[int, ...]] = {
    "gemma": (14351, 1025, 2965, 10096, 1341, 1975, 10605, 14049, 1312, 4752),
    "llama": (49202, 58305, 8546, 12477, 7754, 9332, 1897, 62769, 47207, 54606),
}
_Edges = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReleasedValues:
    """What was released about one model.

    A table has a row for each role and feature, and the columns `role`, `feature` and the values.
    A score is the mean over items of +1 (agrees), -1 (disagrees) or 0 (unsure). "NONE" is no role
    or no feature.

    Args:
        model: "gemma" or "llama".
        train: the scores that the graph is found on; each role was asked its own part of the items.
        test: scores of other roles, on all other items.
        kept: the ten features of 24 whose rows the authors kept, chosen by hand.
        graphs: name -> (cause, effect) pairs in the file's order, an open direction as both pairs.
            `graphs[model]` is the published one, `graphs["gemma_gen"]` and `["llama_gen"]` were
            written by these models, `["human1"]` and `["reference"]` by people, `["valuebench"]`
            is a single edge.
        compare: "positive" and "negative": scores of test roles under a prompt that asks for, or
            against, the value of the column.

    Source: Kang et al. 2025 (2501.00581); github.com/bigai-nlco/ValueCausalGraph (MIT).
    Chapter: values.

    Example:
        >>> released_values("llama").observational.shape  # doctest: +SKIP
        (814, 19)
    """

    model: str
    train: pd.DataFrame
    test: pd.DataFrame
    kept: tuple[str, ...]
    graphs: Mapping[str, _Edges]
    compare: Mapping[str, pd.DataFrame]

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the 17 values, in the files' order."""
        return tuple(name for name in self.train.columns if name not in ("role", "feature"))

    @property
    def observational(self) -> pd.DataFrame:
        """The training rows that the published graph was found on: no feature, or a kept one."""
        return self.train[self.train["feature"].isin((NONE, *self.kept))]

    def prompt_setting(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Scores before and after a change of role: each named role against the first one.

        Returns:
            before, after: test scores without a feature, one row per role but the first.
        """
        rows = self.test[(self.test["feature"] == NONE) & (self.test["role"] != NONE)]
        return _against_first(rows.set_index("role")[list(self.values)])

    def feature_setting(self, role: str = "Mary Holt") -> tuple[pd.DataFrame, pd.DataFrame]:
        """Scores of one role before and after a feature is added: each kept one against none.

        Args:
            role: a test role, or "NONE"; the authors report one.

        Returns:
            before, after: one row per kept feature.

        Raises:
            KeyError: no such role.
        """
        rows = self.test[self.test["role"] == role]
        if rows.empty:
            known = ", ".join(self.test["role"].unique())
            raise KeyError(f"there is no test role {role!r}; there are {known}")
        return _against_first(rows.set_index("feature").loc[[NONE, *self.kept], list(self.values)])


def released_values(model: str = "gemma", folder: Path | str | None = None) -> ReleasedValues:
    """The released scores and graphs of a model, downloaded once where they are not there.

    Args:
        model: "gemma" (Gemma-2B-IT) or "llama" (Llama3-8B-IT).
        folder: where the files lie or go to; by default the user's cache.

    Raises:
        KeyError: no such model. ConnectionError: not there and not to be had. ValueError: a file
            with another checksum.

    Source: Kang et al. 2025 (2501.00581). Chapter: values.

    Example:
        >>> released_values("gemma").graphs["gemma"][0]  # doctest: +SKIP
        ('Empathy', 'Achievement')
    """
    if model not in _FILES:
        raise KeyError(f"there is no released model {model!r}; there are {sorted(_FILES)}")
    place = home(folder, "value_causal_graph")
    tables = {part: _table(_fetched(place, name)) for part, name in _FILES[model].items()}
    return ReleasedValues(
        model=model,
        train=tables["train"],
        test=tables["test"],
        kept=tuple(map(str, _KEPT[model])),
        graphs=_graphs(_fetched(place, _GRAPHS)),
        compare={part: tables[part] for part in ("positive", "negative")},
    )


def _fetched(place: Path, name: str) -> Path:
    original = "value_graph_data1.json" if name == _GRAPHS else f"useful_data/{name}"
    return fetch(f"{_SOURCE}/{original}", _SHA256[name], place / name)


def _table(path: Path) -> pd.DataFrame:
    """The roles, features and scores of a file; its standard deviations are left out."""
    keys = {"player_name": "role", "steer_dim": "feature"}
    # As text first: the parser of older pandas is one bit off at times.
    table = pd.read_csv(path, dtype="object").rename(columns=keys)
    scores = [name for name in table if name not in ("role", "feature", "stds", "scstds")]
    values = [name for name in scores if not name.endswith(":scstd")]
    named = table[["role", "feature"]].astype(object).fillna(NONE)
    return pd.concat([named, table[values].astype(float)], axis=1)


def _graphs(path: Path) -> dict[str, _Edges]:
    found = json.loads(path.read_text(encoding="utf-8"))["edges"]
    return {name: tuple((edge[0], edge[1]) for edge in edges) for name, edges in found.items()}


def _against_first(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every row but the first as `after`, and the first one, repeated, as `before`."""
    after = rows.iloc[1:]
    before = pd.DataFrame([rows.iloc[0]] * len(after), index=after.index)
    return before, after
