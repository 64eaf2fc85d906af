"""An edit says how an activation changes: steering adds strength * delta(h).

Chapter: hooks. `LowRank` covers constants, projections, half-spaces, clamps and LoReFT in one
formula; `Scale` multiplies. A new kind of edit implements `delta`, `scaled` and its tensors,
and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, normalize

from steerlib.core.where import Where


def vector(value: Any, name: str, ndim: int) -> Tensor:
    """A float32 tensor of the wanted number of dimensions; parameters keep their gradient.

    Raises:
        ValueError: a wrong number of dimensions, or a value that is not finite.
    """
    tensor = torch.as_tensor(value).to(torch.float32)
    if tensor.ndim != ndim or tensor.numel() == 0:
        raise ValueError(f"{name} needs {ndim} dimension(s), got the shape {tuple(tensor.shape)}")
    if tensor.requires_grad:
        return tensor
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} has values that are not finite (NaN or infinity)")
    return tensor.clone()


class Edit(Protocol):
    """What steering needs of an edit."""

    @property
    def width(self) -> int | None:
        """The size of the activations that it fits, None for any."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its parameters by name, for storage and for moving it to a device."""

    def delta(self, h: Float[Tensor, "... d"], where: Where) -> Float[Tensor, "... d"]:
        """How h changes at strength 1."""

    def scaled(self, factor: float) -> Edit:
        """The edit whose delta is `factor` times this one's."""


@dataclass(frozen=True, eq=False)
class LowRank:
    r"""delta(h) = sum_k g_k(w_k . h + b_k) d_k with g_k(x) = x where x > floor_k, else 0.

    Args:
        read: the directions w that are read (k, d).
        bias: b (k,).
        write: the directions d that are written (k, d).
        floor: floor (k,); -inf makes a row linear, 0 makes it a ReLU.
    """

    read: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]
    write: Float[Tensor, "k d"]
    floor: Float[Tensor, " k"]

    def __post_init__(self) -> None:
        for name, ndim in (("read", 2), ("bias", 1), ("write", 2)):
            object.__setattr__(self, name, vector(getattr(self, name), name, ndim))
        object.__setattr__(self, "floor", torch.as_tensor(self.floor, dtype=torch.float32))
        for name in ("read", "bias", "floor"):
            object.__setattr__(self, name, getattr(self, name).to(self.write.device))
        rows = (*self.bias.shape, *self.bias.shape)
        if self.read.shape != self.write.shape or self.read.shape[:1] + self.floor.shape != rows:
            shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
            raise ValueError(f"read and write are (k, d), bias and floor (k,); got {shapes}")

    @property
    def width(self) -> int:
        return self.write.shape[1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"read": self.read, "bias": self.bias, "write": self.write, "floor": self.floor}

    @cached_property
    def is_constant(self) -> bool:
        """Whether delta does not depend on h: every row reads nothing."""
        return not self.read.requires_grad and not self.read.any().item()

    @cached_property
    def is_linear(self) -> bool:
        """Whether no row has a floor."""
        return bool(torch.isneginf(self.floor).all())

    @property
    def constant(self) -> Float[Tensor, " d"]:
        """The delta of a constant edit."""
        return torch.where(self.bias > self.floor, self.bias, 0.0) @ self.write

    def delta(self, h: Float[Tensor, "... d"], where: Where) -> Float[Tensor, "... d"]:
        x = linear(h, self.read, self.bias)
        if not self.is_linear:
            x = torch.where(x > self.floor, x, 0.0)
        return x @ self.write

    def scaled(self, factor: float) -> LowRank:
        return LowRank(self.read, self.bias, factor * self.write, self.floor)


