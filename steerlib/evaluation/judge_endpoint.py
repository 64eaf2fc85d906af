"""Any OpenAI-compatible endpoint as a function from a request to a reply.

Chapter: axbench. One POST to `<base_url>/chat/completions` with the standard library. Who has the
`openai` package passes `from_client(openai.OpenAI(max_retries=0))` in its place. No message of
an error carries a body, a header or the key.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from steerlib.evaluation.judge_cache import Request
from steerlib.evaluation.judge_calls import CallFailed, Complete, Reply

# What no later call to the same endpoint can mend: the key, the address, a redirection.
_FATAL = (301, 302, 303, 307, 308, 401, 403, 404)
_LARGEST = 4_000_000
_COUNTS = ("prompt_tokens", "completion_tokens")


def endpoint(
    base_url: str,
    *,
    api_key: str | None = None,
    key_variable: str | None = None,
    timeout: float = 60.0,
    limit_name: str = "max_tokens",
) -> Complete:
    """A function that asks an OpenAI-compatible endpoint.

    Args:
        base_url: such as "https://api.openai.com/v1" or "http://localhost:8000/v1".
        api_key: the key; or key_variable: the environment variable that holds it. A key is sent
            only if one of the two is given.
        timeout: seconds for a whole call.
        limit_name: "max_completion_tokens" for models that have renamed it.

    Returns:
        `complete(request)`, which returns the text, as a Reply where the billed tokens are said,
        and raises CallFailed with a reason to be counted.

    Raises:
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
    if not timeout > 0:
        raise ValueError(f"timeout is in seconds and above 0, got {timeout}")
    key = _key(api_key, key_variable)
    url = f"{base_url.rstrip('/')}/chat/completions"

    def complete(request: Request) -> str | Reply:
        raw = _post(url, _body(request, limit_name), key, timeout)
        return _reply(raw, key)

    return complete


def from_client(client: Any, limit_name: str = "max_tokens") -> Complete:
    """A function that asks through a client with the interface of `openai.OpenAI`.

    Args:
        client: made with `max_retries=0`, so that every paid attempt is seen by the budget.
        limit_name: "max_completion_tokens" for models that have renamed it.

    Chapter: axbench.

    Example:
        >>> complete = from_client(openai.OpenAI(max_retries=0))  # doctest: +SKIP
    """

    def complete(request: Request) -> str | Reply:
        try:
            said = client.chat.completions.create(**_body(request, limit_name))
        except Exception as error:
            raise _of_client(error) from None
        return _reply(said.model_dump_json().encode(), "")

    return complete


def _key(api_key: str | None, variable: str | None) -> str:
    if api_key is None and variable is not None:
        if variable not in os.environ:
            raise KeyError(f"the environment variable {variable} with the API key is not set")
        api_key = os.environ[variable]
    key = (api_key or "").strip()
    # http.client would print the key in its own complaint.
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


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Followed redirections would take the key to another host."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _post(url: str, body: dict[str, Any], key: str, timeout: float) -> bytes:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    end = time.monotonic() + timeout
    try:
        with urllib.request.build_opener(_StayHere).open(request, timeout=timeout) as response:
            return _read(response, end)
    except urllib.error.HTTPError as error:
        with error:
            raise of_status(error.code, error.headers.get("Retry-After")) from None
    except (OSError, http.client.HTTPException) as error:
        raise _of_connection(error) from None


def _read(response: Any, end: float) -> bytes:
    """The body. The timeout of a socket is for each piece, so the whole is watched here."""
    found = b""
    while piece := response.read1(65536):
        found += piece
        if time.monotonic() > end:
            raise TimeoutError
        if len(found) > _LARGEST:
            raise CallFailed("reply too large")
    if response.length:
        raise ConnectionError("the body is shorter than announced")
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


def _of_connection(error: Exception) -> CallFailed:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return CallFailed("timeout", again=True)
    refused = isinstance(cause, ConnectionRefusedError)
    return CallFailed("connection failed", again=True, billed=not refused)


def _of_client(error: Exception) -> Exception:
    """What an exception of the `openai` package means, which is told by its shape alone."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        return of_status(status, headers.get("retry-after"))
    name = type(error).__name__
    if isinstance(error, TimeoutError) or name.endswith("TimeoutError"):
        return CallFailed("timeout", again=True)
    if isinstance(error, ConnectionError) or name.endswith("ConnectionError"):
        return CallFailed("connection failed", again=True)
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
    text = text.replace(key, "***") if key else text
    usage = whole.get("usage")
    counts = [usage.get(n) for n in _COUNTS] if isinstance(usage, dict) else [None]
    if all(type(count) is int and count >= 0 for count in counts):
        return Reply(text, *counts)
    return text
