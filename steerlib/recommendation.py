"""recommend: which method, layer and strength should I use for my texts, my prompts, my judge?

Chapter: directions. Fits come from the texts, method, site and strength are chosen on one part of
the prompts, and what was chosen is compared with its controls on the other part.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pandas as pd

from steerlib.core.capture import capture
from steerlib.core.interventions import Intervention
from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.model import Model
from steerlib.core.positions import prompt as prompt_tokens
from steerlib.core.sites import Site, as_site, resid
from steerlib.evaluation.comparing import against, summary
from steerlib.evaluation.controls import Fit, controls
from steerlib.evaluation.cross_validation import cross_validated
from steerlib.evaluation.judges import Ask, Judge
from steerlib.evaluation.scoring import Arm, score
from steerlib.methods.components import lat, pca
from steerlib.methods.directions import diff_means, probe

METHODS: Mapping[str, Fit] = {
    "diff_means": diff_means,
    "probe": probe,
    "pca": partial(pca, of="all"),
    "lat": lat,
}
STRENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)  # in units of the gap between the classes
_MOST = 6  # blocks tried by default
_NULLS = ("nothing", "random", "shuffled")


@dataclass(frozen=True)
class Recommendation:
    """What was chosen, on what grounds, and what it is worth on prompts that did not choose it.

    Args:
        intervention: ready to use: `st.steer(model, r.intervention)` is the recommended strength.
        method, site, strength: what it is made of; the strength multiplies the fit.
        table: every setting on the selection prompts: method, site, strength, score, low, high,
            other grades, relative (length of the change / mean ||h||), auroc (cross-validated).
        held_out: the chosen setting and its controls on the held-out prompts, and `minus`: the
            paired difference chosen - control with its interval.
        warning: why not to trust it, or "".

    Chapter: directions.
    """

    intervention: Intervention
    method: str
    site: Site
    strength: float
    table: pd.DataFrame
    held_out: pd.DataFrame
    warning: str

    def __str__(self) -> str:
        grade = self.held_out.iloc[0]
        words = (
            f"{self.method} at {self.site}, strength {self.strength:g}: held-out score "
            f"{grade['score']:.2f} [{grade['low']:.2f}, {grade['high']:.2f}]"
        )
        return f"{words}\n{self.warning}" if self.warning else words

    def plot(self) -> None:
        """Show the scores of the chosen method over sites and strengths, and the controls."""
        from steerlib.teaching.plots import bars, figure, heat_map

        rows = self.table[self.table["method"] == self.method]
        grid = rows.pivot(index="site", columns="strength", values="score")
        grid = grid.loc[sorted(grid.index, key=lambda name: as_site(name).depth)]
        with figure(columns=2) as (_, [left, right]):
            heat_map(left, grid)
            left.set(xlabel="strength", title=f"{self.method}, prompts that chose")
            arms = self.held_out
            bars(right, list(arms["arm"]), arms["score"], arms["low"], arms["high"])
            right.set(xlabel="score", title="held-out prompts")


def recommend(
    model: Model,
    data: Labelled,
    prompts: Sequence[str],
    judge: Judge,
    *,
    ask: Ask | None,
    held_out: Sequence[str] | None = None,
    methods: Mapping[str, Fit] = METHODS,
    sites: Sequence[Site | str] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 3,
    max_new_tokens: int = 36,
    temperature: float = 1.0,
    seed: int = 0,
) -> Recommendation:
    """Choose a method, a site and a strength for labelled texts, and say what they are worth.

    Args:
        data: texts with and without the concept.
        prompts: what the model will be asked; half of the different ones choose, half report.
        judge: (prompt, answer) -> a grade, higher is better, or several with one named "score".
        ask: turns a prompt into one that asks for the concept in words, the control that is the
            hardest to beat; None leaves it out, with a warning.
        held_out: prompts that report; then all of `prompts` choose.
        methods: fits by name, each (model, data, site) -> Intervention.
        sites: where to try them; by default the residual stream after at most six blocks.
        strengths: multiples of a fit, whose length is the distance between the class means.
        folds: for the cross-validated AUROC of each direction as a detector.
        max_new_tokens, temperature: as in `st.generate`.
        seed: of the halves, folds, samples and controls.

    Returns:
        A `Recommendation`; print it, read `.table`, `.plot()` it, steer with `.intervention`.

    Raises:
        ValueError: labels that are not two classes; fewer texts of a class than folds; too few
            prompts, or held-out ones that also choose; no methods, sites or strengths.

    Warns:
        UserWarning: nothing beats the controls, so nothing is recommended in earnest.

    Chapter: directions.

    Example:
        >>> r = st.recommend(model, data.train, prompts, judge, ask=ask)
        >>> with st.steer(model, r.intervention):
        ...     st.generate(model, "tell me about the dog .")
    """
    both_classes(data)
    places = _places(model, sites)
    if not methods or not strengths:
        raise ValueError(f"needed are methods and strengths, got {methods!r} and {strengths!r}")
    choosing, reporting = _halves(prompts, held_out, seed)
    aurocs = cross_validated(model, data, methods, places, folds, seed)
    fits = {key: methods[key[0]](model, data, key[1]) for key in aurocs}
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature}
    arms = _settings(fits, strengths)
    answers = score(model, list(arms.values()), choosing, judge, seed=seed, **options)
    table = _table(answers, arms, aurocs, _lengths(model, data, places))
    method, site, strength = best_setting(table)
    chosen = Arm("steered", fits[method, site], (strength,))
    others = controls(model, chosen, methods[method], data, ask=ask, seed=seed)
    answers = score(model, [chosen, *others], reporting, judge, seed=seed + 1, **options)
    report = against(answers, "steered")
    warning = _warning(report)
    if warning:
        warnings.warn(warning, stacklevel=2)
    ready = strength * fits[method, site]
    return Recommendation(ready, method, site, strength, table, report, warning)


def best_setting(table: pd.DataFrame) -> tuple[str, Site, float]:
    """Method, site and strength with the best score; of equal ones the smallest change."""
    ordered = table.assign(size=table["strength"].abs()).sort_values("size", kind="stable")
    best = ordered.loc[ordered["score"].idxmax()]
    return best["method"], as_site(best["site"]), float(best["strength"])


def _places(model: Model, sites: Sequence[Site | str] | None) -> list[Site]:
    """The sites to try, by default at most six blocks, spread over the middle of a deep model."""
    if sites is not None:
        if not len(sites):
            raise ValueError("sites is empty; give at least one, such as st.resid(2)")
        return list(dict.fromkeys(as_site(site) for site in sites))
    last = model.n_layers - 1
    if last < _MOST:
        return [resid(layer) for layer in range(model.n_layers)]
    return [resid(round(share * last)) for share in np.linspace(0.15, 0.85, _MOST)]


def _halves(
    prompts: Sequence[str], held_out: Sequence[str] | None, seed: int
) -> tuple[list[str], list[str]]:
    """Prompts that choose and prompts that report."""
    if isinstance(prompts, str) or isinstance(held_out, str):
        raise TypeError("prompts and held_out are lists of strings, not one string")
    different = list(dict.fromkeys(prompts))
    if held_out is None:
        Random(seed).shuffle(different)
        half = len(different) // 2
        choosing, reporting = different[:half], different[half:]
    else:
        choosing, reporting = list(prompts), list(held_out)
    both = set(choosing) & set(reporting)
    if both:
        raise ValueError(f"held-out prompts must not choose too; in both is {min(both)!r}")
    if min(len(set(choosing)), len(set(reporting))) < 2:
        raise ValueError(
            f"two or more different prompts have to choose and two or more to report; got "
            f"{len(set(choosing))} and {len(set(reporting))}"
        )
    return choosing, reporting


def _settings(
    fits: Mapping[tuple[str, Site], Intervention], strengths: Sequence[float]
) -> dict[tuple[str, Site], Arm]:
    """One arm for each method and site."""
    return {
        (name, site): Arm(f"{name} {site}", fit, tuple(strengths))
        for (name, site), fit in fits.items()
    }


def _lengths(model: Model, data: Labelled, sites: Sequence[Site]) -> dict[Site, float]:
    """The mean ||h|| of the texts' tokens at each site."""
    found = capture(model, list(data.texts), sites, at=prompt_tokens)
    return {site: float(h.norm(dim=-1).mean()) for site, h in found.items()}


