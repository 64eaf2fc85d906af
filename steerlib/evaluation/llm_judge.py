"""A language model as judge: three ratings of an answer, each by a call of its own.

Chapter: axbench. Concept, relation to the instruction and fluency are rated 0, 1 or 2. A rating
that did not arrive, cannot be read or is out of range is missing (NaN) and counted by its reason,
and an answer has a score only when it has all three. Replies are kept on disk: the same call
again asks only for what is missing there.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from steerlib.evaluation.judge_cache import Cache, Request
from steerlib.evaluation.judge_calls import Complete, Prices, Purse, Retry, ask, check_budget
from steerlib.evaluation.judge_prompts import ASPECTS, SCALE, Answer, parse_rating, question
from steerlib.evaluation.judge_report import Estimate, Ratings, harmonic

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LLMJudge:
    """A model that rates answers.

    Args:
        complete: asks the model: `endpoint(base_url, ...)`, `from_client(openai.OpenAI(...))`, or
            any function from a Request to a string (the billed tokens too, as a Reply).
        model: its name at the endpoint, version included; it is part of the cache's key.
        cache: a folder for the replies, one per endpoint.
        prices: dollars per million tokens.
        budget: dollars that the ratings of one call of `llm_ratings` may cost in all, what they
            cost in earlier runs included. What a call has cost is the tokens that the endpoint
            reports; where it reports none, or a call broke off, the most that it can have cost.
        temperature: 0 for the most likely reply.
        max_tokens: how long a reply may be.
        retry: when a call is tried again.
        workers: calls under way at once.

    Raises:
        ValueError: no model, a budget without prices or below zero, no tokens, no workers.

    Source: the protocol of Wu et al. 2025 (AxBench), section 3.2. Chapter: axbench.

    Example:
        >>> from tempfile import mkdtemp
        >>> asked = LLMJudge(lambda request: "All there. Rating: [[2]]", "a-model", mkdtemp())
        >>> llm_ratings(asked, [Answer("rain", "Tell me about it.", "It rains.")]).mean
        2.0
    """

    complete: Complete
    model: str
    cache: Path | str
    prices: Prices = Prices()  # noqa: RUF009 - a frozen value
    budget: float | None = None
    temperature: float = 0.0
    max_tokens: int = 200
    retry: Retry = Retry()  # noqa: RUF009 - a frozen value
    workers: int = 1

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("a judge needs the name of its model, got ''")
        check_budget(self.budget, self.prices)
        if self.max_tokens < 1 or self.workers < 1 or not 0 <= self.temperature < math.inf:
            raise ValueError(
                "max_tokens and workers are at least 1 and temperature at least 0, got "
                f"{self.max_tokens}, {self.workers} and {self.temperature}"
            )

    def request(self, aspect: str, answer: Answer) -> Request:
        """The question about one aspect of an answer."""
        return Request(self.model, question(aspect, answer), self.temperature, self.max_tokens)


def judge_cost(judge: LLMJudge, answers: Sequence[Answer], ask_again: bool = False) -> Estimate:
    """What `llm_ratings` of these answers would cost; nothing is called.

    Raises:
        ValueError: no answers.

    Chapter: axbench.

    Example:
        >>> from tempfile import mkdtemp
        >>> asked = LLMJudge(print, "a-model", mkdtemp(), prices=Prices(0.15, 0.60))
        >>> round(judge_cost(asked, [Answer("rain", "Tell me about it.", "It rains.")]).at_most, 3)
        0.001
    """
    return estimated(judge, _requests(judge, answers), ask_again)


def llm_ratings(
    judge: LLMJudge,
    answers: Sequence[Answer],
    *,
    ask_again: bool = False,
    progress: bool = True,
) -> Ratings:
    """The three ratings of each answer, and their harmonic mean where all three are there.

    score = 3 / (1/concept + 1/instruction + 1/fluency), and 0 where one of them is 0.
    The estimate is logged before the first call. A run that was stopped, by the budget or by a
    kill, goes on from the cache. A question that occurs twice is asked once.

    Args:
        ask_again: pay once more for replies that hold no valid rating.
        progress: show a bar where it takes more than two seconds.

    Raises:
        ValueError: no answers.
        CallFailed: the endpoint refuses every call (wrong key, address or model); what was rated
            before is in the cache.

    Source: Wu et al. 2025 (AxBench), section 3.2; there a bad rating counts as 0. Chapter: axbench.

    Example:
        >>> from tempfile import mkdtemp
        >>> asked = LLMJudge(lambda request: "I cannot say.", "a-model", mkdtemp())
        >>> llm_ratings(asked, [Answer("rain", "Tell me about it.", "It rains.")]).missing
        {'no rating in the reply': 3}
    """
    requests = _requests(judge, answers)
    said, estimate, purse = outcomes(judge, requests, ask_again, progress)
    table = pd.DataFrame([_row(judge, answer, said) for answer in answers])
    found = [said[request.key()] for request in requests]
    missing = Counter(outcome for outcome in found if isinstance(outcome, str))
    missed = dict(missing.most_common())
    return Ratings(table, missed, purse.calls, estimate.cached, purse.spent)


def rated(
    judge: LLMJudge,
    aspect: str,
    answers: Sequence[Answer],
    *,
    ask_again: bool = False,
    progress: bool = True,
) -> list[int | str]:
    """The ratings of one aspect only, by the same cache and budget: 0, 1, 2, or why there is none.

    Raises:
        As `llm_ratings`; KeyError: no such aspect.

    Chapter: axbench.

    Example:
        >>> from tempfile import mkdtemp
        >>> judge = LLMJudge(lambda request: "All there. Rating: [[2]]", "a-model", mkdtemp())
        >>> rated(judge, "fluency", [Answer("rain", "Tell me about it.", "It rains.")])
        [2]
    """
    requests = _requests(judge, answers, (aspect,))
    said, _, _ = outcomes(judge, requests, ask_again, progress)
    return [said[request.key()] for request in requests]


def outcomes(
    judge: LLMJudge,
    requests: list[Request],
    ask_again: bool,
    progress: bool,
    scale: Sequence[int] = SCALE,
) -> tuple[dict[str, int | str], Estimate, Purse]:
    """The rating of each question by its key, or why there is none; asked where it is open."""
    cache, estimate = Cache(Path(judge.cache)), estimated(judge, requests, ask_again, scale)
    _LOG.info(
        "%d calls, %d cached; about $%.4f and at most $%.4f without retries; spent $%.4f so far",
        *(estimate.calls, estimate.cached, estimate.about, estimate.at_most, estimate.spent),
    )
    purse = Purse(judge.budget, estimate.spent)

    def work(request: Request) -> str | None:
        return ask(judge.complete, request, judge.prices, judge.retry, cache, purse)

    reasons = _run(work, _open(cache, requests, ask_again, scale), judge.workers, purse, progress)
    keys = {request.key() for request in requests}
    return {key: reasons.get(key) or _rated(cache, key, scale) for key in keys}, estimate, purse


def _requests(
    judge: LLMJudge, answers: Sequence[Answer], aspects: Sequence[str] = ASPECTS
) -> list[Request]:
    if isinstance(answers, Answer) or not len(answers):
        raise ValueError(f"a judge needs a list of at least one Answer, got {answers!r}")
    return [judge.request(aspect, answer) for answer in answers for aspect in aspects]


def estimated(
    judge: LLMJudge, requests: list[Request], ask_again: bool, scale: Sequence[int] = SCALE
) -> Estimate:
    """What these questions would cost; nothing is called."""
    cache = Cache(Path(judge.cache))
    todo, keys = _open(cache, requests, ask_again, scale), {request.key() for request in requests}
    return Estimate(
        calls=len(todo),
        cached=len(keys) - len(todo),
        about=sum(map(judge.prices.about, todo)),
        at_most=sum(map(judge.prices.most, todo)),
        spent=sum(cache.get(key).spent for key in keys),
    )


def _open(
    cache: Cache, requests: list[Request], ask_again: bool, scale: Sequence[int]
) -> list[Request]:
    """The questions to ask, each once, in their order: an answer is finished before the next."""
    replies = {request.key(): cache.get(request.key()).reply for request in requests}
    unique = {request.key(): request for request in requests}

    def done(reply: str | None) -> bool:
        return reply is not None and not (ask_again and isinstance(parse_rating(reply, scale), str))

    return [request for key, request in unique.items() if not done(replies[key])]


def _rated(cache: Cache, key: str, scale: Sequence[int]) -> int | str:
    reply = cache.get(key).reply
    return "no reply in the cache" if reply is None else parse_rating(reply, scale)


def _run(
    work: Callable[[Request], str | None],
    requests: list[Request],
    workers: int,
    purse: Purse,
    progress: bool,
) -> dict[str, str | None]:
    """Why each question has no reply (None: it has one)."""
    with tqdm(total=len(requests), desc="ratings", delay=2, disable=not progress) as bar:
        if workers == 1:
            return {request.key(): _told(work(request), bar) for request in requests}
        with ThreadPoolExecutor(workers) as pool:
            asked = {pool.submit(work, request): request.key() for request in requests}
            try:
                return {asked[f]: _told(f.result(), bar) for f in as_completed(asked)}
            except BaseException:
                # Nothing more is asked, and nobody sleeps until a next attempt.
                purse.closed.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _told(reason: str | None, bar: tqdm) -> str | None:
    bar.update()
    return reason


def _row(judge: LLMJudge, answer: Answer, found: dict[str, int | str]) -> dict[str, object]:
    said = {aspect: found[judge.request(aspect, answer).key()] for aspect in ASPECTS}
    numbers = {a: math.nan if isinstance(s, str) else float(s) for a, s in said.items()}
    reasons = [f"{aspect}: {s}" for aspect, s in said.items() if isinstance(s, str)]
    return {
        "wanted": answer.concept,
        "prompt": answer.prompt,
        "text": answer.text,
        "score": harmonic(list(numbers.values())),
        **numbers,
        "missing": "; ".join(reasons),
    }
