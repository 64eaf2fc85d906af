"""Any OpenAI-compatible endpoint as a function from a request to a reply, by the `openai` client.

Chapter: axbench. The client takes keys, names of organizations and headers from the environment
where it finds some. `endpoint` sends only what it was given, and to no other address. No message
of an error carries a body, a header or the key.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from steerlib.evaluation.judge_cache import Request
from steerlib.evaluation.judge_calls import CallFailed, Complete, Reply

if TYPE_CHECKING:
    from openai import OpenAI

# What no later call to the same endpoint can mend: the key, the address, a redirection.
_FATAL = (301, 302, 303, 307, 308, 401, 403, 404)
_LARGEST = 4_000_000
_COUNTS = ("prompt_tokens", "completion_tokens")
# The last one is how the client remembers that the reply is streamed.
_HEADERS = set(
    "host connection accept content-type content-length x-stainless-raw-response".split()
)
_TIMEOUTS = {"TimeoutError", "TimeoutException", "APITimeoutError"}
_CONNECTIONS = {"ConnectionError", "TransportError", "APIConnectionError"}
# A shorter key, such as the "EMPTY" of a local server, is no secret, and may be a word of a reply.
_SECRET = 8


def endpoint(
    base_url: str,
    *,
    api_key: str | None = None,
    key_variable: str | None = None,
    timeout: float = 60.0,
    limit_name: str = "max_tokens",
) -> Complete:
    """A function that asks an OpenAI-compatible endpoint.

    Redirections are not followed. Proxies and certificates that the environment names are not
    used: where you need them, make your own client, for `from_client`.

    Args:
        base_url: such as "https://api.openai.com/v1" or "http://localhost:8000/v1".
        api_key: the key; or key_variable: the environment variable that holds it. A key is sent
            only if one of the two is given.
        timeout: seconds for a whole call, and for each piece of the headers of its reply.
        limit_name: "max_completion_tokens" for models that have renamed it.

    Returns:
        `complete(request)`, which returns the text, as a Reply where the billed tokens are said,
        and raises CallFailed with a reason to be counted.

    Raises:
        ImportError: the `openai` package is not installed.
        ValueError: no http(s) address, a key that is no plain word, or a timeout of 0.
        KeyError: the variable is not set.

    Chapter: axbench.

    Example:
        >>> complete = endpoint("http://localhost:8000/v1", timeout=30)
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError(
            'base_url looks like "https://host/v1", without a name or password in it; '
            f"got one with scheme {parts.scheme!r} and host {parts.hostname!r}"
        )
    key, openai = _key(api_key, key_variable), _openai()
    web = openai.DefaultHttpxClient(
        trust_env=False,
        follow_redirects=False,
        event_hooks={"request": [_only_ours(key)], "response": [_refuse]},
    )
    # Without a key the client would take one from the environment.
    client = openai.OpenAI(base_url=base_url, api_key=key or "none", http_client=web)
    return from_client(client, limit_name, timeout=timeout)


def from_client(
    client: OpenAI, limit_name: str = "max_tokens", *, timeout: float = 60.0
) -> Complete:
    """A function that asks through a client of your own: by a proxy, or with another login.

    The client's own retries are switched off, so that the budget sees every paid attempt. What it
    sends beside the request, and where redirections and proxies lead it, is the client's affair.

    Args:
        client: an `openai.OpenAI`, or one of its kinds such as `openai.AzureOpenAI`.
        limit_name: "max_completion_tokens" for models that have renamed it.
        timeout: seconds for a whole call, and for each piece of the headers of its reply.

    Returns:
        `complete(request)`, as `endpoint` does.

    Raises:
        ValueError: a timeout of 0.

    Chapter: axbench.

    Example:
        >>> complete = from_client(openai.OpenAI())  # doctest: +SKIP
    """
    if not timeout > 0:
        raise ValueError(f"timeout is in seconds and above 0, got {timeout}")
    # Streamed, because the client itself limits neither the time nor the size of a whole body.
    calls = client.with_options(max_retries=0, timeout=timeout).chat.completions
    key = client.api_key

    def complete(request: Request) -> str | Reply:
        end = time.monotonic() + timeout
        try:
            with calls.with_streaming_response.create(**_body(request, limit_name)) as response:
                raw = _read(response.iter_bytes(), end)
        except Exception as error:
            failure = _of_client(error)
        else:
            return _reply(raw, key)
        raise failure  # out here it has no context, which might hold a body

    return complete


