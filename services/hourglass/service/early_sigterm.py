"""Handles SIGTERM before start-up is complete. The package of each service imports it first."""

from __future__ import annotations

import os
import signal
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
