"""What the shards of `experiments.mera` say, recorded as claims, and the tables for its figures.

Units of an interval: the test problems of three seeds for an SPI (of an arm that abstains it is 0),
tasks and seeds for the diagnosis, random directions for the random control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

import steerlib as st
from experiments.mera_coverage import coverage_table, needed_gain_table, winners_curse_table
from experiments.mera_data import ONE_SIDED, SITES, Case
from steerlib.statistics import Flips, Interval, bootstrap_mean, spi

Shards = Mapping[tuple[str, ...], dict[str, Any]]
SUFFIX = {"world": "", "world-b": "_b"}
FIXED = {  # a fixed strength, or the best on the selection problems whatever its gain
    "prompt": "prompt",
    "additive, all": "additive_all",
    "additive, last": "additive",
    "contrast 50, last": "contrast50",
    "contrast 100, last": "contrast100",
    "contrast 200, last": "contrast200",
    "contrast 100, all": "contrast_all",
    "label probe, best": "label_probe_best",
    "standard, best": "standard_best",
    "bias, best": "bias_best",
}
CALIBRATED = {
    "standard": "standard",
    "standard, covariance": "standard_cov",
    "standard, all layers": "standard_layers",
    "standard, all": "standard_all",
    "on contrast": "on_contrast",
    "on logistic": "on_logistic",
    "on SAE feature": "on_sae",
    "on ReFT-r1": "on_reft",
    "cue token": "cue",
    "gated, no gate": "ungated",
    "gated, identity": "gated_identity",
    "gated": "gated",
    "gated, random, chosen": "random_chosen",
    "gated, shuffled": "shuffled",
    "label probe": "label_probe",
    "bias": "bias",
}
FORMS = {"standard": "standard", "within label": "within"}
_LAYER = str(SITES[3])  # of the diagnosis that is tabled
_RANDOM = "gated, random "


def record_all(found: Mapping[str, Shards]) -> None:
    """Record every claim."""
    _table(found["table"], found["bias"])
    _layers(found["table"])
    _strata(found["table"])
    _diagnosis(found["diagnosis"])
    _exact(found["exact"])
    _simulated()
    _condition()


def _write(name: str, found: Interval, tol: float, n: int) -> None:
    st.record(f"mera.{name}", found.estimate, tol, (found.low, found.high), n)


def _mean(name: str, values: np.ndarray, tol: float) -> None:
    """The mean, with an interval where there are several values."""
    if len(values) > 1:
        _write(name, bootstrap_mean(values), tol, len(values))
    else:
        st.record(f"mera.{name}", float(values[0]), tol, n=1)


# --- the table


def outcomes(shards: Shards) -> pd.DataFrame:
    """One row per model, task, seed and arm, with the answers as arrays."""
    rows = []
    for (model, task, seed), shard in shards.items():
        before = bits(shard["before"])
        for one in shard["arms"]:
            after = bits(one["after"])
            rows.append(
                {
                    "model": model, "task": task, "seed": seed, "arm": one["arm"],
                    "steers": not one["abstains"], "before": before, "after": after,
                    "spi": float(Flips.of(before, after).spi), "selected": one["selected_gain"],
                    "gain": float(after.mean() - before.mean()), "layers": one["layers"],
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def bits(text: str) -> np.ndarray:
    """Right answers from a string of 0 and 1."""
    return np.array([letter == "1" for letter in text])


def pooled(rows: pd.DataFrame) -> Interval:
    """SPI of the problems of all seeds together."""
    return spi(np.concatenate([*rows["before"]]), np.concatenate([*rows["after"]]))


def _table(shards: Shards, bias: Shards) -> None:
    rows = pd.concat([outcomes(shards), outcomes(bias)])
    harmed, steering = {"fixed": 0, "calibrated": 0}, 0
    cells = dict.fromkeys(harmed, 0)
    for (model, task), own in rows.groupby(["model", "task"], sort=False):
        end = f"{task}{SUFFIX[str(model)]}"
        first = own[own["arm"] == "prompt"]
        accuracy = bootstrap_mean(np.concatenate([*first["before"]]).astype(float))
        _write(f"accuracy_{end}", accuracy, 0.01, sum(map(len, first["before"])))
        for sort, names in (("fixed", FIXED), ("calibrated", CALIBRATED)):
            for arm, name in names.items():
                part = own[own["arm"] == arm]
                if part.empty:
                    continue
                found = pooled(part)
                _write(f"{name}_{end}", found, 0.05, 1000 * len(part))
                st.record(f"mera.{name}_{end}_steers", int(part["steers"].sum()), 0, n=len(part))
                if not name.startswith(("random", "shuffled")):
                    cells[sort] += 1
                    harmed[sort] += found.high < 0
                    steering += sort == "calibrated" and bool(part["steers"].any())
        _random(own, end)
    for sort in harmed:
        st.record(f"mera.{sort}_harmed", harmed[sort], 0, n=cells[sort])
        st.record(f"mera.{sort}_cells", cells[sort], 0)
    st.record("mera.calibrated_steering", steering, 0, n=cells["calibrated"])
    _curse(rows)


def _random(own: pd.DataFrame, end: str) -> None:
    """Random directions with the gate and the step lengths of the gated form."""
    draws = own[own["arm"].str.fullmatch(_RANDOM + r"\d+")]
    if draws["steers"].any():
        values = draws[draws["steers"]]["spi"].to_numpy()
        _write(f"random_{end}", bootstrap_mean(values), 0.05, len(values))
        st.record(f"mera.random_best_{end}", float(values.max()), 0.05, n=len(values))


def _curse(rows: pd.DataFrame) -> None:
    """What arms that were picked without a bound gained where they were picked, and on the test."""
    picked = rows[rows["arm"].isin(("contrast 100, last", "standard, best"))]
    lost = (picked["selected"].astype(float) - picked["gain"]).to_numpy()
    if len(lost) > 1:
        _write("picked_minus_test", bootstrap_mean(lost), 0.005, len(lost))


# --- layers and strata


def layers(shards: Shards) -> pd.DataFrame:
    """Per model, task, seed and layer: how well the probe reads, and what each form gained there.

    A gain is that of the best alpha on the selection problems, as a share of what was wrong.
    """
    rows = []
    for (model, task, seed), shard in shards.items():
        wrong = 1 - bits(shard["before"]).mean()
        arms = {one["arm"]: one["layers"] or {} for one in shard["arms"]}
        for probe in shard["probes"]:
            site = probe["site"]
            gains = {
                name: arms.get(arm, {}).get(site, np.nan) / wrong
                for arm, name in (("standard", "standard"), ("gated", "gated"))
            }
            rows.append({"model": model, "task": task, "seed": seed, **probe, **gains})
    return pd.DataFrame(rows)


def _layers(shards: Shards) -> None:
    rows = layers(shards)
    rows["layer"] = rows["site"].map({str(site): site.layer for site in SITES})
    for (model, task, layer), own in rows.groupby(["model", "task", "layer"]):
        end = f"{layer}_{task}{SUFFIX[str(model)]}"
        for measure in ("r2", "auroc"):
            st.record(f"mera.{measure}_{end}", float(own[measure].mean()), 0.03, n=len(own))
    one_sided = rows[rows["task"].isin(ONE_SIDED) & (rows["model"] == "world")]
    st.record("mera.auroc_least_one_sided", float(one_sided["auroc"].min()), 0.03, n=len(one_sided))
    last = one_sided[one_sided["layer"] >= 2]
    st.record("mera.auroc_least_late", float(last["auroc"].min()), 0.03, n=len(last))


def strata(shards: Shards) -> pd.DataFrame:
    """Accuracy by the source or cue of a problem, before and after the gated form."""
    rows = []
    for (model, task, seed), shard in shards.items():
        after = {one["arm"]: bits(one["after"]) for one in shard["arms"]}
        own = pd.DataFrame(
            {
                "group": shard["groups"], "error": shard["error"],
                "before": bits(shard["before"]), "gated": after["gated"],
                "contrast": after["contrast 100, last"],
            }
        )  # fmt: skip
        rows.append(own.assign(model=model, task=task, seed=seed))
    return pd.concat(rows)


def _strata(shards: Shards) -> None:
    """By quarters of the error before, over tasks with one-sided errors and the first model."""
    rows = strata(shards)
    rows = rows[rows["task"].isin(ONE_SIDED) & (rows["model"] == "world")]
    rank = rows.groupby(["task", "seed"])["error"].rank(pct=True, method="first")
    quarter = np.minimum((rank * 4).astype(int), 3)
    for number, own in rows.groupby(quarter):
        st.record(f"mera.quarter{number}_before", float(own["before"].mean()), 0.03, n=len(own))
        for arm in ("gated", "contrast"):
            gain = (own[arm].astype(float) - own["before"]).to_numpy()
            _write(f"quarter{number}_{arm}", bootstrap_mean(gain), 0.03, len(gain))


# --- diagnosis and exact positions


def diagnosed(shards: Shards) -> pd.DataFrame:
    """One row per model, task, seed, form, metric and layer."""
    return pd.DataFrame(
        [r | dict(zip(("model", "task", "seed"), k, strict=True))
         for k, s in shards.items() for r in s["rows"]]
    )  # fmt: skip


def _diagnosis(shards: Shards) -> None:
    rows = diagnosed(shards)
    rows = rows[rows["site"] == _LAYER]
    for (model, form, metric), own in rows.groupby(["model", "form", "metric"]):
        end = f"{FORMS[str(form)]}_{metric}{SUFFIX[str(model)]}"
        for measure, tol in (
            ("cos_truth", 0.05), ("cos_answer", 0.05), ("cos_mended", 0.05), ("length", 0.05),
            ("before", 0.2), ("after", 0.3), ("mended", 0.1), ("broken", 0.1),
        ):  # fmt: skip
            _mean(f"{measure}_{end}", own[measure].to_numpy(), tol)


def _exact(shards: Shards) -> None:
    for model, suffix in SUFFIX.items():
        own = {k: s for k, s in shards.items() if k[0] == model}
        if not own:
            continue
        rows = pd.DataFrame([r | {"seed": k[2]} for k, s in own.items() for r in s["rows"]])
        for form, part in rows.groupby("form"):
            values = [float(Flips(1000, r.right, r.up, r.down).spi) for r in part.itertuples()]
            slug = str(form).replace(" ", "_")
            _mean(f"exact_{slug}{suffix}", np.array(values), 0.1)
            steers = int((~part["abstains"].astype(bool)).sum())
            st.record(f"mera.exact_{slug}_steers{suffix}", steers, 0, n=len(part))
        for name in ("accuracy", "found"):
            mean = float(np.mean([shard[name] for shard in own.values()]))
            st.record(f"mera.exact_{name}{suffix}", mean, 0.01, n=len(own))
        read = pd.DataFrame([r for s in own.values() for r in s["quality"]])
        for (at, site), part in read.groupby(["at", "site"]):
            layer = {str(s): s.layer for s in SITES}[str(site)]
            for measure in ("r2", "auroc"):
                st.record(f"mera.exact_{measure}_{at}_{layer}{suffix}",
                          float(part[measure].mean()), 0.03, n=len(part))  # fmt: skip
        harm = pd.DataFrame([r for s in own.values() for r in s["harm"]])
        for strength, part in harm.groupby("strength"):
            for measure in ("found", "accuracy", "error", "error_released"):
                st.record(f"mera.push{strength:.0f}_{measure}{suffix}",
                          float(part[measure].mean()), 0.05, n=len(part))  # fmt: skip


def _condition() -> None:
    """Largest over second smallest eigenvalue of the covariance; the smallest is LayerNorm's."""
    held = Case("world", "verdict", 0).held
    values = [torch.linalg.eigvalsh(torch.cov(h.double().T)) for h in held.values()]
    least = min(float(v[-1] / v[1]) for v in values)
    st.record("mera.condition_log10", float(np.log10(least)), 0.2, n=len(values))