def _table(
    answers: pd.DataFrame,
    arms: Mapping[tuple[str, Site], Arm],
    aurocs: Mapping[tuple[str, Site], float],
    lengths: Mapping[Site, float],
) -> pd.DataFrame:
    """One row per setting, with what is known of it."""
    keys = {arm.name: key for key, arm in arms.items()}
    table = summary(answers)
    table.insert(0, "method", [keys[arm][0] for arm in table["arm"]])
    table.insert(1, "site", [str(keys[arm][1]) for arm in table["arm"]])
    norms = [_norm(arms[keys[arm]]) / lengths[keys[arm][1]] for arm in table["arm"]]
    table["relative"] = table["strength"].abs() * norms
    table["auroc"] = [aurocs[keys[arm]] for arm in table["arm"]]
    return table.drop(columns="arm")


def _norm(arm: Arm) -> float:
    assert arm.intervention is not None
    return float(arm.intervention.direction.norm())


def _warning(report: pd.DataFrame) -> str:
    """Which controls the chosen setting does not beat, if any."""
    rows = report[report["arm"].isin(_NULLS) & (report["minus_low"] <= 0)]
    if rows.empty:
        return ""
    said = "; ".join(
        f"{row.arm} {row.score:.2f} (difference {row.minus:.2f} "
        f"[{row.minus_low:.2f}, {row.minus_high:.2f}])"
        for row in rows.itertuples()
    )
    return (
        f"the best setting, with a held-out score of {report['score'].iloc[0]:.2f}, does not beat "
        f"its controls: {said}. Do not use it: the model may not know the concept, or a constant "
        "direction may not carry it"
    )
