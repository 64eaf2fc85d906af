r"""Proximal steps: what makes a learned parameter exactly zero.

Chapter: scaling. Gradient steps on loss + lambda |x| end near zero, never at it. A gradient step on
the loss followed by the proximal step of the penalty does end there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_NEWTON = 20  # steps; near the root each about doubles the digits


def shrink_groups(
    z: Float[Tensor, "... d"], step: Float[Tensor, "... d"], penalty: float
) -> Float[Tensor, "... d"]:
    r"""Each row becomes argmin_x penalty ||x|| + sum_j (x_j - z_j)^2 / (2 step_j).

    A row is exactly 0 if ||z / step|| <= penalty, else x_j = z_j / (1 + penalty step_j / t) with
    t = ||x||, the root of sum_j z_j^2 / (t + penalty step_j)^2 = 1. For rows of one number this is
    sign(z) relu(|z| - penalty step): soft thresholding.

    Args:
        z: where the gradient step ended.
        step: the step size of each entry.

    Source: Parikh and Boyd 2014, section 6.5, in a diagonal metric. Chapter: scaling.

    Example:
        >>> shrink_groups(torch.tensor([[3.0], [0.5]]), torch.ones(2, 1), 1.0)
        tensor([[2.],
                [0.]])
    """
    if penalty == 0:
        return z
    radius = penalty * step
    if z.shape[-1] == 1:
        return z.sign() * (z.abs() - radius).relu()
    t = _norms(z, radius)
    return torch.where(t > 0, z * t / (t + radius), 0.0)


def _norms(z: Float[Tensor, "... d"], radius: Float[Tensor, "... d"]) -> Float[Tensor, "... 1"]:
    """||x|| of each row: Newton's method for 1 / sqrt(sum_j z_j^2 / (t + r_j)^2) = 1.

    The left side is concave in t, so that from 0 the steps rise to the root and never pass it.
    """
    t = torch.zeros_like(z[..., :1])
    for _ in range(_NEWTON):
        ratios = z / (t + radius)
        size = ratios.norm(dim=-1, keepdim=True)
        # Squares of ratios that are large as well as small would leave the range of float32.
        slope = ((ratios / size).square() / (t + radius)).sum(-1, keepdim=True)
        t = t + torch.where(size > 1, (size - 1) / slope, 0.0)
    return t
