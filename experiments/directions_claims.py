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
METHODS = ("diff_means", "probe", "pca_all", "lat", "pca", "lat_positive")
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
        "finalists": _finalists,
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
    """The rows of one part of all shards, with concept and seed.

    The judge's grade for the concept is called `shown` here.
    """
    rows = [
        {("shown" if name == "concept" else name): value for name, value in row.items()}
        | {"concept": concept, "seed": seed}
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
        # Taken as linear: the strength of even odds where wanted, and what is left elsewhere then.
        mean = moved.mean()
        needed = mean["distance"] / mean["gain"]
        left = mean["distance_elsewhere"] - needed * mean["gain_elsewhere"]
        st.record(f"directions.{kind}_needed{suffix}", needed, 0.2 * needed, n=len(names))
        # Positive where the tokens are still unlikely elsewhere, for styles where they are not.
        left = left if kind == "lexical" else -left
        st.record(f"directions.{kind}_left{suffix}", left, 1.0, n=len(names))
    share = pd.Series([shard["dominance"] for shard in shards.values()], keys).loc[list(LEXICAL)]
    _record(f"dominance{suffix}", _over_concepts(share), 0.2, len(LEXICAL))
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
        _record(f"steer_{arm}{suffix}", _over_concepts(scores), 0.05, len(LEXICAL))
        if arm in METHODS:
            for grade in ("shown", "instruction", "fluency"):
                mean = rows.groupby("concept")[grade].mean().mean()
                st.record(f"directions.{arm}_{grade}{suffix}", mean, 0.05, n=len(LEXICAL))
    for arm in ("probe", "pca_all", "lat", "prompt"):
        gap = _by_concept(lexical, "diff_means") - _by_concept(lexical, arm)
        _record(f"diff_means_minus_{arm}{suffix}", bootstrap_mean(gap), 0.05, len(LEXICAL))
    _optimism(lexical, shards, suffix)
    _concepts(lexical, suffix)
    _styles(answers, _frame(shards, "curves"), suffix)
    _cost(_frame(shards, "side"), suffix)
    for method in METHODS:
        chosen = [s["chosen"][method] for (c, _), s in shards.items() if c in LEXICAL]
        mean = float(np.mean(chosen))
        st.record(f"directions.strength_{method}{suffix}", mean, 0.2, n=len(chosen))


def _by_concept(rows: pd.DataFrame, arm: str) -> np.ndarray:
    """The mean score of each concept over seeds and prompts."""
    return rows[rows["arm"] == arm].groupby("concept")["score"].mean().sort_index().to_numpy()


def _optimism(lexical: pd.DataFrame, shards: Mapping[tuple[str, ...], dict[str, Any]],
              suffix: str) -> None:  # fmt: skip
    """The score at the chosen strength on selection prompts minus that on test prompts."""
    curves = _frame(shards, "curves")
    ours = curves[(curves["arm"] == "diff_means") & curves["concept"].isin(LEXICAL)]
    best = ours.groupby(["concept", "seed"])["score"].max()
    tests = lexical[lexical["arm"] == "diff_means"].groupby(["concept", "seed"])["score"].mean()
    _record(f"optimism{suffix}", _over_concepts(best - tests), 0.05, len(LEXICAL))


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
            st.record(f"directions.{name}{suffix}", score, 0.05, n=len(names))


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
    """How often `recommend` warned, and how often it picked DiffMean."""
    found = list(shards.values())
    warned = sum(shard["warning"] != "" for shard in found)
    st.record(f"directions.recommend_warned{suffix}", warned, 1, n=len(found))
    plain = sum(shard["picked_setting"][0] == "diff_means" for shard in found)
    st.record(f"directions.recommend_diff_means{suffix}", plain, 2, n=len(found))


def _finalists(shards: Mapping[tuple[str, ...], dict[str, Any]], suffix: str) -> None:
    """How often the picked setting is within 10% of the best, and what luck adds to the best."""
    table = pd.DataFrame(list(shards.values()))
    ratio = table["picked"] / table["best"]
    st.record(f"directions.recommend_hits{suffix}", int((ratio >= 0.9).sum()), 1, n=len(table))
    _record(f"recommend_ratio{suffix}", bootstrap_mean(ratio.to_numpy()), 0.05, len(table))
    naive = int((table["picked_first"] >= 0.9 * table["luckiest"]).sum())
    st.record(f"directions.recommend_hits_naive{suffix}", naive, 2, n=len(table))
    luck = bootstrap_mean((table["luckiest"] - table["luckiest_fresh"]).to_numpy())
    _record(f"recommend_luck{suffix}", luck, 0.05, len(table))
