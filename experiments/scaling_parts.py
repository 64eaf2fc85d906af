"""Controls, losses, curves and components: the parts of `experiments.scaling` with several fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from random import Random
from typing import Any

import pandas as pd
import torch

import steerlib as st
from experiments.scaling_data import (
    CHOOSE,
    CUES,
    POSITIONS,
    REPORT,
    SHARED,
    by_unit,
    fitted,
    load,
    measured,
    prompts,
    swapped,
)
from steerlib import evaluation as ev
from steerlib.core.answers import (
    answer_ids,
    encode_choices,
    margin,
    next_scores,
    other_kl,
    others_log_p,
)
from steerlib.core.fitting import Plan, fit
from steerlib.evaluation.shards import Shard
from steerlib.methods.layout import Parameters, layout_of

Contests = Sequence[st.world.Contest]
GOAL = st.Objective()
RANDOM = 20
# From a nudge to a choice that no arm should need, so that a chosen one lies inside the grid.
STRENGTHS = (0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0, 16.0)
SIZES = (0.0, 1.0, 1.5, 2.0)


def loss(table: pd.DataFrame) -> float:
    """L_E + lambda_F L_F of the default objective: what every arm is chosen by."""
    toward = (GOAL.margin - table.margin_plus).clip(lower=0)
    away = (GOAL.margin + table.margin_minus).clip(lower=0)
    return float((toward + away + GOAL.faithfulness * table.kl).mean())


def controls(model: str, seed: str) -> Shard:
    """The dials and everything that they are compared with, in one setting."""
    net, number = load(model), int(seed)
    train = prompts("all", "train", number, SHARED)
    choose = prompts("all", "selection", number, CHOOSE)
    report = prompts("all", "test", number, REPORT)
    dials = {m: fitted(net, m, train, POSITIONS[m], seed=number) for m in ("activ", "vec", "dyn")}
    # Is it for want of steps that vectors do worse?
    dials["vec_long"] = fitted(net, "vec", train, POSITIONS["vec"], epochs=100, seed=number)
    shuffled = fitted(net, "activ", swapped(train, number), st.last, seed=number)
    chosen = {
        "sadi": _best(net, choose, _sadi(net, train)),
        "diff_means": _best(net, choose, _diff_means(net, train)),
    }
    found = {
        "nothing": measured(net, report, None),
        **{name: measured(net, report, dial) for name, dial in dials.items()},
        "shuffled": measured(net, report, shuffled),
        "prompt": _asked(net, report),
        **{name: measured(net, report, dial) for name, (dial, _) in chosen.items()},
    }
    wrong = [
        measured(net, report, _moved(net, dials["activ"], f"{seed}-{n}")) for n in range(RANDOM)
    ]
    return {
        "rows": [{"arm": arm, **row} for arm, rows in found.items() for row in rows],
        "random": [row | {"draw": draw} for draw, rows in enumerate(wrong) for row in rows],
        "chosen": [{"arm": name, "what": what} for name, (_, what) in chosen.items()],
        "places": [
            {"arm": name, **row}
            for name, dial in (*dials.items(), ("shuffled", shuffled))
            for row in st.places(dial).to_dict("records")
        ],
    }


def _moved(net: st.Model, dial: st.Intervention, seed: str) -> st.Intervention:
    """The same numbers at random components that the dial does not use: a control of its norm."""
    free = [site for site in st.components(net) if site not in dial.sites]
    places = Random(seed).sample(free, len(dial.terms))
    return st.Intervention(
        tuple(
            st.Term(place, term.edit, term.positions)
            for place, term in zip(places, dial.terms, strict=True)
        )
    )


def _best(
    net: st.Model, choose: Contests, arms: Iterable[tuple[str, st.Intervention]]
) -> tuple[st.Intervention, str]:
    """The arm, strength and sign with the lowest loss on the selection split."""
    tried = [
        (loss(ev.flips(net, choose, dial, sign * size)), f"{name}, {sign * size:+g}", dial,
         sign * size)
        for name, dial in arms
        for sign, size in product((1, -1), STRENGTHS)
    ]  # fmt: skip
    _, what, dial, size = min(tried, key=lambda entry: entry[0])
    return size * dial, what


def _sadi(net: st.Model, train: Contests) -> Iterable[tuple[str, st.Intervention]]:
    heads = [site for site in st.components(net) if site.kind == "head"]
    for k, by in product((1, 2, 3, 5, 8, 12, 16), ("value", "size")):
        yield f"heads, k={k}, {by}", st.sadi(net, train, heads, k, by=by)  # type: ignore[arg-type]
    streams = [st.resid(layer) for layer in range(net.n_layers)]
    for k, by in product((16, 64), ("value", "size")):
        yield f"stream, k={k}, {by}", st.sadi(net, train, streams, k, by=by)  # type: ignore[arg-type]


def _cued(choice: st.world.Contest, cue: str) -> st.world.Contest:
    """The same conflict whose source is named."""
    item = st.world.geography.conflict(
        Random(0), choice.relation, cue, choice.template, choice.subject, choice.positive
    )
    return st.world.Contest(
        item.prompt, choice.positive, choice.negative, False, None, choice.subject,
        choice.relation, choice.template, cue,
    )  # fmt: skip


def _diff_means(net: st.Model, train: Contests) -> Iterable[tuple[str, st.Intervention]]:
    """Where the stream of a trusted source differs from a liar's, or one answer's from the other's.

    Each at the last token, learned in every layer, added at the last token or at all.
    """
    sources = [_cued(c, cue).prompt for cue in ("book", "liar") for c in train]
    answers = [f"{c.prompt} {word}" for side in (0, 1) for c in train
               for word in [(c.positive, c.negative)[side]]]  # fmt: skip
    labels = tuple(n < len(train) for n in range(2 * len(train)))
    for name, texts in (("sources", sources), ("answers", answers)):
        data = st.world.Split(tuple(texts), labels, ("",) * len(texts))
        for layer, at in product(range(net.n_layers), (st.last, st.everywhere)):
            v = st.diff_means(net, data, st.resid(layer), st.last, reduce=None)
            yield f"{name}, layer {layer}, {at}", v.at(at)


@torch.no_grad()
def _asked(net: st.Model, report: Contests) -> list[dict[str, Any]]:
    """Prompting: the book as the source for +1, the liar for -1; compared with no source."""
    asked = encode_choices(net, report)
    pair, before = answer_ids(asked), next_scores(net, asked).double()
    columns: dict[str, torch.Tensor] = {}
    for side, cue in (("plus", "book"), ("minus", "liar")):
        after = next_scores(net, encode_choices(net, [_cued(c, cue) for c in report])).double()
        tops = [others_log_p(scores, *pair).argmax(-1) for scores in (before, after)]
        columns |= {
            f"margin_{side}": margin(after, *pair),
            f"kl_{side}": other_kl(before, after, *pair),
            f"top_{side}": tops[0] == tops[1],
        }
    table = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
    both = (table.margin_plus > 0) & (table.margin_minus < 0)
    return by_unit(table.assign(both=both, kl=(table.kl_plus + table.kl_minus) / 2), report)


# --- objectives


def losses(model: str, seed: str) -> Shard:
    """What each objective buys, without a price for size; one direction among them."""
    net, number = load(model), int(seed)
    train, report = (prompts("one_city", split, number, REPORT) for split in ("train", "test"))
    rows = []
    for method, (name, objective) in product(("activ", "vec"), OBJECTIVES.items()):
        dial = fitted(net, method, train, objective=objective, seed=number)
        for row in measured(net, report, dial):
            rows.append({"method": method, "objective": name, **row})
    for row in measured(net, report, one_way(net, train, number)):
        rows.append({"method": "activ", "objective": "one_way", **row})
    return {"rows": rows}


OBJECTIVES = {
    f"{kind}{m}_{faithful}": st.Objective(kind, m or 2.0, faithful, 0.0)  # type: ignore[arg-type]
    for (kind, m), faithful in product((("margin", 2), ("margin", 8), ("cross_entropy", 0)), (0, 1))
}


def one_way(net: st.Model, train: Contests, seed: int) -> st.Intervention:
    """Scalars that were learned for beta = +1 only: relu(m - Delta_+1) + lambda_F KL."""
    asked = encode_choices(net, train)
    layout = layout_of(net, st.components(net), None, asked, lambda d: 1)
    alpha = layout.zeros(net.device)
    with torch.no_grad():
        before = next_scores(net, asked)

    def build(values: Parameters) -> st.Intervention:
        return layout.build(values, lambda site, rows: st.Scale(site, rows[..., 0]))

    def cost(rows: list[int], step: Any) -> torch.Tensor:
        batch = [asked[row] for row in rows]
        pair = answer_ids(batch)
        with st.steer(net, build(alpha)):
            scores = next_scores(net, batch)
        kl = other_kl(before[rows], scores, *pair).mean()
        return torch.relu(GOAL.margin - margin(scores, *pair)).mean() + GOAL.faithfulness * kl

    fit(alpha, cost, len(asked), Plan(epochs=30, batch_size=32, lr=0.05, clip=None, seed=seed))
    return build({name: value.detach() for name, value in alpha.items()})


def curve(model: str, seed: str) -> Shard:
    """A dial against a cue, at strengths up to twice those that it was learned for."""
    net, number = load(model), int(seed)
    train, report = prompts("all", "train", number, SHARED), prompts("all", "test", number, REPORT)
    dial = fitted(net, "activ", train, POSITIONS["activ"], seed=number)
    rows = []
    for size, cue in product(SIZES, CUES):
        asked = [_cued(c, cue) for c in report]
        table = ev.flips(net, asked, dial, size)
        table = table.assign(won_plus=table.margin_plus > 0, won_minus=table.margin_minus < 0)
        rows += [{"size": size, **row} for row in by_unit(table, asked)]
    return {"rows": rows}


def ioi(model: str, seed: str) -> Shard:
    """Dials for indirect objects: fitted on one template, reported on both with other names."""
    net, number = load(model), int(seed)
    rows, found = [], []
    train = st.world.indirect_objects(SHARED, templates=(0,), seed=number)
    report = st.world.indirect_objects(REPORT, split="test", seed=number)
    for method in ("activ", "vec", "dyn"):
        dial = fitted(net, method, train, POSITIONS[method], seed=number)
        found += [{"method": method, **row} for row in st.places(dial).to_dict("records")]
        rows += [{"method": method, **row} for row in measured(net, report, dial)]
        other = measured(net, prompts("all", "test", number, REPORT), dial)
        rows += [{"method": method, **row} for row in other]
    return {"rows": rows, "places": found}


PARTS = {
    "controls": controls,
    "losses": losses,
    "curve": curve,
    "ioi": ioi,
}