# --- simulated


def _simulated() -> None:
    """Coverage of the bounds, the winner's curse, and the gains that are needed."""
    table = coverage_table()
    for (delta, bound), own in table.groupby(["delta", "bound"]):
        end = f"{bound}_{round(100 * float(delta))}"
        n = int(own["repetitions"].iloc[0])
        st.record(f"mera.worst_harm_{end}", float(own["harm"].max()), 0.005, n=n)
    small = table[table["delta"] == 0.05]
    for row in small.itertuples():
        end = f"{row.bound}_{row.task}_{row.n}"
        st.record(f"mera.harm_{end}", row.harm, 0.005, n=row.repetitions)
        if str(row.task) == "mixed":
            st.record(f"mera.steers_{end}", row.steers, 0.01, n=row.repetitions)
            st.record(f"mera.gain_{end}", row.gain, 0.002, n=row.repetitions)
    for row in winners_curse_table().itertuples():
        name = f"mera.curse_{row.n}_{round(100 * row.rate)}"
        st.record(name, row.best, 0.001, n=row.repetitions)
    needed = needed_gain_table()
    for row in needed[needed["delta"] == 0.01].itertuples():
        if np.isfinite(row.gain):
            name = f"mera.needed_{row.bound}_{row.n}_{round(100 * row.flip_rate)}"
            st.record(name, row.gain, 0)
