"""Directions that the error varies along: the contrast of MERA's baseline, and MERA on top of any.

Chapter: mera.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from steerlib.core.classification import Answers, Problem
from steerlib.core.interventions import Add, Intervention, Origin
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, last
from steerlib.core.sites import Site, as_site
from steerlib.methods.error_fits import check_targets, fit_error
from steerlib.methods.error_probes import ErrorProbe, known_answers, read_problems


def along(
    model: Model,
    problems: Sequence[Problem],
    direction: Intervention,
    at: Positions | str = last,
    *,
    answers: Answers | None = None,
    folds: int = 5,
    seed: int = 0,
    batch_size: int = 64,
) -> ErrorProbe:
    """The best estimate of logit E from the part of h along one direction: MERA on top of it.

    With u the unit direction, yhat = k (u . h) + b by least squares, so that w = k u: the sign with
    which the direction counts is read from the problems and cannot be wrong.

    Args:
        direction: an intervention that adds one constant, such as `st.diff_means`, `st.reft_r1`,
            `contrast` or a feature of an SAE.
        at, answers, folds, seed: as in `error_probes`.

    Raises:
        ValueError: no such direction; fewer than two problems per fold; errors that do not vary.

    Source: Hedstrom et al. 2025 (MERA), "MERA on top of other directions". Chapter: mera.

    Example:
        >>> probe = along(model, problems, contrast(model, problems, st.resid(3)))
    """
    known = known_answers(model, problems, answers, batch_size)
    site, u = direction.site, direction.unit().direction
    y, wrong = known.log_odds.double().numpy(), ~known.correct.numpy()
    check_targets("along", y, wrong, folds)
    h = read_problems(model, problems, [site], at, batch_size)[site]
    x = (h.double() @ u.double())[:, None].numpy()
    k, b, quality = fit_error(x, y, wrong, "along", folds, seed)
    origin = Origin(model.id, model.revision, "error along a direction", seed)
    return ErrorProbe(site, float(k[0]) * u, b, "along", quality, as_positions(at), None, origin)


def contrast(
    model: Model,
    problems: Sequence[Problem],
    site: Site | str,
    k: int = 100,
    at: Positions | str = last,
    *,
    answers: Answers | None = None,
    batch_size: int = 64,
) -> Intervention:
    """Mean activation of the k answers with the lowest error - mean of the k with the highest.

    Added at strength 1 it is the paper's contrastive baseline.

    Raises:
        ValueError: fewer than 2 k problems.

    Source: Hedstrom et al. 2025 (MERA), "contrastive", k = 50, 100, 200. Chapter: mera.

    Example:
        >>> towards_right = contrast(model, problems, st.resid(3), k=50)
    """
    if not 1 <= k <= len(problems) // 2:
        raise ValueError(
            f"k is at least 1 and at most half of the {len(problems)} problems, got {k}"
        )
    known = known_answers(model, problems, answers, batch_size)
    place = as_site(site)
    h = read_problems(model, problems, [place], at, batch_size)[place]
    gap = best_minus_worst(h, known, k)
    origin = Origin(model.id, model.revision, f"contrast of {k}")
    return Intervention(Add(place, gap).terms, origin).at(at)


def best_minus_worst(h: Float[Tensor, "n d"], answers: Answers, k: int) -> Float[Tensor, " d"]:
    """Mean of the rows of the k answers with the lowest error - mean of the k with the highest."""
    order = answers.log_odds.argsort(stable=True)
    return h[order[:k]].mean(0) - h[order[-k:]].mean(0)
