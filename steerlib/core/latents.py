"""Latents of a sparse autoencoder: how they are read, and an edit that sets some of them.

Chapter: sae. z(h) = act(h E + b) with one of three activations,

    ReLU: x where x > 0      JumpReLU: x where x > theta      TopK: the k largest of ReLU(x),

each 0 elsewhere, and the reconstruction z D + c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlib.core.edits import vector
from steerlib.core.where import Where


def sparse(
    x: Float[Tensor, "... n"], threshold: Float[Tensor, " n"], k: int
) -> Float[Tensor, "... n"]:
    """z for x = h E + b: x where it exceeds its threshold; of these the k largest, if k > 0."""
    z = torch.where(x > threshold, x, 0.0)
    if k == 0:
        return z
    kept = z.topk(k, dim=-1)
    return torch.zeros_like(z).scatter(-1, kept.indices, kept.values)


@dataclass(frozen=True, eq=False)
class Latents:
    r"""delta(h) = gain ((z' - z(h)) D + [the error is dropped] (z(h) D + c - h)).

    z' equals z but for some latents: z'_f = target_f, or max(z_f, target_f) where `at_least`.

    Args:
        encoder, bias: E (d, n) and b (n,).
        threshold: theta (n,); 0 for ReLU and TopK.
        k: how many are kept, () of int64; 0 keeps all.
        decoder, offset: D (n, d) and c (d,).
        index, target, at_least: which latents are set (m,), to what, and whether only from below.
        drop_error: () of bool, whether the reconstruction takes the place of h.
        gain: ().
    """

    encoder: Float[Tensor, "d n"]
    bias: Float[Tensor, " n"]
    threshold: Float[Tensor, " n"]
    k: Int[Tensor, ""]
    decoder: Float[Tensor, "n d"]
    offset: Float[Tensor, " d"]
    index: Int[Tensor, " m"]
    target: Float[Tensor, " m"]
    at_least: Bool[Tensor, " m"]
    drop_error: Bool[Tensor, ""]
    gain: Float[Tensor, ""]

    def __post_init__(self) -> None:
        if self.encoder.shape != self.decoder.T.shape:
            raise ValueError(
                f"the encoder is (d, n) and the decoder (n, d), got {tuple(self.encoder.shape)} "
                f"and {tuple(self.decoder.shape)}"
            )
        if self.target.numel():
            vector(self.target, "target", 1)

    @property
    def width(self) -> int:
        return self.encoder.shape[0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def delta(self, h: Float[Tensor, "... d"], where: Where) -> Float[Tensor, "... d"]:
        z = sparse(h @ self.encoder + self.bias, self.threshold, int(self.k))
        chosen = z[..., self.index]
        wanted = torch.where(self.at_least, torch.maximum(chosen, self.target), self.target)
        change = (wanted - chosen) @ self.decoder[self.index]
        if self.drop_error:
            change = change + z @ self.decoder + self.offset - h
        return self.gain * change

    def scaled(self, factor: float) -> Latents:
        return replace(self, gain=factor * self.gain)
