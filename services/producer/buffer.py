"""A bounded buffer between the sensors, which never block, and Redis, which may be unreachable."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Condition
from typing import Generic, Protocol, TypeVar

from producer.batch import NO_MORE_MS


class Timed(Protocol):
    """An item with an event time: a reading or a tick."""

    @property
    def ts_ms(self) -> int: ...


Item = TypeVar("Item", bound=Timed)


class Buffer(Generic[Item]):
    """Holds at most `capacity` items (readings or ticks). When it is full, it drops and counts the
    oldest.

    One thread calls `put`, another calls `take`.
    """

    def __init__(self, capacity: int) -> None:
        self._items: deque[Item] = deque(maxlen=capacity)
        self._changed = Condition()
        self._closed = False
        self._next_ms = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def capacity(self) -> int:
        return self._items.maxlen or 0

    def put(self, items: Iterable[Item], *, next_ms: int = 0) -> int:
        """Append `items`, whose event times are before `next_ms`; return the number of items
        dropped to make room."""
        new = list(items)
        with self._changed:
            dropped = max(0, len(self._items) + len(new) - self.capacity)
            self._items.extend(new)
            self._next_ms = next_ms
            self._changed.notify()
        return dropped

    def take(self, limit: int, timeout_s: float) -> list[Item]:
        """Remove and return the oldest items, at most `limit`. Waits up to `timeout_s` for the
        first one; returns an empty list after that."""
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait(timeout_s)
            return [self._items.popleft() for _ in range(min(limit, len(self._items)))]

    @property
    def next_ms(self) -> int:
        """The event time of the next item that `take` returns, whether it is already buffered or
        not."""
        with self._changed:
            if self._items:
                return self._items[0].ts_ms
            return NO_MORE_MS if self._closed else self._next_ms

    def close(self) -> None:
        """Mark the end of input; the remaining items can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def drained(self) -> bool:
        """Whether the buffer is closed and empty."""
        return self._closed and not self._items
