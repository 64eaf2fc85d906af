r"""One step of learning a sparse autoencoder, in normalised units.

Chapter: sae. On x = (h - mu) / s, with E ||x||^2 = d, what is minimized is

    TopK      ||x - x^||^2 + a L_aux
    JumpReLU  ||x - x^||^2 + a L_aux + w (L0 / k - 1)^2
    ReLU      ||x - x^||^2 + l1 sum_f z_f

with decoder rows of length 1. L_aux revives latents that have not fired for a while: the largest
inputs among them, alone, have to rebuild what the others left over. A dead ReLU has no input above
0 and no gradient: it starts anew along an activation that is rebuilt badly. With `nested` sizes
||x - x^||^2 is a mean over x^ from the first latents only, as many as each size, and from all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlib.core.interventions import Origin
from steerlib.core.latents import sparse
from steerlib.core.sites import Site
from steerlib.methods.sae import SAE, Activation

# Of the world model's stream after block 2: the settings with the lowest FVU on activations that
# no result of the book is measured on.
_AUX = 1 / 32
_THRESHOLD, _BANDWIDTH, _WEIGHT = 1.0, 1.0, 100.0  # JumpReLU: the start, the kernel's width, w
_FAST = 2.0  # the learning rate of thresholds, which move on a log scale, in units of lr
_SOFT = 0.2  # the length of a renewed encoder column, in those of the living
_WARM, _DECAY = 0.05, 0.5  # shares of the run in which the rate rises and falls


@dataclass(frozen=True)
class SAEPlan:
    """What is learned, and how.

    Args:
        n: how many latents.
        activation: "topk", "jumprelu" or "relu".
        k: latents per token: exactly (TopK) or on average (JumpReLU).
        l1: the price of a latent's value, for ReLU.
        epochs: how often every text is read.
        batch_size: activations per step.
        lr: Adam's, after the warm-up; it falls to 0 in the second half.
        chunk: how many texts are read and mixed at once.
        dead_after: a latent is dead when it has not fired for so many activations.
        nested: sizes, rising and below n: the first latents, as many as each says, have to rebuild
            the activations alone too (a Matryoshka SAE), so that general features come first.
        seed: of the start, the order of the texts and the mixing.

    Raises:
        ValueError: a number that is not positive, an unknown activation, sizes that do not rise.
    """

    n: int = 1024
    activation: Activation = "topk"
    k: int = 16
    l1: float = 1.0
    epochs: int = 1
    batch_size: int = 1024
    lr: float = 4e-3
    chunk: int = 2048
    dead_after: int = 100_000
    nested: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n", "k", "l1", "epochs", "batch_size", "lr", "chunk", "dead_after"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is positive, got {getattr(self, name)}")
        if self.activation not in ("topk", "jumprelu", "relu"):
            raise ValueError(f"activation is topk, jumprelu or relu, got {self.activation!r}")
        if self.activation == "topk" and self.k > self.n:
            raise ValueError(f"k is at most n = {self.n}, got {self.k}")
        sizes = (0, *self.nested, self.n)
        if any(a >= b for a, b in pairwise(sizes)):
            raise ValueError(
                f"nested sizes rise from 1 and end below n = {self.n}, got {self.nested}"
            )


class _Jump(torch.autograd.Function):
    """x where x > theta, and how many; gradients in theta by a rectangle around it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, theta)
        open_ = (x > theta).to(x.dtype)
        return x * open_, open_

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, theta = ctx.saved_tensors
        near = ((x - theta).abs() < _BANDWIDTH / 2) / _BANDWIDTH
        d_theta = -(near * (theta * grads[0] + grads[1])).sum(0)
        return grads[0] * (x > theta), d_theta


