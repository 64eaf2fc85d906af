r"""How well each latent tells each concept apart, token by token: all AUROCs at once.

Chapter: sae. With the midranks R_t of a latent's values over the tokens that count for a concept,
P of them with it and N without,

    AUROC = (sum of R_t over these P - P (P + 1) / 2) / (P N).

Most values of an SAE are 0 and tie; only the others are sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from steerlib.core.model import Model
from steerlib.core.positions import prompt
from steerlib.core.prompts import Prompts, as_list
from steerlib.methods.sae import SAE
from steerlib.methods.sae_reading import read_texts

if TYPE_CHECKING:
    from scipy.sparse import csc_array, csr_array

_AT_ONCE = 4_000_000  # values that are sorted together
_FEW = 0.25  # where fewer tokens than this share count, only they are sorted


def latent_values(
    sae: SAE,
    model: Model,
    texts: Prompts,
    *,
    chat: bool | None = False,
    batch_size: int = 64,
) -> csr_array:
    """z of every token of texts, BOS left out, holding only what is not 0.

    Args:
        chat: False reads strings as they are, None or True by the chat template.

    Returns:
        A sparse float32 array (tokens, n), the tokens of text 0 first.

    Raises:
        ValueError: an SAE that does not fit the model; no texts.

    Chapter: sae.

    Example:
        >>> latent_values(sae, model, ["the rain falls ."]).shape
        (4, 1024)
    """
    from scipy.sparse import coo_array, csr_array

    def read(own: SAE, h: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens n"]:
        return own.encode(h).to_sparse()

    rows = read_texts(sae, model, as_list(texts)[0], read, prompt, chat, batch_size)
    z = torch.cat(rows).coalesce()
    return csr_array(coo_array((z.values().numpy(), tuple(z.indices().numpy())), shape=z.shape))


def areas(z: Any, truth: Int8[np.ndarray, "tokens m"]) -> Float[np.ndarray, "n m"]:
    """AUROC of every latent for every concept, exact, ties included.

    Args:
        z: values (tokens, n): a tensor, a numpy array or a sparse array; of any sign.
        truth: 1 where a token shows the concept, 0 where it does not, -1 where it does not count
            (as `steerlib.world.latents.labels` gives it).

    Returns:
        (n, m): 1 where every token with the concept has a larger value than every one without,
        below .5 where it has smaller ones, nan where a concept has no token of one side.

    Raises:
        ValueError: values and truths of different number, other truths, values that are not finite.

    Source: Mann and Whitney 1947. Chapter: sae.

    Example:
        >>> areas([[0.0], [2.0], [1.0]], np.array([[0], [1], [0]]))
        array([[1.]])
    """
    values, truth = _values(z), np.asarray(truth)
    _check(values, truth)
    found = np.full((values.shape[1], truth.shape[1]), np.nan)
    groups = _groups(truth >= 0)
    for some in _chunks(values):
        for concepts, areas_of_group in _areas(values[:, some], truth, groups):
            found[some, concepts] = areas_of_group
    return found


def _values(z: Any) -> csc_array | Float[np.ndarray, "tokens n"]:
    """Values as a numpy array, or sparse with one entry per value."""
    from scipy.sparse import csc_array, issparse

    if isinstance(z, Tensor):
        z = z.detach().float().cpu().numpy()
    if not issparse(z):
        return np.asarray(z, dtype=np.float64 if isinstance(z, list) else None)
    values = csc_array(z, copy=True)
    values.sum_duplicates()
    return values


def _check(values: Any, truth: Int[np.ndarray, "tokens m"]) -> None:
    if truth.ndim != 2 or values.ndim != 2 or len(truth) != values.shape[0]:
        raise ValueError(
            "needed are values (tokens, n) and truths (tokens, m) of the same tokens, got "
            f"{values.shape} and {truth.shape}"
        )
    if not truth.size or not values.shape[1]:
        raise ValueError(f"there is nothing to compare: {values.shape} and {truth.shape}")
    if strange := set(np.unique(truth).tolist()) - {-1, 0, 1}:
        raise ValueError(f"truths are 1, 0 and -1 (not counted), got {sorted(strange)}")
    if not np.isfinite(values if isinstance(values, np.ndarray) else values.data).all():
        raise ValueError("some values are not finite (NaN or infinity)")


def _groups(counted: Bool[np.ndarray, "tokens m"]) -> list[Int[np.ndarray, " k"]]:
    """The concepts that count at the same tokens, and so share their ranks."""
    found: dict[bytes, list[int]] = {}
    for concept, column in enumerate(counted.T):
        found.setdefault(np.packbits(column).tobytes(), []).append(concept)
    return [np.array(concepts) for concepts in found.values()]


def _chunks(values: Any) -> Iterator[slice]:
    """Latents, as many at once as fit."""
    n = values.shape[1]
    entries = values.size if isinstance(values, np.ndarray) else values.nnz
    width = max(1, int(_AT_ONCE / max(1.0, entries / n)))
    for start in range(0, n, width):
        yield slice(start, min(start + width, n))


def _areas(
    values: Any, truth: Int8[np.ndarray, "tokens m"], groups: Sequence[Int[np.ndarray, " k"]]
) -> Iterator[tuple[Int[np.ndarray, " k"], Float[np.ndarray, "n k"]]]:
    """By group its concepts and their areas."""
    from scipy.sparse import csr_array

    rows = csr_array(values)
    rows.eliminate_zeros()
    whole = _Sorted(rows)
    for concepts in groups:
        truths = truth[:, concepts]
        counted = truths[:, 0] >= 0
        if counted.mean() < _FEW:
            yield concepts, _Sorted(rows[counted]).areas(truths[counted])
        else:
            yield concepts, whole.areas(truths)


class _Sorted:
    """The entries of some latents, sorted by latent and value; equal ones of a latent tie."""

    def __init__(self, values: csr_array) -> None:
        columns = values.tocsc()
        self.shape, self.start = columns.shape, columns.indptr
        latent = np.repeat(np.arange(self.shape[1]), np.diff(self.start))
        order = np.lexsort((columns.data, latent))
        data, self.token = columns.data[order], columns.indices[order]
        is_first = np.r_[True, (data[1:] != data[:-1]) | (latent[1:] != latent[:-1])][: len(data)]
        self.tie = np.cumsum(is_first) - 1
        self.tie_start = np.flatnonzero(is_first)
        self.latent = latent[self.tie_start]  # of each tie
        self.is_above = data[self.tie_start] > 0

    def areas(self, truth: Int8[np.ndarray, "tokens k"]) -> Float[np.ndarray, "n k"]:
        """The areas of concepts that count at the same tokens."""
        from scipy.sparse import csr_array

        counted, positive = truth[:, 0] >= 0, (truth == 1).astype(np.float64)
        above, at_zero = self._ranks(counted)
        tokens, n = self.shape
        more = csr_array((above[self.tie], self.token, self.start), shape=(n, tokens)) @ positive
        shown = positive.sum(0)
        pairs = shown * (counted.sum() - shown)
        wins = more + at_zero[:, None] * shown - shown * (shown + 1) / 2
        return np.divide(wins, pairs, out=np.full(wins.shape, np.nan), where=pairs > 0)

    def _ranks(
        self, counted: Bool[np.ndarray, " tokens"]
    ) -> tuple[Float[np.ndarray, " ties"], Float[np.ndarray, " n"]]:
        """Midranks among the tokens that count: of each tie, over that of a 0; and of a 0."""
        n = self.shape[1]
        size = _sums(counted[self.token], self.tie_start)
        before = np.cumsum(size) - size
        per_latent = np.bincount(self.latent, weights=size, minlength=n)
        below = np.bincount(self.latent, weights=size * ~self.is_above, minlength=n)
        zeros = counted.sum() - per_latent
        at_zero = below + (zeros + 1) / 2
        rank = before - (np.cumsum(per_latent) - per_latent)[self.latent] + (size + 1) / 2
        rank += np.where(self.is_above, zeros[self.latent], 0.0)
        return rank - at_zero[self.latent], at_zero


def _sums(flags: Bool[np.ndarray, " k"], start: Int[np.ndarray, " t"]) -> Int[np.ndarray, " t"]:
    """How many flags are set from each start to the next one."""
    total = np.r_[0, np.cumsum(flags)]
    return total[np.r_[start[1:], len(flags)]] - total[start] if len(start) else start
