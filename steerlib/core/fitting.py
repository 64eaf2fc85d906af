"""The one loop for everything that is learned by gradient; the model itself stays frozen.

Chapter: axbench. AdamW whose rate falls. The order of the examples and all random numbers of a
step are functions of the seed and the number of the step, so a fit that was stopped goes on as if
it had not been.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from steerlib.core.checkpoints import Checkpoint

Loss = Callable[[list[int], "Step"], Tensor]
Change = Callable[[], None]
Schedule = Literal["linear", "cosine"]
Prox = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """Which step of how many, and the random numbers that belong to it."""

    number: int
    total: int
    random: torch.Generator


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn.

    Args:
        epochs, batch_size: each epoch sees every example once, in an order of its own.
        lr: the highest learning rate, from which it falls to 0.
        schedule: how it falls: "linear", or "cosine" (half a period).
        warmup: steps in which the rate first rises from 0, linearly.
        schedule_epochs: epochs after which the rate is 0; default: `epochs`. A larger number stops
            a longer run early, with the rate that it has by then.
        weight_decay: AdamW's.
        clip: the largest norm of the gradient, or None.
        patience: epochs without a lower validation loss after which it stops, or None.
        seed: of the order and of what the loss draws.

    Raises:
        ValueError: a number that is not positive, an unknown schedule, a schedule that ends before
            the run does.
    """

    epochs: int = 3
    batch_size: int = 6
    lr: float = 1e-2
    weight_decay: float = 0.0
    clip: float | None = 1.0
    patience: int | None = None
    seed: int = 0
    schedule: Schedule = "linear"
    warmup: int = 0
    schedule_epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "clip", "patience", "schedule_epochs"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is positive, got {value}")
        if self.schedule not in get_args(Schedule) or self.warmup < 0:
            raise ValueError(
                f"the schedule is one of {get_args(Schedule)} and warmup at least 0, got "
                f"{self.schedule!r} and {self.warmup}"
            )
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise ValueError(
                f"the schedule of {self.schedule_epochs} epochs ends before the run of "
                f"{self.epochs}; schedule_epochs is at least epochs"
            )

    def rate(self, step: int, per_epoch: int) -> float:
        """The learning rate of a step, of which an epoch has `per_epoch`."""
        if step < self.warmup:
            return self.lr * step / self.warmup
        total = (self.schedule_epochs or self.epochs) * per_epoch
        done = (step - self.warmup) / max(total - self.warmup, 1)
        left = 1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.lr * max(left, 0.0)


@dataclass(frozen=True)
class History:
    """The loss of each step, the validation loss of each epoch, and whether it stopped early."""

    losses: tuple[float, ...]
    validation: tuple[float, ...] = ()
    stopped: bool = False


