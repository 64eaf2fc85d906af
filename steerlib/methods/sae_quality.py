r"""What an SAE keeps of its site: variance, sparsity, and the loss of the model that reads it.

Chapter: sae. With the reconstruction r(h), the mean activation m, and the model's loss L(x) where
x stands at the site in place of h,

    FVU = sum ||h - r(h)||^2 / sum ||h - m||^2,    recovered = (L(m) - L(r)) / (L(m) - L(h)).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from steerlib.core.capture import positions_and_mask
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.positions import bos, everywhere, prompt
from steerlib.core.prompts import Prompt, batches_by_length, encode, pad
from steerlib.core.session import rows_of_batch
from steerlib.core.steering import check_fits, steer
from steerlib.methods.moments import mean_row
from steerlib.methods.reading import Reading
from steerlib.methods.sae import SAE
from steerlib.methods.sae_reading import read_texts

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"


def quality(
    sae: SAE,
    model: Model,
    texts: Sequence[Prompt],
    *,
    groups: Sequence[Hashable] | None = None,
    targets: Sequence[Sequence[bool]] | None = None,
    chat: bool | None = False,
    batch_size: int = 64,
) -> pd.DataFrame:
    """How much an SAE loses on some texts, as a whole and by group; BOS is read and left as it is.

    Args:
        texts: not those that it learned from.
        groups: one name per text; each gets a row after that of all texts.
        targets: for each text and token but BOS whether it counts in the losses. A chat model is
            trained to predict answers only, and its loss on other tokens says little; None counts
            every token.
        chat: False reads strings as they are, None or True by the chat template.
        batch_size: texts that the model reads at once.

    Returns:
        One row per group, the first is "all":
        tokens: how many are read. fvu: the unexplained share of the variance about m, the mean of
        all tokens, for a group as well. l0: latents that fire per token. dead: the share of latents
        that fire at none of the texts ("all" only). loss, loss_spliced, loss_mean: the model's
        cross-entropy per token, in nats, with h, r(h) and m at every token but BOS (nan where
        nothing counts). recovered: 1 where the reconstruction costs nothing, 0 where it is as bad
        as the mean; it means nothing where loss_mean is hardly above loss.

    Raises:
        ValueError: no texts; groups or targets of another number; an SAE of another model, width or
            site; texts whose activations are all the same.

    Source: Bricken et al. 2023 (loss recovered, with zeros in place of the mean); Gao et al. 2024,
    section 4.1. Chapter: sae.

    Example:
        >>> held_out = [document for _, document in st.world.corpus.balanced(9, 130)]
        >>> texts, targets = [d.text for d in held_out], [d.targets for d in held_out]
        >>> bool(quality(sae, model, texts, targets=targets).recovered[0] > 0.9)
        True
    """
    import pandas as pd

    members = _members(texts, groups)
    check_fits(model, sae.splice())
    encoded = encode(model, texts, chat)
    counted = _counted(model, encoded, targets)
    centre = mean_row(Reading(model, sae.site, prompt, None, chat, None, batch_size), texts)
    sums, fired = _read(sae, model, texts, centre.float(), chat, batch_size)
    if not sums[:, 2].sum() > 0:
        raise ValueError(f"all activations at {sae.site} are the same; give more texts")
    at = everywhere - bos
    spliced, mean_only = sae.splice().at(at), _constant(sae, centre.float()).splice().at(at)
    losses = [
        _losses(model, encoded, counted, edit, batch_size) for edit in (None, spliced, mean_only)
    ]
    number = torch.tensor([sum(row) for row in counted], dtype=torch.float64)
    table = torch.cat([sums, torch.stack([*losses, number], 1)], 1)
    rows = [_row(name, table[chosen].sum(0)) for name, chosen in members.items()]
    rows[0]["dead"] = 1 - fired.double().mean().item()
    return pd.DataFrame(rows)


def _members(
    texts: Sequence[Prompt], groups: Sequence[Hashable] | None
) -> dict[Hashable, list[int]]:
    """The numbers of the texts of each group."""
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"needed is a list of texts, at least one; got {texts!r}")
    found: dict[Hashable, list[int]] = {ALL: list(range(len(texts)))}
    if groups is None:
        return found
    if len(groups) != len(texts) or ALL in groups:
        raise ValueError(
            f"needed is one group per text, and none of the name {ALL!r}; got {len(groups)} for "
            f"{len(texts)} texts"
        )
    for number, name in enumerate(groups):
        found.setdefault(name, []).append(number)
    return found


def _counted(
    model: Model, encoded: list[list[int]], targets: Sequence[Sequence[bool]] | None
) -> list[list[bool]]:
    """For each token of each text but the first, which nothing predicts, whether it counts."""
    if targets is None:
        return [[True] * (len(ids) - 1) for ids in encoded]
    if len(targets) != len(encoded):
        raise ValueError(f"there are {len(targets)} rows of targets for {len(encoded)} texts")
    found = []
    for number, (ids, row) in enumerate(zip(encoded, targets, strict=True)):
        has_bos = ids[0] == model.bos_id
        if len(row) != len(ids) - has_bos:
            raise ValueError(
                f"text {number} has {len(ids) - has_bos} tokens besides BOS, its targets {len(row)}"
            )
        found.append([bool(target) for target in row[not has_bos :]])
    return found


def _read(
    sae: SAE,
    model: Model,
    texts: Sequence[Prompt],
    centre: Float[Tensor, " d"],
    chat: bool | None,
    batch_size: int,
) -> tuple[Float[Tensor, "texts 4"], Bool[Tensor, " n"]]:
    """By text the sums of 1, ||h - r||^2, ||h - m||^2 and l0; which latents fire at all."""
    fired = torch.zeros(sae.n, dtype=torch.bool)

    def read(own: SAE, h: Float[Tensor, "tokens d"]) -> Float[Tensor, " 4"]:
        h = h.float()
        z = own.encode(h)
        fired.logical_or_((z > 0).any(0).cpu())
        errors = [(h - x).square().sum(-1) for x in (own.decode(z), centre.to(h.device))]
        parts = torch.stack([torch.ones_like(errors[0]), *errors, (z > 0).sum(-1)], 1)
        return parts.cpu().double().sum(0)

    sums = torch.stack(read_texts(sae, model, list(texts), read, prompt, chat, batch_size))
    return sums, fired


def _constant(sae: SAE, centre: Float[Tensor, " d"]) -> SAE:
    """An SAE of one dead latent, whose reconstruction is the mean."""
    nothing = torch.zeros(sae.d, 1)
    return SAE(sae.site, nothing, torch.zeros(1), nothing.T, centre)


def _losses(
    model: Model,
    encoded: list[list[int]],
    counted: list[list[bool]],
    edit: Intervention | None,
    batch_size: int,
) -> Float[Tensor, " texts"]:
    """The sum of -log p over the tokens of each text that count, steered by an edit."""
    batches = batches_by_length(encoded, batch_size)
    total = torch.zeros(len(encoded), dtype=torch.float64)
    with torch.no_grad(), nullcontext() if edit is None else steer(model, edit):
        for rows in tqdm(batches, "loss", leave=False, delay=2):
            with rows_of_batch(model, rows):
                batch = [encoded[row] for row in rows]
                total[rows] = _batch_losses(model, batch, [counted[row] for row in rows])
    return total


def _batch_losses(
    model: Model, encoded: list[list[int]], counted: list[list[bool]]
) -> Float[Tensor, " batch"]:
    ids, attention = pad(model, encoded)
    output = model.runner(input_ids=ids, use_cache=False, **positions_and_mask(attention))
    width = ids.shape[1] - 1
    chosen = torch.tensor([[False] * (width - len(row)) + row for row in counted])
    on = chosen.to(output.logits.device)
    logits, targets = output.logits[:, :-1][on].float(), ids[:, 1:][on.to(ids.device)]
    each = cross_entropy(logits, targets.to(logits.device), reduction="none").cpu().double()
    return torch.stack([part.sum() for part in each.split(chosen.sum(1).tolist())])


def _row(name: Hashable, sums: Float[Tensor, " 8"]) -> dict[str, Hashable]:
    """The numbers of one group from the sums over its texts."""
    tokens, error, variance, active, *losses, number = sums.tolist()
    loss, spliced, mean = (_ratio(x, number) for x in losses)
    return {
        "group": name,
        "tokens": int(tokens),
        "fvu": _ratio(error, variance),
        "l0": active / tokens,
        "dead": float("nan"),
        "loss": loss,
        "loss_spliced": spliced,
        "loss_mean": mean,
        "recovered": _ratio(mean - spliced, mean - loss),
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")
