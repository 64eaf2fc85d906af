"""A detector without a model: which words a text has, and how often.

Chapter: axbench. What it detects, the words alone give away; a direction has to do better on texts
whose words were not in the training texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from steerlib.core.labelled import Labelled, both_classes
from steerlib.core.prompts import Prompt, words


@dataclass(frozen=True, eq=False)
class BagOfWords:
    """A detector that was fitted by `bag_of_words`: score(text) = sum_w weight_w count_w + b.

    Chapter: axbench.
    """

    counter: Any = field(repr=False)
    regression: Any = field(repr=False)

    def __call__(self, texts: Sequence[Prompt]) -> Float[np.ndarray, " n"]:
        """The score of each text: the log-odds of the label, of which AxBench takes the sigmoid."""
        return self.regression.decision_function(self.counter.transform(map(words, texts)))

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each word of the training texts, largest first."""
        names = self.counter.get_feature_names_out().tolist()
        found = dict(zip(names, self.regression.coef_[0].tolist(), strict=True))
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def bag_of_words(data: Labelled, *, C: float = 100.0) -> BagOfWords:
    """A logistic regression of the label on how often each word is in the text, by scikit-learn.

    score(text) = sum_w weight_w count_w(text) + b, with the weights that minimize
    ||weight||^2 / 2 + C sum_texts log(1 + exp(-y score)), y = 1 or -1.

    A word is what scikit-learn's CountVectorizer takes for one: lower case, at least two letters
    or digits; punctuation and words of one letter are left out. Words that the training texts do
    not have count nothing.

    Args:
        data: `.texts`, strings or chats (their turns are joined, without the roles), and `.labels`.
        C: the inverse strength of the squared penalty.

    Returns:
        A function from texts to log-odds (n,), for `evaluation.detection`.

    Raises:
        ValueError: labels that are not two classes, one per text; no words; C not positive.

    Source: BoW in AxBench (Wu et al. 2025), section 3.1; their score is the probability, which
    ranks texts the same but is 1 in float64 for all that are very sure. Chapter: axbench.

    Example:
        >>> detector = st.bag_of_words(st.world.concept("weather").train)
        >>> next(iter(detector.weights)) in " ".join(st.world.concept("weather").train.texts)
        True
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    if not C > 0:
        raise ValueError(f"C is the inverse strength of the penalty and positive, got {C}")
    texts, labels = both_classes(data)
    counter = CountVectorizer()
    try:
        counts = counter.fit_transform(map(words, texts))
    except ValueError as error:
        raise ValueError(
            "no text has a word of two letters or more, so there is nothing to count"
        ) from error
    return BagOfWords(counter, LogisticRegression(C=C, max_iter=1000).fit(counts, labels))
