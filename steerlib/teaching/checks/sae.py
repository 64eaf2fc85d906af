"""Checks for the exercises on a sparse autoencoder: its units, and one latent set.

Chapter: ``book/sae.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.teaching.checks.common import (
    call,
    close,
    noise,
    passed,
    require,
    tensor,
)

NAMES = ("encoder", "bias", "decoder", "offset")
Parameters = tuple[
    Float[Tensor, "d n"], Float[Tensor, " n"], Float[Tensor, "n d"], Float[Tensor, " d"]
]
Fold = Callable[
    [
        Float[Tensor, "d n"],
        Float[Tensor, " n"],
        Float[Tensor, "n d"],
        Float[Tensor, " d"],
        Float[Tensor, " d"],
        float,
    ],
    Parameters,
]
Clamp = Callable[
    [
        Float[Tensor, "... d"],
        Float[Tensor, "d n"],
        Float[Tensor, " n"],
        Float[Tensor, "n d"],
        int,
        float,
    ],
    Float[Tensor, "... d"],
]


def test_fold(fn: Fold) -> None:
    """``fold(encoder, bias, decoder, offset, centre, scale)``: the same SAE in units of h."""
    rows = noise(6, 4)
    learned = (
        noise(4, 6, seed=1),
        noise(6, seed=2),
        rows / rows.norm(dim=1, keepdim=True),
        noise(4, seed=3),
    )
    centre, scale = 3 * noise(4, seed=4), 2.5
    before = [x.clone() for x in (*learned, centre)]
    found = _parameters(fn, learned, centre, scale)
    require(
        all(map(torch.equal, before, (*learned, centre))),
        "an argument was changed in place; return new tensors.",
    )
    _require_units(found, learned, centre, scale)
    for name, value in zip(NAMES, found, strict=True):
        for message, wrong in _fold_mistakes(learned, centre, scale)[name].items():
            require(not close(value, wrong), message)
    # With the rows as they were these two leave no freedom.
    h = centre + scale * noise(50, 4, seed=5)
    z, x = _read(found, h), _read(learned, (h - centre) / scale)
    require(close(z, scale * x), "z(h) is not scale times the latents of (h - centre) / scale.")
    require(
        close(z @ found[2] + found[3], centre + scale * (x @ learned[2] + learned[3])),
        "the reconstruction is not centre + scale times that of (h - centre) / scale.",
    )
    same = _parameters(fn, learned, 0 * centre, 1.0)
    require(
        all(map(close, same, learned)),
        "centre 0 and scale 1 must leave the parameters as they are.",
    )
    passed("fold")


def _parameters(fn: Fold, learned: Parameters, centre: Tensor, scale: float) -> Parameters:
    result = call(fn, *learned, centre, scale)
    require(
        isinstance(result, tuple | list)
        and len(result) == 4
        and all(isinstance(x, Tensor) for x in result),
        "return four tensors: (encoder, bias, decoder, offset).",
    )
    for name, value, given in zip(NAMES, result, learned, strict=True):
        require(
            value.shape == given.shape,
            f"{name} has shape {tuple(value.shape)}, expected {tuple(given.shape)}.",
        )
    return tuple(result)


def _read(parameters: Parameters, h: Tensor) -> Tensor:
    return (h @ parameters[0] + parameters[1]).relu()


def _require_units(found: Parameters, learned: Parameters, centre: Tensor, scale: float) -> None:
    """The same reconstruction with longer rows: the latents are then in units of scale."""
    e, b, d, c = learned
    other = e / scale, b - centre @ e / scale, scale * d, scale * c + centre
    require(
        not all(map(close, found, other)),
        "the reconstruction is right, but the decoder rows have the length scale: leave encoder "
        "and decoder as they are, so that a latent is a length in units of h.",
    )


def _fold_mistakes(
    learned: Parameters, centre: Tensor, scale: float
) -> dict[str, dict[str, Tensor]]:
    """What the usual mistakes give, for each parameter."""
    e, b, d, c = learned
    shift = centre @ e
    return {
        "encoder": {
            "the encoder was divided by the scale; leave it: z then grows with h.": e / scale,
            "the encoder was multiplied by the scale; leave it.": scale * e,
        },
        "bias": {
            "the bias is as it was; it must get centre and scale.": b,
            "the centre is missing in the bias: the encoder now reads h, not h - centre.": scale
            * b,
            "the sign of the centre in the bias is flipped: it reads h - centre.": (
                scale * b + shift
            ),
            "the scale is missing in the bias: the latents grow by it, and so must the bias.": (
                b - shift
            ),
            "the centre in the bias was multiplied by the scale; it is in units of h already.": (
                scale * (b - shift)
            ),
            "the bias was divided by the scale; multiply.": b / scale - shift,
            "this bias belongs to an encoder that is divided by the scale.": b - shift / scale,
            "the centre was read by the decoder; the encoder reads.": scale * b - d @ centre,
        },
        "decoder": {
            "the decoder was multiplied by the scale: its rows must keep the length 1.": scale * d,
            "the decoder was divided by the scale: its rows must keep the length 1.": d / scale,
        },
        "offset": {
            "the offset is as it was; it must get centre and scale.": c,
            "the centre is missing in the offset: the reconstruction is one of h.": scale * c,
            "the scale is missing in the offset.": c + centre,
            "the centre in the offset was multiplied by the scale; it is in units of h already.": (
                scale * (c + centre)
            ),
            "the sign of the centre in the offset is flipped: add it.": scale * c - centre,
            "the learned offset was dropped; multiply it by the scale.": centre,
        },
    }


def test_clamp(fn: Clamp) -> None:
    """``clamp(h, encoder, bias, decoder, feature, target)``: h + (target - z_f) D_f."""
    # Square, so that a row in the place of a column gives a result.
    h, encoder, bias = 1.5 * noise(3, 4, 5), noise(5, 5, seed=1), noise(5, seed=2)
    decoder, feature, target = noise(5, 5, seed=3), 2, 1.5
    before = [x.clone() for x in (h, encoder, bias, decoder)]
    arguments = encoder, bias, decoder
    found = tensor(fn, h, *arguments, feature, target, shape=(3, 4, 5))
    require(
        all(map(torch.equal, before, (h, *arguments))),
        "an argument was changed in place; return a new tensor.",
    )
    for message, wrong in _clamp_mistakes(h, encoder, bias, decoder).items():
        require(not close(found, wrong), message)
    z, row = (h @ encoder + bias).relu()[..., feature, None], decoder[feature]
    more = tensor(fn, h, *arguments, feature, target + 1, shape=(3, 4, 5))
    require(
        close(more - found, row.expand_as(h)),
        "a target that is larger by 1 must move every token by exactly D_f.",
    )
    change = found - h
    along = (change @ row)[..., None] * row / row.square().sum()
    require(close(change, along), "h was changed in other directions than D_f.")
    require(close(found, h + (target - z) * row), "this is not h + (target - z_f) D_f.")
    _require_any_feature(fn, h, arguments)
    passed("clamp")


def _require_any_feature(fn: Clamp, h: Tensor, arguments: tuple[Tensor, Tensor, Tensor]) -> None:
    encoder, bias, decoder = arguments
    token = h[1, 2]
    for feature, z in enumerate((token @ encoder + bias).relu().tolist()):
        same = tensor(fn, token, *arguments, feature, z, shape=(5,))
        require(
            close(same, token),
            f"where feature {feature} has the target already, nothing may change.",
        )
        silent = tensor(fn, token, *arguments, feature, 0.0, shape=(5,))
        require(
            close(silent, token - z * decoder[feature]),
            f"target 0 must take away what feature {feature} writes, and nothing else.",
        )


def _clamp_mistakes(
    h: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor, f: int = 2, target: float = 1.5
) -> dict[str, Tensor]:
    """What the usual mistakes give."""
    x = h @ encoder + bias
    z, row = x.relu(), decoder[f]
    change = target - z[..., f, None]
    unit = row / row.norm()
    column = torch.arange(5) == f
    wanted = z.masked_fill(column, target)
    read = (h @ row)[..., None]
    return {
        "all was rebuilt and the error was lost: add only what changes to h.": wanted @ decoder,
        "the other latents were lost; they stay as they are.": h - z @ decoder + target * row,
        "the target was added; add its difference from z_f.": h + target * row,
        "this is only the change; add it to h.": change * row,
        "the sign is flipped: target minus z_f.": h - change * row,
        "this is a column of the encoder; D_f is a row of the decoder.": h + change * encoder[:, f],
        "this is a row of the encoder; D_f is a row of the decoder.": h + change * encoder[f],
        "this is a column of the decoder; D_f is a row.": h + change * decoder[:, f],
        "ReLU is missing: where the feature is silent z_f is 0.": (
            h + (target - x[..., f, None]) * row
        ),
        "the bias is missing in z_f.": h + (target - (h @ encoder)[..., f, None].relu()) * row,
        "z_f was read by the decoder; the encoder reads.": h + (target - read.relu()) * row,
        "the part of h along D_f was replaced; other latents and the error have a share in it.": (
            h - read / row.norm() * unit + target * row
        ),
        "z_f was read by a row of the encoder; it is column f that reads.": (
            h + (target - (h @ encoder[f] + bias[f]).relu()[..., None]) * row
        ),
        "values above the target stay (a min-clamp); set these too.": h + change.relu() * row,
        "the feature was only lowered; raise it too.": h - (-change).relu() * row,
        "only where the feature is active it was set; set it everywhere.": (
            h + change * (z[..., f, None] > 0) * row
        ),
        "one z_f was used for all tokens; each has its own.": (
            h + (target - z[..., f].mean()) * row
        ),
        "all latents were set; set one.": h + (target - z) @ decoder,
        "the target is the new value, not a factor.": h + (target - 1) * z[..., f, None] * row,
        "D_f was brought to length 1; it counts as it is.": h + change * unit,
    }