def _openai() -> ModuleType:
    try:
        import openai
    except ImportError:
        raise ImportError(
            'an endpoint is asked with the openai package: pip install "steerlib[judge]"'
        ) from None
    return openai


def _key(api_key: str | None, variable: str | None) -> str:
    if api_key is None and variable is not None:
        if variable not in os.environ:
            raise KeyError(f"the environment variable {variable} with the API key is not set")
        api_key = os.environ[variable]
    key = (api_key or "").strip()
    # The client would print the key in its own complaint.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the API key has characters that no header may carry; is it the key?")
    return key


def _body(request: Request, limit_name: str) -> dict[str, Any]:
    return {
        "model": request.model,
        "messages": [{"role": "user", "content": request.prompt}],
        "temperature": request.temperature,
        limit_name: request.max_tokens,
    }


def _only_ours(key: str) -> Callable[[Any], None]:
    """A hook for requests: headers that nobody gave, most of them from the environment, go."""
    kept = _HEADERS | ({"authorization"} if key else set())

    def clean(request: Any) -> None:
        for name in set(request.headers) - kept:
            del request.headers[name]

    return clean


def _refuse(response: Any) -> None:
    """A hook for responses: of an error the status is enough, and its body is never read."""
    if not response.is_success:
        raise of_status(response.status_code, response.headers.get("retry-after"))


def _read(pieces: Iterable[bytes], end: float) -> bytes:
    """The body. The client's timeout is for each piece, so the whole is watched here."""
    found = b""
    for piece in pieces:
        found += piece
        if time.monotonic() > end:
            raise TimeoutError
        if len(found) > _LARGEST:
            raise CallFailed("reply too large")
    return found


def of_status(status: int, retry_after: str | None = None) -> CallFailed:
    """The failure that an HTTP status means.

    Example:
        >>> of_status(429, "3").wait, of_status(500).again, of_status(400).again
        (3.0, True, False)
    """
    reason = f"HTTP {status}"
    if status in _FATAL:
        advice = {401: "check the API key", 403: "the key may not use this model"}
        return CallFailed(
            f"{reason}: {advice.get(status, 'check base_url and the name of the model')}",
            billed=False,
            fatal=True,
        )
    again = status >= 500 or status in (408, 409, 425, 429)
    return CallFailed(reason, again=again, billed=status >= 500, wait=_seconds(retry_after))


def _of_client(error: Exception) -> Exception:
    """What an exception means, by its name: below the client lies httpx or httpx2."""
    for found in (error, error.__cause__):  # the client may wrap what a hook raises
        if isinstance(found, CallFailed):
            return found
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        return of_status(status, headers.get("retry-after"))
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _TIMEOUTS:
        return CallFailed("timeout", again=True)
    if names & _CONNECTIONS:
        reached = type(error.__cause__).__name__ != "ConnectError"
        return CallFailed("connection failed", again=True, billed=reached)
    return error


def _seconds(retry_after: str | None) -> float | None:
    """Seconds to wait; a date, which the header may also hold, is left to the own waiting."""
    try:
        return None if retry_after is None else float(retry_after)
    except ValueError:
        return None


def _reply(raw: bytes, key: str) -> str | Reply:
    """The text of a reply, with the tokens billed where the endpoint says them in earnest."""
    try:
        whole = json.loads(raw)
    except (ValueError, RecursionError):
        raise CallFailed("reply is not JSON") from None
    try:
        text = whole["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise CallFailed("reply has another shape") from None
    if not isinstance(text, str):
        raise CallFailed("reply has no text")
    # A server may repeat what it was told; the cache is no place for a key.
    text = text.replace(key, "***") if len(key) >= _SECRET else text
    usage = whole.get("usage")
    counts = [usage.get(n) for n in _COUNTS] if isinstance(usage, dict) else [None]
    if all(type(count) is int and count >= 0 for count in counts):
        return Reply(text, *counts)
    return text
