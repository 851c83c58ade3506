"""Names of keys, and the calendar behind them.

Times are integers: milliseconds since the Unix epoch, UTC. A partition is one UTC day.
A partition's companions carry its whole stream name as hash tag, so they share its slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HOURS = 24

#: Raw readings live this long after the last of them.
RETENTION_MS = 2 * DAY_MS
#: Hour records outlive their day by this much, to be audited and to refill a warehouse.
RECORDS_KEPT_MS = 14 * DAY_MS

GROUP = "aggregators"
AVERAGES_GROUP = "warehouse"

PREFIX = "temps"
AVERAGES = "temps:averages"
FRONTIER = "{temps:averages}:frontier"
PUBLISHED = "{temps:averages}:published"
REVISIONS = "{temps:averages}:revisions"
TOO_LATE = "{temps:averages}:too-late"
PARTITIONS = "temps:partitions"
CLOCK = "temps:clock"

#: Keys that live without TTL because what they hold is bounded.
CAPPED = frozenset({AVERAGES, FRONTIER, PUBLISHED, REVISIONS, TOO_LATE, CLOCK})

#: `temps:averages` keeps five days of hours, and what is remembered of publishing ten.
AVERAGES_KEPT = 120
PUBLISHED_KEPT = 240


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """The stream of one UTC day and its companion keys.

    `day_ms` is the day's first millisecond.
    """

    day_ms: int

    @classmethod
    def containing(cls, ts_ms: int) -> Partition:
        """The partition of the day that `ts_ms` lies in."""
        return cls(ts_ms - ts_ms % DAY_MS)

    @classmethod
    def named(cls, stream: str) -> Partition | None:
        """The partition whose stream is called `stream`; None if that is no partition's name."""
        prefix, _, day = stream.partition(":")
        if prefix != PREFIX or len(day) != 8 or not day.isascii() or not day.isdigit():
            return None
        try:
            start = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=UTC)
        except ValueError:
            return None
        return cls(int(start.timestamp()) * 1000)

    @property
    def stream(self) -> str:
        day = datetime.fromtimestamp(self.day_ms / 1000, UTC)
        return f"{PREFIX}:{day.year:04d}{day:%m%d}"

    @property
    def hours(self) -> str:
        return f"{{{self.stream}}}:hours"

    @property
    def producers(self) -> str:
        return f"{{{self.stream}}}:producers"

    @property
    def quarantine(self) -> str:
        return f"{{{self.stream}}}:quarantine"

    def devices(self, hour: int) -> str:
        """The set of devices seen in `hour` (0 to 23); gone once the hour is sealed."""
        return f"{{{self.stream}}}:devices:{hour:02d}"

    @property
    def companions(self) -> tuple[str, ...]:
        return (
            self.hours,
            self.producers,
            self.quarantine,
            *(self.devices(hour) for hour in range(HOURS)),
        )

    @property
    def end_ms(self) -> int:
        """The first millisecond of the next day."""
        return self.day_ms + DAY_MS

    def hour_start_ms(self, hour: int) -> int:
        return self.day_ms + hour * HOUR_MS


def days_alive(now_ms: int, *, kept_ms: int = RETENTION_MS) -> Iterator[Partition]:
    """The partitions that the calendar alone says can be alive at `now_ms`, oldest first.

    Today's is the last; the first is the oldest day whose last moment is not `kept_ms` ago yet.
    """
    today = Partition.containing(now_ms).day_ms
    day = Partition.containing(now_ms - kept_ms).day_ms
    while day <= today:
        yield Partition(day)
        day += DAY_MS


def iso(ts_ms: int) -> str:
    """`ts_ms` as ISO 8601 in UTC, to the second."""
    return f"{datetime.fromtimestamp(ts_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
