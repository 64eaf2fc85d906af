r"""Which feature of a sparse autoencoder belongs to a concept: what labelled texts say.

Chapter: sae. A feature is read as AxBench reads it: its largest value z_f among the tokens of a
text, BOS left out, is the score of that text. A feature that tells the texts apart need not be one
that writes the concept: `feature_effects` asks what a feature writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.latents import sparse
from steerlib.core.model import Model
from steerlib.core.positions import Positions, prompt
from steerlib.core.prompts import Prompt, Prompts, as_list, encode
from steerlib.methods.feature_areas import areas
from steerlib.methods.sae import SAE
from steerlib.methods.sae_reading import numbers, read_texts

if TYPE_CHECKING:
    import pandas as pd


def feature_scores(
    sae: SAE,
    model: Model,
    data: Labelled,
    *,
    pool: Literal["max", "mean"] = "max",
    at: Positions | str = prompt,
    chat: bool | None = False,
    batch_size: int = 32,
) -> pd.DataFrame:
    r"""How well each feature tells the texts with the concept from those without it.

    With s_f(text) = pool over its tokens, without BOS, of z_f:
    auroc = 1/(n+ n-) sum_ij [s+_i > s-_j] + 1/2 [s+_i = s-_j],
    mean_difference = mean s+ - mean s-.

    Args:
        data: `.texts` and `.labels`. Choose on texts on which nothing is reported later.
        pool: "max", as AxBench, or "mean".
        at: the tokens that are read, such as `st.after(3)` to leave the frame of a chat out.
        chat: False reads strings as they are, None or True by the chat template.
        batch_size: texts that the model reads at once. One number per text and feature is kept.

    Returns:
        One row per feature, by its number: auroc; mean_difference, in units of h; active, the share
        of the texts in which it is not 0 (between 0 and 1); max, its largest value, in units of h.

    Raises:
        ValueError: labels that are not two classes, one per text; another pool; an SAE of another
            model or width.

    Source: Wu et al. 2025 (AxBench), section 3.1: SAE-A takes the feature of the largest auroc,
    MaxDiff (in their code) that of the largest difference. Chapter: sae.

    Example:
        >>> scores = feature_scores(sae, model, data.train)
        >>> round(scores.auroc.max()) == 1
        True
    """
    import pandas as pd

    if pool not in ("max", "mean"):
        raise ValueError(f"pool is 'max' or 'mean', got {pool!r}")
    texts, labels = both_classes(data)

    def take(own: SAE, h: Float[Tensor, "tokens d"]) -> Float[Tensor, "2 n"]:
        z = own.encode(h)
        largest = z.amax(0)
        return torch.stack([largest if pool == "max" else z.mean(0), largest])

    read = torch.stack(read_texts(sae, model, texts, take, at, chat, batch_size))
    scores, largest = read.unbind(1)
    truth = torch.tensor(labels)
    return pd.DataFrame(
        {
            "auroc": areas(scores, truth[:, None].to(torch.int8).numpy())[:, 0],
            "mean_difference": scores[truth].mean(0) - scores[~truth].mean(0),
            "active": (largest > 0).float().mean(0),
            "max": largest.amax(0),
        },
        index=pd.RangeIndex(sae.n, name="feature"),
    )


def best_features(scores: pd.DataFrame, n: int = 20, by: str = "auroc") -> list[int]:
    """The n features with the largest `by`, the best one first.

    Ties, of which a perfect auroc makes many, go by the larger auroc, then by the larger mean
    difference, then by the smaller number.

    Args:
        scores: from `feature_scores`; other columns may have been joined to it.

    Raises:
        KeyError: no such column. ValueError: a feature without a value, or n below 1.

    Chapter: sae.

    Example:
        >>> len(best_features(feature_scores(sae, model, data.train), 5))
        5
    """
    missing = [c for c in (by, "auroc", "mean_difference") if c not in scores]
    if missing:
        raise KeyError(f"the scores have no {missing[0]!r}; there are {', '.join(scores)}")
    if n < 1:
        raise ValueError(f"n is at least 1, got {n}")
    empty = scores.index[scores[by].isna()].tolist()
    if empty:
        raise ValueError(
            f"{len(empty)} of {len(scores)} features have no {by!r}, such as feature {empty[0]}; "
            "score them too, or leave their rows out"
        )
    keys = list(dict.fromkeys((by, "auroc", "mean_difference")))
    order = scores.sort_index().sort_values(keys, ascending=False, kind="stable")
    return [int(feature) for feature in order.index[:n]]


def best_feature(scores: pd.DataFrame, by: str = "auroc", candidates: int | None = 20) -> int:
    """The feature with the largest `by` among those that tell the texts apart best.

    An output score alone says how strongly a feature writes, not what: labels name the candidates
    and the output score chooses among them.

    Args:
        scores: from `feature_scores`, with the columns of `output_scores` or `confidence_changes`
            joined to it; of features that are no candidates they may be missing.
        by: a column.
        candidates: how many features of the largest auroc are considered; None: all. Take no more
            than may belong to the concept: of the others, the strongest writer wins.

    Raises:
        KeyError: no such column. ValueError: a candidate without a value.

    Source: SAE-A in AxBench (Wu et al. 2025) chooses by "auroc"; Arad et al. 2025 leave out
    features with a low output score. Chapter: sae.

    Example:
        >>> scores = feature_scores(sae, model, data.train)
        >>> best_feature(scores) in best_features(scores, 20)
        True
    """
    kept = scores if candidates is None else scores.loc[best_features(scores, candidates)]
    return best_features(kept, 1, by)[0]


def top_texts(
    sae: SAE,
    model: Model,
    texts: Prompts,
    feature: int,
    n: int = 8,
    *,
    chat: bool | None = False,
    batch_size: int = 32,
) -> pd.DataFrame:
    """The texts in which a feature has its largest values, the largest first.

    Args:
        texts: where it is looked for.
        n: how many texts are returned; one in which the feature is silent has the value 0.
        chat, batch_size: as in `feature_scores`.

    Returns:
        text, its number in `texts`; value, the largest of its tokens, in units of h; token and
        position (without BOS, from 0) of that value; tokens and values, of the whole text, BOS left
        out.

    Raises:
        ValueError: no such feature, no texts, n below 1, an SAE of another model or width.

    Chapter: sae.

    Example:
        >>> top_texts(sae, model, ["a dog .", "the rain ."], 17, n=1).tokens[0][-1]
        '.'
    """
    import pandas as pd

    (f,) = numbers(sae, feature)
    if n < 1:
        raise ValueError(f"n is at least 1, got {n}")
    listed = as_list(texts)[0]
    found = read_texts(
        sae, model, listed, lambda own, h: _latent(own, h, f), prompt, chat, batch_size
    )
    peaks = torch.stack([values.max() for values in found])
    order = peaks.argsort(descending=True, stable=True)[:n].tolist()
    pieces = _tokens(model, [listed[row] for row in order], chat)
    rows = []
    for row, tokens in zip(order, pieces, strict=True):
        at = int(found[row].argmax())
        rows.append((row, float(peaks[row]), tokens[at], at, tokens, tuple(found[row].tolist())))
    return pd.DataFrame(rows, columns=["text", "value", "token", "position", "tokens", "values"])


def _latent(sae: SAE, h: Float[Tensor, "tokens d"], feature: int) -> Float[Tensor, " tokens"]:
    """z_f alone."""
    if sae.k is not None:
        # Whether it is among the k largest depends on all of them.
        return sae.encode(h)[:, feature]
    x = h.float() @ sae.encoder[:, feature] + sae.bias[feature]
    return sparse(x, sae.floor[feature], 0)


def _tokens(model: Model, texts: list[Prompt], chat: bool | None) -> list[tuple[str, ...]]:
    """The tokens of each text as strings, BOS left out."""
    encoded = encode(model, texts, chat)
    kept = [ids[1:] if ids[0] == model.bos_id else ids for ids in encoded]
    # Texts share most of their tokens.
    names = {t: model.tokenizer.decode([t]) for t in {t for ids in kept for t in ids}}
    return [tuple(names[t] for t in ids) for ids in kept]
