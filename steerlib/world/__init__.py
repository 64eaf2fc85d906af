"""The world: an English-like corpus whose truth is known, its exact judges, and its model.

    >>> from steerlib import world
    >>> world.judge("the old rain falls . the dog is rainy .", "weather", topic="dog").harmonic
    1.5

What each chapter takes from it:

| chapter | sections |
|---|---|
| directions | `concept`, `concept_choices`, `one_word`, `instruction_prompts`, `judge` |
| axbench | `dialogues`, `contrasts`, `one_word`, `instruction_prompts`, `judge` |
| scaling | `conflicts` (4 relations x 5 templates x 3 cues), `indirect_objects` |
| sae | `corpus.balanced`: as much of each section; `latents`: what is true at each word |
| values | `values`: the causal model, roles, orders (do), 30 items |
| mera | `reviews` (two-way errors, 3 classes), `one_sided` (with prefaces), `counting` (graded) |
| bipo | `trait_pairs`, `trait_choices` (10 scenarios each), `honesty_pairs`, `refusal_pairs` |

Nothing here imports the rest of steerlib, and only training and measuring import torch.
"""

from steerlib.world import (
    completion,
    corpus,
    counting,
    geography,
    latents,
    refusal,
    reviews,
    traits,
    values,
)
from steerlib.world.choices import Choice, concept_choices
from steerlib.world.contests import Contest, conflicts, indirect_objects
from steerlib.world.datasets import ConceptData, Split, concept, instruction_prompts, one_word
from steerlib.world.dialogues import Dialogue, contrasts, dialogues
from steerlib.world.instructions import Instruction, instruction, response
from steerlib.world.judges import Scores, answered, grammatical_share, judge, refused, trait_share
from steerlib.world.lexicon import CONCEPTS, LEXICAL, POLYSEMOUS, STYLES, TOPICS, lexicon_words
from steerlib.world.preferences import (
    honesty_pairs,
    refusal_pairs,
    trait_choices,
    trait_pairs,
    trait_scenarios,
)

__all__ = [
    "CONCEPTS",
    "LEXICAL",
    "POLYSEMOUS",
    "STYLES",
    "TOPICS",
    "Choice",
    "ConceptData",
    "Contest",
    "Dialogue",
    "Instruction",
    "Scores",
    "Split",
    "answered",
    "completion",
    "concept",
    "concept_choices",
    "conflicts",
    "contrasts",
    "corpus",
    "counting",
    "dialogues",
    "geography",
    "grammatical_share",
    "honesty_pairs",
    "indirect_objects",
    "instruction",
    "instruction_prompts",
    "judge",
    "latents",
    "lexicon_words",
    "one_word",
    "refusal",
    "refusal_pairs",
    "refused",
    "response",
    "reviews",
    "trait_choices",
    "trait_pairs",
    "trait_scenarios",
    "trait_share",
    "traits",
    "values",
]
