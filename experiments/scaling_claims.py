"""What the shards of `experiments.scaling` say, recorded as claims.

The seeds of a country are averaged first; countries (names, for indirect objects) are the units of
an interval. Names of claims end in `_b` for the second model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

import steerlib as st
from experiments.scaling_data import PRICES, RATES, RELATIONS, frame
from steerlib.statistics import Interval, bootstrap_difference, bootstrap_mean

Shards = Mapping[tuple[str, ...], dict[str, Any]]
Parts = Mapping[str, Shards]
SUFFIX = {"world": "", "world-b": "_b"}
TOLERANCE = {"both": 0.05, "kl": 0.05, "effect": 0.05, "margin": 0.5, "mass": 0.05, "top": 0.08}
METHODS = ("activ", "vec", "dyn")
# A point of a plane must flip this share of the prompts of training countries to be chosen.
ENOUGH = 0.95
SPARSE = 0.05
COMPONENTS = 25


def record_all(parts: Parts) -> None:
    """Record every claim."""
    _tuning(parts)
    _planes(parts["planes"])
    for model, suffix in SUFFIX.items():
        own = {
            name: {key[1:]: shard for key, shard in shards.items() if key[0] == model}
            for name, shards in parts.items()
        }
        _sites(own["sites"], suffix)
        _losses(own["losses"], suffix)
        _controls(own["controls"], suffix)
        _transfer(own["transfer"], suffix)
        _curve(own["curve"], suffix)
        _ioi(own["ioi"], suffix)
        _components(own["components"], suffix)


def per_unit(table: pd.DataFrame, value: str) -> pd.Series:
    """The mean of a column for each country, its seeds averaged first."""
    seeds = table["key"].map(lambda key: key[-1]).rename("seed")
    return table.groupby(["unit", seeds])[value].mean().groupby("unit").mean()


def _record(name: str, values: pd.Series, tol: float) -> None:
    _write(name, bootstrap_mean(values.to_numpy()), tol, len(values))


def _write(name: str, found: Interval, tol: float, n: int) -> None:
    st.record(f"scaling.{name}", found.estimate, tol, (found.low, found.high), n)


def _many(prefix: str, table: pd.DataFrame, columns: str, suffix: str = "") -> None:
    for column in columns.split():
        tol = TOLERANCE[column.split("_")[0]]
        _record(f"{prefix}_{column}{suffix}", per_unit(table, column), tol)


def _mean(name: str, values: pd.Series, tol: float) -> None:
    st.record(f"scaling.{name}", float(values.mean()), tol, n=len(values))


# --- tuning and planes


def _tuning(parts: Parts) -> None:
    """The rates and prices in use are those with the lowest loss on the selection split."""
    for part, in_use in (("rates", RATES), ("prices", PRICES)):
        table = frame(parts[part], "loss")
        keys = pd.DataFrame(list(table["key"]), columns=["method", "value", "seed"])
        means = pd.concat([keys, table["loss"]], axis=1).groupby(["method", "value"])["loss"].mean()
        for (method, value), loss in means.items():
            name = f"{part}_{method}_{str(float(value)).replace('.', '_')}"
            st.record(f"scaling.{name}", float(loss), 0.1)
        for method in in_use if part == "rates" else ("vec",):
            best = float(str(means[method].idxmin()))
            if best != in_use[method][0]:
                raise ValueError(f"{part}: {method} does best at {best}, not {in_use[method][0]}")


def plane_points(shards: Shards) -> pd.DataFrame:
    """Mean two-way flips, KL and share of places of each point, on train and test countries."""
    rows = []
    for (_, method, faithful, minimal, seed), shard in shards.items():
        share = len(shard["places"]) / _total(method, shard)
        for split in ("train", "test"):
            means = pd.DataFrame(shard[split]).groupby("unit")[["both", "kl"]].mean().mean()
            rows.append(
                {"method": method, "faithful": faithful, "minimal": minimal, "seed": seed,
                 "split": split, "share": share, **means}
            )  # fmt: skip
    keys = ["method", "faithful", "minimal", "split"]
    return pd.DataFrame(rows).groupby(keys, as_index=False)[["both", "kl", "share"]].mean()


def _total(method: str, shard: Mapping[str, Any]) -> int:
    """How many places a method could use; DynScalar acts at all positions of a component."""
    places = int(shard["total"][0]["total"])
    return COMPONENTS if method == "dyn" else places


def chosen_points(shards: Shards) -> dict[str, tuple[str, str, str]]:
    """For each method the point with the least KL on training countries that flips enough there.

    Among all points ("any"), and among those with few places that are not zero ("sparse").
    """
    table = plane_points(shards)
    train = table[(table["split"] == "train") & (table["both"] >= ENOUGH)]
    found = {}
    for name, allowed in (("any", train), ("sparse", train[train["share"] < SPARSE])):
        for method in METHODS:
            own = allowed[allowed["method"] == method]
            best = own.loc[own["kl"].idxmin()]
            found[f"{name}_{method}"] = (method, best["faithful"], best["minimal"])
    return found


def _planes(shards: Shards) -> None:
    found = {}
    points = chosen_points(shards)
    points |= {"same_activ": ("activ", "1", "0.5"), "same_vec": ("vec", "1", "0")}
    for name, (method, faithful, minimal) in points.items():
        own = {k: s for k, s in shards.items() if k[1:4] == (method, faithful, minimal)}
        found[name] = frame(own, "test")
        _many(f"plane_{name}", found[name], "both kl top_plus top_minus")
        counts = pd.Series([len(shard["places"]) for shard in own.values()])
        shares = counts / [_total(method, shard) for shard in own.values()]
        _mean(f"plane_{name}_places", counts, 0.5)
        _mean(f"plane_{name}_share", shares, 0.02)
        st.record(f"scaling.plane_{name}_faithful", float(faithful), 0)
        st.record(f"scaling.plane_{name}_minimal", float(minimal), 0)
    st.record("scaling.places_total", next(iter(shards.values()))["total"][0]["total"], 0)
    for rule in ("any", "sparse", "same"):
        for measure in ("both", "kl"):
            left, right = (per_unit(found[f"{rule}_{m}"], measure) for m in ("activ", "vec"))
            difference = bootstrap_difference(left.to_numpy(), right[left.index].to_numpy())
            _write(f"plane_{rule}_activ_minus_vec_{measure}", difference, 0.05, len(left))


# --- one setting at a time


def _sites(shards: Shards, suffix: str) -> None:
    for kind in dict.fromkeys(key[0] for key in shards):
        own = {k: s for k, s in shards.items() if k[0] == kind}
        _many(f"sites_{kind}", frame(own, "test"), "both kl", suffix)
        counts = pd.Series([len(shard["places"]) for shard in own.values()])
        _mean(f"sites_{kind}_places{suffix}", counts, 4)


def _losses(shards: Shards, suffix: str) -> None:
    table = frame(shards, "rows")
    for (method, objective), own in table.groupby(["method", "objective"]):
        _many(f"loss_{method}_{objective}", own, "both kl mass_plus mass_minus", suffix)
    one = table[table["objective"] == "one_way"]
    odd, even = ((one["margin_plus"] + sign * one["margin_minus"]) / 2 for sign in (-1, 1))
    _record(f"one_way_odd{suffix}", per_unit(one.assign(value=odd), "value"), 0.5)
    _record(f"one_way_even{suffix}", per_unit(one.assign(value=even), "value"), 0.5)


def _controls(shards: Shards, suffix: str) -> None:
    table = frame(shards, "rows")
    found = {str(arm): own for arm, own in table.groupby("arm")}
    found["random"] = frame(shards, "random")
    for arm, own in found.items():
        _many(f"arm_{arm}", own, "both kl top_plus top_minus", suffix)
    draws = found["random"].groupby(["key", "draw"])["both"].mean()
    st.record(f"scaling.random_most{suffix}", float(draws.max()), 0.1, n=len(draws))
    for arm in ("vec", "dyn", "sadi", "prompt"):
        for measure in ("both", "kl"):
            left, right = (per_unit(found[name], measure) for name in ("activ", arm))
            difference = bootstrap_difference(left.to_numpy(), right[left.index].to_numpy())
            _write(f"activ_minus_{arm}_{measure}{suffix}", difference, 0.08, len(left))
    places = frame(shards, "places")
    for site, own in places[places["arm"] == "activ"].groupby("site"):
        _mean(f"alpha_{_short(str(site))}{suffix}", own["value"], 0.05)


def _short(site: str) -> str:
    """`blocks.0.attn.hook_z[1]` -> `l0h1`; `blocks.0.hook_mlp_out` -> `l0mlp`."""
    layer = site.split(".")[1]
    return f"l{layer}h{site[-2]}" if site.endswith("]") else f"l{layer}mlp"


def _transfer(shards: Shards, suffix: str) -> None:
    for method, name in dict.fromkeys(key[:2] for key in shards):
        if name in ("plain", "every"):
            continue
        own = {k: s for k, s in shards.items() if k[:2] == (method, name)}
        table = frame(own, "test")
        plain = table[table["cue"] == ""]
        moved = f"moved_{method}_{name}"
        for relation in RELATIONS:
            _record(f"{moved}_{relation}{suffix}",
                    per_unit(plain[plain["relation"] == relation], "both"), 0.1)  # fmt: skip
        for template in range(5):
            _record(f"{moved}_t{template}{suffix}",
                    per_unit(plain[plain["template"] == template], "both"), 0.1)  # fmt: skip
        _record(f"{moved}_kl{suffix}", per_unit(plain, "kl"), 0.1)
        if method == "activ" and name.startswith("one_"):
            for head in ("0.attn.hook_z[2]", "0.attn.hook_z[3]"):
                values = [_value(shard["places"], f"blocks.{head}") for shard in own.values()]
                _mean(f"{moved}_{_short(f'blocks.{head}')}{suffix}", pd.Series(values), 0.05)
        _record(f"{moved}_ioi{suffix}", per_unit(frame(own, "ioi"), "both"), 0.1)
        price = frame(own, "price")
        for (measure, strength), rows in price.groupby(["measure", "strength"]):
            side = {1.0: "plus", -1.0: "minus"}.get(float(strength))
            if side:
                _mean(f"{moved}_{measure}_{side}{suffix}", rows["mean"], 0.03)


def _value(places: list[dict[str, Any]], site: str) -> float:
    """The scalar of a site, 0 where it has none."""
    return next((float(row["value"]) for row in places if row["site"] == site), 0.0)


def _curve(shards: Shards, suffix: str) -> None:
    """At which strengths the cue is overridden, and what that costs."""
    table = frame(shards, "rows")
    own = table[table["method"] == "activ"]
    for beta in (1.0, 1.5, 2.0):
        name = str(beta).replace(".", "_")
        for cue, sign in (("book", -1), ("liar", 1)):
            rows = own[(own["cue"] == cue) & (own["beta"] == sign * beta)]
            won = rows.assign(won=(sign * rows["margin_plus"] > 0).astype(float))
            _record(f"cue_{cue}_{name}{suffix}", per_unit(won, "won"), 0.15)
            _record(f"cue_{cue}_kl_{name}{suffix}", per_unit(rows, "kl_plus"), 0.1)
    for cue in ("", "book", "liar"):
        rows = own[(own["cue"] == cue) & (own["beta"] == 0)]
        _record(f"margin_{cue or 'none'}{suffix}", per_unit(rows, "margin_plus"), 0.5)


def _ioi(shards: Shards, suffix: str) -> None:
    table = frame(shards, "rows")
    names, others = table[table["relation"] == "ioi"], table[table["relation"] != "ioi"]
    _record(f"ioi_margin{suffix}", per_unit(names, "margin"), 0.8)
    for method, own in names.groupby("method"):
        for template in (0, 1):
            rows = own[own["template"] == template]
            _record(f"ioi_{method}_t{template}{suffix}", per_unit(rows, "both"), 0.1)
        _record(f"ioi_{method}_kl{suffix}", per_unit(own, "kl"), 0.4)
        elsewhere = per_unit(others[others["method"] == method], "both")
        _record(f"ioi_{method}_on_conflicts{suffix}", elsewhere, 0.15)
    places = frame(shards, "places")
    counts = places[places["method"] == "activ"].groupby("key")["site"].count()
    _mean(f"ioi_places{suffix}", counts, 4)


def component_table(shards: Shards) -> pd.DataFrame:
    """What each way of looking says about each component, seeds averaged."""
    return frame(shards, "rows").drop(columns="key").groupby("site", sort=False).mean()


def _components(shards: Shards, suffix: str) -> None:
    table = component_table(shards)
    for site, row in table.iterrows():
        if row["alpha"] or abs(row["ablated"]) > 0.7 or row["patched"] > 0.2:
            name = _short(str(site))
            for column, tol in (
                ("slope", 0.5),
                ("ablated", 0.5),
                ("patched", 0.05),
                ("alone", 0.05),
            ):
                st.record(f"scaling.part_{name}_{column}{suffix}", float(row[column]), tol)
            st.record(f"scaling.part_{name}_alone_kl{suffix}", float(row["alone_kl"]), 0.05)
    size = table.abs()
    for column in ("slope", "ablated", "patched", "alone"):
        found = float(size["alpha"].corr(size[column], method="spearman"))
        st.record(f"scaling.rank_alpha_{column}{suffix}", found, 0.25, n=len(size))
    kept = frame(shards, "kept")
    for (kind, site), own in kept[kept["kind"] != "whole"].groupby(["kind", "site"]):
        if len(own) == len(shards):
            _mean(f"kept_{kind}_{_short(str(site))}{suffix}", own["both"], 0.15)
    _mean(f"kept_whole{suffix}", kept[kept["kind"] == "whole"]["both"], 0.05)
    looks = frame(shards, "attention").groupby(["head", "position"])["share"].mean()
    for head, position in ((1, 4), (2, 6), (3, 6)):
        st.record(f"scaling.looks_h{head}{suffix}", float(looks[head, position]), 0.1)
