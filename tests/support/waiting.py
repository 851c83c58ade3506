"""Waiting for what another process is about to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from hourglass.errors import Unreachable

T = TypeVar("T")
Arguments = ParamSpec("Arguments")

#: What takes a second where nothing else runs may take very long on a busy machine. Less than the
#: time-out of a test (pyproject.toml), so that a failure says what was waited for.
PATIENCE_S = 50.0


def wait_until(
    predicate: Callable[[], T],
    timeout_s: float = PATIENCE_S,
    message: str = "",
    *,
    every_s: float = 0.01,
) -> T:
    """Poll; the first true value. Redis may be unreachable meanwhile. Raises AssertionError with
    the message."""
    deadline = time.monotonic() + timeout_s
    while True:
        reason = message or str(predicate)
        try:
            if value := predicate():
                return value
        except Unreachable as error:
            reason = f"{reason}; {error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {reason}")
        time.sleep(every_s)


def patient(read: Callable[Arguments, T]) -> Callable[Arguments, T]:
    """A test's own read of Redis, tried again through a cluster that is just coming back. Raises
    AssertionError if it has no answer within PATIENCE_S."""

    @wraps(read)
    def tried(*args: Arguments.args, **kwargs: Arguments.kwargs) -> T:
        # In a tuple, which is true whatever the answer is.
        (answer,) = wait_until(lambda: (read(*args, **kwargs),), message=f"no {read.__name__}")
        return answer

    return tried
