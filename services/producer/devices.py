"""Decides which readings of a producer's devices are due at a given pipeline time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hourglass.cluster.server_clocks import TOLERANCE_MS
from hourglass.model.clock import ClockSpec
from producer.batch import NO_MORE_MS
from producer.entry_format import Source
from producer.simulator import first_tick_ms


@dataclass(frozen=True, slots=True)
class Due:
    """The readings due at one reading of the clock.

    items: readings or ticks, in the type of the source
    skipped: readings skipped because the clock moved forward too far at once
    back_ms: by how much the clock moved back without being set; 0 if it did not
    """

    items: Sequence[Any]
    skipped: int = 0
    back_ms: int = 0


class Devices:
    """Follows the pipeline clock and reads every device once per period.

    When the clock is set or moves back, the devices continue from the new time. When more readings
    are due than `most_readings`, the oldest are skipped.
    """

    def __init__(self, source: Source, *, most_readings: int, until_ms: int | None) -> None:
        self._source = source
        self._most_readings = most_readings
        self._until_ms = until_ms
        self._spec: ClockSpec | None = None
        self._next_ms = 0

    def due(self, spec: ClockSpec, now_ms: int) -> Due:
        """The readings that became due since the last call, up to `now_ms`."""
        back_ms = self._next_ms - self._source.period_ms - now_ms
        is_back = back_ms > TOLERANCE_MS * spec.speed
        is_set = self._spec is None or not spec.continues(self._spec)
        if is_set or is_back:
            self._next_ms = first_tick_ms(now_ms, self._source.period_ms)
        self._spec = spec
        end_ms = now_ms + 1 if self._until_ms is None else min(now_ms + 1, self._until_ms)
        per_tick = self._source.device_count
        ticks = max(0, -(-(end_ms - self._next_ms) // self._source.period_ms))
        skipped_ticks = max(0, ticks - max(1, self._most_readings // per_tick))
        self._next_ms += skipped_ticks * self._source.period_ms
        items = list(self._source.read(self._next_ms, end_ms))
        self._next_ms += (ticks - skipped_ticks) * self._source.period_ms
        return Due(items, skipped_ticks * per_tick, back_ms if is_back and not is_set else 0)

    @property
    def next_ms(self) -> int:
        """The event time of the next reading."""
        return NO_MORE_MS if self.finished else self._next_ms

    @property
    def finished(self) -> bool:
        """Whether every reading before `until_ms` has been returned."""
        return self._until_ms is not None and self._next_ms >= self._until_ms
