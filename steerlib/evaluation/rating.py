"""rate: a sweep's answers are decoded first and rated by a language model afterwards.

Chapter: axbench. Two stages, each with a store of its own: a call to the judge that fails costs no
decoding, and a rating that is there is not paid for again.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from steerlib.evaluation.judge_prompts import ASPECTS, Answer
from steerlib.evaluation.judge_report import Ratings
from steerlib.evaluation.llm_judge import LLMJudge, llm_ratings

_GRADES = {"score": "score"} | {aspect: f"grade_{aspect}" for aspect in ASPECTS}


def rate(
    table: pd.DataFrame,
    judge: LLMJudge,
    concepts: Mapping[str, str] | None = None,
    *,
    ask_again: bool = False,
    progress: bool = True,
) -> tuple[pd.DataFrame, Ratings]:
    """The table of a sweep without a judge, with a language model's ratings in it.

    A rating that did not arrive or cannot be read is NaN, and so is the score of its answer: the
    harmonic mean of all three. Call it again for what is missing; only that is asked for.

    Args:
        table: from `sweep`, of studies without a judge.
        judge: who rates.
        concepts: a concept's name in the table -> what the judge is told about it, such as
            {"weather": "rain, wind and other weather"}; None for the names themselves.
        ask_again, progress: as in `llm_ratings`.

    Returns:
        The table with the columns score, grade_concept, grade_instruction and grade_fluency after
        the text, and the Ratings, row by row the same answers: `report()` says how many ratings
        are missing and why, `table` where.

    Raises:
        ValueError: a table without answers, or one that has grades already.
        KeyError: concepts that are not described.
        CallFailed: the endpoint refuses every call; what was rated before is in the cache.

    Source: Wu et al. 2025 (AxBench), section 3.2; there a bad rating counts as 0. Chapter: axbench.

    Example:
        >>> from tempfile import mkdtemp
        >>> asked = LLMJudge(lambda request: "All there. Rating: [[2]]", "a-model", mkdtemp())
        >>> answers = sweep(model, [Study("weather", arms, prompts)], mkdtemp())
        >>> rated, ratings = rate(answers, asked, {"weather": "rain, wind and other weather"})
        >>> list(rated.columns[5:10])
        ['text', 'score', 'grade_concept', 'grade_instruction', 'grade_fluency']
    """
    if taken := [name for name in table.columns if name in _GRADES.values()]:
        raise ValueError(
            f"the table has {', '.join(taken)} already; rate the table of studies without a judge"
        )
    ratings = llm_ratings(judge, _answers(table, concepts), ask_again=ask_again, progress=progress)
    rated, first = table.copy(), table.columns.get_loc("text") + 1
    for place, (found, name) in enumerate(_GRADES.items()):
        rated.insert(first + place, name, ratings.table[found].to_numpy())
    return rated, ratings


def _answers(table: pd.DataFrame, concepts: Mapping[str, str] | None) -> list[Answer]:
    names = list(dict.fromkeys(table["concept"]))
    told = {name: name for name in names} if concepts is None else concepts
    if unknown := [name for name in names if name not in told]:
        raise KeyError(f"the judge is not told what {unknown} are; concepts describes {list(told)}")
    columns = zip(table["concept"], table["prompt"], table["text"], strict=True)
    return [Answer(told[concept], prompt, text) for concept, prompt, text in columns]
