"""Waiting for what another process is about to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], timeout_s: float = 10, message: str = "", *, every_s: float = 0.01
) -> T:
    """Poll; the first true value. Raises AssertionError with the message."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {message or predicate}")
        time.sleep(every_s)
