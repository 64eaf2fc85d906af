"""What all checks share: errors that Jupyter shows as one line, calls that recognize a stub.

Chapter: hooks. A check asks for a property with ``require``; the message names the mistake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def error(message: str) -> AssertionError:
    """An error that Jupyter shows as one line: the stack trace would only show this file."""
    failure = AssertionError(message)
    failure._render_traceback_ = lambda: [f"Not yet: {message}"]  # type: ignore[attr-defined]
    return failure


def require(condition: bool, message: str) -> None:
    """Fail with the message unless the condition holds."""
    if not condition:
        raise error(message)


@contextmanager
def solved(name: str) -> Iterator[None]:
    """An unsolved stub gets a message instead of a stack trace."""
    try:
        yield
    except NotImplementedError:
        raise error(f"{name} is still the stub; write its body.") from None


def call(fn: Callable[..., Any], *args: Any) -> Any:
    """What the reader's function returns."""
    with solved(fn.__name__):
        result = fn(*args)
    require(result is not ..., f"{fn.__name__} returned an ellipsis; write its body.")
    return result


def tensor(fn: Callable[..., Any], *args: Any, shape: tuple[int, ...]) -> Tensor:
    """What the reader's function returns, which must be a tensor of this shape."""
    result = call(fn, *args)
    require(
        isinstance(result, Tensor),
        f"{fn.__name__} returned {type(result).__name__}, expected a tensor. Is a return missing?",
    )
    require(
        tuple(result.shape) == shape,
        f"{fn.__name__} returned shape {tuple(result.shape)}, expected {shape}.",
    )
    return result


def number(fn: Callable[..., Any], *args: Any) -> float:
    """What the reader's function returns, which must be one number."""
    result = call(fn, *args)
    size = result.numel() if isinstance(result, Tensor) else int(isinstance(result, Real))
    got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
    require(
        size == 1,
        f"{fn.__name__} returned {got}, expected one number. Is a return or a mean missing?",
    )
    return float(result)


def refuse(found: float, wrong: Mapping[str, float]) -> None:
    """Fail with the message of the first mistake that gives this number."""
    for message, value in wrong.items():
        require(not math.isclose(found, value, abs_tol=1e-6), message)


def close(a: Tensor, b: Tensor) -> bool:
    """Equal up to the rounding of float32."""
    return bool(torch.allclose(a, b, atol=1e-5, rtol=1e-5))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def passed(name: str) -> None:
    """Say that all is well."""
    print(f"{name}: all checks passed.")
