r"""Directions for values: along what goes with a value, or along what its causes do not explain.

Chapter: values. Let s_j be the score of value j over roles and h the activations of a role. The
plain direction is the slope of h on s_j (for two groups: their difference in means). It carries
whatever goes with s_j, its causes as well as its effects. The adjusted one is the slope of h on

    r_j = s_j - (least squares of s_j on the scores of its parents in a graph),

on what no cause in the graph explains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.capture import capture
from steerlib.core.interventions import Add, Intervention, Origin
from steerlib.core.model import Model
from steerlib.core.positions import Mask, Positions, as_positions, bos, prompt
from steerlib.core.prompts import Prompts
from steerlib.core.sites import Site, as_site

if TYPE_CHECKING:
    import pandas as pd

_NOTHING = 1e-8  # a residual of this size, in standard deviations, is rounding


class Graph(Protocol):
    """What is needed of a graph: every directed acyclic graph that it may stand for."""

    def members(self) -> Sequence[Graph]: ...
    def parents(self, value: str) -> Sequence[str]: ...


TakenOut = Mapping[str, Sequence[str]]  # value -> what its score is regressed on


def residuals(scores: pd.DataFrame, graph: Graph | TakenOut | None = None) -> pd.DataFrame:
    r"""What the parents of each value leave unexplained, in standard deviations of the value.

    r_j = z_j - sum_{k in parents(j)} b_jk z_k with z standardized and b by least squares; for a
    graph that stands for several, the mean over its members. Without a graph, z itself.

    Args:
        scores: one row per role, one column per value.
        graph: whose nodes are the columns; or for each value the others that are taken out of it,
            such as `unmoved`.

    Raises:
        ValueError: a score that is not finite, a constant column, a graph without members, a value
            that follows from its parents, so that nothing is left.
        KeyError: a column that is no node, a parent without a column.

    Chapter: values.
    """
    import pandas as pd

    z = _standardized(scores)
    if graph is None:
        return z
    columns = {
        value: np.mean([_left(z, value, others) for others in _taken_out(graph, value)], axis=0)
        for value in z
    }
    if none := [str(value) for value, left in columns.items() if left.std() < _NOTHING]:
        raise ValueError(
            f"of {', '.join(none)} nothing is left: over these {len(z)} roles the parents in the "
            "graph determine the score. Ask more roles, or take edges out"
        )
    return pd.DataFrame(columns, index=scores.index)


def _taken_out(graph: Graph | TakenOut, value: str) -> list[Sequence[str]]:
    """What is taken out of a value, by each graph that this one may stand for."""
    if not isinstance(graph, Mapping):
        return [member.parents(value) for member in graph.members()]
    if value not in graph:
        raise KeyError(f"nothing is said of {value!r}, only of {', '.join(map(str, graph))}")
    return [graph[value]]


def _standardized(scores: pd.DataFrame) -> pd.DataFrame:
    strange = [str(c) for c in scores if not np.isfinite(scores[c].to_numpy(float)).all()]
    flat = [str(c) for c in scores if c not in strange and scores[c].std() < 1e-12]
    if strange or flat or len(scores) < 2:
        raise ValueError(
            f"needed are finite scores of several roles that differ; not finite: {strange}, the "
            f"same for all {len(scores)} roles: {flat}"
        )
    return (scores - scores.mean()) / scores.std()


def _left(z: pd.DataFrame, value: str, parents: Sequence[str]) -> Float[np.ndarray, " roles"]:
    if missing := [parent for parent in parents if parent not in z]:
        raise KeyError(f"scores have no column for {', '.join(missing)}, a parent of {value}")
    own, others = z[value].to_numpy(), z[list(parents)].to_numpy()
    return own - others @ np.linalg.lstsq(others, own, rcond=None)[0]


def value_directions(
    model: Model,
    texts: Prompts,
    scores: pd.DataFrame,
    site: Site | str,
    graph: Graph | TakenOut | None = None,
    *,
    at: Positions | str = prompt,
    aligned: bool = False,
    chat: bool | None = None,
    batch_size: int = 64,
) -> dict[str, Intervention]:
    r"""For each value, how the activations change with its residual.

    d_j = Cov(h, r_j) / Var(r_j) over roles, times the standard deviation of r_j, with r_j from
    `residuals` and h the mean over the selected tokens: one unit of strength is one standard
    deviation of r_j. Where r_j takes two values equally often, it is half their difference in
    means.

    Args:
        texts: one per row of the scores: the role as the model reads it, all with the same question
            or none.
        scores: one row per role, one column per value, such as `value_scores`.
        graph: None for the plain directions. A graph that stands for several (undirected edges)
            gives the mean of r_j over them. For each value what is taken out, such as `unmoved`,
            needs no graph.
        at: which tokens are read; the same ones are steered. BOS, the same for all roles, is left
            out of the mean and so of the steering.
        aligned: a direction for each position instead of their mean: where all texts have the same
            words but for their slots. `at` is then `st.mask` of one row.
        chat, batch_size: how texts are read.

    Returns:
        Value -> `Add(site, d_j)` at the positions `at`.

    Raises:
        ValueError: texts and rows of different number; `aligned` without such a mask, or texts that
            are too short for it; otherwise as `residuals`.

    Chapter: values.

    Example:
        >>> plain = st.value_directions(model, texts, scores, st.resid(0))
        >>> adjusted = st.value_directions(model, texts, scores, st.resid(0), graph)
        >>> with st.steer(model, adjusted["power"]):
        ...     st.value_scores(model, questionnaire, roles)
    """
    if isinstance(texts, str) or len(texts) != len(scores):
        raise ValueError(
            f"needed is a list of {len(scores)} texts, one per row of the scores; got {len(texts)}"
        )
    where, at, left = as_site(site), as_positions(at), residuals(scores, graph)
    options = {"chat": chat, "batch_size": batch_size}
    if aligned:
        h, spread = _by_position(model, texts, where, at, options)
    else:
        h = capture(model, texts, sites=[where], at=at, reduce="mean", **options)[where]  # type: ignore[arg-type]
        spread, at = None, at - bos
    origin = Origin(model.id, model.revision, "value direction" if graph is None else "adjusted")
    found = {}
    for value in left:
        r = torch.tensor(left[value].to_numpy(), dtype=torch.float32)
        unit = (r - r.mean()) / r.std(correction=0)
        slope = torch.einsum("r,r...->...", unit, h) / len(r)
        direction = slope if spread is None else spread(slope)
        found[str(value)] = Intervention(Add(where, direction).terms, origin).at(at)
    return found


def _by_position(
    model: Model, texts: Prompts, site: Site, at: Positions, options: dict[str, Any]
) -> tuple[Float[Tensor, "roles pos d"], Callable[[Tensor], Tensor]]:
    """The activations at each selected position, and how to put directions in their rows."""
    if not isinstance(at, Mask) or at.values.ndim != 1:
        raise ValueError(f"aligned=True needs at=st.mask(...) of one row, got {at}")
    places = at.values.nonzero()[:, 0]
    rows = capture(model, texts, sites=[site], at=at, include_bos=True, **options)[site]
    if len(rows) != len(texts) * len(places):
        raise ValueError(
            f"the mask selects {len(places)} positions, but some of the {len(texts)} texts are "
            f"shorter: {len(rows)} tokens in all"
        )

    def spread(slope: Float[Tensor, "pos d"]) -> Float[Tensor, "all d"]:
        whole = slope.new_zeros(len(at.values), slope.shape[1])
        return whole.index_copy(0, places, slope)

    return rows.unflatten(0, (len(texts), len(places))), spread


def effects(
    before: pd.DataFrame, after: Mapping[str, pd.DataFrame], unit: pd.Series | None = None
) -> pd.DataFrame:
    """The mean change of every score under each intervention, rows by cause, columns by effect.

    Args:
        before, after: scores of the same roles, without and with each intervention.
        unit: what counts as 1 for each value, such as its standard deviation over roles.

    Raises:
        ValueError: scores of other roles or values, a unit for other values or one that is not
            above 0.

    Chapter: values.
    """
    import pandas as pd

    for name, scores in after.items():
        if not (scores.index.equals(before.index) and scores.columns.equals(before.columns)):
            raise ValueError(f"the scores under {name!r} are of other roles or values than before")
    if unit is not None and not (set(unit.index) == set(before.columns) and (unit > 0).all()):
        raise ValueError(
            f"unit is a number above 0 for each of {', '.join(map(str, before.columns))}; got "
            f"{unit.to_dict()}"
        )
    changes = pd.DataFrame({name: (scores - before).mean() for name, scores in after.items()}).T
    return changes if unit is None else changes / unit


def unmoved(effects: pd.DataFrame, least: float) -> dict[str, list[str]]:
    """For each value the others that an intervention on it leaves where they are.

    With exact effects these are all values that are no descendants of it, its causes among them:
    what has to be taken out of a direction, found without a graph.

    Args:
        effects: [cause, effect], as `effects` gives them.
        least: the size from which an effect counts, in the unit of the effects.

    Raises:
        ValueError: rows and columns of other values, an effect that is not finite, a `least` that
            is not above 0.

    Chapter: values.

    Example:
        >>> effects = pd.DataFrame([[1, 0.8], [0.1, 1]], ["a", "b"], ["a", "b"])
        >>> unmoved(effects, 0.25)
        {'a': [], 'b': ['a']}
    """
    if not (set(effects.index) == set(effects.columns) and np.isfinite(effects).all(axis=None)):
        raise ValueError(
            "needed is a finite effect of each value on each; got rows "
            f"{', '.join(map(str, effects.index))} and columns {', '.join(map(str, effects))}"
        )
    if not least > 0:
        raise ValueError(f"least is above 0, got {least}")
    still = effects.abs() < least
    return {str(v): [str(k) for k in effects if k != v and still.loc[v, k]] for v in effects.index}
