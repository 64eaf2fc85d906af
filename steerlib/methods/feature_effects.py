r"""What a feature of a sparse autoencoder writes: its tokens, and what it does to the next one.

Chapter: sae. No labels are needed: a feature is raised on a neutral prompt. What is written need
not be what is read (`features`): few features do both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from steerlib.core.model import Model
from steerlib.core.prompts import Prompt, answer_id
from steerlib.methods.neutral_prompts import read_neutral
from steerlib.methods.sae import SAE
from steerlib.methods.sae_reading import numbers

if TYPE_CHECKING:
    import pandas as pd

NEUTRAL = "From my experience,"
Kind = Literal["raised", "alone"]
_NORMS = ("ln_f", "norm")


def logit_lens(
    sae: SAE,
    model: Model,
    features: int | Sequence[int],
    top: int = 10,
    *,
    largest: bool = True,
) -> pd.DataFrame:
    """The tokens that a feature's direction speaks for: logits = unembedding(norm(D_f)).

    The final norm and the unembedding read D_f as if it were the whole last activation, so blocks
    after the site have no say, and the length of D_f does not matter.

    Args:
        features: one or several.
        top: how many tokens of each.
        largest: False gives the tokens that it speaks against most, the smallest logit first.

    Returns:
        feature, token, logit (nats), `top` rows per feature.

    Raises:
        ValueError: no such feature, an SAE whose site does not write into the residual stream, more
            tokens than there are, a model whose final norm is not found.

    Source: nostalgebraist 2020, for directions Arad et al. 2025, section 3. Chapter: sae.

    Example:
        >>> logit_lens(sae, model, [3, 17], top=5).shape
        (10, 3)
    """
    import pandas as pd

    rows = numbers(sae, features)
    logits = lens(sae, model, rows)
    if not 1 <= top <= logits.shape[1]:
        raise ValueError(f"top is a number from 1 to {logits.shape[1]}, got {top}")
    found = logits.topk(top, dim=1, largest=largest)
    tokens = [model.tokenizer.decode([token]) for token in found.indices.flatten().tolist()]
    owners = [f for f in rows for _ in range(top)]
    values = found.values.flatten().tolist()
    return pd.DataFrame({"feature": owners, "token": tokens, "logit": values})


def output_scores(
    sae: SAE,
    model: Model,
    features: int | Sequence[int],
    *,
    prompt: Prompt = NEUTRAL,
    factor: float = 10.0,
    top: int = 20,
    words: Sequence[str] | None = None,
    most: float = 1.0,
    chat: bool | None = False,
    batch_size: int = 64,
) -> pd.DataFrame:
    r"""How strongly each feature, raised on a neutral prompt, brings about its own tokens.

    With T the `top` tokens of its logit lens, at the last token of the prompt
    h <- h + factor * max_g z_g(h) D_f, and then, with p the distribution of the next token,
    S = (1 - min_{t in T} rank(t) / |V|) * max_{t in T} p(t), rank 0 for the likeliest token.
    That says how strongly a feature writes, and not what. With `words`, T is the same for all
    features, and sum_{t in T} min(p(t), most) says how strongly each of them writes these.

    Args:
        features: one or several.
        prompt: a text that no feature is about, all of whose words the model knows.
        factor: by how many times the largest latent of that token the feature is raised.
        top: the size of T, where no words are given.
        words: T itself, such as the words of a concept, each one token of the model.
        most: what one token can add to the mass: below 1 a single stray word of a long list cannot
            decide.
        chat: False reads a string as it is, None or True by the chat template; then the last token
            is the one that opens the answer.
        batch_size: features that are tried at once.

    Returns:
        One row per feature, by its number: output, S; rank, min rank(t); p, max p(t); mass,
        sum min(p(t), most).

    Raises:
        ValueError: no such feature, an SAE of another model or width, a prompt with unknown words
            or on whose last token no latent is active, no words, or one that is not one token,
            a `most` that is not above 0 and at most 1.

    Source: Arad et al. 2025, section 3 (the output score); as in their code the largest latent is
    that of the last token, and the error of the reconstruction stays. `words` and mass are this
    book's. Chapter: sae.

    Example:
        >>> options = {"prompt": "tell me about the dog .", "chat": True}
        >>> output_scores(sae, model, [3, 17], words=["rain", "snow"], **options).shape
        (2, 4)
    """
    import pandas as pd

    if not 0 < most <= 1:
        raise ValueError(f"most is a probability above 0, got {most}")
    rows = numbers(sae, features)
    neutral = read_neutral(sae, model, prompt, chat)
    raised = neutral.raised(factor)
    given = None if words is None else _tokens(model, words)
    parts = []
    for few, log_p in neutral.tried(rows, raised, batch_size):
        p = log_p.exp()
        tokens = _own(sae, model, few, top) if given is None else given.expand(len(few), -1)
        of_tokens = p.gather(1, tokens)
        best = of_tokens.amax(1)
        rank = (p > best[:, None]).sum(1)
        score = (1 - rank / p.shape[1]) * best
        parts.append(torch.stack([score, rank, best, of_tokens.clamp(max=most).sum(1)], 1))
    found = pd.DataFrame(torch.cat(parts).numpy(), columns=["output", "rank", "p", "mass"])
    return found.astype({"rank": int}).set_axis(pd.Index(rows, name="feature"))


def _own(sae: SAE, model: Model, features: list[int], top: int) -> Int[Tensor, "features top"]:
    """The tokens that the direction of each feature speaks for."""
    lenses = lens(sae, model, features)
    if not 1 <= top <= lenses.shape[1]:
        raise ValueError(f"top is a number from 1 to {lenses.shape[1]}, got {top}")
    return lenses.topk(top, dim=1).indices


def _tokens(model: Model, words: Sequence[str]) -> Int[Tensor, " words"]:
    """The tokens of some words, each once."""
    if isinstance(words, str) or not len(words):
        raise ValueError(f"words is a list of words, got {words!r}")
    return torch.tensor(sorted({answer_id(model, word) for word in words}))


def confidence_changes(
    sae: SAE,
    model: Model,
    features: int | Sequence[int],
    kind: Kind = "raised",
    *,
    prompt: Prompt = NEUTRAL,
    factor: float = 10.0,
    k: int = 1,
    chat: bool | None = False,
    batch_size: int = 64,
) -> pd.DataFrame:
    r"""How far each feature changes the model's confidence in the next token of a neutral prompt.

    C_k(p) = -1/k sum_{i <= k} log p_(i) over the k likeliest tokens; the change is C_k(p_f) -
    C_k(p_0). At k = 1 it is below 0 where the likeliest token becomes likelier. Features with a
    large change, up or down, are the candidates.

    Args:
        features: one or several.
        kind: what is done to the feature. "raised": h <- h + factor * max_g z_g(h) D_f at the last
            token, the rest stays, as in `output_scores`. "alone", as published:
            h <- factor * z_f(h) D_f + c at all tokens, BOS among them: all other latents and the
            error are dropped. Features that are silent on the prompt then all get the same change,
            that of the loss of all the rest.
        factor: alpha.
        k: how many of the likeliest tokens.
        prompt, chat, batch_size: as in `output_scores`.

    Returns:
        One row per feature, by its number: confidence, the change in nats; value, the feature's
        largest value on the prompt, in units of h.

    Raises:
        ValueError: another kind, k out of range, and as `output_scores`.

    Source: Wang et al. 2025 (arXiv 2510.03659), appendix D (Delta token confidence).
    Chapter: sae.

    Example:
        >>> options = {"prompt": "tell me about the dog .", "chat": True}
        >>> changes = confidence_changes(sae, model, range(99), **options)
        >>> changes.confidence.abs().idxmax() in range(99)
        True
    """
    import pandas as pd

    if kind not in ("raised", "alone"):
        raise ValueError(f"kind is 'raised' or 'alone' (as published), got {kind!r}")
    if not 1 <= k <= model.d_vocab:
        raise ValueError(f"k is a number from 1 to {model.d_vocab}, got {k}")
    rows = numbers(sae, features)
    neutral = read_neutral(sae, model, prompt, chat)
    change = neutral.raised(factor) if kind == "raised" else neutral.alone(factor)
    before = _surprise(neutral.log_p(torch.zeros(1, *neutral.h.shape)), k)
    after = torch.cat([_surprise(log_p, k) for _, log_p in neutral.tried(rows, change, batch_size)])
    largest = neutral.z.amax(0)[rows]
    found = pd.DataFrame({"confidence": (after - before).numpy(), "value": largest.numpy()})
    return found.set_axis(pd.Index(rows, name="feature"))


def _surprise(log_p: Float[Tensor, "batch d_vocab"], k: int) -> Float[Tensor, " batch"]:
    """C_k."""
    return -log_p.topk(k, dim=1).values.mean(1)


def lens(sae: SAE, model: Model, features: list[int]) -> Float[Tensor, "features d_vocab"]:
    """The logits of the directions of some features, on the CPU."""
    if sae.d != model.d_model or sae.site.kind in ("head", "mlp_post"):
        raise ValueError(
            f"a logit lens reads directions of the residual stream, {model.d_model} numbers in "
            f"{model.id}; this SAE has {sae.d} at {sae.site}"
        )
    unembed = model.hf.get_output_embeddings()
    with torch.no_grad():
        rows = sae.decoder[features].to(unembed.weight)
        return unembed(_final_norm(model)(rows)).float().cpu()


def _final_norm(model: Model) -> nn.Module:
    for name in _NORMS:
        if isinstance(norm := getattr(model.decoder, name, None), nn.Module):
            return norm
    raise ValueError(
        f"no final norm was found in {type(model.decoder).__name__}: it has none of the names "
        f"{', '.join(_NORMS)}"
    )
