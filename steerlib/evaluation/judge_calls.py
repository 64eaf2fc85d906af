"""One paid call to a judge: what it may cost, when to try again, when to stop.

Chapter: axbench. Before each attempt the most that it can cost is set aside; if that is more than
what is left, the call is not made. So the budget holds whatever the endpoint answers.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from steerlib.evaluation.judge_cache import Cache, Record, Request

OVER_BUDGET = "over the budget"
# Tokens that a chat template and a service may put around the message.
_AROUND = 100


@dataclass(frozen=True)
class Reply:
    """A reply with the number of tokens that the endpoint says it has billed."""

    text: str
    prompt_tokens: int
    completion_tokens: int


Complete = Callable[[Request], str | Reply]


class CallFailed(Exception):  # noqa: N818 - it is an outcome, counted and reported
    """A call that brought no reply.

    Args:
        reason: in a few words, the same ones for the same thing: they are counted.
        again: another attempt may help.
        billed: it may have been billed, so it counts as if it had been.
        fatal: no call to this endpoint can succeed; the run ends with this error.
        wait: seconds to wait that the endpoint asked for.

    Chapter: axbench.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = False,
        billed: bool = True,
        fatal: bool = False,
        wait: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.again, self.billed = reason, again, billed
        self.fatal, self.wait = fatal, wait


@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens, read and written.

    Raises:
        ValueError: a price below zero or not finite.

    Chapter: axbench.

    Example:
        >>> Prices(prompt=0.15, completion=0.60).of(1_000_000, 0)
        0.15
    """

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(p) and p >= 0 for p in (self.prompt, self.completion)):
            raise ValueError(f"prices are dollars per million tokens, at least 0, got {self}")

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars for so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6

    def most(self, request: Request) -> float:
        """The most that one call can cost: no tokenizer makes more tokens than there are bytes."""
        return self.of(_bytes(request) + _AROUND, request.max_tokens)

    def about(self, request: Request) -> float:
        """A guess: four bytes to a token, and half of the allowed reply."""
        return self.of(_bytes(request) / 4 + _AROUND / 4, request.max_tokens / 2)


def check_budget(budget: float | None, prices: Prices) -> None:
    """Raise a ValueError if a budget is none, or could not be kept for want of prices."""
    if budget is not None and not 0 <= budget < math.inf:
        raise ValueError(f"a budget is in dollars, at least 0, got {budget}")
    if budget is not None and prices == Prices():
        raise ValueError("a budget needs prices: pass prices=Prices(prompt, completion)")


@dataclass(frozen=True)
class Retry:
    """When a call is tried again: the wait doubles from `first` to at most `longest` seconds.

    Args:
        attempts: how many in all.
        first: seconds before the second attempt, less a random part of up to a half.
        longest: the longest wait, also where the endpoint asks for more.

    Raises:
        ValueError: no attempts, or a wait below zero.

    Chapter: axbench.
    """

    attempts: int = 5
    first: float = 1.0
    longest: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first <= self.longest < math.inf:
            raise ValueError(f"at least 1 attempt and 0 <= first <= longest, got {self}")

    def wait(self, attempt: int, asked: float | None) -> float:
        """Seconds to wait after an attempt, counted from 0."""
        if asked is not None and math.isfinite(asked):
            return min(max(asked, 0.0), self.longest)
        # The random part keeps parallel calls from coming back together.
        return min(self.first * 2.0**attempt, self.longest) * random.uniform(0.5, 1)


class Purse:
    """What has been spent and set aside, shared by all threads of a run; a budget is never passed.

    Args:
        budget: dollars; None for any number.
        spent: what earlier runs have spent of them.

    Chapter: axbench.
    """

    def __init__(self, budget: float | None, spent: float) -> None:
        self.budget = math.inf if budget is None else budget
        self.spent, self.calls = spent, 0
        self.closed = threading.Event()
        self._lock = threading.Lock()

    def reserve(self, amount: float) -> bool:
        """Set money aside for a call; where it does not suffice, no call is made any more."""
        with self._lock:
            if self.closed.is_set() or self.spent + amount > self.budget:
                self.closed.set()
                return False
            self.spent += amount
            self.calls += 1
            return True

    def settle(self, reserved: float, cost: float) -> None:
        """Put back what a call did not need."""
        with self._lock:
            self.spent += cost - reserved


def ask(
    complete: Complete, request: Request, prices: Prices, retry: Retry, cache: Cache, purse: Purse
) -> str | None:
    """Ask until there is a reply, which is stored; else why there is none.

    Returns:
        None when the reply is in the cache, or the reason of the last failure.

    Raises:
        CallFailed: one that is fatal.
        TypeError: `complete` returned neither text nor a Reply.

    Chapter: axbench.
    """
    key, most, reason = request.key(), prices.most(request), OVER_BUDGET
    for attempt in range(retry.attempts):
        if not purse.reserve(most):
            return OVER_BUDGET
        before = cache.get(key).spent
        cache.put(key, Record(before + most))
        try:
            text, cost = _billed(_called(complete, request), prices, most)
        except CallFailed as failure:
            cost = most if failure.billed else 0.0
            cache.put(key, Record(before + cost))
            purse.settle(most, cost)
            if failure.fatal:
                purse.closed.set()  # for the other threads, before the caller can do it
                raise
            reason = failure.reason
            if not failure.again or attempt + 1 == retry.attempts:
                break
            purse.closed.wait(retry.wait(attempt, failure.wait))
        else:
            cache.put(key, Record(before + cost, text))
            purse.settle(most, cost)
            return None
    return reason


def _called(complete: Complete, request: Request) -> str | Reply:
    try:
        said = complete(request)
    except TimeoutError:
        raise CallFailed("timeout", again=True) from None
    except ConnectionError:
        raise CallFailed("connection failed", again=True) from None
    if not isinstance(said, str | Reply):
        raise TypeError(f"complete(request) has to return a string or a Reply, got {type(said)}")
    return said


def _billed(said: str | Reply, prices: Prices, most: float) -> tuple[str, float]:
    """The text and its cost; without a count by the endpoint it cost the most that it could."""
    if isinstance(said, str):
        return said, most
    return said.text, prices.of(said.prompt_tokens, said.completion_tokens)


def _bytes(request: Request) -> int:
    return len(request.prompt.encode("utf-8", "surrogatepass"))
