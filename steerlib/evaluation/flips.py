"""Does a dial turn the answer both ways, and what happens to all other tokens meanwhile?

Chapter: scaling.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.answers import (
    Asked,
    TwoAnswers,
    answer_ids,
    encode_choices,
    margin,
    next_scores,
    other_kl,
    others_log_p,
)
from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.prompts import batches_by_length
from steerlib.core.session import rows_of_batch
from steerlib.core.steering import steer
from steerlib.statistics import Interval, bootstrap_mean

SIDES = {"plus": 1.0, "minus": -1.0}


def flips(
    model: Model,
    choices: Sequence[TwoAnswers],
    intervention: Intervention | None,
    strength: float = 1.0,
    *,
    chat: bool | None = False,
    batch_size: int = 64,
) -> pd.DataFrame:
    r"""Each choice at strength 0, +strength and -strength.

    Delta = log p(positive) / p(negative), in nats.

    Args:
        intervention: None is strength 0 on both sides.
        chat: how prompts are read whose choice leaves it open; False is raw text.

    Returns:
        One row per choice, in their order: `margin`, `margin_plus`, `margin_minus` (Delta);
        `both` (Delta_+ > 0 > Delta_-), `effect` = 1/2 [Delta_+ > 0] + 1/2 [Delta_- < 0];
        `kl_plus`, `kl_minus`: KL over the other tokens, renormalized, in nats; `kl`, their mean;
        `top_plus`, `top_minus`: is the likeliest other token the same as before?; `mass`,
        `mass_plus`, `mass_minus`: p(positive) + p(negative); `first_plus`, `first_minus`: is the
        side's own answer the likeliest of all tokens?

    Raises:
        ValueError: as `st.activ_scalar` about choices.

    Source: Stoehr et al. 2024, section 4. Chapter: scaling.

    Example:
        >>> flips(model, st.world.conflicts(split="test"), dial).both.mean()
    """
    asked = encode_choices(model, choices, chat)
    tables = []
    for rows in batches_by_length([one.ids for one in asked], batch_size):
        # What steers already may have a strength for each choice.
        with rows_of_batch(model, rows):
            table = _measured(model, [asked[row] for row in rows], intervention, strength)
        tables.append(table.set_axis(rows))
    return pd.concat(tables).sort_index()


def flip_summary(
    table: pd.DataFrame, units: Sequence[object] | None = None, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The mean of each column of `flips` with its interval.

    Args:
        units: what each row is about, such as its country: rows of one unit are averaged first, so
            that the interval is about other units.

    Returns:
        Index: the columns of `flips`; columns: mean, low, high, n.

    Raises:
        ValueError: fewer than two units, or not one for each row.

    Chapter: scaling.

    Example:
        >>> flip_summary(table, [choice.subject for choice in choices]).loc["both"]
    """
    numbers = table.astype(float)
    if units is not None:
        if len(units) != len(numbers):
            raise ValueError(f"there are {len(units)} units for {len(numbers)} rows; give one each")
        codes, _ = pd.factorize(pd.Series(list(units), dtype=object), sort=True)
        numbers = numbers.groupby(codes).mean()
    lines = {name: _line(bootstrap_mean(numbers[name], level, seed=seed)) for name in numbers}
    return pd.DataFrame(lines).T.assign(n=len(numbers))


def _line(found: Interval) -> dict[str, float]:
    return {"mean": found.estimate, "low": found.low, "high": found.high}


@torch.no_grad()
def _measured(
    model: Model, asked: Sequence[Asked], intervention: Intervention | None, strength: float
) -> pd.DataFrame:
    """The rows of one batch."""
    before = next_scores(model, asked)
    pair = answer_ids(asked, before.device)
    columns: dict[str, Tensor] = {"margin": margin(before, *pair), "mass": _mass(before, *pair)}
    for side, sign in SIDES.items():
        after = before
        if intervention is not None:
            with steer(model, intervention, sign * strength):
                after = next_scores(model, asked)
        same = others_log_p(before, *pair).argmax(-1) == others_log_p(after, *pair).argmax(-1)
        own = pair[0] if sign > 0 else pair[1]
        columns |= {
            f"margin_{side}": margin(after, *pair),
            f"mass_{side}": _mass(after, *pair),
            f"kl_{side}": other_kl(before, after, *pair),
            f"top_{side}": same,
            f"first_{side}": after.argmax(-1) == own,
        }
    table = pd.DataFrame(
        {
            name: (values.double() if values.is_floating_point() else values).numpy()
            for name, values in ((name, values.cpu()) for name, values in columns.items())
        }
    )
    toward, away = table.margin_plus > 0, table.margin_minus < 0
    return table.assign(
        both=toward & away,
        effect=(toward.astype(float) + away) / 2,
        kl=(table.kl_plus + table.kl_minus) / 2,
    )


def _mass(scores: Float[Tensor, "n d_vocab"], positive: Tensor, negative: Tensor) -> Tensor:
    """p(positive) + p(negative)."""
    p = scores.softmax(-1)
    rows = torch.arange(len(p), device=p.device)
    return p[rows, positive] + p[rows, negative]