@dataclass(frozen=True, eq=False)
class Scaling:
    r"""delta(h) = alpha(h) h, with alpha a scalar, one number per position, or bounded-linear in h.

    Args:
        alpha: () the same everywhere, or (pos,) for prompts that are aligned token by token
            (position 0 = BOS; 0 beyond its end).
        read: None, or w (d,): then the factor is alpha * tanh(w . h / ||h|| + bias).
        bias: () used with `read` only.
    """

    alpha: Float[Tensor, "*pos"]
    read: Float[Tensor, " d"] | None = None
    bias: Float[Tensor, ""] | None = None

    def __post_init__(self) -> None:
        ndim = min(torch.as_tensor(self.alpha).ndim, 1)
        object.__setattr__(self, "alpha", vector(self.alpha, "alpha", ndim))
        if self.read is not None:
            object.__setattr__(self, "read", vector(self.read, "read", 1))
            bias = 0.0 if self.bias is None else self.bias
            object.__setattr__(self, "bias", vector(bias, "bias", 0))

    @property
    def width(self) -> int | None:
        return None if self.read is None else self.read.shape[0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        named = {"alpha": self.alpha, "read": self.read, "bias": self.bias}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def delta(self, h: Float[Tensor, "batch pos d"], where: Where) -> Float[Tensor, "batch pos d"]:
        factor = self.alpha
        if factor.ndim:
            factor = _by_position(factor[:, None], where)
        if self.read is not None and self.bias is not None:
            cosine = normalize(h, dim=-1) @ self.read
            factor = factor * torch.tanh(cosine + self.bias)[..., None]
        return factor * h

    def scaled(self, factor: float) -> Scaling:
        return Scaling(factor * self.alpha, self.read, self.bias)


@dataclass(frozen=True, eq=False)
class Vectors:
    """delta(h) = v_i at position i, for prompts that are aligned token by token.

    Args:
        vectors: (pos, d), position 0 = BOS; nothing beyond its end.
    """

    vectors: Float[Tensor, "pos d"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", vector(self.vectors, "vectors", 2))

    @property
    def width(self) -> int:
        return self.vectors.shape[1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"vectors": self.vectors}

    def delta(self, h: Float[Tensor, "batch pos d"], where: Where) -> Float[Tensor, "batch pos d"]:
        return _by_position(self.vectors, where)

    def scaled(self, factor: float) -> Vectors:
        return Vectors(factor * self.vectors)


def _by_position(values: Float[Tensor, "pos k"], where: Where) -> Float[Tensor, "batch seq k"]:
    """The row of each token's position; 0 on padding and beyond the last row."""
    index = where.index.to(values.device)
    inside = (index >= 0) & (index < len(values))
    return torch.where(inside[..., None], values[index.clamp(0, len(values) - 1)], 0.0)


def constant(direction: Any) -> LowRank:
    """delta = direction."""
    d = vector(direction, "direction", 1)[None]
    return LowRank(torch.zeros_like(d), torch.ones(1), d, _no_floor(1))


def project(direction: Any) -> LowRank:
    """delta = -(u . h) u, u = direction / ||direction||: h loses its part along the direction."""
    u = _unit(direction)[None]
    return LowRank(u, torch.zeros(1), -u, _no_floor(1))


def half_space(w: Any, b: Any, metric: Any = None) -> LowRank:
    """delta = -relu(w . h + b) S w / (w . S w): the smallest step that gives w . h + b <= 0.

    Args:
        metric: S, positive definite (d, d): the step has the least v . S^-1 v; None: identity.
    """
    w = vector(w, "w", 1)
    if not w.requires_grad and not w.any():
        raise ValueError("w is zero: every activation has the same score, and no step changes it")
    metric = None if metric is None else vector(metric, "metric", 2)
    if metric is not None and metric.shape != (len(w), len(w)):
        raise ValueError(f"the metric is ({len(w)}, {len(w)}) as w is, got {tuple(metric.shape)}")
    step = w if metric is None else metric @ w
    size = w @ step
    if w.requires_grad:
        size = size.clamp_min(_TINY)  # a w that is learned may start at zero
    elif size <= 0:
        raise ValueError(f"the metric must be positive definite, but w . S w is {size.item():.3g}")
    write = -step / size
    return LowRank(w[None], _one(b), write[None], torch.zeros(1))


def clamp(read: Any, bias: Any, write: Any, target: float, threshold: float) -> LowRank:
    """delta = (target - z(h)) write, z(h) = x where x = read . h + bias > threshold, else 0."""
    read, write = vector(read, "read", 1), vector(write, "write", 1)
    rows = torch.stack([torch.zeros_like(read), read])
    biases = torch.cat([torch.ones(1), _one(bias)])
    floors = torch.tensor([-math.inf, threshold])
    return LowRank(rows, biases, torch.stack([target * write, -write]), floors)


def loreft(rotation: Any, weight: Any, bias: Any) -> LowRank:
    """delta = R^T (W h + b - R h), R (k, d) with orthonormal rows: LoReFT is a LowRank edit."""
    rotation, weight = vector(rotation, "rotation", 2), vector(weight, "weight", 2)
    gram = rotation @ rotation.T
    if (gram - torch.eye(len(rotation), device=gram.device)).abs().max() > 1e-3:
        raise ValueError("the rows of `rotation` must be orthonormal; use torch.linalg.qr first")
    return LowRank(weight - rotation, vector(bias, "bias", 1), rotation, _no_floor(len(rotation)))


_TINY = 1e-12


def _no_floor(rows: int) -> Float[Tensor, " k"]:
    return torch.full((rows,), -math.inf)


def _one(value: Any) -> Float[Tensor, " 1"]:
    return vector(value, "bias", 0)[None]


def _unit(direction: Any) -> Float[Tensor, " d"]:
    direction = vector(direction, "direction", 1)
    norm = direction.norm()
    if norm < _TINY:
        raise ValueError("the direction is zero: it points nowhere")
    return direction / norm
