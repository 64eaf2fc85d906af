r"""Activation scaling: how strongly should each part of a model speak for this answer to win?

Chapter: scaling. Source: Stoehr et al. 2024, "Activation scaling for steering and interpreting
language models" (2410.04962); its authors published no code. `activ_scalar` learns one number per
place, `steer_vec` one vector (the paper's baseline), `dyn_scalar` a function of the activation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.answers import TwoAnswers, answer_ids, encode_choices, margin, next_scores
from steerlib.core.fitting import Plan
from steerlib.core.interventions import Add, Intervention, Origin, Scale
from steerlib.core.model import Model
from steerlib.core.positions import everywhere
from steerlib.core.session import rows_of_batch
from steerlib.core.sites import Site, Sites, head, mlp_out
from steerlib.core.steering import steer
from steerlib.methods.flipping import Objective, learn
from steerlib.methods.layout import At, Make, Parameters, layout_of
from steerlib.methods.places import size_of

SCALARS = Plan(epochs=30, batch_size=32, lr=0.05, clip=None)
VECTORS = Plan(epochs=30, batch_size=32, lr=0.1, clip=None)


def components(model: Model) -> list[Site]:
    """All attention heads and MLP outputs, block by block: where a scalar names a component.

    Chapter: scaling.

    Example:
        >>> len(components(st.load("world")))
        25
    """
    return [
        site
        for layer in range(model.n_layers)
        for site in (*(head(layer, h) for h in range(model.n_heads)), mlp_out(layer))
    ]


def activ_scalar(
    model: Model,
    choices: Sequence[TwoAnswers],
    sites: Sites,
    at: At = None,
    *,
    objective: Objective | None = None,
    plan: Plan | None = None,
    chat: bool | None = False,
    checkpoint: str | Path | None = None,
) -> Intervention:
    r"""One number per site and position: h <- (1 + beta alpha) h, learned for beta = +1 and -1.

    alpha = argmin L_E + lambda_F L_F + lambda_M sum |alpha| (see `Objective`), from alpha = 0, the
    identity. The slope of Delta there is gradient x input attribution (`scale_gradients`).

    Args:
        choices: prompts with two answers of one token each (such as `st.world.conflicts`); beta =
            +1 steers to the positive ones, -1 to the negative ones.
        sites: such as `components(model)`, or `st.attn_out`, `st.mlp_out` and `st.resid` of some
            layers.
        at: None learns a number for each token position, for prompts that are aligned token by
            token; a selection of positions, or several, one for each selection, for prompts of any
            length. A selection must find a token in every batch.
        objective: default: margin 2, lambda_F = 1, lambda_M = .05.
        plan: default: 30 epochs in batches of 32 at a learning rate of .05. Gradients are not
            clipped and weights do not decay, whatever it says.
        chat: how prompts are read whose choice leaves it open; False is raw text.
        checkpoint: a file that is written after each epoch; a fit of the same prompts and choices
            that was stopped goes on from it. Not with positions given as a mask.

    Returns:
        An intervention for strengths in [-1, 1]; terms that are all zero are left out.

    Raises:
        ValueError: no choices; answers that are not one token, or the same; prompts of different
            lengths where `at` is None; a site twice; FloatingPointError: the fit diverged.

    Source: Stoehr et al. 2024, sections 2 and 3. Chapter: scaling.

    Example:
        >>> data = st.world.conflicts(16, relations=("city",))
        >>> dial = st.activ_scalar(model, data, st.components(model))
        >>> with st.steer(model, dial, strength=-1.0):
        ...     st.generate(model, "Rome is in France . Rome is in", chat=False, max_new_tokens=1)
    """
    options = (objective or Objective(), plan or SCALARS, chat, checkpoint)
    return _fitted("activ_scalar", model, choices, sites, at, _scale, lambda d: 1, *options)


def steer_vec(
    model: Model,
    choices: Sequence[TwoAnswers],
    sites: Sites,
    at: At = None,
    *,
    objective: Objective | None = None,
    plan: Plan | None = None,
    chat: bool | None = False,
    checkpoint: str | Path | None = None,
) -> Intervention:
    r"""One vector per site and position: h <- h + beta v, learned as `activ_scalar` is.

    L_M is the sum of the lengths ||v||, so that whole vectors become zero.

    Args:
        objective: default: margin 2, lambda_F = 1, lambda_M = 0. A vector is longer than a scalar:
            where .05 leaves a few scalars it leaves hardly a vector.
        plan: default: as for scalars, at a learning rate of .1.

    Other arguments, returns and errors: see `activ_scalar`.

    Source: Stoehr et al. 2024, section 2 (SteerVec, the baseline). Chapter: scaling.

    Example:
        >>> st.steer_vec(model, data, [st.mlp_out(2)], at=st.last)
    """
    options = (objective or Objective(minimality=0.0), plan or VECTORS, chat, checkpoint)
    return _fitted("steer_vec", model, choices, sites, at, Add, lambda d: d, *options)


def dyn_scalar(
    model: Model,
    choices: Sequence[TwoAnswers],
    sites: Sites,
    at: At = everywhere,
    *,
    objective: Objective | None = None,
    plan: Plan | None = None,
    chat: bool | None = False,
    checkpoint: str | Path | None = None,
) -> Intervention:
    r"""A number that each activation decides: h <- (1 + beta tanh(u . h / ||h|| + b)) h.

    u and b are shared over the selected positions, so that prompts may have any length. The
    number lies between -1 and 1: at |beta| <= 1 an activation fades and grows and never turns over.
    L_M is the sum of the lengths ||(u, b)||.

    Args:
        at: a selection of positions or several; u and b are learned for each.
        plan: default: as for scalars, at a learning rate of .1.

    Other arguments, returns and errors: see `activ_scalar`.

    Source: Stoehr et al. 2024, section 5 (DynScalar; there without bound). Chapter: scaling.

    Example:
        >>> st.dyn_scalar(model, data, st.components(model))
    """
    if at is None:
        raise ValueError("dyn_scalar shares u and b over positions: `at` is a selection, not None")
    options = (objective or Objective(), plan or VECTORS, chat, checkpoint)
    return _fitted("dyn_scalar", model, choices, sites, at, _dyn, lambda d: d + 1, *options)


@torch.enable_grad()
def scale_gradients(
    model: Model,
    choices: Sequence[TwoAnswers],
    sites: Sites,
    at: At = None,
    *,
    chat: bool | None = False,
    batch_size: int = 32,
) -> dict[Site, Float[Tensor, " slots"]]:
    r"""The mean over the choices of d Delta / d alpha = <d Delta / d h, h> at alpha = 0.

    This is gradient x input attribution, from one backward pass per batch.

    Returns:
        For each site one number per position, or per selection of `at`, in nats per unit of alpha.

    Raises:
        ValueError: as `activ_scalar`.

    Source: Stoehr et al. 2024, section 3. Chapter: scaling.

    Example:
        >>> scale_gradients(model, data, st.components(model), at=st.last)
    """
    asked = encode_choices(model, choices, chat)
    layout = layout_of(model, sites, at, asked, lambda d: 1)
    alpha = layout.zeros(model.device)
    total = torch.zeros_like(alpha["1"])
    for start in range(0, len(asked), batch_size):
        batch = asked[start : start + batch_size]
        rows = list(range(start, start + len(batch)))
        with steer(model, layout.build(alpha, _scale)), rows_of_batch(model, rows):
            scores = next_scores(model, batch)
        delta = margin(scores, *answer_ids(batch, scores.device)).sum()
        total += torch.autograd.grad(delta, alpha["1"])[0]
    means = {"1": total.cpu() / len(asked)}
    return {site: rows[:, 0] for site, rows in layout.rows(means)}


@torch.enable_grad()
def _fitted(
    name: str,
    model: Model,
    choices: Sequence[TwoAnswers],
    sites: Sites,
    at: At,
    make: Make,
    size: Callable[[int], int],
    objective: Objective,
    plan: Plan,
    chat: bool | None,
    checkpoint: str | Path | None,
) -> Intervention:
    """Learn `size(width of the site)` numbers for each site and slot, from zero."""
    asked = encode_choices(model, choices, chat)
    layout = layout_of(model, sites, at, asked, size)
    if checkpoint and not layout.has_names:
        raise ValueError(
            "a checkpoint cannot tell one mask from another: leave it out, or give positions such "
            "as st.tokens(...) or st.ends(...) in place of the mask"
        )
    parameters = layout.zeros(model.device)

    def build(values: Parameters) -> Intervention:
        return layout.build(values, make)

    plan = replace(plan, clip=None, weight_decay=0.0)
    about = f"{name} {layout.key}" if checkpoint else name
    learn(model, asked, parameters, build, objective, plan, name, about, checkpoint)
    found = build({key: value.detach().cpu() for key, value in parameters.items()})
    kept = tuple(term for term in found.terms if size_of(term.edit).any())
    if not kept:
        warnings.warn(
            f"every number of {name} is 0: no slope of the loss is above minimality="
            f"{objective.minimality}; lower it, or look for other places with st.scale_gradients",
            stacklevel=4,  # past `activ_scalar` and the decorator
        )
    origin = Origin(model.id, model.revision, name, plan.seed)
    return Intervention(kept or found.terms[:1], origin)


def _scale(site: Site, alpha: Float[Tensor, "*pos 1"]) -> Intervention:
    return Scale(site, alpha[..., 0])


def _dyn(site: Site, u_and_b: Float[Tensor, " d_and_1"]) -> Intervention:
    return Scale(site, 1.0, read=u_and_b[:-1], bias=u_and_b[-1])
