"""What a component does at the last token: its scalar, and four other ways to look at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from random import Random
from typing import Any

import torch

import steerlib as st
from experiments.scaling_data import fitted, load, prompts
from experiments.scaling_parts import Contests
from steerlib import evaluation as ev
from steerlib.core.answers import encode_choices
from steerlib.evaluation.shards import Shard


def components(model: str, seed: str) -> Shard:
    """What four other ways to look at a component say about it, at the last token."""
    net, number = load(model), int(seed)
    train, report = (prompts("one_city", split, number, 128) for split in ("train", "test"))
    places = st.components(net)
    slopes = st.scale_gradients(net, report, places, at=st.last)
    dial = fitted(net, "activ", train, st.last, seed=number)
    learned = dict(st.places(dial)[["site", "value"]].itertuples(index=False))
    without = ev.flips(net, report, None)
    patched = _patched(model, report, places)
    rows = []
    for site in places:
        gone = ev.flips(net, report, st.Scale(site, -1.0).at(st.last))
        free = st.Objective(minimality=0.0)
        alone = fitted(net, "activ", train, st.last, sites=[site], objective=free, seed=number)
        flipped = ev.flips(net, report, alone)
        rows.append(
            {
                "site": site.name,
                "alpha": learned.get(site.name, 0.0),
                "slope": slopes[site].item(),
                "ablated": float((gone.margin_plus - without.margin).mean()),
                "patched": patched[site.name],
                "alone": float(flipped.both.mean()),
                "alone_kl": float(flipped.kl.mean()),
            }
        )
    kept = _leave_out(net, report, dial)
    return {"rows": rows, "kept": kept, "attention": _attention(model, report)}


def _leave_out(net: st.Model, report: Contests, dial: st.Intervention) -> list[dict[str, Any]]:
    """The dial without each of its components, and with each one alone."""
    rows = [{"site": "", "kind": "whole", "both": float(ev.flips(net, report, dial).both.mean())}]
    for number, term in enumerate(dial.terms):
        rest = tuple(t for n, t in enumerate(dial.terms) if n != number)
        for kind, terms in (("only", (term,)), ("without", rest)):
            if terms:
                both = ev.flips(net, report, st.Intervention(terms)).both.mean()
                rows.append({"site": term.site.name, "kind": kind, "both": float(both)})
    return rows


def _patched(model: str, report: Contests, places: Sequence[st.Site]) -> dict[str, float]:
    """Activation patching: a component's output at the last token comes from another prompt.

    In the other prompt the context tells the truth. The share of the change of Delta that the
    component brings about by itself, averaged over the prompts.
    """
    bridge = st.load(model)
    runs = [_ids(bridge, report), _ids(bridge, [_honest(c) for c in report])]
    asked = [(c.positive, c.negative) for c in report]
    pair = [torch.tensor([st.answer_id(bridge, a[side]) for a in asked]) for side in (0, 1)]
    rows = torch.arange(len(report))

    def delta(scores: torch.Tensor) -> torch.Tensor:
        return scores[rows, -1, pair[0]] - scores[rows, -1, pair[1]]

    with torch.no_grad():
        _, cache = bridge.module.run_with_cache(runs[1])
        base = delta(bridge.module(runs[0]))
        target = delta(bridge.module(runs[1]))
        found = {}
        for site in places:
            hook = (site.name.split("[")[0], _replace(cache, site))
            after = delta(bridge.module.run_with_hooks(runs[0], fwd_hooks=[hook]))
            found[site.name] = float((after - base).mean() / (target - base).mean())
    return found


def _replace(cache: Any, site: st.Site) -> Callable[..., torch.Tensor]:
    """A TransformerLens hook that takes the site's value at the last token from a cache."""

    def hook(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value, other = value.clone(), cache[site.name.split("[")[0]]
        if site.index is None:
            value[:, -1] = other[:, -1]
        else:
            value[:, -1, site.index] = other[:, -1, site.index]
        return value

    return hook


def _honest(choice: st.world.Contest) -> st.world.Contest:
    """The same prompt with a context that says what memory says."""
    item = st.world.geography.conflict(
        Random(0), choice.relation, "", choice.template, choice.subject, choice.negative
    )
    return st.world.Contest(item.prompt, choice.positive, choice.negative, False)


@torch.no_grad()
def _attention(model: str, report: Contests) -> list[dict[str, Any]]:
    """Where the heads of the first block look from the last token, on average."""
    bridge = st.load(model)
    _, cache = bridge.module.run_with_cache(_ids(bridge, report))
    pattern = cache["blocks.0.attn.hook_pattern"][:, :, -1].mean(0)
    return [
        {"head": head, "position": position, "share": float(pattern[head, position])}
        for head, position in product(range(pattern.shape[0]), range(pattern.shape[1]))
    ]


def _ids(bridge: st.Model, choices: Contests) -> torch.Tensor:
    """The tokens of aligned prompts, with BOS in front."""
    return torch.tensor([item.ids for item in encode_choices(bridge, choices)])
