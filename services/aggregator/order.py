"""Which sealed hours may be published now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hourglass.averages import HourRecord, joined_hours
from hourglass.keys import HOURS, Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedHours:
    """What a partition has sealed; or a day, whose plain partition stands for it.

    records: one per sealed hour, hours without readings included
    waiting: hours that are due and cannot be sealed yet
    begun: there have been readings, or hours were sealed without any
    known: it was asked, all of it; else the hours that are due wait, whatever they may hold
    lanes: those of the day, as its plain partition tells
    """

    partition: Partition
    records: tuple[HourRecord, ...]
    waiting: int = 0
    begun: bool = True
    known: bool = True
    lanes: tuple[Partition, ...] = ()

    @property
    def complete(self) -> bool:
        return len(self.records) == HOURS


def joined(members: Sequence[SealedHours]) -> SealedHours:
    """What a day has sealed: the hours that each of its partitions has, added up.

    As long as a lane of the day is not among `members`, every hour may lack readings, and none
    counts as sealed.
    """
    day = members[0].partition.day
    whole = {each.partition for each in members}.issuperset(
        {day, *(lane for each in members for lane in each.lanes)}
    )
    hours = joined_hours([each.records for each in members]) if whole else []
    records = tuple(record for record in hours if record.sealed)
    due = max(len(each.records) + each.waiting for each in members)
    return SealedHours(
        partition=day,
        records=records,
        waiting=due - len(records),
        known=all(each.known for each in members),
    )


def publishable(sealed: Iterable[SealedHours], *, after_ms: int) -> list[HourRecord]:
    """The hours with readings that start after `after_ms`, in order, up to the first open hour.

    An hour that is not sealed may still get readings, so nothing later may overtake it; one at or
    before `after_ms` has been overtaken already, and whatever it still gets is late as a whole. A
    partition that has sealed nothing and waits for nothing holds nothing that is due.
    """
    ready: list[HourRecord] = []
    for each in sorted(sealed, key=lambda each: each.partition):
        by_hour = {record.start_ms: record for record in each.records}
        if not by_hour and not each.waiting:
            continue
        for start_ms in map(each.partition.hour_start_ms, range(HOURS)):
            if start_ms <= after_ms:
                continue
            record = by_hour.get(start_ms)
            if record is None:
                return ready
            if record.count:
                ready.append(record)
    return ready


def unpublished(sealed: Iterable[SealedHours], *, after_ms: int) -> int:
    """How many of these days' hours are due and start after `after_ms`: those that wait, and those
    with readings that are sealed."""
    found = 0
    for each in sealed:
        by_hour = {record.start_ms: record for record in each.records}
        starts = map(each.partition.hour_start_ms, range(HOURS))
        open_hours = [start_ms for start_ms in starts if start_ms not in by_hour]
        found += sum(start_ms > after_ms for start_ms in open_hours[: each.waiting])
        found += sum(r.start_ms > after_ms for r in each.records if r.count)
    return found
