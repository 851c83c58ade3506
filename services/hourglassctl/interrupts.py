"""Handles Ctrl-C in long-running commands."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Generator[Callable[[], None]]:
    """Make SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the block. Further signals are
    ignored, so that they do not interrupt the clean-up. Only for the main thread.

    Yields a function to call regularly, which raises KeyboardInterrupt after a signal. It is needed
    because Python discards an exception that the handler raises inside a finalizer.
    """
    came = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        for each in _NUMBERS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _NUMBERS}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
