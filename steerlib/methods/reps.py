r"""RePS: a steering vector learned from preferences in both directions, without a reference run.

Chapter: axbench. Source: Wu et al. 2025, "Improved representation steering for language models"
(2505.20809).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from steerlib.core.fitting import Plan, Step, fit
from steerlib.core.interventions import Add, HalfSpace, Intervention, Origin
from steerlib.core.model import Model
from steerlib.core.positions import bos, everywhere
from steerlib.core.responses import Batch, Encoded, about_fit, encode_response, response_log_p
from steerlib.core.sites import Site, as_site, width
from steerlib.core.steering import steer
from steerlib.methods.reft import Labelled

_AT = everywhere - bos


def reps(
    model: Model,
    dialogues: Sequence[Labelled],
    site: Site | str,
    *,
    factors: Sequence[float] = (0.5, 1.0, 1.5),
    plan: Plan | None = None,
    chat: bool | None = None,
    checkpoint: str | None = None,
) -> Intervention:
    r"""A vector under which responses with the concept are preferred, and without which not.

    For a request x with y+ (shows the concept) and y- (does not), of which one wins and one loses:
    loss = - log sigmoid( c log p(y_w) / |y_w| - log p(y_l) / |y_l| ),
    c = max(log p_0(y_l) - log p_0(y_w), 1), p_0 without steering, all log p summed over tokens.
    Once y+ wins under h + f w, f drawn from `factors`; once y- wins under the null intervention
    h - relu(h . w + b) w / ||w||^2, which takes the concept out.

    Args:
        dialogues: of both labels, to the same requests (such as `st.world.dialogues`); what has no
            partner is left out.
        factors: what f is drawn from, each alike.
        plan: default: 6 epochs in batches of 6 at a learning rate of 1, for small models; the paper
            takes 18 epochs at 0.04 and 0.08.
        checkpoint: a file that is written after each epoch; a fit of the same dialogues and
            choices that was stopped goes on from it.

    Returns:
        `Add(site, w)`; strength 1 is factor 1. It acts on every token but BOS, as in training.

    Raises:
        ValueError: no request with a response of each label; factors that are not positive;
        FloatingPointError: the fit diverged.

    Source: RePS, section 3. There (f + b) w is added; here b serves the null intervention only, so
    that strength means the same as for the other methods. Chapter: axbench.

    Example:
        >>> st.reps(model, st.world.dialogues("weather", 24), st.resid(2))
    """
    if not factors or min(factors) <= 0:
        raise ValueError(f"factors are positive numbers, got {factors}")
    plan, where = plan or Plan(epochs=6, lr=1.0), as_site(site)
    pairs = [
        (encode_response(model, shown, chat), encode_response(model, plain, chat))
        for shown, plain in _pairs(dialogues)
    ]
    weights = _weights(model, pairs)
    random = torch.Generator().manual_seed(plan.seed)
    # Long enough that 1 / ||w||^2 is tame.
    w = torch.randn(width(model, where), generator=random).to(model.device).requires_grad_()
    b = torch.zeros(1, device=model.device, requires_grad=True)
    choices = torch.tensor(factors, dtype=torch.float32)

    def loss(rows: list[int], step: Step) -> Tensor:
        drawn = choices[torch.randint(len(choices), (len(rows),), generator=step.random)]
        shown, plain = ([pairs[row][side] for row in rows] for side in (0, 1))
        with steer(model, Add(where, w).at(_AT), strength=drawn):
            added = _preference(model, shown, plain, weights[rows, 0])
        with steer(model, HalfSpace(where, w, b[0]).at(_AT)):
            removed = _preference(model, plain, shown, weights[rows, 1])
        return -(logsigmoid(added) + logsigmoid(removed)).mean()

    both = [encoded for pair in pairs for encoded in pair]
    about = about_fit(model, both, "reps", where, factors)
    fit({"w": w, "b": b}, loss, len(pairs), plan, checkpoint=checkpoint, about=about, name="RePS")
    origin = Origin(model.id, model.revision, "reps", plan.seed)
    return Intervention(Add(where, w.detach().cpu()).at(_AT).terms, origin)


def _pairs(dialogues: Sequence[Labelled]) -> list[tuple[Labelled, Labelled]]:
    """The k-th response with the concept and the k-th without to each request; others are left."""
    sides: dict[str, tuple[list[Labelled], list[Labelled]]] = {}
    for dialogue in dialogues:
        shown, plain = sides.setdefault(str(dialogue.prompt), ([], []))
        (shown if dialogue.label else plain).append(dialogue)
    found = [pair for shown, plain in sides.values() for pair in zip(shown, plain, strict=False)]
    if not found:
        raise ValueError(
            "RePS learns from pairs: some request needs a response with the concept and one "
            f"without; none of {len(sides)} requests has both"
        )
    return found


@torch.no_grad()
def _weights(model: Model, pairs: Sequence[tuple[Encoded, Encoded]]) -> Float[Tensor, "n 2"]:
    """c of each pair, with y+ as the winner and with y- as the winner; computed once."""
    sides = []
    for side in (0, 1):
        parts = [
            response_log_p(model, Batch.of(model, [pair[side] for pair in pairs[s : s + 32]]))[0]
            for s in range(0, len(pairs), 32)
        ]
        sides.append(torch.cat(parts))
    shown, plain = sides
    return torch.stack([plain - shown, shown - plain], 1).clamp_min(1.0)


def _preference(
    model: Model, winners: list[Encoded], losers: list[Encoded], weight: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """c log p(y_w) / |y_w| - log p(y_l) / |y_l|, each under the same steering strengths."""
    won, won_tokens = response_log_p(model, Batch.of(model, winners))
    lost, lost_tokens = response_log_p(model, Batch.of(model, losers))
    return preference(won, won_tokens, lost, lost_tokens, weight)


def preference(
    won: Float[Tensor, " batch"],
    won_tokens: Int[Tensor, " batch"],
    lost: Float[Tensor, " batch"],
    lost_tokens: Int[Tensor, " batch"],
    weight: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """The margin of RePS from summed log-probabilities and numbers of response tokens."""
    return weight * won / won_tokens - lost / lost_tokens
