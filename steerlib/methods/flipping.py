"""What a two-way flip is worth: effectiveness, faithfulness and minimality as one loss.

Chapter: scaling. Source: Stoehr et al. 2024, "Activation scaling for steering and interpreting
language models" (2410.04962), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, relu

from steerlib.core.answers import Asked, answer_ids, margin, next_scores, other_kl
from steerlib.core.fitting import History, Plan, Step, fit
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.proximal import shrink_groups
from steerlib.core.responses import Encoded, about_fit
from steerlib.core.steering import steer
from steerlib.methods.layout import Parameters

Effectiveness = Literal["margin", "cross_entropy"]
Build = Callable[[Parameters], Intervention]
_READ = 64  # prompts read at once for the distribution without steering


@dataclass(frozen=True)
class Objective:
    r"""L = L_E + faithfulness L_F + minimality L_M, with Delta = logit(c) - logit(w).

    L_E, "margin": mean of relu(m - Delta_{+1}) + relu(m + Delta_{-1});
    L_E, "cross_entropy": mean of - log p_{+1}(c) - log p_{-1}(w), which also asks that the answers
    stay likely;
    L_F = mean of 1/2 sum_{beta = +-1} KL(p_0 || p_beta) over all tokens but c and w, renormalized;
    L_M = the sum of the lengths of what is learned at each place: |alpha|, ||v|| or ||(u, b)||.

    Args:
        effectiveness: which L_E.
        margin: m, in nats; for "margin" only.
        faithfulness: lambda_F.
        minimality: lambda_M, in nats per unit of length. A scalar leaves 0 only where the other
            terms have a slope above it.

    Raises:
        ValueError: another effectiveness, a negative number.

    Chapter: scaling.
    """

    effectiveness: Effectiveness = "margin"
    margin: float = 2.0
    faithfulness: float = 1.0
    minimality: float = 0.05

    def __post_init__(self) -> None:
        if self.effectiveness not in get_args(Effectiveness):
            raise ValueError(
                f"effectiveness is one of {get_args(Effectiveness)}, got {self.effectiveness!r}"
            )
        for name in ("margin", "faithfulness", "minimality"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a number from 0, got {getattr(self, name)}")

    def smooth(
        self,
        before: Float[Tensor, "n d_vocab"] | None,
        plus: Float[Tensor, "n d_vocab"],
        minus: Float[Tensor, "n d_vocab"],
        asked: Sequence[Asked],
    ) -> Float[Tensor, ""]:
        """L_E + faithfulness L_F of some prompts, from the scores at beta = 0 (if any), +1 and -1.

        The rest of L, minimality L_M, is dealt with by proximal steps.
        """
        c, w = answer_ids(asked, plus.device)
        if self.effectiveness == "margin":
            toward, away = margin(plus, c, w), margin(minus, c, w)
            effect = (relu(self.margin - toward) + relu(self.margin + away)).mean()
        else:
            effect = cross_entropy(plus, c) + cross_entropy(minus, w)
        if self.faithfulness == 0 or before is None:
            return effect
        kl = (other_kl(before, plus, c, w) + other_kl(before, minus, c, w)) / 2
        return effect + self.faithfulness * kl.mean()


def learn(
    model: Model,
    asked: Sequence[Asked],
    parameters: Parameters,
    build: Build,
    objective: Objective,
    plan: Plan,
    name: str,
    about: str,
    checkpoint: str | Path | None,
) -> History:
    """Minimize L in place; each vector of a parameter is what is learned at one place.

    Both directions of a prompt are two samples of one batch, with strengths +1 and -1.
    """
    before = _unsteered(model, asked) if objective.faithfulness else None

    def loss(rows: list[int], step: Step) -> Tensor:
        batch = [asked[row] for row in rows]
        plus, minus = both_ways(model, batch, build(parameters))
        known = None if before is None else before[rows].to(plus.device)
        return objective.smooth(known, plus, minus, batch)

    def prox(value: Tensor, step: Tensor) -> Tensor:
        return shrink_groups(value, step, objective.minimality)

    encoded = [Encoded([*item.ids, item.positive, item.negative], len(item.ids)) for item in asked]
    known_by = about_fit(model, encoded, about, objective)
    return fit(parameters, loss, len(asked), plan, prox=prox, checkpoint=checkpoint,
               about=known_by, name=name)  # fmt: skip


def both_ways(
    model: Model, asked: Sequence[Asked], intervention: Intervention
) -> tuple[Float[Tensor, "n d_vocab"], Float[Tensor, "n d_vocab"]]:
    """The scores of the next token at strength +1 and at strength -1, from one forward pass."""
    n = len(asked)
    strengths = torch.tensor([1.0] * n + [-1.0] * n)
    with steer(model, intervention, strength=strengths):
        plus, minus = next_scores(model, [*asked, *asked]).split(n)
    return plus, minus


@torch.no_grad()
def _unsteered(model: Model, asked: Sequence[Asked]) -> Float[Tensor, "n d_vocab"]:
    """The scores without steering, once for all steps, on the CPU."""
    starts = range(0, len(asked), _READ)
    return torch.cat([next_scores(model, asked[s : s + _READ]).cpu() for s in starts])
