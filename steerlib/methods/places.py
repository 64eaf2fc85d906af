"""What activation scaling learned where: the places that are not zero.

Chapter: scaling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steerlib.core.edits import Edit, LowRank, Scaling, Vectors
from steerlib.core.interventions import Intervention

if TYPE_CHECKING:
    import pandas as pd


def places(intervention: Intervention) -> pd.DataFrame:
    """What was learned where, one row per place that is not zero.

    Args:
        intervention: from `activ_scalar`, `steer_vec` or `dyn_scalar`.

    Returns:
        `site`; `at`, the position (0 = BOS) of aligned prompts or the selection's name; `value`:
        alpha, ||v|| or ||(u, b)||.

    Raises:
        ValueError: another kind of edit.

    Chapter: scaling.

    Example:
        >>> places(st.Scale(st.head(0, 1), [0.0, 0.5]))
                              site  at  value
        0  blocks.0.attn.hook_z[1]   1    0.5
    """
    import pandas as pd

    rows = []
    for term in intervention.terms:
        values = size_of(term.edit)
        slots = range(len(values)) if values.ndim else [str(term.positions)]
        found = zip(slots, values.reshape(-1).tolist(), strict=True)
        rows += [(term.site.name, slot, value) for slot, value in found if value]
    return pd.DataFrame(rows, columns=["site", "at", "value"])


def size_of(edit: Edit) -> Tensor:
    """One number for each position that an edit was learned at, or a single one."""
    match edit:
        case Vectors():
            return edit.vectors.norm(dim=1)
        case Scaling(alpha, None):
            return alpha
        case Scaling():
            learned = torch.cat([edit.tensors["read"], edit.tensors["bias"][None]])
            return edit.alpha.abs() * learned.norm()
        case LowRank() if edit.is_constant:
            return edit.constant.norm()
    raise ValueError(f"a scale or a constant is needed, got {type(edit).__name__}")
