"""Handles signals: before a service has started, in a service, and in a long-running command."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


def handle_sigterm_early() -> None:
    """As process 1 of a container, exit at once on SIGTERM, until the service sets its own handler.

    The kernel delivers to process 1 only the signals that it handles. The import of a service takes
    half a second, and during it there is no work to finish.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


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
