"""Ctrl-C for what takes its time, or goes on until then."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Generator[Callable[[], None]]:
    """SIGTERM and SIGHUP end what is inside the way Ctrl-C does; a second one does not stop the
    clearing away. For the main thread.

    Gives something to call now and then, which raises KeyboardInterrupt once one has come. They
    raise it themselves, too; but Python swallows what is raised inside a finalizer.
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
