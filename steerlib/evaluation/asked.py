"""A detector that asks a language model how much a text shows a concept.

Chapter: axbench.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from steerlib.core.prompts import Prompt, words
from steerlib.evaluation.detectors import Scorer
from steerlib.evaluation.judge_prompts import Answer
from steerlib.evaluation.llm_judge import LLMJudge, rated


def asked(
    judge: LLMJudge, concept: str, *, ask_again: bool = False, progress: bool = True
) -> Scorer:
    """A detector: the judge's rating of a text, 0, 1 or 2, for how far it shows a concept.

    The question is that about the "concept" in `llm_ratings`; cache and budget are the judge's.

    Args:
        judge: a model at an endpoint, or `local_judge(model, folder)`: the model asked in words.
        concept: in words that the judge understands.
        ask_again: pay once more for replies that hold no valid rating.
        progress: show a bar where it takes more than two seconds.

    Returns:
        A function from texts to ratings (n,). The turns of a chat are joined, without the roles.
        It raises a ValueError where ratings are missing: one is never made up.

    Raises:
        ValueError: no concept.

    Source: the prompt baseline of Wu et al. 2025 (AxBench), section 3.1, where only the response is
    read and an answer without a rating counts as -1. Chapter: axbench.

    Example:
        >>> from tempfile import mkdtemp
        >>> judge = LLMJudge(lambda request: "All there. Rating: [[2]]", "a-model", mkdtemp())
        >>> asked(judge, "rain and wind")(["the rain is cold ."])
        array([2.])
    """
    Answer(concept, "", "")  # a concept in words

    def scorer(texts: Sequence[Prompt]) -> Float[np.ndarray, " n"]:
        answers = [Answer(concept, "", words(text)) for text in texts]
        ratings = rated(judge, "concept", answers, ask_again=ask_again, progress=progress)
        missing = Counter(rating for rating in ratings if isinstance(rating, str))
        if missing:
            why = "; ".join(f"{reason}: {n}" for reason, n in missing.most_common())
            raise ValueError(
                f"{missing.total()} of {len(texts)} ratings are missing ({why}), and a detector "
                "needs one for each text. The same call goes on from the cache; ask_again=True "
                "asks once more where a reply holds no rating"
            )
        return np.array(ratings, dtype=np.float64)

    return scorer
