"""The arms of the chapter's table: each is what is asked of the model, and how it was chosen.

Everything is fitted on the training problems, chosen or calibrated on the selection problems and
reported on the test problems. A grid over layers and alphas counts as one grid: delta is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

import steerlib as st
from experiments.mera_data import ALPHAS, BATCH, CUE, DELTA, ORDERS, SITES, Case, total
from steerlib.core.classification import Answers
from steerlib.core.edits import LowRank
from steerlib.methods.answers_on_grid import answers_on_grid
from steerlib.methods.error_directions import best_minus_worst
from steerlib.methods.error_probes import ErrorProbe
from steerlib.methods.gated_probes import GatedProbe
from steerlib.methods.learned import Talk
from steerlib.methods.mera import GRID, Calibration
from steerlib.statistics import Flips

Make = Callable[[Any], st.Intervention]
SAE_SITE = st.resid(2)
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the label probe
DRAWS = 8  # random directions
FOLDS = 5  # of a logistic probe: it needs so many answers of both kinds


@dataclass(frozen=True)
class Outcome:
    """What an arm did: its answers to the test problems (None: those without steering)."""

    arm: str
    answers: Answers | None
    setting: str = ""
    selected: Flips | None = None
    layers: dict[str, float] | None = None


def arms(case: Case) -> Iterator[Outcome]:
    """All arms of a case."""
    yield from _prompts(case)
    standard = case.probes("lasso")
    ridge = case.probes("ridge", metric="covariance")
    yield from _pushes(case, standard)
    yield from _contrasts(case)
    yield from _label_probe(case)
    yield from _standard(case, standard, ridge)
    yield from _on_top(case)
    if case.task in CUE:
        yield _cue(case)
    yield from _gated(case)


# --- not calibrated: a fixed strength, or the best of several


def _prompts(case: Case) -> Iterator[Outcome]:
    """The system text that is best on the selection problems."""
    asked = [
        st.classify(case.net, case.problems("selection", order), batch_size=BATCH)
        for order in ORDERS
    ]
    best = max(range(len(ORDERS)), key=lambda i: asked[i].accuracy)
    after = st.classify(case.net, case.problems("test", ORDERS[best]), batch_size=BATCH)
    yield Outcome("prompt", after, ORDERS[best], case.flips(asked[best], "selection"))


def _pushes(case: Case, probes: dict[st.Site, ErrorProbe]) -> Iterator[Outcome]:
    """The additive probe at strength 1: all layers and tokens as in the paper, or one layer."""
    everywhere = total([probe.push().at(st.everywhere) for probe in probes.values()])
    yield Outcome("additive, all", _under(case, everywhere))
    yield _best(case, "additive, last", [(site, 1.0) for site in SITES],
                lambda s: probes[s[0]].push())  # fmt: skip


def _contrasts(case: Case) -> Iterator[Outcome]:
    """The contrast of the k best and the k worst answers at strength 1."""
    for k in (50, 100, 200):
        made = {site: _contrast(case, site, k) for site in SITES}
        if k == 100:
            everywhere = total([one.at(st.everywhere) for one in made.values()])
            yield Outcome(f"contrast {k}, all", _under(case, everywhere))
        yield _best(case, f"contrast {k}, last", [(site, 1.0) for site in SITES], _of(made))


def _contrast(case: Case, site: st.Site, k: int) -> st.Intervention:
    """`st.contrast` with activations that are known already."""
    return st.Add(site, best_minus_worst(case.held[site], case.known["train"], k)).at(st.last)


def _of(made: dict[st.Site, st.Intervention]) -> Make:
    return lambda setting: made[setting[0]]


def _label_probe(case: Case) -> Iterator[Outcome]:
    """A small network that reads the label by itself, mixed into the answer (CORAL-like)."""
    known, found = case.known, []
    for site in SITES[3:4]:
        probe = st.label_probe(case.net, case.train, site, answers=known["train"], seed=case.seed)
        for weight in WEIGHTS:
            own = probe.answers(case.net, case.selection, weight, answers=known["selection"])
            found.append((case.flips(own, "selection"), site, weight, probe))
    flips, site, weight, probe = max(found, key=lambda one: one[0].gain)
    after = probe.answers(case.net, case.test, weight, answers=known["test"])
    yield Outcome("label probe, best", after, f"{site.layer}, {weight}", flips)
    safe = flips.lower_bound(DELTA / len(found)) > 0
    yield Outcome("label probe", after if safe else None, f"{site.layer}, {weight}", flips)


def _best(case: Case, arm: str, settings: Sequence[Any], make: Make) -> Outcome:
    """The setting with the largest gain on the selection problems, whatever it is."""
    found = _calibrated(case, settings, make)
    number = _largest(found)
    after = _under(case, found.interventions[number])
    return Outcome(arm, after, _name(settings[number]), found.flips[number])


# --- MERA


def _standard(
    case: Case, lasso: dict[st.Site, ErrorProbe], ridge: dict[st.Site, ErrorProbe]
) -> Iterator[Outcome]:
    """One error probe for all problems, as in the paper."""
    grid = list(product(SITES, ALPHAS))
    found = _calibrated(case, grid, lambda s: lasso[s[0]].step(s[1]))
    yield _chosen(case, "standard", found)
    number = _largest(found)
    yield Outcome("standard, best", _under(case, found.interventions[number]),
                  _name(grid[number]), found.flips[number])  # fmt: skip
    yield _run(case, "standard, covariance", grid, lambda s: ridge[s[0]].step(s[1]))
    every = list(lasso.values())
    yield _run(case, "standard, all layers", ALPHAS, lambda a: st.mera(every, a))
    yield _run(case, "standard, all", GRID, lambda a: st.mera(every, a).at(st.everywhere))


def _on_top(case: Case) -> Iterator[Outcome]:
    """The closed form along other directions."""
    known, grid = case.known["train"], list(product(SITES, ALPHAS))
    contrast = {
        site: st.along(case.net, case.train, _contrast(case, site, 100), answers=known)
        for site in SITES
    }
    yield _run(case, "on contrast", grid, lambda s: contrast[s[0]].step(s[1]))
    if min(int(known.correct.sum()), int((~known.correct).sum())) >= FOLDS:
        logistic = case.probes("logistic")
        yield _run(case, "on logistic", grid, lambda s: logistic[s[0]].step(s[1]))
    feature = st.along(case.net, case.train, _feature(case), answers=known)
    yield _run(case, "on SAE feature", ALPHAS, feature.step)
    try:
        learned = st.along(case.net, case.train, _reft(case), answers=known)
    except ValueError:  # too few wrong answers: it learned to read nothing
        yield Outcome("on ReFT-r1", None, "reads nothing")
    else:
        yield _run(case, "on ReFT-r1", ALPHAS, learned.step)


def _feature(case: Case) -> st.Intervention:
    """The feature whose value separates wrong from right answers best, either way."""
    from sklearn.metrics import roc_auc_score

    sae = st.load_sae(f"{case.model}-topk")
    values, wrong = sae.encode(case.held[SAE_SITE]).numpy(), ~case.known["train"].correct.numpy()
    used = [j for j in range(values.shape[1]) if values[:, j].any()]
    areas = [abs(roc_auc_score(wrong, values[:, j]) - 0.5) for j in used]
    return sae.add(used[int(np.argmax(areas))])


def _reft(case: Case) -> st.Intervention:
    """ReFT-r1 that learned to write wrong answers from right and wrong ones, in the middle."""
    known = case.known["train"]
    talks = [
        Talk(problem.prompt, known.classes[int(said)], not bool(right))
        for problem, said, right in zip(case.train, known.predicted, known.correct, strict=True)
    ]
    talks = [
        talk for label in (True, False) for talk in [t for t in talks if t.label == label][:200]
    ]
    return st.reft_r1(case.net, talks, SITES[3], chat=False)


def _cue(case: Case) -> Outcome:
    """The standard form where the word stands that causes the errors."""
    at = st.mask(torch.tensor([False] * CUE[case.task] + [True]))
    sites = [st.resid_pre(0)]
    probes = st.error_probes(
        case.net, case.train, sites, at, kind="ridge", answers=case.known["train"], seed=case.seed
    )
    return _run(
        case, "cue token", list(product(sites, ALPHAS[::2])), lambda s: probes[s[0]].step(s[1])
    )


def _gated(case: Case) -> Iterator[Outcome]:
    """A gate and a fit within one label; the controls leave the rest of it as it is."""
    grid = list(product(SITES, ALPHAS))
    try:
        found = _gates(case)
    except ValueError:  # hardly any mistakes of one kind: nothing to fit
        names = (
            "gated", "gated, identity", "gated, no gate", "gated, random, chosen",
            "gated, shuffled",
            *(f"gated, random {draw}" for draw in range(DRAWS)),
        )  # fmt: skip
        yield from (Outcome(name, None, "no mistakes") for name in names)
        return
    best = _calibrated(case, grid, lambda s: st.mera(found[s[0]], s[1]))
    yield _chosen(case, "gated", best)
    plain = {site: [_identity(one) for one in own] for site, own in found.items()}
    yield _run(case, "gated, identity", grid, lambda s: st.mera(plain[s[0]], s[1]))
    yield _run(case, "gated, no gate", grid,
               lambda s: st.mera([one.probe for one in found[s[0]]], s[1]))  # fmt: skip
    rng = torch.Generator().manual_seed(case.seed)
    random = {site: [_random(one, rng) for one in own] for site, own in found.items()}
    yield _run(case, "gated, random, chosen", grid,
               lambda s: total([make(s[1]) for make in random[s[0]]]))  # fmt: skip
    for draw in range(DRAWS):
        name = f"gated, random {draw}"
        if best.setting is None:
            yield Outcome(name, None, "as gated")
        else:
            site, alpha = best.setting
            pushes = [_random(one, rng)(alpha) for one in found[site]]
            yield Outcome(name, _under(case, total(pushes)), _name(best.setting))
    try:
        shuffled = _gates(case, SITES[3:], shuffle=True)
        late = list(product(SITES[3:], ALPHAS))
        yield _run(case, "gated, shuffled", late, lambda s: st.mera(shuffled[s[0]], s[1]))
    except ValueError:
        yield Outcome("gated, shuffled", None, "no mistakes")


def _gates(
    case: Case, sites: Sequence[st.Site] = SITES, shuffle: bool = False
) -> dict[st.Site, list[GatedProbe]]:
    problems, known = case.train, case.known["train"]
    if shuffle:
        problems = case.shuffled
        truth = torch.tensor([known.classes.index(p.label) for p in problems])
        known = replace(known, truth=truth)
    return st.gated_probes(case.net, problems, sites, answers=known, seed=case.seed)


def _identity(gated: GatedProbe) -> GatedProbe:
    return replace(gated, probe=replace(gated.probe, metric=None))


def _random(gated: GatedProbe, rng: torch.Generator) -> Callable[[float], st.Intervention]:
    """Steps of the same lengths on the same prompts, in a random direction."""
    direction = torch.nn.functional.normalize(
        torch.randn(gated.probe.w.shape, generator=rng), dim=0
    )

    def step(alpha: float) -> st.Intervention:
        made = gated.step(alpha)
        (term,) = made.terms
        edit = term.edit
        assert isinstance(edit, LowRank)
        write = edit.write.norm() * direction[None]
        return replace(made, terms=(replace(term, edit=replace(edit, write=write)),))

    return step


# --- how an arm is run


def _run(case: Case, arm: str, settings: Sequence[Any], make: Make) -> Outcome:
    return _chosen(case, arm, _calibrated(case, settings, make))


def _calibrated(case: Case, settings: Sequence[Any], make: Make) -> Calibration[Any]:
    return st.calibrate(
        case.net, case.selection, make, settings, delta=DELTA, answers=case.known["selection"],
        batch_size=BATCH,
    )  # fmt: skip


def _chosen(case: Case, arm: str, found: Calibration[Any]) -> Outcome:
    """The calibrated arm, and the largest gain of each layer."""
    layers: dict[str, float] = {}
    for setting, flips in zip(found.settings, found.flips, strict=True):
        if isinstance(setting, tuple):
            name = str(setting[0])
            layers[name] = max(layers.get(name, -1.0), float(flips.gain))
    number = found.chosen
    if number is None:
        return Outcome(arm, None, "abstains", layers=layers)
    after = _under(case, found.interventions[number])
    return Outcome(arm, after, _name(found.settings[number]), found.flips[number], layers)


def _under(case: Case, intervention: st.Intervention) -> Answers:
    return answers_on_grid(case.net, case.test, [intervention], batch_size=BATCH)[0]


def _largest(found: Calibration[Any]) -> int:
    """The number of the setting with the largest gain, whatever its bound."""
    return max(range(len(found.flips)), key=lambda number: found.flips[number].gain)


def _name(setting: Any) -> str:
    """A setting as text: layer and log-odds of alpha."""
    if not isinstance(setting, tuple):
        return f"{np.log(setting / (1 - setting)):.1f}" if setting < 1 else str(setting)
    site, value = setting
    return f"{site}: {value:.3g}"
