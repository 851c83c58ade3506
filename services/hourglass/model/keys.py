"""Names of keys, and the calendar behind them.

Times are integers: milliseconds since the Unix epoch, UTC. A partition is one UTC day, or one lane
of it. A partition's companions carry its whole stream name as hash tag, so they share its slot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from hourglass.errors import ConfigurationError

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HOURS = 24

#: Lanes of a day, and one more than the greatest number one may have: those that land on other
#: shards than the lanes before them are not the next ones.
MOST_LANES = 128
LANE_NUMBERS = 512

#: Lanes that no producer decided on and that are worked on all the same, of all days together. A
#: foreign writer may use some, and a failover may lose what was decided; each costs an aggregator a
#: thread and a connection, so a writer that invents names gets no more than these.
MOST_UNDECIDED_LANES = 64

#: Raw readings live this long after the last of them.
RETENTION_MS = 2 * DAY_MS

#: Hour records outlive their day by this much, to be audited and to refill a warehouse.
RECORDS_KEPT_MS = 14 * DAY_MS
GROUP = "aggregators"
AVERAGES_GROUP = "warehouse"
PIPELINE = "temps"

#: Of pipelines and processes: a safe part of a key, of a hash tag, of a pattern and of a log line.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STREAM = re.compile(
    rf"(?P<pipeline>{_NAME.pattern}):(?P<day>[0-9]{{8}})(:(?P<lane>0|[1-9][0-9]{{0,3}}))?"
)
_COMPANION = re.compile(
    r"\{(?P<stream>[^{}]+)\}:(hours|producers|watermarks|identities|lanes|quarantine|devices:[0-9]{2})"
)

#: The averages' stream keeps five days of hours, and the results of published hours ten.
AVERAGES_KEPT = 120
PUBLISHED_KEPT = 240


def is_name(text: str) -> bool:
    """Whether a pipeline or a process may be called so."""
    return _NAME.fullmatch(text) is not None


def as_name(text: str) -> str:
    """The nearest text that may be a name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:64] or "-"


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys of one pipeline: each begins with the pipeline's name, in a hash tag or not.

    Raises ConfigurationError for a name that would be no safe beginning of a key, of a hash tag or
    of a pattern that an ACL or SCAN may have.
    """

    pipeline: str = PIPELINE

    def __post_init__(self) -> None:
        if not is_name(self.pipeline):
            raise ConfigurationError(
                f"{self.pipeline!r} cannot be a pipeline's name: give 1 to 64 letters, digits, "
                '"-", "_" or "." in HOURGLASS_PIPELINE'
            )

    def partition(self, day_ms: int, lane: int | None = None) -> Partition:
        """The partition of the day that begins at `day_ms`, or of a lane of it."""
        return Partition(self, day_ms, lane)

    def undivided(self, day_ms: int) -> tuple[Partition, ...]:
        """The partitions of a day that has no lanes."""
        return (self.partition(day_ms),)

    def containing(self, ts_ms: int) -> Partition:
        """The plain partition of the day that `ts_ms` lies in."""
        return Partition(self, ts_ms - ts_ms % DAY_MS)

    def named(self, stream: str) -> Partition | None:
        """The partition whose stream is called `stream`; None if that is no partition's name in
        this pipeline."""
        name = _STREAM.fullmatch(stream)
        if name is None or name["pipeline"] != self.pipeline:
            return None
        if name["lane"] and int(name["lane"]) >= LANE_NUMBERS:
            return None
        day, lane = name["day"], name["lane"]
        try:
            start = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=UTC)
        except ValueError:
            return None
        return Partition(self, int(start.timestamp()) * 1000, int(lane) if lane else None)

    def days_alive(self, now_ms: int, *, kept_ms: int = RETENTION_MS) -> Iterator[Partition]:
        """The days that the calendar alone says can be alive at `now_ms`, oldest first.

        Today's is the last; the first is the oldest day whose last moment is not `kept_ms` ago yet.
        """
        today = self.containing(now_ms).day_ms
        day = self.containing(now_ms - kept_ms).day_ms
        while day <= today:
            yield Partition(self, day)
            day += DAY_MS

    @property
    def averages(self) -> str:
        """The stream of published averages."""
        return f"{self.pipeline}:averages"

    @property
    def published_through(self) -> str:
        """The start of the last published hour."""
        return f"{{{self.averages}}}:published-through"

    @property
    def published(self) -> str:
        return f"{{{self.averages}}}:published"

    @property
    def revisions(self) -> str:
        return f"{{{self.averages}}}:revisions"

    @property
    def too_late(self) -> str:
        return f"{{{self.averages}}}:too-late"

    @property
    def strays(self) -> str:
        """The stray streams that the aggregators found; has a TTL."""
        return f"{{{self.averages}}}:strays"

    @property
    def partitions(self) -> str:
        """The index of partitions."""
        return f"{self.pipeline}:partitions"

    @property
    def clock(self) -> str:
        return f"{self.pipeline}:clock"

    @property
    def capped(self) -> frozenset[str]:
        """Keys that live without TTL because what they hold is bounded."""
        return frozenset(
            {
                self.averages,
                self.published_through,
                self.published,
                self.revisions,
                self.too_late,
                self.clock,
            }
        )

    @property
    def patterns(self) -> tuple[str, str]:
        """What SCAN takes to find every key of the pipeline, and whatever else begins so."""
        return f"{self.pipeline}:*", f"{{{self.pipeline}:*"

    def owns(self, key: str) -> bool:
        """Whether the pipeline makes a key of that name."""
        if key in self.capped or key in (self.partitions, self.strays):
            return True
        companion = _COMPANION.fullmatch(key)
        return self.named(companion["stream"] if companion else key) is not None


@dataclass(frozen=True, slots=True)
class Partition:
    """The stream of one UTC day, or of one lane of it, and its companion keys.

    day_ms: the day's first millisecond
    lane: None is the day's plain stream, which every day may have
    """

    keyspace: Keyspace
    day_ms: int
    lane: int | None = None

    def __lt__(self, other: Partition) -> bool:
        """By day; of a day, the plain one comes first."""
        return self._place < other._place

    @property
    def _place(self) -> tuple[int, int]:
        return self.day_ms, -1 if self.lane is None else self.lane

    @property
    def day(self) -> Partition:
        """The day's plain partition."""
        return self if self.lane is None else Partition(self.keyspace, self.day_ms)

    @property
    def numbered_lanes(self) -> Iterator[Partition]:
        """Every lane that the day may have, in order."""
        return (Partition(self.keyspace, self.day_ms, number) for number in range(LANE_NUMBERS))

    @property
    def stream(self) -> str:
        day = datetime.fromtimestamp(self.day_ms / 1000, UTC)
        lane = "" if self.lane is None else f":{self.lane}"
        return f"{self.keyspace.pipeline}:{day.year:04d}{day:%m%d}{lane}"

    @property
    def hours(self) -> str:
        return f"{{{self.stream}}}:hours"

    @property
    def producers(self) -> str:
        return f"{{{self.stream}}}:producers"

    @property
    def watermarks(self) -> str:
        """By producer, in ms since the partition's start: every earlier reading has been taken."""
        return f"{{{self.stream}}}:watermarks"

    @property
    def identities(self) -> str:
        """Which readings have been taken, of producers whose sources repeat readings."""
        return f"{{{self.stream}}}:identities"

    @property
    def lanes(self) -> str:
        """Of a plain partition: the numbers of the lanes that producers share the day out to."""
        return f"{{{self.stream}}}:lanes"

    @property
    def quarantine(self) -> str:
        return f"{{{self.stream}}}:quarantine"

    def devices(self, hour: int) -> str:
        """The devices seen in `hour` (0 to 23); once it is sealed they are kept until the next one
        is, or is over, to find devices that have fallen silent since."""
        return f"{{{self.stream}}}:devices:{hour:02d}"

    @property
    def companions(self) -> tuple[str, ...]:
        return (
            self.hours,
            self.producers,
            self.watermarks,
            self.identities,
            self.lanes,
            self.quarantine,
            *(self.devices(hour) for hour in range(HOURS)),
        )

    @property
    def end_ms(self) -> int:
        """The first millisecond of the next day."""
        return self.day_ms + DAY_MS

    def hour_start_ms(self, hour: int) -> int:
        return self.day_ms + hour * HOUR_MS


#: Nothing can follow an entry with this id, and no exclusive range begins with it.
GREATEST_ID = b"18446744073709551615-18446744073709551615"


def order_of(entry_id: bytes) -> tuple[int, int]:
    """What a stream's entries are in the order of: the id's milliseconds and sequence number."""
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence)


def iso(ts_ms: int) -> str:
    """`ts_ms` as ISO 8601 in UTC, to the second."""
    return f"{datetime.fromtimestamp(ts_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse_time(text: str, *, option: str) -> int:
    """Parse an ISO 8601 time to milliseconds since the epoch; UTC if it has no offset.

    Raises ConfigurationError, with the name of `option`, also for a time before the epoch.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} is {text!r}: give a time such as 2025-01-11T00:00:00Z"
        ) from None
    at_ms = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if at_ms < 0:
        raise ConfigurationError(f"{option} is {text!r}: give a time of the years 1970 to 9999")
    return at_ms
