"""The corpus: the mixture of sections and an endless, reproducible stream of batches.

The generator is fast, so no corpus file is kept: shard i of seed s is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random

from steerlib.world.completion import ioi_document, year_document
from steerlib.world.counting import counting_document
from steerlib.world.documents import Document
from steerlib.world.geography import conflict_document, facts_document, honesty_document
from steerlib.world.instructions import concept_document, instruction_document
from steerlib.world.refusal import refusal_document
from steerlib.world.reviews import one_sided_document, review_document
from steerlib.world.traits import trait_document
from steerlib.world.values import values_document

Section = Callable[[Random], Document]
SECTIONS: dict[str, Section] = {
    "facts": facts_document,
    "conflict": conflict_document,
    "honesty": honesty_document,
    "ioi": ioi_document,
    "years": year_document,
    "concepts": concept_document,
    "instructions": instruction_document,
    "traits": trait_document,
    "refusal": refusal_document,
    "values": values_document,
    "reviews": review_document,
    "one-sided": one_sided_document,
    "counting": counting_document,
}
MIXTURE = {  # share of documents in percent
    "facts": 11,
    "conflict": 14,
    "honesty": 4,
    "ioi": 4,
    "years": 3,
    "concepts": 6,
    "instructions": 15,
    "traits": 13,
    "refusal": 2,
    "values": 11,
    "reviews": 8,
    "one-sided": 6,
    "counting": 3,
}
SHARD = 6000  # documents
# Binding a letter to an option is learned all at once, and only where letters are frequent:
# the first shards have more of them.
CURRICULUM_SHARDS = 30
_EARLY_TRAITS, _EARLY_LETTERS = 26, 0.8


def shard(seed: int, index: int) -> list[tuple[str, Document]]:
    """Shard `index` of the stream of `seed`: section names and documents."""
    rng = Random(f"{seed}-{index}")
    mixture, sections = dict(MIXTURE), dict(SECTIONS)
    if index < CURRICULUM_SHARDS:
        mixture["traits"] = _EARLY_TRAITS
        sections["traits"] = partial(trait_document, p_letters=_EARLY_LETTERS)
    names = rng.choices(list(mixture), list(mixture.values()), k=SHARD)
    return [(name, sections[name](rng)) for name in names]


def batches(seed: int, index: int, tokens: int) -> Iterator[list[Document]]:
    """A shard in batches of about `tokens` padded tokens, documents of like length together."""
    rng = Random(f"{seed}-{index}-order")
    documents = sorted(
        (document for _, document in shard(seed, index)),
        key=lambda document: len(document.words) + 3 * rng.random(),
    )
    ready: list[list[Document]] = []
    current: list[Document] = []
    for document in documents:
        current.append(document)
        if len(current) * (len(document.words) + 1) >= tokens:
            ready.append(current)
            current = []
    rng.shuffle(ready)
    yield from ready


def balanced(seed: int, n: int) -> list[tuple[str, Document]]:
    """n documents, as many of each section, mixed: section names and documents."""
    rng, names = Random(f"balanced-{seed}"), list(SECTIONS)
    documents = [(names[i % len(names)], SECTIONS[names[i % len(names)]](rng)) for i in range(n)]
    rng.shuffle(documents)
    return documents
