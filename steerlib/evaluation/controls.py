"""The controls of a claim: nothing, random directions, shuffled labels, and simply asking.

Chapter: directions. A control has to be as meaningless as it looks. A fit on shuffled labels is
therefore tried at its own length: stretched to the length of the real direction it points along
whatever varies in the texts, which may be the concept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.edits import LowRank, constant
from steerlib.core.interventions import Add, Intervention, Origin, Term
from steerlib.core.labelled import Labelled, Texts
from steerlib.core.model import Model
from steerlib.core.sites import Site, as_site, width
from steerlib.evaluation.judges import Ask
from steerlib.evaluation.scoring import Arm

Fit = Callable[[Model, Labelled, Site], Intervention]


def controls(
    model: Model,
    arm: Arm,
    fit: Fit | None,
    data: Labelled | None,
    *,
    ask: Ask | None,
    draws: int = 2,
    seed: int = 0,
) -> list[Arm]:
    """The arms that a claim about `arm` is compared with, at the same strengths.

    Args:
        arm: the arm whose effect is claimed; it adds directions. Where it has a model of its own,
            its controls have the same one.
        fit: how its direction was found: (model, data, site) -> Intervention. None leaves the
            shuffled labels out, with a warning.
        data: what it was fitted on.
        ask: turns a prompt into one that asks for the same effect in words. None leaves
            prompting out, with a warning.
        draws: how many random directions and shuffled fits; each gets a seed of its own.

    Returns:
        "nothing"; "random 0", ...: for each direction of the arm a random one of the same length,
        at the same site and positions; "shuffled 0", ...: the fit on permuted labels, at its own
        length, at the arm's positions; "prompt".

    Raises:
        ValueError: an arm without an intervention, or with one that adds no constant direction.

    Chapter: directions.

    Example:
        >>> controls(model, arm, st.diff_means, data.train, ask=world_request("weather"))
    """
    if arm.intervention is None:
        raise ValueError(
            f"arm {arm.name!r} has no intervention; controls are made for a steered arm"
        )
    if draws < 1:
        raise ValueError(f"draws is at least 1, got {draws}")
    seeds, net = [seed * draws + draw for draw in range(draws)], arm.model or model
    made = [Arm("nothing", ask=arm.ask, model=arm.model)]
    for draw, own in enumerate(seeds):
        drawn = _random_like(net, arm.intervention, own)
        made.append(replace(arm, name=f"random {draw}", intervention=drawn))
    if fit is None or data is None:
        warnings.warn("no fit and data given: the shuffled labels are left out", stacklevel=2)
    else:
        for draw, own in enumerate(seeds):
            fitted = _shuffled_fit(net, arm.intervention, fit, data, own)
            made.append(replace(arm, name=f"shuffled {draw}", intervention=fitted))
    if ask is None:
        warnings.warn(
            "ask=None: the comparison with prompting is left out; give a function that asks for "
            "the same effect in words",
            stacklevel=2,
        )
        return made
    return [*made, Arm("prompt", ask=ask, model=arm.model)]


def random_direction(
    model: Model, site: Site | str, norm: float = 1.0, seed: int = 0
) -> Intervention:
    """A direction drawn uniformly from the sphere of a given radius: the control of every claim.

    Chapter: hooks.

    Example:
        >>> st.random_direction(model, weather.site, norm=weather.direction.norm().item())
    """
    where = as_site(site)
    direction = _on_sphere(width(model, where), norm, seed)
    origin = Origin(model.id, model.revision, "random_direction", seed)
    return Intervention(Add(where, direction).terms, origin)


def _on_sphere(size: int, norm: float, seed: int) -> Float[Tensor, " d"]:
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return norm * drawn / drawn.norm()


def _random_like(model: Model, intervention: Intervention, seed: int) -> Intervention:
    """Every added direction replaced by a random one; sites, positions and conditions stay."""
    terms = []
    for number, term in enumerate(intervention.terms):
        if not isinstance(term.edit, LowRank) or not term.edit.is_constant:
            raise ValueError(
                f"a random direction is the control of an added direction, but the edit at "
                f"{term.site} is a {type(term.edit).__name__} that depends on the activation; "
                "make the arms of its controls by hand"
            )
        # One term has the same draw as random_direction(..., seed=seed).
        own = seed if number == 0 else 1_000_003 * number + seed
        drawn = _on_sphere(width(model, term.site), term.edit.constant.norm().item(), own)
        terms.append(replace(term, edit=constant(drawn)))
    origin = Origin(model.id, model.revision, "random_direction", seed)
    return Intervention(tuple(terms), origin)


def _shuffled_fit(
    model: Model, intervention: Intervention, fit: Fit, data: Labelled, seed: int
) -> Intervention:
    """The fit on permuted labels, where and when the original acts."""
    labels = list(data.labels)
    Random(seed).shuffle(labels)
    fitted = fit(model, Texts(list(data.texts), labels), intervention.site)
    when = {(term.positions, term.condition) for term in intervention.terms}
    if len(when) > 1:
        return fitted
    return replace(
        fitted, terms=tuple(_as_in(term, intervention.terms[0]) for term in fitted.terms)
    )


def _as_in(term: Term, original: Term) -> Term:
    return replace(term, positions=original.positions, condition=original.condition)
