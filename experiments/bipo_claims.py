"""What the shards of `experiments.bipo` say, recorded as claims, and the tables for its figures.

The unit of an interval is a fit: a trait and a seed, so 15 of them; in axbench it is a concept.
An effect is [net(+x) - net(-x)] / 2, net the share of answers that show the trait minus the share
that show its opposite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import steerlib as st
from experiments.bipo_axbench import RATE
from experiments.bipo_data import FULL, SITES, STRENGTHS, TRAITS
from experiments.bipo_vectors import CAA, MIDDLE, chosen
from steerlib.statistics import bootstrap_mean

Shards = Mapping[tuple[str, ...], dict[str, Any]]
GROUPED = ("bipo", "dpo", "caa_text", "caa_persona", "equal caa_persona", "random", "prompt")
SUFFIX = {"world": "", "world-b": "_b"}


def record_all(found: Mapping[str, Shards]) -> None:
    """Record every claim."""
    _tuned(found["tune"])
    _groups(found["dose"])
    _effects(curves(found["dose"]))
    _beside(found["dose"])
    _parts(found["dose"])
    _overdose(found["overdose"])
    _length(found["length"])
    _two(found["two"])
    _transfer(found["transfer"])
    _axbench(found["concept"], found["rates"])


def _mean(name: str, values: Sequence[float] | np.ndarray, tol: float) -> None:
    """The mean, with an interval where there are several values."""
    array = np.asarray(values, dtype=float)
    if len(array) > 1:
        span = bootstrap_mean(array)
        st.record(f"bipo.{name}", span.estimate, tol, (span.low, span.high), len(array))
    else:
        st.record(f"bipo.{name}", float(array[0]), tol, n=1)


def word(arm: str) -> str:
    """The name of an arm in the name of a claim."""
    return arm.replace(" ", "_")


# --- dose and response


def curves(shards: Shards) -> pd.DataFrame:
    """One row per trait, seed, arm and strength: means over the scenarios of the split."""
    rows = []
    for (_, trait, seed), shard in shards.items():
        if trait not in TRAITS:
            continue
        asked = {"prompt": {f"{FULL * int(sign)}": one for sign, one in shard["prompt"].items()}}
        for arm, curve in {**shard["arms"], **asked}.items():
            for strength, shown in curve.items():
                net = np.subtract(shown["positive"], shown["negative"])
                rows.append(
                    {
                        "trait": trait, "seed": seed, "arm": arm, "strength": float(strength),
                        "net": net.mean(), "whole": np.mean(shown["whole"]),
                        "p": np.mean(shown["p"]) if "p" in shown else np.nan,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def effects(table: pd.DataFrame, strength: float) -> pd.DataFrame:
    """One row per fit and arm: the effect, the two nets and the smaller share of whole texts."""
    sides = {
        sign: table[table["strength"] == sign * strength].set_index(["arm", "trait", "seed"])
        for sign in (1, -1)
    }
    plus, minus = sides[1], sides[-1].reindex(sides[1].index)
    return pd.DataFrame(
        {
            "effect": (plus["net"] - minus["net"]) / 2,
            "p": (plus["p"] - minus["p"]) / 2,
            "whole": np.minimum(plus["whole"], minus["whole"]),
        }
    ).reset_index()


def _effects(table: pd.DataFrame) -> None:
    for strength, name in ((1.0, "effect1"), (FULL, "effect"), (2 * FULL, "effect4")):
        rows = effects(table, strength)
        single = rows[~rows["arm"].str.startswith("equal random")]
        for arm, own in single.groupby("arm"):
            _mean(f"{name}_{word(str(arm))}", own["effect"], 0.02)
            _mean(f"{name}_whole_{word(str(arm))}", own["whole"], 0.02)
        drawn = rows[rows["arm"].str.startswith("equal random")]
        if not drawn.empty:
            _mean(f"{name}_random", drawn["effect"].abs(), 0.02)
            st.record(f"bipo.{name}_random_max", float(drawn["effect"].abs().max()), 0.02)
    rows = effects(table, FULL)
    wide = rows.pivot_table(index=["trait", "seed"], columns="arm", values="effect")
    for other in (*(f"equal {caa}" for caa in CAA), *CAA, "dpo", "split", "shuffled"):
        if other in wide:
            _mean(f"gap_{word(other)}", (wide["bipo"] - wide[other]).dropna(), 0.02)
    drawn = wide[[name for name in wide if str(name).startswith("equal random")]]
    _mean("gap_random", wide["bipo"] - drawn.abs().max(axis=1), 0.02)
    for other in ("dpo", "caa_persona"):
        _mean(f"gap_free_{other}", wide["free bipo"] - wide[f"free {other}"], 0.02)
    for trait in TRAITS:
        for arm in ("bipo", "equal caa_persona", "prompt"):
            part = rows[(rows["arm"] == arm) & (rows["trait"] == trait)]
            _mean(f"{word(arm)}_{trait}", part["effect"], 0.02)
    _monotone(table)


def _monotone(table: pd.DataFrame) -> None:
    """In how many fits the curve never falls from -FULL to FULL, by the probability of answers.

    Of sampled shares (128 answers, an error of about .06) a step down counts beyond .1.
    """
    for arm in ("bipo", *(f"equal {caa}" for caa in CAA)):
        own = table[(table["arm"] == arm) & (table["strength"].abs() <= FULL)]
        steps = [
            (np.diff(part["p"]), np.diff(part["net"]))
            for _, part in own.sort_values("strength").groupby(["trait", "seed"])
        ]
        exact = sum(bool((p > 0).all()) for p, _ in steps)
        sampled = sum(bool((net > -0.1).all()) for _, net in steps)
        st.record(f"bipo.monotone_{word(arm)}", exact, 0, n=len(steps))
        st.record(f"bipo.monotone_sampled_{word(arm)}", sampled, 0, n=len(steps))
    for strength in STRENGTHS:
        name = f"{'m' if strength < 0 else 'p'}{abs(strength):g}"
        for arm in ("bipo", "equal caa_persona"):
            part = table[(table["arm"] == arm) & (table["strength"] == strength)]
            _mean(f"curve_{word(arm)}_{name}", part["net"], 0.02)
            _mean(f"share_{word(arm)}_{name}", part["p"], 0.02)
            _mean(f"whole_{word(arm)}_{name}", part["whole"], 0.02)


def grouped(shards: Shards, behaviour: str) -> pd.DataFrame:
    """Honesty or refusal: one row per seed, arm, strength and group; the random arms are one."""
    rows = []
    for (_, what, seed), shard in shards.items():
        if what != behaviour:
            continue
        asked = {"prompt": {f"{FULL * int(k)}": one for k, one in shard["prompt"].items()}}
        for arm, curve in {**shard["arms"], **asked}.items():
            for strength, shown in curve.items():
                for group in dict.fromkeys(shard["groups"]):
                    inside = np.array(shard["groups"]) == group
                    rows.append(
                        {
                            "seed": seed, "group": group, "strength": float(strength),
                            "arm": "random" if arm.startswith("equal random") else arm,
                            "positive": np.array(shown["positive"])[inside].mean(),
                            "negative": np.array(shown["negative"])[inside].mean(),
                            "whole": np.array(shown["whole"])[inside].mean(),
                        }
                    )  # fmt: skip
    keys = ["seed", "arm", "strength", "group"]
    return pd.DataFrame(rows).groupby(keys, as_index=False).mean()


def _groups(shards: Shards) -> None:
    """Honesty and refusal, by what was asked: the share that is honest, or refuses."""
    for behaviour in ("honesty", "refusal"):
        table = grouped(shards, behaviour)
        table = table[table["arm"].isin(GROUPED) & table["strength"].isin((-FULL, 0.0, FULL))]
        for (arm, strength, group), own in table.groupby(["arm", "strength", "group"]):
            sign = {-FULL: "minus", 0.0: "zero", FULL: "plus"}[float(strength)]
            name = f"{behaviour}_{word(str(arm))}_{group}_{sign}"
            _mean(name, own["positive"], 0.03)
            _mean(f"{name}_opposite", own["negative"], 0.03)
        for (arm, strength), own in table.groupby(["arm", "strength"]):
            sign = {-FULL: "minus", 0.0: "zero", FULL: "plus"}[float(strength)]
            each = own.groupby("seed")["whole"].mean()
            _mean(f"{behaviour}_{word(str(arm))}_whole_{sign}", each, 0.03)


def _beside(shards: Shards) -> None:
    """Letters, other traits, facts, grammar and KL."""
    own = [shard for (_, what, _), shard in shards.items() if what in TRAITS]
    for arm in own[0]["letters"]:
        moved = [
            (np.mean(s["letters"][arm][f"{FULL}"]) - np.mean(s["letters"][arm][f"{-FULL}"])) / 2
            for s in own
        ]
        _mean(f"letters_{word(arm)}", np.array(moved), 0.02)
        leaks = [np.mean(np.abs(list(s["others"][arm].values()))) for s in own]
        _mean(f"others_{word(arm)}", np.array(leaks), 0.02)
        for measure in ("facts", "grammar", "kl"):
            for strength in (FULL, 2 * FULL):
                values = [
                    row["mean"]
                    for s in own
                    for row in s["effects"][arm]
                    if row["measure"] == measure and abs(row["strength"]) == strength
                ]
                means = np.reshape(values, (len(own), -1)).mean(1)
                _mean(f"{measure}{strength:g}_{word(arm)}", means, 0.05)
    for measure in ("facts", "grammar"):
        base = [
            row["mean"]
            for s in own
            for row in s["effects"]["bipo"]
            if row["measure"] == measure and row["strength"] == 0
        ]
        _mean(f"{measure}_base", base, 0.02)


def _parts(shards: Shards) -> None:
    """Odd and even part of Delta on unseen pairs, in nats."""
    rows = pd.DataFrame(
        [{"behaviour": what, **row} for (_, what, _), s in shards.items() for row in s["parts"]]
    )
    for kind, part in (("", rows[rows["behaviour"].isin(TRAITS)]),
                       ("_refusal", rows[rows["behaviour"] == "refusal"])):  # fmt: skip
        for arm, own in part.groupby("arm"):
            for column in ("odd", "even", "even_size", "gain_target", "gain_opposite", "own"):
                _mean(f"{column}{kind}_{word(str(arm))}", own[column], 0.5)
            for column in ("wrong_plus", "wrong_minus", "cosine"):
                _mean(f"{column}{kind}_{word(str(arm))}", own[column], 0.02)


# --- the rest


def tuned(shards: Shards) -> pd.DataFrame:
    """Best effect on the selection units by model, behaviour, arm and layer."""
    rows = [
        {"model": model, "behaviour": behaviour, **row}
        for (model, behaviour), shard in shards.items()
        for row in shard["rows"]
    ]
    keys = ["model", "behaviour", "arm", "layer"]
    return pd.DataFrame(rows).groupby(keys, as_index=False)["effect"].max()


def _tuned(shards: Shards) -> None:
    table = tuned(shards)
    table = table[table["behaviour"].isin(TRAITS)]
    for (model, arm, layer), own in table.groupby(["model", "arm", "layer"]):
        _mean(f"tuned_{word(str(arm))}_{layer}{SUFFIX[str(model)]}", own["effect"], 0.02)
    for behaviour in ("honesty", "refusal"):
        for arm in ("bipo", "dpo", "caa_persona"):
            norm = chosen(shards["world", behaviour], (MIDDLE,))[arm][1]
            st.record(f"bipo.norm_{behaviour}_{arm}", norm, 0)
    for model, end in SUFFIX.items():
        norms = [chosen(shards[model, trait], (MIDDLE,))["bipo"][1] for trait in TRAITS]
        _mean(f"norm_chosen{end}", norms, 0)
        for arm in ("bipo", "caa_persona"):
            blocks = [chosen(shards[model, trait])[arm][0] for trait in TRAITS]
            last = sum(block == len(SITES) - 1 for block in blocks)
            st.record(f"bipo.last_block_{arm}{end}", last, 0, n=len(blocks))


def _overdose(shards: Shards) -> None:
    rows = pd.DataFrame([{"key": key, **row} for key, s in shards.items() for row in s["rows"]])
    for (arm, norm), own in rows.groupby(["arm", "norm"]):
        _mean(f"overdose_{word(str(arm))}_{norm:g}", own["effect"], 0.02)
        _mean(f"overdose_whole_{word(str(arm))}_{norm:g}", own["whole"], 0.02)
    for arm, own in rows.groupby("arm"):
        # The largest effect that leaves nine texts of ten whole.
        good = own[own["whole"] >= 0.9].groupby("key")["effect"].max()
        _mean(f"unbroken_{word(str(arm))}", good, 0.02)
    _mean("length_of_h", [s["h"] for s in shards.values()], 1.0)


def _length(shards: Shards) -> None:
    rows = pd.DataFrame([row for s in shards.values() for row in s["rows"]])
    rows["of"] = rows["of"].fillna(0).astype(int)
    for (epochs, rate, whole), own in rows.groupby(["epochs", "lr", "of"]):
        end = f"{epochs}_{str(rate).replace('.', '_')}" + (f"_of_{whole}" if whole else "")
        _mean(f"length_norm_{end}", own["norm"], 0.5)
        _mean(f"length_own_{end}", own["own"], 0.03)
        _mean(f"length_fixed_{end}", own["fixed"], 0.03)
        _mean(f"length_cosine_{end}", own["cosine"], 0.02)


def _two(shards: Shards) -> None:
    rows = pd.DataFrame([row for s in shards.values() for row in s["rows"]])
    single = rows["trait"] == rows["other"]
    for name, part in (("alone", rows[single]), ("together", rows[~single])):
        _mean(f"two_{name}", (part["plus"] - part["minus"]) / 2, 0.02)
        _mean(f"two_plus_{name}", part["plus"], 0.02)
        _mean(f"two_whole_{name}", part[["whole_plus", "whole_minus"]].min(axis=1), 0.02)
    rows = rows[~single]
    _mean("two_against", rows["plus_against"], 0.02)
    _mean("two_shared", (rows["plus_shared"] - rows["minus_shared"]) / 2, 0.02)
    _mean("two_plus_shared", rows["plus_shared"], 0.02)
    _mean("two_whole_shared", rows[["whole_plus_shared", "whole_minus_shared"]].min(axis=1), 0.02)
    cosines = [value for s in shards.values() for value in s["cosines"].values()]
    _mean("two_cosine", cosines, 0.02)


def _transfer(shards: Shards) -> None:
    cases = list(next(iter(shards.values())))
    for case in cases:
        _mean(f"transfer_{case}", [s[case]["effect"] for s in shards.values()], 0.02)
        _mean(f"transfer_whole_{case}", [s[case]["whole"] for s in shards.values()], 0.02)


def _axbench(shards: Shards, tried: Shards) -> None:
    rates = pd.DataFrame([(m, float(r), s["score"]) for (m, r, _), s in tried.items()])
    for method, own in rates.groupby([0, 1])[2].mean().groupby(level=0):
        used = own[method, RATE[str(method)]]
        if own.max() > used + 1e-9:
            raise ValueError(f"{method} does best at {own.idxmax()}, not at {RATE[str(method)]}")
    rows = pd.DataFrame(
        [{"concept": c, "style": c in st.world.STYLES, **r} for (c, _), s in shards.items()
         for r in s["rows"]]
    )  # fmt: skip
    for style, kind in ((False, ""), (True, "_style")):
        part = rows[rows["style"] == style]
        for arm, own in part.groupby("arm"):
            _mean(f"axbench{kind}_{arm}", own["score"], 0.03)
            for column in ("gain_target", "gain_opposite", "norm", "at_one", "strength"):
                _mean(f"axbench{kind}_{column}_{arm}", own[column], 0.05)
        wide = part.pivot_table(index="concept", columns="arm", values="score")
        for other in ("diff_means", "reps", "dpo", "split"):
            _mean(f"axbench{kind}_gap_{other}", wide["bipo"] - wide[other], 0.03)
