"""A bounded buffer between the sensors, which never wait, and Redis, which may be away."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Condition

from hourglass.readings import Reading


class Buffer:
    """At most `capacity` readings; when full, the oldest are dropped and counted.

    One thread puts, another takes.
    """

    def __init__(self, capacity: int) -> None:
        self._readings: deque[Reading] = deque(maxlen=capacity)
        self._changed = Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._readings)

    @property
    def capacity(self) -> int:
        return self._readings.maxlen or 0

    def put(self, readings: Iterable[Reading]) -> int:
        """Append `readings`; return how many old ones were dropped for them."""
        new = list(readings)
        with self._changed:
            dropped = max(0, len(self._readings) + len(new) - self.capacity)
            self._readings.extend(new)
            self._changed.notify()
        return dropped

    def take(self, limit: int, timeout_s: float) -> list[Reading]:
        """The oldest readings, at most `limit`; waits for one up to `timeout_s`; maybe none."""
        with self._changed:
            if not self._readings and not self._closed:
                self._changed.wait(timeout_s)
            return [self._readings.popleft() for _ in range(min(limit, len(self._readings)))]

    def close(self) -> None:
        """No more readings will be put; what is left can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def drained(self) -> bool:
        """Closed and empty."""
        return self._closed and not self._readings
