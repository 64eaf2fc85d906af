"""Directions learned from text by gradient: supervised steering vectors and ReFT-r1.

Chapter: axbench.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.fitting import Plan, Step, fit
from steerlib.core.interventions import Add, Intervention, Origin, Term
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, bos, everywhere
from steerlib.core.responses import Encoded, Exchange, about_fit, encode_response, mean_loss
from steerlib.core.sites import Site, as_site, width
from steerlib.core.steering import steer
from steerlib.core.where import Where

_AT = everywhere - bos


class Labelled(Exchange, Protocol):
    """A prompt, a response, and whether the response shows the concept."""

    @property
    def label(self) -> bool: ...


def supervised_vector(
    model: Model,
    dialogues: Sequence[Labelled],
    site: Site | str,
    at: Positions | str = everywhere,
    *,
    factors: Sequence[float] = (1.0,),
    plan: Plan | None = None,
    chat: bool | None = None,
    checkpoint: str | None = None,
) -> Intervention:
    """A vector w that makes the responses with the concept likely: h <- h + f w.

    loss = - mean over dialogues of log p_{h + f w}(y | x) / |y|, over those with label True; f is
    drawn from `factors` for each dialogue and step. One factor is AxBench's SSV; several keep the
    vector useful over a range of strengths (Wu et al. 2025, RePS).

    Args:
        dialogues: those with label True are learned from.
        factors: what f is drawn from, each alike.
        checkpoint: a file that is written after each epoch; a fit of the same dialogues and
            choices that was stopped goes on from it.

    Returns:
        `Add(site, w)` at `at`; strength 1 is factor 1.

    Raises:
        ValueError: no dialogue with label True, factors that are not positive;
        FloatingPointError: the fit diverged.

    Source: AxBench (Wu et al. 2025), section 3.1; factor sampling: RePS (2505.20809). Chapter:
    axbench.

    Example:
        >>> st.supervised_vector(model, st.world.dialogues("weather", 24), st.resid(2))
    """
    if not factors or min(factors) <= 0:
        raise ValueError(f"factors are positive numbers, got {factors}")
    plan, where, positions = plan or Plan(), as_site(site), as_positions(at)
    encoded = encode_positives(model, dialogues, chat, "supervised_vector")
    w = _small(width(model, where), plan.seed).to(model.device).requires_grad_()
    choices = torch.tensor(factors, dtype=torch.float32)

    def loss(rows: list[int], step: Step) -> Tensor:
        drawn = choices[torch.randint(len(choices), (len(rows),), generator=step.random)]
        with steer(model, Add(where, w).at(positions), strength=drawn):
            return mean_loss(model, [encoded[row] for row in rows])

    about = about_fit(model, encoded, "supervised_vector", where, positions, factors)
    fit({"w": w}, loss, len(encoded), plan, checkpoint=checkpoint, about=about,
        name="supervised vector")  # fmt: skip
    origin = Origin(model.id, model.revision, "supervised_vector", plan.seed)
    return Intervention(Add(where, w.detach().cpu()).at(positions).terms, origin)


def reft_r1(
    model: Model,
    dialogues: Sequence[Labelled],
    site: Site | str,
    *,
    k: int = 8,
    sparsity: float = 0.005,
    plan: Plan | None = None,
    chat: bool | None = None,
    checkpoint: str | None = None,
) -> Intervention:
    r"""One direction that detects and steers: ReFT-r1.

    a_i = relu(h_i . w) over the tokens but BOS, ||w|| = 1; S = the k largest; m = mean of a over S;
    every such token becomes h_i + m w, and
    loss = CE(y) + sparsity * (step / steps) * mean_i (a_i [i not in S]).
    Dialogues of both labels are learned from: where the concept is absent, nothing should be added.

    Args:
        k: how many tokens carry the concept in a dialogue.
        sparsity: the weight of the penalty at the end.
        checkpoint: a file that is written after each epoch; a fit of the same dialogues and
            choices that was stopped goes on from it.

    Returns:
        `Add(site, m w)` with m the mean over the dialogues with label True, so that strength 1
        adds what was added in training, on every token but BOS. `.readout` reads along w.

    Raises:
        ValueError: one label only; a start at which no token of any positive dialogue is read;
        FloatingPointError: the fit diverged.

    Source: AxBench (Wu et al. 2025), section 3.1, eq. 7-9. It starts from 0.01 * ones, which a
    LayerNorm cannot see: here w starts at random. Chapter: axbench.

    Example:
        >>> st.reft_r1(model, st.world.dialogues("weather", 24), st.resid(2))
    """
    plan, where = plan or Plan(), as_site(site)
    labels = [bool(dialogue.label) for dialogue in dialogues]
    if len(set(labels)) != 2 or k < 1 or sparsity < 0:
        raise ValueError(
            f"needed are dialogues of both labels, k >= 1 and sparsity >= 0; got {sum(labels)} of "
            f"{len(labels)} with label True, k={k}, sparsity={sparsity}"
        )
    encoded = [encode_response(model, dialogue, chat) for dialogue in dialogues]
    w = _small(width(model, where), plan.seed)
    w = (w / w.norm()).to(model.device).requires_grad_()

    def run(rows: list[int]) -> tuple[Tensor, LatentMean]:
        edit = LatentMean(w, k)
        with steer(model, Intervention((Term(where, edit, _AT),))):
            return mean_loss(model, [encoded[row] for row in rows]), edit

    def loss(rows: list[int], step: Step) -> Tensor:
        error, edit = run(rows)
        return error + sparsity * step.number / step.total * edit.rest

    def off_the_radius() -> None:
        assert w.grad is not None
        w.grad -= (w.grad @ w) * w

    def to_the_sphere() -> None:
        w.div_(w.norm())

    about = about_fit(model, encoded, "reft_r1", where, k, sparsity)
    fit({"w": w}, loss, len(encoded), plan, before_step=off_the_radius, after_step=to_the_sphere,
        checkpoint=checkpoint, about=about, name="ReFT-r1")  # fmt: skip
    positive = [row for row, label in enumerate(labels) if label]
    with torch.no_grad():
        means = [run(positive[s : s + 32])[1].mean for s in range(0, len(positive), 32)]
    length = torch.cat(means).mean()
    if length == 0:
        raise ValueError(
            "the direction that was learned reads nothing in the dialogues with the concept; "
            "another seed in plan= starts elsewhere"
        )
    origin = Origin(model.id, model.revision, "reft_r1", plan.seed)
    return Intervention(Add(where, (length * w).detach().cpu()).at(_AT).terms, origin)


@dataclass(eq=False)
class LatentMean:
    """The edit of ReFT-r1 in training: delta = m w, m the mean of the k largest relu(h . w).

    After a forward pass `mean` holds m (batch,), and `rest` the mean of the other latents.
    """

    w: Float[Tensor, " d"]
    k: int
    mean: Any = field(default=None, init=False)
    rest: Any = field(default=None, init=False)

    @property
    def width(self) -> int:
        return len(self.w)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"w": self.w}

    def delta(self, h: Float[Tensor, "batch pos d"], where: Where) -> Float[Tensor, "batch pos d"]:
        real = (where.real & ~where.is_bos).to(h.device)
        latents = torch.where(real, torch.relu(h @ self.w), 0.0)
        top, places = latents.topk(min(self.k, latents.shape[1]), 1)
        self.mean = top.sum(1) / real.sum(1).clamp(max=self.k)
        others = latents.scatter(1, places, 0.0)
        self.rest = (others.sum(1) / real.sum(1)).mean()
        return (self.mean[:, None, None] * self.w).expand_as(h)

    def scaled(self, factor: float) -> LatentMean:
        raise TypeError("the edit of ReFT-r1 in training has no strength; use what reft_r1 returns")


def encode_positives(
    model: Model, dialogues: Sequence[Labelled], chat: bool | None, method: str
) -> list[Encoded]:
    """The dialogues with label True, for a method that learns from them only."""
    encoded = [encode_response(model, d, chat) for d in dialogues if d.label]
    if not encoded:
        raise ValueError(f"{method} learns from dialogues with label True; there are none")
    return encoded


def _small(d: int, seed: int) -> Float[Tensor, " d"]:
    """A random start, short against any activation."""
    return 0.01 * torch.randn(d, generator=torch.Generator().manual_seed(seed))
