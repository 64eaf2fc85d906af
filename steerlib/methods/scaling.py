r"""Activation scaling: how strongly should each part of a model speak for this answer to win?

Chapter: scaling. Source: Stoehr et al. 2024, "Activation scaling for steering and interpreting
language models" (2410.04962); its authors published no code. `activ_scalar` learns one number per
place, `steer_vec` one vector (the paper's baseline), `dyn_scalar` a function of the activation.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.answers import Asked, Choice, answer_ids, encode_choices, margin, next_scores
from steerlib.core.edits import Edit
from steerlib.core.fitting import Plan
from steerlib.core.interventions import Add, Intervention, Origin, Scale, Term
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, everywhere
from steerlib.core.sites import Site, as_site, head, mlp_out, resolve, width
from steerlib.core.steering import steer
from steerlib.methods.flipping import Objective, learn

Sites = Sequence[Site | str] | Site | str
At = Positions | str | Sequence[Positions | str] | None
# A site and its parameters, (pos, k) for aligned prompts or (k,) for one selection -> its edit.
Make = Callable[[Site, Tensor], Intervention]
# Selections of positions, or the number of positions of aligned prompts.
Slots = list[Positions] | int
SCALARS = Plan(epochs=30, batch_size=32, lr=0.05, clip=None)
VECTORS = Plan(epochs=30, batch_size=32, lr=0.05, clip=None)


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
    choices: Sequence[Choice],
    sites: Sites,
    at: At = None,
    *,
    objective: Objective | None = None,
    plan: Plan | None = None,
    chat: bool | None = False,
    checkpoint: str | None = None,
) -> Intervention:
    r"""One number per site and position: h <- (1 + beta alpha) h, learned for beta = +1 and -1.

    alpha = argmin L_E + lambda_F L_F + lambda_M sum |alpha| (see `Objective`), from alpha = 0, the
    identity. The first gradient step is gradient x input attribution.

    Args:
        choices: prompts with two answers of one token each (such as `st.world.conflicts`); beta =
            +1 steers to the positive ones, -1 to the negative ones.
        sites: such as `components(model)`, or `st.attn_out`, `st.mlp_out` and `st.resid` of some
            layers.
        at: None learns a number for each token position, for prompts that are aligned token by
            token; a selection of positions, or several, one for each selection, for prompts of any
            length.
        objective: default: margin 2, lambda_F = 1, lambda_M = .05.
        plan: default: 30 epochs in batches of 32 at a learning rate of .05. Gradients are not
            clipped, whatever it says.
        chat: how prompts are read whose choice leaves it open; False is raw text.
        checkpoint: a file that is written after each epoch; a fit that was stopped goes on from it.

    Returns:
        An intervention for strengths in [-1, 1]; terms that are all zero are left out.

    Raises:
        ValueError: no choices; answers that are not one token, or the same; prompts of different
            lengths where `at` is None; a site twice; FloatingPointError: the fit diverged.

    Source: Stoehr et al. 2024, sections 2 and 3. Chapter: scaling.

    Example:
        >>> data = st.world.conflicts(relations=("city",))
        >>> dial = st.activ_scalar(model, data, st.components(model))
        >>> with st.steer(model, dial, strength=-1.0):
        ...     st.generate(model, "Rome is in France . Rome is in", chat=False, max_new_tokens=1)
    """
    options = (objective or Objective(), plan or SCALARS, chat, checkpoint)
    return _fitted("activ_scalar", model, choices, sites, at, _scale, lambda d: 1, *options)


def steer_vec(
    model: Model,
    choices: Sequence[Choice],
    sites: Sites,
    at: At = None,
    *,
    objective: Objective | None = None,
    plan: Plan | None = None,
    chat: bool | None = False,
    checkpoint: str | None = None,
) -> Intervention:
    r"""One vector per site and position: h <- h + beta v, learned as `activ_scalar` is.

    L_M is the sum of the lengths ||v||, so that whole vectors become zero.

    Args, returns and errors: see `activ_scalar`.

    Source: Stoehr et al. 2024, section 2 (SteerVec, the baseline). Chapter: scaling.

    Example:
        >>> st.steer_vec(model, data, [st.mlp_out(2)], at=st.last)
    """
    options = (objective or Objective(), plan or VECTORS, chat, checkpoint)
    return _fitted("steer_vec", model, choices, sites, at, Add, lambda d: d, *options)


def dyn_scalar(
    model: Model,
    choices: Sequence[Choice],
    sites: Sites,
    at: At = everywhere,
    *,
    objective: Objective | None = None,
    plan: Plan | None = None,
    chat: bool | None = False,
    checkpoint: str | None = None,
) -> Intervention:
    r"""A number that each activation decides: h <- (1 + beta tanh(u . h / ||h|| + b)) h.

    u and b are shared over the selected positions, so that prompts may have any length. The
    number lies between -1 and 1: at |beta| <= 1 an activation fades and grows and never turns over.
    L_M is the sum of the lengths ||(u, b)||.

    Args:
        at: a selection of positions or several; u and b are learned for each.

    Other arguments, returns and errors: see `activ_scalar`.

    Source: Stoehr et al. 2024, section 5 (DynScalar; there without bound). Chapter: scaling.

    Example:
        >>> st.dyn_scalar(model, data, st.components(model))
    """
    if at is None:
        raise ValueError("dyn_scalar shares u and b over positions: `at` is a selection, not None")
    options = (objective or Objective(), plan or VECTORS, chat, checkpoint)
    return _fitted("dyn_scalar", model, choices, sites, at, _dyn, lambda d: d + 1, *options)


def scale_gradients(
    model: Model,
    choices: Sequence[Choice],
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
    places, slots = _places(model, sites), _slots(model, asked, at)
    alpha = _zeros(model, places, slots, lambda d: 1)
    total = {name: torch.zeros_like(value) for name, value in alpha.items()}
    for start in range(0, len(asked), batch_size):
        batch = asked[start : start + batch_size]
        with steer(model, _built(places, alpha, slots, _scale)):
            scores = next_scores(model, batch)
        delta = margin(scores, *answer_ids(batch, scores.device)).sum()
        found = torch.autograd.grad(delta, list(alpha.values()))
        for name, gradient in zip(alpha, found, strict=True):
            total[name] += gradient
    return {site: total[site.name][:, 0].cpu() / len(asked) for site in places}


def _fitted(
    name: str,
    model: Model,
    choices: Sequence[Choice],
    sites: Sites,
    at: At,
    make: Make,
    size: Callable[[int], int],
    objective: Objective,
    plan: Plan,
    chat: bool | None,
    checkpoint: str | None,
) -> Intervention:
    """Learn `size(width of the site)` numbers for each site and slot, from zero."""
    asked = encode_choices(model, choices, chat)
    places, slots = _places(model, sites), _slots(model, asked, at)
    parameters = _zeros(model, places, slots, size)

    def build(values: Mapping[str, Tensor]) -> Intervention:
        return _built(places, values, slots, make)

    plan = replace(plan, clip=None)
    about = f"{name} {slots if isinstance(slots, int) else [str(slot) for slot in slots]}"
    learn(model, asked, parameters, build, objective, plan, about, checkpoint)
    found = build({key: value.detach().cpu() for key, value in parameters.items()})
    kept = tuple(term for term in found.terms if any(t.any() for t in _learned(term.edit)))
    if not kept:
        warnings.warn(
            f"every number of {name} is 0: no place has a slope above minimality="
            f"{objective.minimality}; lower it (st.scale_gradients shows the slopes at the start)",
            stacklevel=3,
        )
    origin = Origin(model.id, model.revision, name, plan.seed)
    return Intervention(kept or found.terms[:1], origin)


def _learned(edit: Edit) -> list[Tensor]:
    """The tensors of an edit that were learned: all but the alpha = 1 of DynScalar."""
    return [t for name, t in edit.tensors.items() if name != "alpha" or "read" not in edit.tensors]


def _places(model: Model, sites: Sites) -> list[Site]:
    places = [as_site(s) for s in ([sites] if isinstance(sites, Site | str) else sites)]
    if not places or len(set(places)) != len(places):
        raise ValueError(
            f"needed are different sites, at least one; got {[str(s) for s in places]}"
        )
    for place in places:
        resolve(model, place)
    return places


def _slots(model: Model, asked: Sequence[Asked], at: At) -> Slots:
    """Selections of positions, or the number of tokens of prompts that are aligned."""
    if at is not None:
        return [as_positions(p) for p in ([at] if isinstance(at, Positions | str) else at)]
    lengths = Counter(len(item.ids) for item in asked)
    if len(lengths) > 1:
        counts = ", ".join(f"{n} of {length}" for length, n in sorted(lengths.items()))
        odd = next(item for item in asked if len(item.ids) != lengths.most_common(1)[0][0])
        raise ValueError(
            "one number per position needs prompts of the same number of tokens, these are "
            f"{counts} tokens; the first that differs: {model.tokenizer.decode(odd.ids)!r}. Line "
            "them up with st.align, or give positions such as at=st.last, or use st.dyn_scalar"
        )
    return next(iter(lengths))


def _zeros(
    model: Model, places: Sequence[Site], slots: Slots, size: Callable[[int], int]
) -> dict[str, Float[Tensor, "slots k"]]:
    """The parameters of each site, as leaves with gradient."""
    rows = slots if isinstance(slots, int) else len(slots)
    return {
        site.name: torch.zeros(
            rows, size(width(model, site)), device=model.device, requires_grad=True
        )
        for site in places
    }


def _built(
    places: Sequence[Site], values: Mapping[str, Tensor], slots: Slots, make: Make
) -> Intervention:
    """The edits of all sites and slots as one intervention."""
    terms: list[Term] = []
    for site in places:
        rows = values[site.name]
        if isinstance(slots, int):
            terms += make(site, rows).terms
        else:
            for positions, row in zip(slots, rows, strict=True):
                terms += make(site, row).at(positions).terms
    return Intervention(tuple(terms))


def _scale(site: Site, alpha: Float[Tensor, "*pos 1"]) -> Intervention:
    return Scale(site, alpha[..., 0])


def _dyn(site: Site, u_and_b: Float[Tensor, " d_and_1"]) -> Intervention:
    return Scale(site, 1.0, read=u_and_b[:-1], bias=u_and_b[-1])
