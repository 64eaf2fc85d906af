r"""LoReFT: at a few tokens of the prompt, the stream moves within a learned subspace.

Chapter: axbench. Source: Wu et al. 2024, "ReFT: Representation finetuning for language models"
(2404.03592).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.fitting import Plan, Step, fit
from steerlib.core.interventions import Intervention, LoReFT, Origin, Term
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, ends
from steerlib.core.responses import about_fit, mean_loss
from steerlib.core.sites import Site, Sites, as_sites, width
from steerlib.core.steering import steer
from steerlib.methods.reft import Labelled, encode_positives

_AT = ends(5, 5)


def loreft(
    model: Model,
    dialogues: Sequence[Labelled],
    sites: Sites,
    at: Positions | str = _AT,
    *,
    rank: int = 4,
    plan: Plan | None = None,
    chat: bool | None = None,
    checkpoint: str | None = None,
) -> Intervention:
    r"""Edits in subspaces, at one or more sites, that make the responses with the concept likely.

    h <- h + R^T (W h + b - R h) at every site, with R (k, d) of orthonormal rows, and
    loss = - mean over dialogues of log p(y | x) / |y|, over those with label True.

    Args:
        sites: where; all edits are learned together.
        at: the tokens that are edited; default: the first 5 of the prompt after BOS and its last 5.
        rank: k, the dimension of each subspace.
        plan: default: 12 epochs in batches of 18 at a learning rate of 1e-2, for small models.
        checkpoint: a file that is written after each epoch; a fit of the same dialogues and
            choices that was stopped goes on from it.

    Returns:
        `LoReFT(site, R, W, b)` at `at` for each site; strength 1 is what was learned.

    Raises:
        ValueError: no dialogue with label True, no site or one twice, a rank that does not fit;
        FloatingPointError: the fit diverged.

    Source: LoReFT, eq. 2; AxBench (Wu et al. 2025), which takes rank 4 at four layers and 24
    epochs in batches of 18 at a rate of 9e-4. Their W and b start at random: here W = R and b = 0,
    so that learning starts from the model as it is. Chapter: axbench.

    Example:
        >>> st.loreft(model, st.world.dialogues("weather", 24), [st.resid(1), st.resid(3)])
    """
    plan, positions = plan or Plan(epochs=12, batch_size=18, lr=1e-2), as_positions(at)
    places = as_sites(sites)
    _check(model, places, rank)
    encoded = encode_positives(model, dialogues, chat, "loreft")
    parameters = _start(model, places, rank, plan.seed)

    def intervention() -> Intervention:
        return _build(places, parameters, positions)

    def loss(rows: list[int], step: Step) -> Tensor:
        with steer(model, intervention()):
            return mean_loss(model, [encoded[row] for row in rows])

    about = about_fit(model, encoded, "loreft", positions)
    fit(parameters, loss, len(encoded), plan, checkpoint=checkpoint, about=about, name="LoReFT")
    parameters = {name: parameter.detach().cpu() for name, parameter in parameters.items()}
    origin = Origin(model.id, model.revision, "loreft", plan.seed)
    return Intervention(intervention().terms, origin)


def rotation(free: Float[Tensor, "d k"]) -> Float[Tensor, "k d"]:
    """Orthonormal rows that span the columns of a free matrix: Q^T of its QR decomposition."""
    Q, upper = torch.linalg.qr(free)
    # Without this, a column of Q jumps to its negative where an entry of `free` changes sign.
    return (Q * upper.diagonal().sign()).T


def _check(model: Model, sites: list[Site], rank: int) -> None:
    if not sites or len(set(sites)) != len(sites):
        raise ValueError(f"needed are different sites, at least one; got {[str(s) for s in sites]}")
    narrowest = min(width(model, site) for site in sites)
    if not 1 <= rank <= narrowest:
        raise ValueError(
            f"the rank is a dimension of a subspace of {narrowest} dimensions, so between 1 and "
            f"{narrowest}; got {rank}"
        )


def _start(model: Model, sites: list[Site], rank: int, seed: int) -> dict[str, Tensor]:
    """Random subspaces, W = R and b = 0 for each site, as leaves with gradient."""
    random, start = torch.Generator().manual_seed(seed), {}
    for site in sites:
        R = rotation(torch.randn(width(model, site), rank, generator=random))
        start[f"{site}.free"] = R.T.contiguous()
        # Once more through the same arithmetic, so that W - R is 0 to the bit.
        start[f"{site}.weight"] = rotation(start[f"{site}.free"])
        start[f"{site}.bias"] = torch.zeros(rank)
    return {name: value.to(model.device).requires_grad_() for name, value in start.items()}


def _build(sites: list[Site], parameters: dict[str, Tensor], at: Positions) -> Intervention:
    """The edits of all sites as one intervention."""
    terms: list[Term] = []
    for site in sites:
        free, W, b = (parameters[f"{site}.{name}"] for name in ("free", "weight", "bias"))
        terms += LoReFT(site, rotation(free), W, b).at(at).terms
    return Intervention(tuple(terms))
