"""What a service heeds before it has been imported. Each service's package begins with it."""

from __future__ import annotations

import os
import signal
from types import FrameType


def heed_sigterm() -> None:
    """As process 1 of a container: end on SIGTERM, from here until the service has a better way.

    The kernel passes process 1 only those signals that it handles. Importing a service takes half a
    second, in which there is nothing to finish.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
