"""Where a constant direction has to go: cosines of methods, and words against positions.

Used by `experiments.directions`.
"""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from jaxtyping import Bool, Float

import steerlib as st
from steerlib.core.labelled import Labelled
from steerlib.core.positions import prompt
from steerlib.methods.moments import class_moments
from steerlib.methods.reading import Reading
from steerlib.world.instructions import instruction, response
from steerlib.world.lexicon import LEXICAL, PARTS_OF_SPEECH, STYLES, TOPICS

REQUESTS = 40


def dominance(model: st.Model, data: Labelled, site: st.Site) -> float:
    """The concept's variance over all texts, p(1-p) ||gap||^2, over the largest within a class."""
    classes = class_moments(Reading(model, site, prompt, "mean", False, None, 32), data, True)
    n, m = classes.negative.n, classes.positive.n
    between = n * m / (n + m) ** 2 * classes.gap.square().sum()
    within = (classes.negative.scatter + classes.positive.scatter) / (n + m)
    return float(between / torch.linalg.eigvalsh(within)[-1])


def cosines(fits: dict[str, st.Intervention]) -> dict[str, float]:
    """Each fit's cosine with the difference in means."""
    first = fits["diff_means"].direction
    return {
        name: torch.cosine_similarity(fit.direction, first, dim=0).item()
        for name, fit in fits.items()
    }


def distance_and_gain(model: st.Model, vector: st.Intervention, concept: str) -> dict[str, float]:
    """How far a concept's tokens are in log-odds, and how fast the direction brings them up.

    Wanted places are those where an adjective is due, for the adjectives of a lexical concept, and
    the beginnings of sentences, for the first opening of a style. The texts ask for neither.

    Returns:
        Medians over places, in nats: `distance` (minus the log-odds, at strength 0, of all these
        tokens together against all others) where wanted and `elsewhere`; `gain`, the change of the
        log-odds at strength 1, where wanted and elsewhere.
    """
    texts, starts = _texts(model)
    words = STYLES[concept][0][:1] if concept in STYLES else LEXICAL[concept]["A"]
    ids = [model.tokenizer.convert_tokens_to_ids(word) for word in words]
    with st.steer(model, 0 * vector):
        before, wanted = _log_odds(model, texts, starts, ids, concept)
    with st.steer(model, vector):
        after, _ = _log_odds(model, texts, starts, ids, concept)
    change = after - before
    return {
        "distance": -float(np.median(before[wanted])),
        "distance_elsewhere": -float(np.median(before[~wanted])),
        "gain": float(np.median(change[wanted])),
        "gain_elsewhere": float(np.median(change[~wanted])),
    }


def _texts(model: st.Model) -> tuple[list[str], list[int]]:
    """Plain requests with their responses as the model reads them, and where each one begins."""
    rng = Random(3)
    texts, starts = [], []
    for _ in range(REQUESTS):
        asked = instruction(rng)
        prefix = model.tokenizer.apply_chat_template(
            [{"role": "user", "content": asked.text}], tokenize=False, add_generation_prompt=True
        )
        texts.append(f"{prefix} {response(rng, asked)}")
        starts.append(len(model.tokenizer(prefix, add_special_tokens=False).input_ids))
    return texts, starts


def _log_odds(
    model: st.Model, texts: list[str], starts: list[int], ids: list[int], concept: str
) -> tuple[Float[np.ndarray, " places"], Bool[np.ndarray, " places"]]:
    """Log-odds of some tokens together before each token of the responses, and where wanted."""
    odds, wanted = [], []
    for text, start in zip(texts, starts, strict=True):
        tokens = model.tokenizer(text, add_special_tokens=False).input_ids
        p = st.logits(model, text, chat=False)[0, start - 1 : -1].softmax(-1)[:, ids].sum(-1)
        odds.append(torch.logit(p.double(), eps=1e-12))
        names = model.tokenizer.convert_ids_to_tokens(tokens)
        wanted += [_due(concept, names[t - 1], names[t]) for t in range(start, len(names))]
    return torch.cat(odds).numpy(), np.array(wanted)


def _due(concept: str, before: str, word: str) -> bool:
    if concept in STYLES:
        return before in (".", "<assistant>")
    topics = {word for words in TOPICS.values() for word in words}
    return "A" in PARTS_OF_SPEECH.get(word, ()) and word not in topics
