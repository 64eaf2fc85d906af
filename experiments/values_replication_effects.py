"""Side effects, features and prompts: the parts of `experiments.values_replication` on changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

import steerlib as st
from steerlib.evaluation.shards import Shard
from steerlib.evaluation.side_effect_nulls import node_permutation_test, signed_rank_correlation
from steerlib.evaluation.side_effect_prediction import (
    change_frequencies,
    descendants,
    excess_frequencies,
    expected_unexpected,
    mean_gap,
    signed_changes,
)
from steerlib.evaluation.value_files import NONE, ReleasedValues
from steerlib.statistics import bootstrap_difference, bootstrap_mean

Setting = tuple[pd.DataFrame, pd.DataFrame]
REPORTED = "Mary Holt"  # the role whose features the authors report
BROKEN = "7754"  # the feature under which Llama's scores are 0, whatever the role and the question
RELABELINGS = 9_999
RANKED = 1_999  # relabelings of the slower rank correlations
PAPER = ("prompt", "sae")  # its settings, and its graphs: with two models twelve tests
TESTED = ("own", "human", "written")
# The ten values of the paper's tables, with the features that their authors chose by hand, from
# their notebook: to raise the value, to lower it.
HAND = {
    "gemma": {
        "Aesthetic": (1312, 10605),
        "Breadth of Interest": (10096, 14049),
        "Positive coping": (1975, 10096),
        "Religious": (1312, 1341),
        "Resilience": (1341, 4752),
        "Social": (14049, 1975),
        "Social Cynicism": (14049, 4752),
        "Theoretical": (10096, 1975),
        "Uncertainty Avoidance": (1312, 4752),
        "Understanding": (4752, 1975),
    },
    "llama": {
        "Aesthetic": (49202, 58305),
        "Breadth of Interest": (58305, 7754),
        "Positive coping": (9332, 7754),
        "Religious": (9332, 47207),
        "Resilience": (9332, 7754),
        "Social": (54606, 7754),
        "Social Cynicism": (7754, 47207),
        "Theoretical": (9332, 7754),
        "Uncertainty Avoidance": (7754, 12477),
        "Understanding": (47207, 7754),
    },
}
VALUES = list(HAND["gemma"])


# --- side effects


def effects(data: ReleasedValues) -> Shard:
    """Every graph in every setting: the paper's gap, the gap beyond base rates, signed ranks."""
    found: Shard = {}
    for setting, (before, after) in settings(data).items():
        frequencies, signed = change_frequencies(before, after), signed_changes(before, after)
        excess = excess_frequencies(frequencies)
        r = data.observational[list(data.values)].corr()
        graphs = _graphs(data)
        for name in graphs if setting in PAPER else ("own", "human"):
            expected, key = descendants(data.values, graphs[name]), f"{setting}_{name}"
            means = expected_unexpected(frequencies, expected)
            found[f"{key}_expected"] = float(means["expected"].mean())
            found[f"{key}_unexpected"] = float(means["unexpected"].mean())
            found[f"{key}_gap_within"] = float(means["gap"].mean())
            gap = node_permutation_test(frequencies, expected, RELABELINGS)
            beyond = node_permutation_test(excess, expected, RELABELINGS)
            found |= {f"{key}_gap": gap.statistic, f"{key}_p": gap.p}
            found |= {f"{key}_excess": beyond.statistic, f"{key}_excess_p": beyond.p}
            reached = pd.DataFrame({u: [u in expected[v] for v in r.index] for u in r}, r.index)
            found |= _ranked(key, r.where(reached, 0.0), signed)
        found |= _ranked(f"{setting}_correlation", r, signed)
    return found | _by_role(data)


def settings(data: ReleasedValues) -> dict[str, Setting]:
    """The paper's two; `roles`: features on every test role; `_rest`: without the broken one."""
    each = [data.feature_setting(role) for role in data.test["role"].unique()]
    before, after = (pd.concat(parts).reset_index() for parts in zip(*each, strict=True))
    found = {"prompt": data.prompt_setting(), "sae": data.feature_setting(REPORTED)}
    found["roles"] = (before.drop(columns="feature"), after.drop(columns="feature"))
    if BROKEN in data.kept:
        one = [part.drop(index=BROKEN) for part in found["sae"]]
        rest = after["feature"] != BROKEN
        found["sae_rest"] = (one[0], one[1])
        found["roles_rest"] = (found["roles"][0][rest], found["roles"][1][rest])
    return found


def _graphs(data: ReleasedValues) -> dict[str, tuple[tuple[str, str], ...]]:
    [other] = {"gemma", "llama"} - {data.model}
    names = {"own": data.model, "human": "human1", "written": f"{data.model}_gen", "other": other}
    return {name: data.graphs[key] for name, key in names.items()}


def _ranked(key: str, predicted: pd.DataFrame, signed: pd.DataFrame) -> Shard:
    """Observed changes against signed predictions.

    A graph with cycles has no total effects. So what is predicted along it is the plain
    correlation of the two values in the training rows, and 0 where the graph has no path; without
    a graph, the correlation of every pair.
    """
    found = signed_rank_correlation(predicted, signed, RANKED)
    return {f"{key}_rank": found.statistic, f"{key}_rank_p": found.p}


