"""A small classifier of what the last block writes for the last token of a text.

Chapter: axbench. The model stays frozen, so the activations are captured once and the classifier is
trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from steerlib.core.fitting import Plan, Step, fit

DROPOUT = 0.3
PLAN = Plan(epochs=24, batch_size=36, lr=4e-4, weight_decay=2e-4)


@dataclass(frozen=True, eq=False)
class Head:
    """Two layers: logits = w2 relu(w1 h + b1) + b2; the second logit is for label 1.

    Args:
        w1: (d / 2, d). b1: (d / 2,). w2: (2, d / 2). b2: (2,).
    """

    w1: Float[Tensor, "hidden d"]
    b1: Float[Tensor, " hidden"]
    w2: Float[Tensor, "2 hidden"]
    b2: Float[Tensor, " 2"]

    def probability(self, h: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """p1: the probability of label 1."""
        w1, b1, w2, b2 = (tensor.to(h.device) for tensor in self.tensors.values())
        return linear(linear(h, w1, b1).relu(), w2, b2).softmax(-1)[:, 1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return {"w1": self.w1, "b1": self.b1, "w2": self.w2, "b2": self.b2}


def fit_head(rows: Float[Tensor, "n d"], truth: Bool[Tensor, " n"], plan: Plan = PLAN) -> Head:
    """The head that was learned from rows and their labels, by cross-entropy with dropout.

    Rows are centred and divided by one number, their root mean squared deviation, so that a
    learning rate means the same for every model; the head that is returned reads plain rows.

    Raises:
        ValueError: all rows are the same. FloatingPointError: the fit diverged.

    Source: IG and IxG in AxBench (Wu et al. 2025), section 3.1. Chapter: axbench.
    """
    centre = rows.mean(0)
    scale = (rows - centre).square().mean().sqrt()
    if scale <= 1e-6 * rows.abs().max():
        raise ValueError(
            f"all {len(rows)} texts have the same last activation; do they end differently?"
        )
    x, y = (rows - centre) / scale, truth.long()
    parameters = _random(rows.shape[1], plan.seed)
    w1, b1, w2, b2 = parameters.values()

    def loss(batch: list[int], step: Step) -> Tensor:
        hidden = linear(_dropped(x[batch], step.random), w1, b1).relu()
        return cross_entropy(linear(_dropped(hidden, step.random), w2, b2), y[batch])

    fit(parameters, loss, len(rows), plan, name="head")
    w1, b1, w2, b2 = (parameter.detach() for parameter in parameters.values())
    return Head(w1 / scale, b1 - w1 @ centre / scale, w2, b2)


def _random(d: int, seed: int) -> dict[str, Tensor]:
    """A start as torch.nn.Linear has it, from a seed of its own."""
    random, hidden = torch.Generator().manual_seed(seed), max(1, d // 2)
    shapes = {"w1": (hidden, d), "b1": (hidden,), "w2": (2, hidden), "b2": (2,)}
    sizes = {"w1": d, "b1": d, "w2": hidden, "b2": hidden}
    return {
        name: ((2 * torch.rand(shape, generator=random) - 1) / sizes[name] ** 0.5).requires_grad_()
        for name, shape in shapes.items()
    }


def _dropped(x: Float[Tensor, "n d"], random: torch.Generator) -> Float[Tensor, "n d"]:
    """Some numbers set to 0 and the others made larger, so that the mean stays."""
    kept = torch.rand(x.shape, generator=random) >= DROPOUT
    return x * kept / (1 - DROPOUT)
