"""What the tables of `experiments.directions` say, recorded as claims.

Over concepts, seeds of a concept are averaged first and the concepts are the units of an interval.
Within a concept the test prompts are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import steerlib as st
from steerlib.statistics import Interval, bootstrap_difference, bootstrap_mean

Tables = Mapping[str, Mapping[tuple[str, ...], dict[str, Any]]]
LEXICAL, STYLES = tuple(st.world.LEXICAL), tuple(st.world.STYLES)
MODELS = {"world": "", "world-b": "_b"}
SEEDS = 3


def record_all(tables: Tables) -> None:
    """Record every claim of the tables that are there."""
    writers = {
        "geometry": _geometry,
        "detect": _detect,
        "steer": _steer,
        "reliability": _reliability,
        "recommended": _recommended,
    }
    for name, table in tables.items():
        for model, suffix in MODELS.items():
            shards = {key[1:]: shard for key, shard in table.items() if key[0] == model}
            if shards:
                writers[name](shards, suffix)


def _record(name: str, found: Interval, tol: float, n: int) -> None:
    st.record(f"directions.{name}", found.estimate, tol, (found.low, found.high), n)


def _over_concepts(values: pd.Series) -> Interval:
    """The mean over concepts of a series with the levels concept and seed."""
    return bootstrap_mean(values.groupby("concept").mean().to_numpy())


def _frame(shards: Mapping[tuple[str, ...], dict[str, Any]], part: str) -> pd.DataFrame:
    """The rows of one part of all shards, with concept and seed."""
    rows = [
        {"concept": concept, "seed": seed} | row
        for (concept, seed), shard in shards.items()
        for row in shard[part]
    ]
    return pd.DataFrame(rows)


def _geometry(shards: Mapping[tuple[str, ...], dict[str, Any]], suffix: str) -> None:
    """Cosines over lexical concepts; distance and gain of words and of positions."""
    keys = pd.MultiIndex.from_tuples(shards, names=["concept", "seed"])
    for kind, names in (("lexical", LEXICAL), ("style", STYLES)):
        moved = pd.DataFrame([shard["moved"] for shard in shards.values()], keys).loc[list(names)]
        for measure, column in moved.items():
            _record(f"{kind}_{measure}{suffix}", _over_concepts(column), 0.2, len(names))
    table = pd.DataFrame([shard["cosines"] for shard in shards.values()], keys).loc[list(LEXICAL)]
    for method, column in table.drop(columns="diff_means").items():
        name = f"cosine_{method}{suffix}".replace(".", "_")
        _record(name, _over_concepts(column), 0.03, len(LEXICAL))


def _detect(shards: Mapping[tuple[str, ...], dict[str, Any]], suffix: str) -> None:
    for part, against, kind in (
        ("rows", "all", ""),
        ("rows", "polysemous", "_hard"),
        ("one_word", "all", "_one"),
    ):
        table = _frame(shards, part)
        for (detector, pool), rows in table[table["against"] == against].groupby(
            ["detector", "pool"]
        ):
            areas = rows.set_index(["concept", "seed"])["auroc"]
            count = areas.index.get_level_values("concept").nunique()
            _record(f"detect_{detector}_{pool}{kind}{suffix}", _over_concepts(areas), 0.02, count)


def _steer(shards: Mapping[tuple[str, ...], dict[str, Any]], suffix: str) -> None:
    answers = _frame(shards, "rows")
    answers["arm"] = answers["arm"].str.replace(r" \d+$", "", regex=True)
    lexical = answers[answers["concept"].isin(LEXICAL)]
    for arm, rows in lexical.groupby("arm"):
        scores = rows.groupby(["concept", "seed"])["score"].mean()
        _record(f"steer_{arm}{suffix}", _over_concepts(scores), 0.1, len(LEXICAL))
    _concepts(lexical, suffix)
    _styles(answers, _frame(shards, "curves"), suffix)
    _cost(_frame(shards, "side"), suffix)
    chosen = [s["chosen"]["diff_means"] for (c, _), s in shards.items() if c in LEXICAL]
    st.record(f"directions.strength{suffix}", float(np.mean(chosen)), 0.1, n=len(chosen))


def _by_prompt(rows: pd.DataFrame, arm: str) -> pd.Series:
    """The mean score of each test prompt over seeds and draws."""
    return rows[rows["arm"] == arm].groupby("prompt")["score"].mean().sort_index()


def _concepts(lexical: pd.DataFrame, suffix: str) -> None:
    """DiffMean of each concept, its paired differences, and how many of them exclude 0."""
    won = dict.fromkeys(("random", "shuffled", "nothing"), 0)
    both = 0
    for concept, rows in lexical.groupby("concept"):
        ours = _by_prompt(rows, "diff_means")
        _record(f"c_{concept}{suffix}", bootstrap_mean(ours.to_numpy()), 0.15, len(ours))
        lows = {}
        for control in [*won, "prompt"]:
            theirs = _by_prompt(rows, control)
            gap = bootstrap_difference(ours.to_numpy(), theirs.to_numpy())
            _record(f"c_{concept}_minus_{control}{suffix}", gap, 0.15, len(ours))
            lows[control] = gap.low
        for control in won:
            won[control] += lows[control] > 0
        both += lows["random"] > 0 and lows["shuffled"] > 0
    for control, count in (won | {"controls": both}).items():
        st.record(f"directions.wins_{control}{suffix}", count, 1, n=len(LEXICAL))


def _styles(answers: pd.DataFrame, curves: pd.DataFrame, suffix: str) -> None:
    """Styles at the chosen strength, and at the strengths that serve lexical concepts."""
    for arm in ("diff_means", "random", "prompt"):
        rows = answers[answers["concept"].isin(STYLES) & (answers["arm"] == arm)]
        for style, own in rows.groupby("concept"):
            found = bootstrap_mean(_by_prompt(own, arm).to_numpy())
            _record(f"style_{style}_{arm}{suffix}", found, 0.15, own["prompt"].nunique())
    means = curves[curves["arm"] == "diff_means"].groupby(["concept", "strength"])["score"].mean()
    for kind, names in (("lexical", LEXICAL), ("style", STYLES)):
        grid = means.loc[list(names)].unstack().mean()
        for strength, score in grid.items():
            name = f"curve_{kind}_{strength:g}".replace(".", "_")
            st.record(f"directions.{name}{suffix}", score, 0.1, n=len(names))


def _cost(side: pd.DataFrame, suffix: str) -> None:
    """KL and facts at the chosen strength, over lexical concepts."""
    steered = side[(side["strength"] > 0) & side["concept"].isin(LEXICAL)]
    for (arm, measure), rows in steered.groupby(["arm", "measure"]):
        found = _over_concepts(rows.set_index(["concept", "seed"])["mean"])
        _record(f"{measure}_{arm}{suffix}", found, 0.03, len(LEXICAL))


def _reliability(shards: Mapping[tuple[str, ...], dict[str, Any]], suffix: str) -> None:
    """Slopes per choice, and what a shift of the prompt does to them."""
    keys = pd.MultiIndex.from_tuples(shards, names=["concept", "seed"])

    def over(measure: Iterable[float]) -> Interval:
        return _over_concepts(pd.Series(list(measure), index=keys))

    slopes = [{k: np.array(v) for k, v in shard["slopes"].items()} for shard in shards.values()]
    for kind in slopes[0]:
        _record(f"slope_{kind}{suffix}", over(s[kind].mean() for s in slopes), 0.2, len(LEXICAL))
        wrong = over((s[kind] < 0).mean() for s in slopes)
        _record(f"wrong_way_{kind}{suffix}", wrong, 0.03, len(LEXICAL))
    worst = pd.Series([float((s["none"] < 0).mean()) for s in slopes], index=keys)
    st.record(f"directions.wrong_way_worst{suffix}", worst.groupby("concept").mean().max(), 0.05)
    for shift in ("request", "raw", "system"):
        same = over(float(spearmanr(s["none"], s[shift]).statistic) for s in slopes)
        _record(f"shift_{shift}_correlation{suffix}", same, 0.05, len(LEXICAL))
        ratio = over(float(s[shift].mean() / s["none"].mean()) for s in slopes)
        _record(f"shift_{shift}_ratio{suffix}", ratio, 0.1, len(LEXICAL))


def _recommended(shards: Mapping[tuple[str, ...], dict[str, Any]], suffix: str) -> None:
    """How often the recommended setting is within 10% of the best, on the same answers and anew."""
    table = pd.DataFrame(list(shards.values()))
    n = len(table)
    for name, tail in (("", ""), ("_fresh", "_again")):
        ratio = table[f"picked{tail}"] / table[f"best{tail}"]
        st.record(f"directions.recommend_hits{name}{suffix}", int((ratio >= 0.9).sum()), 1, n=n)
        found = bootstrap_mean(ratio.to_numpy())
        _record(f"recommend_ratio{name}{suffix}", found, 0.05, n)
    warned = int((table["warning"] != "").sum())
    st.record(f"directions.recommend_warned{suffix}", warned, 1, n=n)