def _by_role(data: ReleasedValues) -> Shard:
    """The gap of features for each test role: is the reported role like the others?"""
    found = {}
    for name in ("own", "human"):
        expected = descendants(data.values, _graphs(data)[name])
        found[name] = pd.Series(
            {
                role: mean_gap(
                    expected_unexpected(change_frequencies(*data.feature_setting(role)), expected)
                )
                for role in data.test["role"].unique()
            }
        )
    own = bootstrap_mean(found["own"].to_numpy())
    human = bootstrap_mean(found["human"].to_numpy())
    return {
        "role_gap_own": [own.estimate, own.low, own.high],
        "role_gap_human": [human.estimate, human.low, human.high],
        "role_rank_reported": int(found["own"].rank(ascending=False)[REPORTED]),
        "role_number": len(found["own"]),
        "role_own_above_human": float((found["own"] > found["human"]).mean()),
    }


def record_adjusted(shards: Mapping[tuple[str, ...], Mapping[str, Any]]) -> None:
    """The paper's twelve gaps (two models, two settings, three graphs) as one family of tests."""
    from scipy.stats import false_discovery_control

    keys = [
        (model, f"{setting}_{name}") for (model,) in shards for setting in PAPER for name in TESTED
    ]
    for kind in ("", "_excess"):
        adjusted = false_discovery_control([shards[m,][f"{key}{kind}_p"] for m, key in keys])
        for (model, key), q in zip(keys, adjusted, strict=True):
            st.record(f"values.rep_{model}_{key}{kind}_q", float(q), 0.03)


# --- features


def directions(
    table: pd.DataFrame, data: ReleasedValues
) -> Float[np.ndarray, "feature role value"]:
    """Does each kept feature raise (1), lower (-1) or leave (0) each role's score?"""
    plain = _scores(table, NONE)
    moved = [_scores(table, feature).loc[plain.index] - plain for feature in data.kept]
    return np.sign(np.stack([change.to_numpy() for change in moved]))


def _scores(table: pd.DataFrame, feature: str) -> pd.DataFrame:
    return table[table["feature"] == feature].set_index("role")[VALUES]


def shares(signs: Float[np.ndarray, "feature role value"]) -> Float[np.ndarray, "feature value 3"]:
    """The shares of roles whose score rises, falls, stays."""
    return np.stack([(signs == kind).mean(1) for kind in (1, -1, 0)], axis=-1)


def table(data: ReleasedValues) -> Shard:
    """How alike effects on train and test roles are, and how alike those of two features are."""
    train, test = (shares(directions(part, data)) for part in (data.train, data.test))
    n, scale = len(train), np.linalg.norm
    cosine = np.stack(
        [[(a * b).sum(-1) / (scale(a, axis=-1) * scale(b, axis=-1)) for b in test] for a in train]
    ).mean(-1)  # [train feature, test feature], mean over values
    same, other = np.diag(cosine), cosine[~np.eye(n, dtype=bool)]
    net = [part[..., 0] - part[..., 1] for part in (train, test)]
    turned = [np.corrcoef(net[0].ravel(), np.roll(net[1], k, 0).ravel())[0, 1] for k in range(n)]
    stays = train[..., 2].mean(1)
    noise = train.min(-1).mean(0)
    return {
        "similarity_least": float(same.min()),
        "similarity_most": float(same.max()),
        "similarity_mean": float(same.mean()),
        "similarity_other_feature": float(other.mean()),
        "similarity_of_most_inert": float(same[stays.argmax()]),
        "most_inert": int(data.kept[int(stays.argmax())]),
        "stays_most_inert": float(stays.max()),
        "stays": float(stays.mean()),
        "noise_least": float(noise.min()),
        "noise_most": float(noise.max()),
        "net_correlation": float(turned[0]),
        "net_correlation_other_feature": float(np.mean(turned[1:])),
    }


def choice(data: ReleasedValues) -> Shard:
    """Share of (role, value) pairs that go up, stay, go down, for each way to choose a feature.

    `hand`: the authors' choice; `nested`: the best of ten on training roles and items; `lucky`: the
    best of ten on the test pairs that are reported; `each`: the mean over the ten; `prompt`: their
    prompt; `unbroken`: nested, without the feature that breaks Llama's answers.
    """
    train, test = directions(data.train, data), directions(data.test, data)
    plain = _scores(data.test, NONE)
    whole = np.array([feature != BROKEN for feature in data.kept])[:, None]
    found: Shard = {}
    for place, (kind, sign) in enumerate((("positive", 1), ("negative", -1))):
        gain = (sign * train).mean(1)
        chosen = {
            "hand": [data.kept.index(str(HAND[data.model][value][place])) for value in VALUES],
            "nested": gain.argmax(0),
            "lucky": (sign * test).mean(1).argmax(0),
        }
        if not whole.all():
            chosen["unbroken"] = np.where(whole, gain, -np.inf).argmax(0)
        asked = data.compare[kind].set_index("role").loc[plain.index, VALUES]
        arms = {"prompt": np.sign((asked - plain).to_numpy()), "each": test}
        for name, features in chosen.items():
            arms[name] = np.stack([test[f, :, v] for v, f in enumerate(features)], axis=-1)
        for name, signs in arms.items():
            for word, way in (("up", 1), ("same", 0), ("down", -1)):
                found[f"{kind}_{name}_{word}"] = float((signs == way).mean())
        for name in ("nested", "unbroken") if "unbroken" in chosen else ("nested",):
            ahead = bootstrap_difference(*((sign * arms[a]).mean(1) for a in (name, "prompt")))
            found[f"{kind}_{name}_minus_prompt"] = [ahead.estimate, ahead.low, ahead.high]
        for name in ("nested", "lucky"):
            found[f"{kind}_hand_as_{name}"] = int((chosen[name] == np.array(chosen["hand"])).sum())
    return found
