"""What is known of the pipeline at one moment: all that the page is made from. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias

from averages_consumer.table import HourRow
from hourglass.averages import HourlyAverage, HourRecord, joined_hours
from hourglass.clock import Instant
from hourglass.keys import HOUR_MS
from hourglass.overview import Overview
from hourglass.server_settings import Finding
from hourglass.strays import Reason, Strays

#: Redis is asked every second, the warehouse every other one; longer than this without an answer,
#: and what is shown is no longer how it is.
REDIS_STALE_MS = 5_000
WAREHOUSE_STALE_MS = 10_000

#: Redis is looked at in two ways, each of which may find what cannot be read.
Look: TypeAlias = Literal["averages", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one look at Redis found.

    quarantined: readings in quarantine, by the name of their partition's stream
    revised: hours that were sealed again with another result after they were published
    too_late: hours that got their first reading after a later hour was published
    strays: streams that nobody reads, as the aggregators recorded them
    """

    overview: Overview
    quarantined: Mapping[str, int]
    revised: int = 0
    too_late: AbstractSet[int] = frozenset()
    strays: Mapping[Reason, Strays] = field(default_factory=dict[Reason, Strays])

    def records(self) -> Iterator[HourRecord]:
        """The hours of the days that live, those of a day's lanes as one, in order."""
        for _, members in groupby(self.overview.partitions, lambda each: each.partition.day):
            yield from joined_hours([each.hours for each in members])


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Times are real time in ms, hours their start in ms.

    instant: now, by the clock as it was last read
    begun_ms: since when Redis has been looked at
    averages: what stands on their stream, in order
    rows: what the warehouse has of the last days, in order
    averages_at_ms, rows_at_ms: when Redis and the warehouse last answered
    due_since: since when each hour has been due that has readings and is not published
    not_ready: what keeps this process from doing its job
    unreadable: why what is in Redis cannot be read though it answers, by which look at it
    unreadable_at_ms: when that was last so
    missing_hours: published hours that the warehouse lacks and nothing can restore
    late_and_loaded: of the hours too late to be published, those that the warehouse has
    server_findings: the settings of Redis that break a promise
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
        """When all that is known of Redis was so; before anything is, when it was first asked."""
        surveyed_ms = self.survey.overview.instant.real_ms if self.survey else self.begun_ms
        return min(self.averages_at_ms, surveyed_ms)

    @property
    def redis_answers(self) -> bool:
        answered_ms = max(self.redis_at_ms, self.unreadable_at_ms)
        return self.instant.real_ms - answered_ms <= REDIS_STALE_MS

    @property
    def redis_readable(self) -> bool | None:
        """Whether what Redis says can be read; None before the first look at all of it."""
        if self.unreadable:
            return False
        return None if self.survey is None else True

    @property
    def warehouse_answers(self) -> bool:
        return self.instant.real_ms - self.rows_at_ms <= WAREHOUSE_STALE_MS


def hours_due(overview: Overview) -> list[int]:
    """The hours that are over, have readings and are not published."""
    published_ms = -1 if overview.frontier_ms is None else overview.frontier_ms
    return [
        record.start_ms
        for partition in overview.partitions
        for record in partition.hours
        if record.count
        and record.start_ms > published_ms
        and overview.instant.is_due(record.start_ms + HOUR_MS, 0)
    ]


def still_due(before: Mapping[int, int], overview: Overview) -> Mapping[int, int]:
    """Since when each hour has been due: those of `before` that are still, and those that are
    now."""
    now_ms = overview.instant.real_ms
    return {hour: before.get(hour, now_ms) for hour in hours_due(overview)}
