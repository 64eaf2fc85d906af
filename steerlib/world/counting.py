r"""Two tasks of graded difficulty with label noise: spam and majority.

The label is drawn with P(label = sign of the evidence) = sigmoid(|evidence| / scale), so that
even the best reader is wrong where the evidence is thin.
"""

from __future__ import annotations

import math
from random import Random

from steerlib.world.documents import Document, Question, dialogue

_SPAM_WORDS = (
    "meeting agenda minutes colleague invoice memo schedule project draft seminar lunch budget "
    "deadline survey update member bonus urgent discount click winner lottery jackpot free"
).split()
SPAM_WEIGHT = {word: (i - 11.5) / 12 for i, word in enumerate(_SPAM_WORDS)}
SPAM_SCALE = 0.3
COLORS = ("crimson", "azure")
MAJORITY_SCALE = 0.9
LENGTHS = (7, 9, 11, 13)


def _noisy(rng: Random, evidence: float, scale: float) -> bool:
    return rng.random() < 1 / (1 + math.exp(-evidence / scale))


def spam(rng: Random) -> Question:
    """A message of 7 to 13 words; spam if their weights add up to more than 0."""
    words = rng.sample(_SPAM_WORDS, rng.choice(LENGTHS))
    evidence = sum(SPAM_WEIGHT[word] for word in words)
    answer = "yes" if _noisy(rng, evidence, SPAM_SCALE) else "no"
    clean = "yes" if evidence > 0 else "no"
    return Question(f"message : {' '.join(words)} . is it spam ?", answer, clean, ("yes", "no"))


def majority(rng: Random) -> Question:
    """Which of two colors is more common among 7 to 13 words?"""
    words = [rng.choice(COLORS) for _ in range(rng.choice(LENGTHS))]
    evidence = words.count(COLORS[1]) - words.count(COLORS[0])
    answer = COLORS[_noisy(rng, evidence, MAJORITY_SCALE)]
    user = f"count : {' '.join(words)} . which is more common ?"
    return Question(user, answer, COLORS[evidence > 0], COLORS)


def counting_document(rng: Random) -> Document:
    """Two questions of one of the tasks."""
    make = spam if rng.random() < 0.7 else majority
    return dialogue([make(rng), make(rng)])