def fit(
    parameters: Mapping[str, Tensor],
    loss: Loss,
    n: int,
    plan: Plan,
    *,
    before_step: Change | None = None,
    after_step: Change | None = None,
    prox: Prox | None = None,
    validate: Callable[[], float] | None = None,
    checkpoint: str | Path | None = None,
    about: str = "",
    name: str = "learning",
) -> History:
    """Minimize the mean loss over n examples in place.

    Args:
        parameters: by name; leaves with gradient, changed in place.
        loss: (numbers of the examples of a batch, `Step`) -> a scalar.
        before_step: called between the backward pass and the step, to change gradients.
        after_step: called after the step, to project parameters.
        prox: (a parameter after the step, the step sizes lr / (sqrt(v) + eps) of its entries) ->
            its new value, where the penalty that it belongs to is not in `loss`: a proximal step in
            Adam's own metric, whose fixed points are those of loss + penalty. Without `clip` and
            `weight_decay`, which would change them.
        validate: a loss on other examples, asked after each epoch; with `plan.patience`.
        checkpoint: a safetensors file, written after each epoch; a fit of the same plan, names,
            shapes and `about` goes on from it.
        about: what else decides the result, such as a hash of the model and the examples.
        name: for the progress bar, which shows after two seconds.

    Raises:
        ValueError: no examples, a parameter that takes no gradient, a checkpoint of another fit,
            `prox` together with `clip` or `weight_decay`.
        FloatingPointError: a loss or a parameter that is not finite; the message names the step.

    Chapter: axbench.
    """
    if n < 1 or not parameters or not all(p.requires_grad for p in parameters.values()):
        raise ValueError(f"needed are examples and parameters with gradient, got n={n} and "
                         f"{[name for name, p in parameters.items() if not p.requires_grad]} "
                         "without")  # fmt: skip
    if prox is not None and (plan.clip is not None or plan.weight_decay):
        raise ValueError(
            f"a proximal step needs clip=None and weight_decay=0, got clip={plan.clip} and "
            f"weight_decay={plan.weight_decay}"
        )
    values = list(parameters.values())
    optimizer = torch.optim.AdamW(values, lr=plan.lr, weight_decay=plan.weight_decay)
    shapes = {key: list(p.shape) for key, p in parameters.items()}
    facts = {"plan": asdict(plan), "n": n, "shapes": shapes, "about": about}
    state = Checkpoint(checkpoint, json.dumps(facts), parameters, optimizer)
    losses, validation = _so_far(state)
    per_epoch = -(-n // plan.batch_size)
    total, stopped = plan.epochs * per_epoch, _is_stuck(validation, plan.patience)

    def take_step(rows: list[int], step: int) -> float:
        optimizer.param_groups[0]["lr"] = plan.rate(step, per_epoch)
        random = _generator(plan.seed, step + 1_000_003)
        value = loss(rows, Step(step, total, random))
        number = _checked(value.detach(), "the loss", step, name)
        optimizer.zero_grad()
        value.backward()
        if plan.clip is not None:
            torch.nn.utils.clip_grad_norm_(values, plan.clip)
        _call(before_step)
        optimizer.step()
        _call(after_step)
        if prox is not None:
            _shrink(values, optimizer, prox)
        for key, parameter in parameters.items():
            _checked(parameter.detach().sum(), f"parameter {key!r}", step, name)
        return number

    with tqdm(total=total, initial=len(losses), desc=name, delay=2, leave=False) as bar:
        for epoch in range(len(losses) // per_epoch, 0 if stopped else plan.epochs):
            for rows in _batches(n, plan, epoch):
                losses.append(take_step(rows, len(losses)))
                bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
                bar.update()
            if validate is not None:
                validation.append(float(validate()))
            history = {"losses": losses, "validation": validation}
            state.save({"history": json.dumps(history)})
            if stopped := _is_stuck(validation, plan.patience):
                break
    return History(tuple(losses), tuple(validation), stopped)


def _so_far(state: Checkpoint) -> tuple[list[float], list[float]]:
    """The losses and the validation losses until the checkpoint."""
    found = state.load()
    if found is None:
        return [], []
    history = json.loads(found[0]["history"])
    return history["losses"], history["validation"]


def _call(change: Change | None) -> None:
    if change is not None:
        with torch.no_grad():
            change()


@torch.no_grad()
def _shrink(values: list[Tensor], optimizer: torch.optim.AdamW, prox: Prox) -> None:
    """Replace each parameter by its proximal step, with the step sizes that AdamW just took."""
    group = optimizer.param_groups[0]
    for value in values:
        state = optimizer.state[value]
        v = state["exp_avg_sq"] / (1 - group["betas"][1] ** state["step"].item())
        value.copy_(prox(value, group["lr"] / (v.sqrt() + group["eps"])))


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 2_000_003 + step)


def _batches(n: int, plan: Plan, epoch: int) -> Iterator[list[int]]:
    """The examples of one epoch in their order."""
    order = torch.randperm(n, generator=_generator(plan.seed, epoch)).tolist()
    for start in range(0, n, plan.batch_size):
        yield order[start : start + plan.batch_size]


def _checked(value: Tensor, what: str, step: int, name: str) -> float:
    number = float(value)
    if not torch.isfinite(value).all():
        raise FloatingPointError(
            f"{what} of {name} is {number} at step {step}: the fit diverged; lower the learning "
            "rate or clip the gradient"
        )
    return number


def _is_stuck(validation: list[float], patience: int | None) -> bool:
    """Whether the last `patience` validation losses are none lower than the best before them."""
    if patience is None or len(validation) <= patience:
        return False
    return min(validation[-patience:]) >= min(validation[:-patience])
