"""The collected state of the pipeline at one moment, the input of the page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias

from averages_consumer.table import HourRow
from hourglass.model.averages import HourlyAverage, HourRecord, joined_hours
from hourglass.model.clock import Instant
from hourglass.model.keys import HOUR_MS
from hourglass.model.strays import Reason, Strays
from hourglass.monitoring.pipeline_status import PipelineStatus
from hourglass.monitoring.server_settings import Finding

#: Age from which data is shown as stale. Redis is polled every second, the warehouse every two.
REDIS_STALE_MS = 5_000
WAREHOUSE_STALE_MS = 10_000

#: The two polls of Redis, each of which may find corrupt data.
Look: TypeAlias = Literal["averages", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The result of one poll of Redis.

    quarantined: readings in quarantine, by the name of their partition's stream
    revised: hours sealed again with another result after they were published
    too_late: hours that got their first reading after a later hour was published
    strays: stray streams, as the aggregators recorded them
    """

    overview: PipelineStatus
    quarantined: Mapping[str, int]
    revised: int = 0
    too_late: AbstractSet[int] = frozenset()
    strays: Mapping[Reason, Strays] = field(default_factory=dict[Reason, Strays])

    def records(self) -> Iterator[HourRecord]:
        """The hours of the live days, with the lanes of a day joined, in order."""
        for _, members in groupby(self.overview.partitions, lambda each: each.partition.day):
            yield from joined_hours([each.hours for each in members])


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state at one moment. Times are real time in ms; an hour is its start in ms.

    instant: the current time, by the last reading of the clock
    begun_ms: time of the first poll of Redis
    averages: the averages on the stream, in order
    rows: the warehouse's rows of the last days, in order
    averages_at_ms, rows_at_ms: time of the last answer of Redis and of the warehouse
    due_since: for each due hour with readings that is not published, the time it became due
    not_ready: reasons why this process is not ready
    unreadable: error of each poll that Redis answered with corrupt data
    unreadable_at_ms: time of the last such answer
    missing_hours: published hours that the warehouse lacks and nothing can restore
    late_and_loaded: hours too late to be published that the warehouse has
    server_findings: settings of Redis that endanger data
    """

    instant: Instant
    begun_ms: int = 0
    averages: Sequence[HourlyAverage] = ()
    averages_at_ms: int = 0
    survey: Survey | None = None
    rows: Sequence[HourRow] = ()
    rows_at_ms: int = 0
    due_since: Mapping[int, int] = field(default_factory=dict[int, int])
    not_ready: Sequence[str] = ()
    unreadable: Mapping[Look, str] = field(default_factory=dict[Look, str])
    unreadable_at_ms: int = 0
    missing_hours: int = 0
    late_and_loaded: AbstractSet[int] = frozenset()
    server_findings: Sequence[Finding] = ()

    @property
    def redis_at_ms(self) -> int:
        """The age of the oldest data from Redis; the time of the first poll if there is none."""
        surveyed_ms = self.survey.overview.instant.real_ms if self.survey else self.begun_ms
        return min(self.averages_at_ms, surveyed_ms)

    @property
    def redis_answers(self) -> bool:
        answered_ms = max(self.redis_at_ms, self.unreadable_at_ms)
        return self.instant.real_ms - answered_ms <= REDIS_STALE_MS

    @property
    def redis_readable(self) -> bool | None:
        """Whether the data in Redis can be read; None before the first complete poll."""
        if self.unreadable:
            return False
        return None if self.survey is None else True

    @property
    def warehouse_answers(self) -> bool:
        return self.instant.real_ms - self.rows_at_ms <= WAREHOUSE_STALE_MS


def hours_due(overview: PipelineStatus) -> list[int]:
    """The hours that are over and have readings, but are not published."""
    published_ms = -1 if overview.frontier_ms is None else overview.frontier_ms
    return [
        record.start_ms
        for partition in overview.partitions
        for record in partition.hours
        if record.count
        and record.start_ms > published_ms
        and overview.instant.is_due(record.start_ms + HOUR_MS, 0)
    ]


def still_due(before: Mapping[int, int], overview: PipelineStatus) -> Mapping[int, int]:
    """The time at which each due hour became due: as in `before`, or now for a new one. Hours that
    are no longer due are left out."""
    now_ms = overview.instant.real_ms
    return {hour: before.get(hour, now_ms) for hour in hours_due(overview)}
