"""What is exactly true at each word of a document: the ground truth for features of a model.

    >>> latent = next(x for x in latents() if x.name == "weather word")
    >>> truth(latent, "concepts", ("the", "rain", "falls", ".", "<eos>"))
    [False, True, False, False, False]

A latent of the kind "word" is decided by the word itself (and the section, for words with two
meanings); one of the kind "context" by the text so far, at words that do not say it. None looks
ahead, so that a model that reads from left to right can know each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Int8

from steerlib.world.context_latents import context_rules
from steerlib.world.corpus import SECTIONS
from steerlib.world.documents import Document
from steerlib.world.turns import ContextRule
from steerlib.world.word_latents import Truths, WordRule, word_rules


@dataclass(frozen=True)
class Latent:
    """Something that is true or false at some words of the corpus.

    Args:
        name: what is true, such as "weather word" or "weather is asked for".
        kind: "word" (decided by the word itself) or "context" (by what came before).
        family: latents of one sort, such as "lexicon" or "asked concept".
        rule: how it is decided.
    """

    name: str
    kind: Literal["word", "context"]
    family: str
    rule: WordRule | ContextRule


@cache
def latents() -> tuple[Latent, ...]:
    """All latents of the world: those of words, then those of contexts.

    Chapter: sae.

    Example:
        >>> latents()[0].name
        'weather word'
    """
    words = [Latent(name, "word", family, rule) for family, name, rule in word_rules()]
    contexts = [Latent(name, "context", family, rule) for family, name, rule in context_rules()]
    return (*words, *contexts)


def truth(latent: Latent, section: str, words: Sequence[str]) -> Truths:
    """Whether a latent holds at each word of a document; None where it does not count.

    Args:
        latent: one of `latents()`.
        section: the document's section of the corpus.
        words: its words, `Document.words`.

    Raises:
        KeyError: no such section.

    Chapter: sae.

    Example:
        >>> liar = next(x for x in latents() if x.name == "liar")
        >>> truth(liar, "honesty", "<system> you are a liar . <user> hi <assistant> no".split())
        [None, None, None, None, None, None, None, None, True, True]
    """
    _check(section)
    return latent.rule.truths(section, tuple(words))


def labels(
    documents: Sequence[tuple[str, Document]], of: Sequence[Latent] | None = None
) -> Int8[np.ndarray, "tokens latents"]:
    """The truths of many documents: 1 true, 0 false, -1 not counted.

    Args:
        documents: sections and documents, as `corpus.balanced` gives them.
        of: which latents (default: all of `latents()`).

    Returns:
        One row per word, document after document. A word is a token, so that the rows are those of
        `st.capture(model, [d.text for _, d in documents], sites, at=st.prompt)`, BOS left out.

    Raises:
        KeyError: no such section.

    Chapter: sae.

    Example:
        >>> from steerlib.world.corpus import balanced
        >>> labels(balanced(0, 13)).shape[1] == len(latents())
        True
    """
    chosen = latents() if of is None else tuple(of)
    for section in {section for section, _ in documents}:
        _check(section)
    size = sum(len(document.words) for _, document in documents)
    found = np.full((size, len(chosen)), -1, dtype=np.int8)
    places = [j for j, latent in enumerate(chosen) if isinstance(latent.rule, WordRule)]
    found[:, places] = _of_words(documents, [chosen[j].rule for j in places])
    rules = {j: x.rule for j, x in enumerate(chosen) if isinstance(x.rule, ContextRule)}
    _fill_contexts(found, documents, rules)
    return found


def _of_words(
    documents: Sequence[tuple[str, Document]], rules: Sequence[WordRule | ContextRule]
) -> Int8[np.ndarray, "tokens latents"]:
    """Each pair of section and word is decided once."""
    number: dict[tuple[str, str], int] = defaultdict(lambda: len(number))
    rows = [number[section, word] for section, d in documents for word in d.words]
    table = [[_code(r.truths(section, (word,))[0]) for r in rules] for section, word in number]
    shape = (len(number), len(rules))
    return np.array(table, dtype=np.int8).reshape(shape)[np.array(rows, dtype=int)]


def _fill_contexts(
    found: Int8[np.ndarray, "tokens latents"],
    documents: Sequence[tuple[str, Document]],
    rules: dict[int, ContextRule],
) -> None:
    """Write the truths of contexts into their columns, where a section has them."""
    start = 0
    for section, document in documents:
        stop = start + len(document.words)
        for j, rule in rules.items():
            if section in rule.sections:
                found[start:stop, j] = [_code(t) for t in rule.read(document.words)]
        start = stop


def _code(truth: bool | None) -> int:
    return -1 if truth is None else int(truth)


def _check(section: str) -> None:
    if section not in SECTIONS:
        raise KeyError(f"no section {section!r}; the corpus has {', '.join(SECTIONS)}")
