"""How the features of a sparse autoencoder are named by number and read, text by text.

Chapter: sae.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlib.core.capture import stream
from steerlib.core.model import Model
from steerlib.core.positions import Positions
from steerlib.core.prompts import Prompt
from steerlib.core.steering import check_fits
from steerlib.methods.sae import SAE

Read = Callable[[SAE, Float[Tensor, "tokens d"]], Tensor]


def numbers(sae: SAE, features: int | Sequence[int]) -> list[int]:
    """One feature or several as a list, once they are known to be features of the SAE.

    Raises:
        ValueError: none, or one that the SAE has not; TypeError: something that is no number.
    """
    many = list(features) if hasattr(features, "__iter__") else [features]
    found = [operator.index(f) for f in many]
    wrong = [f for f in found if not 0 <= f < sae.n]
    if wrong or not found:
        raise ValueError(
            f"needed are some of the features 0 to {sae.n - 1}, got {wrong[0] if wrong else 'none'}"
        )
    return found


def read_texts(
    sae: SAE,
    model: Model,
    texts: list[Prompt],
    read: Read,
    at: Positions | str,
    chat: bool | None,
    batch_size: int,
) -> list[Tensor]:
    """`read(the SAE on their device, the tokens of a text)` for each text, in their order."""
    check_fits(model, sae.add(0))

    def take(h: Float[Tensor, "batch pos d"], mask: Bool[Tensor, "batch pos"]) -> list[Tensor]:
        own = _placed(sae, h.device)
        # Text by text: the latents of a whole batch may be far larger than its activations.
        return [read(own, row[chosen]).cpu() for row, chosen in zip(h, mask, strict=True)]

    found: dict[int, Tensor] = {}
    options: dict[str, Any] = {"at": at, "chat": chat, "batch_size": batch_size}
    for rows, taken in stream(model, texts, [sae.site], take, **options):
        found.update(zip(rows, taken[sae.site], strict=True))
    return [found[row] for row in range(len(found))]


def _placed(sae: SAE, device: torch.device) -> SAE:
    """The SAE with its tensors on a device."""
    if sae.encoder.device == device:
        return sae
    names = ("encoder", "bias", "decoder", "offset", "threshold")
    held = {name: value for name in names if (value := getattr(sae, name)) is not None}
    return replace(sae, **{name: value.to(device) for name, value in held.items()})
