"""What the pipeline's steps ought to do, in plain Python: no Redis, no Lua, no ids to compare.

Written from the design and not from the scripts; each method is one atomic step.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from hourglass.model.keys import HOUR_MS, HOURS, Partition
from hourglass.model.readings import Reading
from tests.support.keyspace import KEYS

#: A temperature that no thermometer shows.
IMPLAUSIBLE_F = 999


class Gone(Exception):
    """There is no such group, or it is not the one that delivered."""


class Lost(Enum):
    """What a connection took with it: the script is not run, or its answer does not arrive."""

    REQUEST = auto()
    REPLY = auto()


@dataclass(slots=True)
class Hour:
    """`cut_off` is the number of entries that the stream had when the hour was first found over;
    `empty` means that it had no readings when these were counted."""

    milli_f: list[int] = field(default_factory=list[int])
    devices: set[bytes] = field(default_factory=set[bytes])
    late: int = 0
    late_sum: int = 0
    cut_off: int | None = None
    empty: bool = False
    sealed: bool = False

    @property
    def result(self) -> tuple[int, int, int, int, int]:
        values = self.milli_f or [0]
        return (
            len(self.milli_f), sum(self.milli_f), min(values), max(values), len(self.devices),
        )  # fmt: skip


@dataclass(slots=True)
class Day:
    """One partition and its companions.

    pending: entries delivered and not acknowledged; which consumer has them decides nothing
    acknowledged: entries counted or quarantined since the partition was opened
    incarnation: how often it was opened
    """

    entries: dict[bytes, Reading] = field(default_factory=dict[bytes, Reading])
    hours: list[Hour] = field(default_factory=lambda: [Hour() for _ in range(HOURS)])
    delivered: int = 0
    pending: set[bytes] = field(default_factory=set[bytes])
    quarantined: int = 0
    acknowledged: int = 0
    incarnation: int = 0
    has_group: bool = False
    alive: bool = False

    @property
    def has_records(self) -> bool:
        return self.incarnation > 0 or any(
            hour.cut_off is not None or hour.empty for hour in self.hours
        )

    def ingest(self, entries: Mapping[bytes, Reading]) -> None:
        self.alive = True
        self.entries.update(entries)

    def expire(self) -> None:
        """The stream goes, and its group with it."""
        self.alive = False
        self.destroy_group()

    def destroy_group(self) -> None:
        self.has_group = False
        self.pending = set()

    def open(self) -> str:
        """What is found; a group that was destroyed delivers everything again."""
        if not self.alive:
            return "absent"
        if self.has_group:
            return "open"
        recount = self.incarnation > 0
        for hour in self.hours:
            if not hour.sealed:
                hour.cut_off, hour.empty = None, False
            if recount and hour.sealed:
                # What it was sealed with comes again, and is not late.
                hour.late, hour.late_sum = -len(hour.milli_f), -sum(hour.milli_f)
            elif recount:
                hour.milli_f, hour.devices = [], set()
        if recount:
            self.quarantined = 0
        self.acknowledged = 0
        self.delivered = 0
        self.has_group = True
        self.incarnation += 1
        return "recount" if recount else "opened"

    def read(self, most: int) -> list[bytes]:
        """Raises Gone."""
        if not self.has_group:
            raise Gone
        ids = list(self.entries)[self.delivered :][:most]
        self.delivered += len(ids)
        self.pending.update(ids)
        return ids

    def commit(
        self, incarnation: int, batch: Sequence[bytes], given_up: Collection[bytes], *, whole: bool
    ) -> None:
        """Count the entries that are still pending, and acknowledge them; `whole`: all or nothing.

        Raises Gone.
        """
        if not self.has_group or incarnation != self.incarnation:
            raise Gone
        if whole and not self.pending.issuperset(batch):
            return
        for each in batch:
            if each not in self.pending:
                continue
            self.pending.remove(each)
            self.acknowledged += 1
            reading = self.entries[each]
            if each in given_up or not usable(reading):
                self.quarantined += 1
                continue
            hour = self.hours[hour_of(reading)]
            if hour.sealed:
                hour.late += 1
                hour.late_sum += reading.milli_f
            else:
                hour.milli_f.append(reading.milli_f)
                hour.devices.add(reading.device)

    def seal(self, over: int) -> set[int]:
        """The first `over` hours, each that has readings once what had arrived by its cut-off is
        counted; those that have to wait."""
        if not self.alive and not self.has_records:
            return set()
        waiting: set[int] = set()
        for number, hour in enumerate(self.hours[:over]):
            hour.empty = hour.empty and not hour.milli_f
            if hour.sealed or hour.empty:
                continue
            if self.alive and hour.cut_off is None:
                hour.cut_off = len(self.entries)
            if not self._counted_up_to(hour.cut_off or 0):
                waiting.add(number)
            elif hour.milli_f:
                hour.sealed = True
            elif self.alive:
                hour.cut_off, hour.empty = None, True
        return waiting

    def _counted_up_to(self, cut_off: int) -> bool:
        if not self.alive:
            return True
        arrived = list(self.entries)[:cut_off]
        return (
            self.has_group
            and self.delivered >= cut_off
            and not any(each in self.pending for each in arrived)
        )


def usable(reading: Reading) -> bool:
    return reading.milli_f != IMPLAUSIBLE_F * 1000


def hour_of(reading: Reading) -> int:
    return (reading.ts_ms - KEYS.containing(reading.ts_ms).day_ms) // HOUR_MS


#: A partition, its sealed hours, those that wait, and how many are over.
SealedDay = tuple[Partition, set[int], set[int], int]


@dataclass(slots=True)
class Model:
    """Every partition, and what is published, by the start of the hour."""

    days: dict[Partition, Day]
    published: dict[int, tuple[int, int, int, int, int]] = field(
        default_factory=dict[int, tuple[int, int, int, int, int]]
    )
    too_late: set[int] = field(default_factory=set[int])

    @property
    def published_through_ms(self) -> int:
        return max(self.published, default=-1)

    def sealer_step(
        self, shards: Mapping[Partition, str], now_ms: int
    ) -> Generator[None, Lost | None]:
        """One atomic step each time it is asked for the next: the seals, then what they allow to be
        published, then each hour up to the published-through hour is looked at.

        A step that is sent what was lost goes on as the sealer does: without that shard while it
        seals, and not at all once it publishes.

        shards: the partitions in order, each with the shard that holds it
        """
        seen = self.published_through_ms
        sealed = yield from self._seal(shards, now_ms)
        results = {
            partition.hour_start_ms(hour): self.days[partition].hours[hour].result
            for partition, hours, _, _ in sealed
            for hour in hours
            if partition in self.days and self.days[partition].hours[hour].milli_f
        }
        shown: set[int] = set()
        for start_ms in _in_order(sealed, seen):
            if start_ms in results:
                lost = yield
                if lost is Lost.REQUEST:
                    return
                published = self._publish(start_ms, results[start_ms], seen)
                if lost:
                    return
                if not published:
                    break
                shown.add(start_ms)
                seen = max(seen, start_ms)
        for start_ms in sorted(results):
            if start_ms <= seen and start_ms not in shown:
                lost = yield
                if lost is not Lost.REQUEST:
                    self._publish(start_ms, results[start_ms], seen)
                if lost:
                    return

    def _seal(
        self, shards: Mapping[Partition, str], now_ms: int
    ) -> Generator[None, Lost | None, list[SealedDay]]:
        """What is known of each partition; without an answer, all hours that are over wait."""
        sealed: list[SealedDay] = []
        unreachable: set[str] = set()
        for partition, shard in shards.items():
            over = min(max(0, (now_ms - partition.day_ms) // HOUR_MS), HOURS)
            unknown: SealedDay = (partition, set(), set(range(over)), over)
            if shard in unreachable:
                sealed.append(unknown)
                continue
            lost = yield
            day = self.days.get(partition, Day())
            waiting = set[int]() if lost is Lost.REQUEST else day.seal(over)
            if lost:
                unreachable.add(shard)
                sealed.append(unknown)
            else:
                hours = {number for number, hour in enumerate(day.hours) if hour.sealed}
                sealed.append((partition, hours, waiting, over))
        return sealed

    def _publish(self, start_ms: int, result: tuple[int, int, int, int, int], seen: int) -> bool:
        """False if another process has published since: then nothing is done."""
        if start_ms > self.published_through_ms:
            if self.published_through_ms != seen:
                return False
            self.published[start_ms] = result
        elif start_ms not in self.published:
            self.too_late.add(start_ms)
        return True


def _in_order(sealed: Sequence[SealedDay], after_ms: int) -> Iterator[int]:
    """Sealed hours after `after_ms`, until the first that may still get readings."""
    for partition, hours, waiting, over in sealed:
        if not hours and not waiting:
            continue
        for hour in range(HOURS):
            start_ms = partition.hour_start_ms(hour)
            if start_ms <= after_ms:
                continue
            if hour >= over or hour in waiting:
                return
            if hour in hours:
                yield start_ms
