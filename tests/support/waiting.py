"""Waiting for what another process is about to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from hourglass.errors import Unreachable

T = TypeVar("T")

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
    """Poll; the first true value. Redis may be away meanwhile. Raises AssertionError with the
    message."""
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
