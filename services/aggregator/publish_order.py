"""Which sealed hours may be published now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hourglass.model.averages import HourRecord, joined_hours
from hourglass.model.keys import HOUR_MS, HOURS, Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedHours:
    """What a partition has sealed; or a day, whose plain partition stands for it. Hours are numbers
    from 0 to 23.

    records: one per sealed hour
    over: so many hours are over, from the first
    waiting: those of them that are not sealed and may still get readings
    known: it was asked, all of it; else the hours that are over wait, whatever they may hold
    lanes: those of the day, as its plain partition tells
    """

    partition: Partition
    records: tuple[HourRecord, ...]
    over: int
    waiting: frozenset[int] = frozenset()
    known: bool = True
    lanes: tuple[Partition, ...] = ()

    @property
    def sealed(self) -> frozenset[int]:
        return frozenset(self._hour(record) for record in self.records)

    @property
    def sealed_with_readings(self) -> frozenset[int]:
        return frozenset(self._hour(record) for record in self.records if record.count)

    @property
    def due(self) -> int:
        """Hours that are over, of a day that has or may have readings."""
        return self.over if self.records or self.waiting else 0

    def _hour(self, record: HourRecord) -> int:
        return (record.start_ms - self.partition.day_ms) // HOUR_MS


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
    over = max(each.over for each in members)
    sealed = SealedHours(
        partition=day,
        records=tuple(record for record in hours if record.sealed),
        over=over,
        known=all(each.known for each in members),
    )
    if not whole:
        return replace(sealed, waiting=frozenset(range(over)))
    pending = frozenset[int]().union(
        *(each.waiting | each.sealed_with_readings for each in members)
    )
    return replace(sealed, waiting=pending - sealed.sealed)


def publishable(sealed: Iterable[SealedHours], *, after_ms: int) -> list[HourRecord]:
    """The hours with readings that start after `after_ms`, in order, up to the first open hour.

    An hour that waits may still get readings, so nothing later may overtake it; one that neither
    waits nor is sealed has none, and is passed over; one at or before `after_ms` has been overtaken
    already, and whatever it still gets is late as a whole. A day that has sealed nothing and waits
    for nothing holds nothing back.
    """
    ready: list[HourRecord] = []
    for each in sorted(sealed, key=lambda each: each.partition):
        by_hour = {record.start_ms: record for record in each.records}
        if not by_hour and not each.waiting:
            continue
        for hour in range(HOURS):
            start_ms = each.partition.hour_start_ms(hour)
            if start_ms <= after_ms:
                continue
            if hour >= each.over or hour in each.waiting:
                return ready
            record = by_hour.get(start_ms)
            if record and record.count:
                ready.append(record)
    return ready


def unpublished(sealed: Iterable[SealedHours], *, after_ms: int) -> int:
    """How many of these days' hours are over and start after `after_ms`: those that wait, and those
    with readings that are sealed."""
    return sum(
        each.partition.hour_start_ms(hour) > after_ms
        for each in sealed
        for hour in each.waiting | each.sealed_with_readings
    )
