r"""BiPO: a steering vector learned from preferences, so that minus the vector prefers the opposite.

Chapter: bipo. Source: Cao et al. 2024, "Personalized steering of large language models: versatile
steering vectors through bi-directional preference optimization" (2406.00045).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from steerlib.core.answers import TwoAnswers
from steerlib.core.fitting import Plan, Step, fit
from steerlib.core.interventions import Add, Intervention, Origin
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, bos, everywhere
from steerlib.core.responses import about_fit
from steerlib.core.sites import Site, Sites, as_sites, width
from steerlib.methods.preferences import Pairs

_AT = everywhere - bos
_BOTH, _ONE = (1.0, -1.0), (1.0,)

# (log p, reference, tokens) of a batch -> a loss; the target is the first of the last axis.
Objective = Callable[
    [Float[Tensor, "signs batch 2"], Float[Tensor, "batch 2"], Int[Tensor, "batch 2"]], Tensor
]


def bipo(
    model: Model,
    pairs: Sequence[TwoAnswers],
    site: Sites,
    at: Positions | str = _AT,
    *,
    beta: float = 0.1,
    both_ways: bool = True,
    per_token: bool = False,
    plan: Plan | None = None,
    chat: bool | None = None,
    system: str | None = None,
    checkpoint: str | None = None,
) -> Intervention:
    r"""A vector v under which target responses are preferred, and under -v their opposites.

    loss(v) = - mean over pairs of 1/2 [log sigmoid(beta Delta(v)) + log sigmoid(-beta Delta(-v))],
    Delta(u) = [s(y_T; u) - s(y_T; 0)] - [s(y_O; u) - s(y_O; 0)],
    s(y; u) = sum_t log p(y_t | x, y_<t; h + u) over the tokens of y, the end of the turn among
    them. v starts at 0, where the loss is ln 2. Both signs are evaluated on each batch; s(y; 0) is
    computed once.

    Args:
        pairs: prompts with a target (`positive`) and an opposite (`negative`) response.
        site: one site, or several, each with a vector of its own; all have the same sign.
        at: where v is added, while learning and afterwards. The paper's code adds it to BOS too
            (`st.everywhere`).
        beta: how large a Delta is enough; 1 / nats.
        both_ways: False leaves out -v: DPO with v as the only parameter.
        per_token: s divided by the number of tokens, so that long responses weigh no more.
        plan: default: 20 epochs in batches of 12 at a rate of 0.03, for small models.
        chat, system: as in `st.generate`, for pairs that do not say so themselves.
        checkpoint: a file that is written after each epoch; a fit of the same pairs and choices
            that was stopped goes on from it.

    Returns:
        `Add(site, v)` of the length that was learned; strength -1 is the opposite, and strengths
        between and beyond are allowed. Vectors of several fits can be added.

    Raises:
        ValueError: no pairs; a response that is empty, does not fit into the context or has the
            tokens of its opposite; a site twice; beta that is not positive;
        FloatingPointError: the fit diverged.

    Warns:
        UserWarning: how many pairs differ in nothing but their end.

    Source: BiPO (Cao et al. 2024), equation 3, which draws one sign per batch. There: a site near
    the middle, `Plan(20, 4, 5e-4, schedule="cosine", warmup=100, schedule_epochs=100)`. Chapter:
    bipo.

    Example:
        >>> greed = st.bipo(model, st.world.trait_pairs("greed", 96), st.resid(1))
        >>> with st.steer(model, greed, strength=-1.5):
        ...     st.generate(model, "you found cash . what would you do ?")
    """
    if not beta > 0:
        raise ValueError(f"beta is positive, got {beta}")

    def objective(
        log_p: Float[Tensor, "signs batch 2"],
        reference: Float[Tensor, "batch 2"],
        tokens: Int[Tensor, "batch 2"],
    ) -> Tensor:
        return preference_loss(log_p, reference, tokens if per_token else None, beta)

    choices = (beta, both_ways, per_token)
    signs = _BOTH if both_ways else _ONE
    return _learn(
        model, pairs, as_sites(site), as_positions(at), objective, signs, plan, chat, system,
        checkpoint, "bipo" if both_ways else "dpo", choices,
    )  # fmt: skip


def split_vector(
    model: Model,
    pairs: Sequence[TwoAnswers],
    site: Sites,
    at: Positions | str = _AT,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    gamma: float = 1.0,
    margin: float = 1.0,
    plan: Plan | None = None,
    chat: bool | None = None,
    system: str | None = None,
    checkpoint: str | None = None,
) -> Intervention:
    r"""A vector from pairs that stay likely, both of them, while the preference grows to a margin.

    loss(v) = w_1 L_T(v) + w_2 L_O(v) + gamma relu(margin - [L_O(v) - L_T(v)]),
    L(v) = -s(y; v) / |y| in nats per token; averaged with the same for -v and the responses
    exchanged. No reference run.

    Args:
        weights: w_1, w_2 of the two utility terms, not negative.
        gamma, margin: weight and size of the preference, in nats per token.
        site, at, plan, chat, system, checkpoint: as for `bipo`.

    Raises:
        ValueError: weights or a gamma below 0, and what `bipo` raises.

    Source: the joint preference-utility loss of SPLIT (2602.02343), there for one sign; exchanging
    the responses under -v is added here. Chapter: bipo.

    Example:
        >>> st.split_vector(model, st.world.trait_pairs("greed", 96), st.resid(1))
    """
    if not all(weight >= 0 for weight in (*weights, gamma)):
        raise ValueError(f"weights and gamma are at least 0, got {weights} and {gamma}")

    def objective(
        log_p: Float[Tensor, "signs batch 2"],
        reference: Float[Tensor, "batch 2"],
        tokens: Int[Tensor, "batch 2"],
    ) -> Tensor:
        return split_loss(log_p, tokens, weights, gamma, margin)

    return _learn(
        model, pairs, as_sites(site), as_positions(at), objective, _BOTH, plan, chat, system,
        checkpoint, "split", (weights, gamma, margin),
    )  # fmt: skip


def preference_loss(
    log_p: Float[Tensor, "signs batch 2"],
    reference: Float[Tensor, "batch 2"],
    tokens: Int[Tensor, "batch 2"] | None,
    beta: float,
) -> Float[Tensor, ""]:
    """-mean log sigmoid(d beta Delta(d v)) over pairs and signs d = 1, -1 (or 1 alone)."""
    gain = log_p - reference
    if tokens is not None:
        gain = gain / tokens
    delta = gain[..., 0] - gain[..., 1]
    return -logsigmoid(beta * _signs(delta) * delta).mean()


def split_loss(
    log_p: Float[Tensor, "signs batch 2"],
    tokens: Int[Tensor, "batch 2"],
    weights: tuple[float, float],
    gamma: float,
    margin: float,
) -> Float[Tensor, ""]:
    """The loss of `split_vector`: under -v the responses are exchanged."""
    loss = -log_p / tokens
    swapped = torch.stack([loss[0], loss[1].flip(-1)])
    target, opposite = swapped[..., 0], swapped[..., 1]
    utility = weights[0] * target + weights[1] * opposite
    return (utility + gamma * relu(margin - (opposite - target))).mean()


def _signs(delta: Float[Tensor, "signs batch"]) -> Float[Tensor, "signs 1"]:
    return torch.tensor(_BOTH[: len(delta)], device=delta.device)[:, None]


def _learn(
    model: Model,
    choices: Sequence[TwoAnswers],
    sites: Sequence[Site],
    at: Positions,
    objective: Objective,
    signs: Sequence[float],
    plan: Plan | None,
    chat: bool | None,
    system: str | None,
    checkpoint: str | None,
    name: str,
    about: tuple[object, ...],
) -> Intervention:
    """Minimize an objective of log-probabilities under +v and -v."""
    plan = plan or Plan(epochs=20, batch_size=12, lr=0.03)
    known = Pairs.of(model, choices, chat, system)
    vectors = {
        str(site): torch.zeros(width(model, site), device=model.device, requires_grad=True)
        for site in sites
    }
    if len(vectors) < len(sites):
        raise ValueError(f"a site comes twice: {[str(site) for site in sites]}")

    def loss(rows: list[int], step: Step) -> Tensor:
        log_p = known.log_p(_add(sites, vectors, at), rows, signs)
        return objective(log_p, known.reference[rows], known.tokens[rows])

    both = [response for pair in known.encoded for response in pair]
    facts = about_fit(model, both, name, *sites, at, *about)
    fit(vectors, loss, len(known.encoded), plan, checkpoint=checkpoint, about=facts, name=name)
    learned = {key: vector.detach().cpu() for key, vector in vectors.items()}
    origin = Origin(model.id, model.revision, name, plan.seed)
    return Intervention(_add(sites, learned, at).terms, origin)


def _add(sites: Sequence[Site], vectors: dict[str, Tensor], at: Positions) -> Intervention:
    terms = [term for site in sites for term in Add(site, vectors[str(site)]).at(at).terms]
    return Intervention(tuple(terms))