class Learner:
    """The parameters of an SAE in normalised units while it is learned.

    `silent` counts the rows since each latent fired.
    """

    def __init__(self, d: int, plan: SAEPlan, device: torch.device | str = "cpu") -> None:
        random = torch.Generator().manual_seed(plan.seed)
        rows = torch.nn.functional.normalize(torch.randn(plan.n, d, generator=random), dim=1)
        rows = rows.to(device)
        self.plan = plan
        self.parameters = {
            "encoder": rows.T.clone().requires_grad_(),
            "bias": rows.new_zeros(plan.n).requires_grad_(),
            "decoder": rows.clone().requires_grad_(),
            "offset": rows.new_zeros(d).requires_grad_(),
        }
        if plan.activation == "jumprelu":
            start = rows.new_full((plan.n,), _THRESHOLD).log()
            self.parameters["log_threshold"] = start.requires_grad_()
        groups = [
            {"params": [p], "speed": _FAST if name == "log_threshold" else 1.0}
            for name, p in self.parameters.items()
        ]
        self.optimizer = torch.optim.Adam(groups, lr=plan.lr, betas=(0.9, 0.99))
        self.silent = rows.new_zeros(plan.n)
        self.k_aux = max(d // 2, 1)

    def step(self, x: Float[Tensor, "batch d"], progress: float) -> float:
        """One step at a point of the run between 0 and 1; returns the loss of reconstruction."""
        warm = min(1.0, (progress + 1e-3) / _WARM)
        rate = self.plan.lr * warm * min(1.0, (1 - progress) / _DECAY)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["speed"]
        p = self.parameters
        inputs = x @ p["encoder"] + p["bias"]
        z, penalty = self._latents(inputs)
        left, errors = self._left(x, z)
        loss = errors.mean() + warm * penalty + self._revive(inputs, left.detach())
        self.optimizer.zero_grad()
        loss.backward()
        self._keep_unit_rows(before=True)
        self.optimizer.step()
        self._keep_unit_rows(before=False)
        self.silent += len(x)
        self.silent[(z > 0).any(0)] = 0
        if self.plan.activation == "relu" and progress < 1 - _DECAY:
            self._renew(x, left.detach(), progress)
        return float(errors[-1].detach())

    def _left(self, x: Float[Tensor, "batch d"], z: Float[Tensor, "batch n"]) -> tuple[Tensor, ...]:
        """What is left of x, and the mean squared error of each nested size, the whole last."""
        decoder, offset = self.parameters["decoder"], self.parameters["offset"]
        rebuilt, errors = offset, []
        for start, end in pairwise((0, *self.plan.nested, self.plan.n)):
            rebuilt = z[:, start:end] @ decoder[start:end] + rebuilt
            errors.append((x - rebuilt).square().sum(1).mean())
        return x - rebuilt, torch.stack(errors)

    def _latents(self, inputs: Float[Tensor, "batch n"]) -> tuple[Tensor, Tensor]:
        """z, and what its size costs."""
        plan = self.plan
        if plan.activation == "topk":
            return sparse(inputs, inputs.new_zeros(()), plan.k), inputs.new_zeros(())
        if plan.activation == "relu":
            z = inputs.relu()
            return z, plan.l1 * z.sum(1).mean()
        z, is_open = _Jump.apply(inputs, self.parameters["log_threshold"].exp())
        return z, _WEIGHT * (is_open.sum(1).mean() / plan.k - 1).square()

    def _revive(self, inputs: Float[Tensor, "batch n"], left: Float[Tensor, "batch d"]) -> Tensor:
        """What the dead latents with the largest inputs fail to rebuild of the rest."""
        dead = self._dead()
        if self.plan.activation == "relu" or not len(dead):
            return left.new_zeros(())
        k = min(self.k_aux, len(dead))
        z = sparse(inputs[:, dead], inputs.new_zeros(()), k)
        rebuilt = z @ self.parameters["decoder"][dead]
        return _AUX * (rebuilt - left).square().sum(1).mean()

    def _dead(self) -> Int[Tensor, " dead"]:
        return (self.silent > self.plan.dead_after).nonzero()[:, 0]

    @torch.no_grad()
    def _renew(
        self, x: Float[Tensor, "batch d"], left: Float[Tensor, "batch d"], at: float
    ) -> None:
        """Dead latents start anew, along activations drawn by the square of their error."""
        dead = self._dead()[: len(x)]
        if not len(dead) or not left.isfinite().all():  # a run that diverges says so itself
            return
        p, alive = self.parameters, self.silent <= self.plan.dead_after
        random = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + round(at * 1e6))
        weights = left.square().sum(1).square().cpu().clamp(min=1e-12)  # some may be exact
        drawn = torch.multinomial(weights, len(dead), generator=random).to(x.device)
        rows = torch.nn.functional.normalize(x[drawn] - p["offset"], dim=1)
        length = p["encoder"][:, alive].norm(dim=0).mean() if alive.any() else 1.0
        p["decoder"][dead] = rows
        p["encoder"][:, dead] = _SOFT * length * rows.T
        p["bias"][dead] = 0.0
        for name, places in (
            ("decoder", (dead,)),
            ("encoder", (slice(None), dead)),
            ("bias", (dead,)),
        ):
            for moment in ("exp_avg", "exp_avg_sq"):
                self.optimizer.state[p[name]][moment][places] = 0.0
        self.silent[dead] = 0

    @torch.no_grad()
    def _keep_unit_rows(self, before: bool) -> None:
        """Before a step: no gradient along a row. After it: rows of length 1."""
        decoder = self.parameters["decoder"]
        if not before:
            decoder /= decoder.norm(dim=1, keepdim=True)
        elif decoder.grad is not None:
            along = (decoder.grad * decoder).sum(1, keepdim=True)
            decoder.grad -= along * decoder

    def sae(self, site: Site, centre: Float[Tensor, " d"], scale: float, origin: Origin) -> SAE:
        """The SAE in the raw basis: z((h - centre) / scale) * scale is again an SAE of h."""
        p = {name: value.detach().cpu() for name, value in self.parameters.items()}
        plan, is_jump = self.plan, self.plan.activation == "jumprelu"
        return SAE(
            site,
            p["encoder"],
            scale * p["bias"] - centre @ p["encoder"],
            p["decoder"],
            scale * p["offset"] + centre,
            plan.activation,
            threshold=scale * p["log_threshold"].exp() if is_jump else None,
            k=plan.k if plan.activation == "topk" else None,
            origin=origin,
        )
