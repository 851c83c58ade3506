"""The protocol of commit, seal and publish, in every interleaving of a small world.

    python -m tests.protocol.sealing [--flaw FLAW] [--large]

One partition and the averages' slot, each on a shard with a replica; two aggregators, a publisher
that may be slow beside one that is not, and a few readings over two hours. The rules:

- An entry is delivered once, and again to each consumer that reclaims it, until it is acknowledged.
  A reading is counted in the step that acknowledges its entry, and only if XACK answers 1.
- A batch is committed only over the connection that delivered it. A failover breaks the connection,
  loses the newest writes, and lets a new entry get the id of a lost one.
- An hour that is due gets a cut-off id, the stream's last id. It is sealed once everything up to
  the cut-off id is delivered and nothing up to it is pending. What is counted afterwards is late.
  An hour without readings is not sealed.
- Hours are published in order, each once, from the published-through hour that the publisher saw.
  That hour stands beside the averages and moves with them, so a failover takes both back together.
- A partition and all that is known of it are on one shard, and fail over together; the averages are
  on another. Replication is asynchronous: a replica is as old as its last copy.

When an hour is due is another model: tests/protocol/watermarks.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple, TypeVar

from tests.protocol.explorer import main

HOURS = (0, 1)

Item = TypeVar("Item")
#: Readings are numbered in the order in which they are produced.
Readings = tuple[int, ...]
Step = tuple[str, "World"]


class Flaw(StrEnum):
    """A rule that is left out."""

    TRUST_OWNERSHIP = "trust-ownership"  # count what one was delivered, whatever XACK answers
    ANY_CONNECTION = "any-connection"  # commit over another connection than the one that delivered
    PUBLISHED_IN_PARTITION = "published-in-partition"  # remember there what is published
    NO_CUT_OFF = "no-cut-off"  # seal without waiting for what lies up to the cut-off id
    UNSEEN_PUBLISHED_THROUGH = "unseen-published-through"  # publish wherever that hour is by now


class Entry(NamedTuple):
    id: int
    reading: int


class Partition(NamedTuple):
    """A stream, its group and its hour records: what one shard keeps, and loses, together.

    The tuples of the last four have an item for each hour.
    """

    stream: tuple[Entry, ...] = ()
    delivered: int = 0  # the group's last delivered id
    pending: tuple[int, ...] = ()  # ids; which consumer has them decides nothing
    late: Readings = ()
    counted: tuple[Readings, Readings] = ((), ())
    cut_off: tuple[int | None, int | None] = (None, None)
    sealed: tuple[Readings | None, Readings | None] = (None, None)
    published: tuple[bool, bool] = (False, False)  # in use with PUBLISHED_IN_PARTITION alone

    @property
    def last_id(self) -> int:
        return self.stream[-1].id if self.stream else 0


class Averages(NamedTuple):
    """The stream of averages and the published-through hour, as how many hours are closed."""

    entries: tuple[tuple[int, Readings], ...] = ()  # hour and what it is the average of
    published_through: int = 0


class Batch(NamedTuple):
    """Entries in flight in an aggregator; `connected` while the connection that brought them is."""

    entries: tuple[Entry, ...]
    connected: bool = True


class View(NamedTuple):
    """What a publisher read, and may act upon much later."""

    hour: int
    readings: Readings
    published_through: int


class World(NamedTuple):
    partition: Partition = Partition()
    partition_replica: Partition = Partition()
    averages: Averages = Averages()
    averages_replica: Averages = Averages()
    in_flight: tuple[Batch | None, ...] = (None, None)
    view: View | None = None
    produced: int = 0
    due: int = 0  # hours
    partition_failovers: int = 0
    averages_failovers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """hours: the hour of each reading
    partition_failovers, averages_failovers: how often each shard may fail over
    """

    hours: tuple[int, ...]
    partition_failovers: int = 0
    averages_failovers: int = 0
    flaw: Flaw | None = None

    @property
    def initial(self) -> World:
        return World()

    def steps(self, world: World) -> Iterator[Step]:
        """Each is one script, one read, or one failure."""
        yield from self._time_and_readings(world)
        for number, batch in enumerate(world.in_flight):
            if batch is None:
                yield from self._deliver(world, number)
            else:
                yield from self._settle(world, number, batch)
        for hour in range(world.due):
            yield from self._seal(world, hour)
        yield from self._publish(world)
        yield from self._fail_over(world)

    def _time_and_readings(self, world: World) -> Iterator[Step]:
        partition = world.partition
        if world.produced < len(self.hours):
            entry = Entry(partition.last_id + 1, world.produced)
            grown = partition._replace(stream=(*partition.stream, entry))
            yield (
                f"reading {entry.reading} of hour {self.hours[entry.reading]} becomes {entry.id}",
                world._replace(partition=grown, produced=world.produced + 1),
            )
        if world.due < len(HOURS):
            yield f"hour {world.due} is due", world._replace(due=world.due + 1)

    def _deliver(self, world: World, number: int) -> Iterator[Step]:
        """To an aggregator without a batch: what is new, one entry or all, or what is pending."""
        partition = world.partition
        new = [entry for entry in partition.stream if entry.id > partition.delivered]
        for count in sorted({1, len(new)}) if new else ():
            batch = tuple(new[:count])
            read = partition._replace(
                delivered=batch[-1].id,
                pending=(*partition.pending, *(entry.id for entry in batch)),
            )
            in_flight = _put(world.in_flight, number, Batch(batch))
            yield (
                f"aggregator {number} reads {_ids(batch)}",
                world._replace(partition=read, in_flight=in_flight),
            )
        if partition.pending:
            batch = tuple(entry for entry in partition.stream if entry.id in partition.pending)
            in_flight = _put(world.in_flight, number, Batch(batch))
            yield f"aggregator {number} reclaims {_ids(batch)}", world._replace(in_flight=in_flight)

    def _settle(self, world: World, number: int, batch: Batch) -> Iterator[Step]:
        ids = _ids(batch.entries)
        dropped = world._replace(in_flight=_put(world.in_flight, number, None))
        if batch.connected or self.flaw is Flaw.ANY_CONNECTION:
            committed = self._committed(world.partition, batch.entries)
            yield f"aggregator {number} commits {ids}", dropped._replace(partition=committed)
            yield (
                f"aggregator {number} commits {ids}, and the reply is lost",
                world._replace(partition=committed),
            )
        yield f"aggregator {number} crashes, or drops {ids}", dropped

    def _committed(self, partition: Partition, batch: Sequence[Entry]) -> Partition:
        pending, late, counted = set(partition.pending), list(partition.late), partition.counted
        for entry in batch:
            if entry.id not in pending and self.flaw is not Flaw.TRUST_OWNERSHIP:
                continue
            pending.discard(entry.id)
            hour = self.hours[entry.reading]
            if partition.sealed[hour] is None:
                counted = _put(counted, hour, tuple(sorted((*counted[hour], entry.reading))))
            else:
                late.append(entry.reading)
        return partition._replace(
            pending=tuple(sorted(pending)), late=tuple(sorted(late)), counted=counted
        )

    def _seal(self, world: World, hour: int) -> Iterator[Step]:
        partition = world.partition
        cut_off = partition.cut_off[hour]
        if partition.sealed[hour] is not None:
            return
        if cut_off is None:
            if partition.stream:
                noted = _put(partition.cut_off, hour, partition.last_id)
                yield (
                    f"hour {hour} gets the cut-off id {partition.last_id}",
                    world._replace(partition=partition._replace(cut_off=noted)),
                )
            return
        settled = self.flaw is Flaw.NO_CUT_OFF or _is_counted_up_to(partition, cut_off)
        if partition.counted[hour] and settled:
            sealed = _put(partition.sealed, hour, partition.counted[hour])
            yield (
                f"hour {hour} is sealed with {_named(partition.counted[hour])}",
                world._replace(partition=partition._replace(sealed=sealed)),
            )

    def _publish(self, world: World) -> Iterator[Step]:
        """By a publisher at once, and by one that reads now and publishes later."""
        if next_hour := self._next_hour(world):
            yield f"hour {next_hour.hour} is published", self._published(world, next_hour)
            if world.view is None and world.averages_failovers < self.averages_failovers:
                yield (
                    f"a slow publisher reads that hour {next_hour.hour} is next",
                    world._replace(view=next_hour),
                )
        if view := world.view:
            kept = world._replace(view=None)
            seen = view.published_through == world.averages.published_through
            if seen or self.flaw is Flaw.UNSEEN_PUBLISHED_THROUGH:
                kept = self._published(kept, view)
            yield f"the slow publisher publishes hour {view.hour}", kept

    def _next_hour(self, world: World) -> View | None:
        """The first hour with readings that is not published, if it is sealed."""
        partition, through = world.partition, world.averages.published_through
        for hour in HOURS[through:]:
            if self.flaw is Flaw.PUBLISHED_IN_PARTITION and partition.published[hour]:
                continue
            if readings := partition.sealed[hour]:
                return View(hour, readings, through)
            if partition.counted[hour]:
                return None
        return None

    def _published(self, world: World, view: View) -> World:
        entry = (view.hour, view.readings)
        averages = Averages((*world.averages.entries, entry), view.hour + 1)
        if self.flaw is Flaw.PUBLISHED_IN_PARTITION:
            published = _put(world.partition.published, view.hour, True)
            world = world._replace(partition=world.partition._replace(published=published))
        return world._replace(averages=averages)

    def _fail_over(self, world: World) -> Iterator[Step]:
        """A replica that can no longer become a master is of no interest: it is left empty."""
        partition, averages = world.partition_replica, world.averages_replica
        if world.partition_failovers < self.partition_failovers and partition != world.partition:
            yield (
                "the partition is replicated",
                world._replace(partition_replica=world.partition),
            )
            failovers = world.partition_failovers + 1
            last = failovers == self.partition_failovers
            yield (
                "THE PARTITION'S SHARD FAILS OVER",
                world._replace(
                    partition=partition,
                    partition_replica=Partition() if last else partition,
                    in_flight=tuple(
                        batch and batch._replace(connected=False) for batch in world.in_flight
                    ),
                    partition_failovers=failovers,
                ),
            )
        if world.averages_failovers < self.averages_failovers and averages != world.averages:
            yield "the averages are replicated", world._replace(averages_replica=world.averages)
            failovers = world.averages_failovers + 1
            last = failovers == self.averages_failovers
            yield (
                "THE AVERAGES' SHARD FAILS OVER",
                world._replace(
                    averages=averages,
                    averages_replica=Averages() if last else averages,
                    averages_failovers=failovers,
                ),
            )

    def violation(self, world: World) -> str | None:
        return (
            _wrongly_counted(world.partition)
            or self._sealed_too_soon(world.partition)
            or self._wrongly_published(world)
            or self._stuck(world)
        )

    def _sealed_too_soon(self, partition: Partition) -> str | None:
        for hour in HOURS:
            cut_off, sealed = partition.cut_off[hour], partition.sealed[hour]
            if cut_off is None or sealed is None:
                continue
            for id_, reading in partition.stream:
                if id_ <= cut_off and self.hours[reading] == hour and reading not in sealed:
                    return f"hour {hour} is sealed without reading {reading}"
        return None

    def _wrongly_published(self, world: World) -> str | None:
        """Without a failover of the partition: what that loses, published hours may still have."""
        published = [hour for hour, _ in world.averages.entries]
        if published != sorted(set(published)):
            return f"hours are published twice or out of order: {published}"
        if world.partition_failovers:
            return None
        partition = world.partition
        for hour, readings in world.averages.entries:
            if readings != partition.sealed[hour]:
                return f"hour {hour} is published with other readings than it is sealed with"
        for hour in HOURS[: world.averages.published_through]:
            if partition.sealed[hour] and self._was_passed_over(world, hour, published):
                return f"hour {hour} is sealed and was passed over: it can never be published"
        return None

    def _was_passed_over(self, world: World, hour: int, published: Sequence[int]) -> bool:
        """Not so an hour whose first reading came after a later hour's cut-off id."""
        partition = world.partition
        later = [each for each in published if each > hour]
        return hour not in published and any(
            entry.id <= (partition.cut_off[each] or 0)
            for each in later
            for entry in partition.stream
            if self.hours[entry.reading] == hour
        )

    def _stuck(self, world: World) -> str | None:
        """When all else is done, every hour that was counted is published, or a later one was."""
        partition, through = world.partition, world.averages.published_through
        unsettled = partition.pending or partition.delivered < partition.last_id
        if unsettled or any(world.in_flight) or world.view or world.due < len(HOURS):
            return None
        if world.produced < len(self.hours) or self._next_hour(world):
            return None
        for hour in HOURS:
            if partition.sealed[hour] is None:
                if any(self._seal(world, hour)):
                    return None
                if partition.counted[hour]:
                    return f"hour {hour} has readings and can never be sealed"
            elif hour >= through:
                return f"hour {hour} is sealed and can never be published"
        return None


def _wrongly_counted(partition: Partition) -> str | None:
    counted = sorted(reading for each in (*partition.counted, partition.late) for reading in each)
    for one, other in pairwise(counted):
        if one == other:
            return f"reading {one} is counted twice"
    stored = {entry.reading for entry in partition.stream}
    for reading in counted:
        if reading not in stored:
            return f"reading {reading} is counted and is not in the stream"
    for entry in partition.stream:
        acknowledged = entry.id <= partition.delivered and entry.id not in partition.pending
        if acknowledged and entry.reading not in counted:
            return f"reading {entry.reading} is acknowledged and not counted"
    return None


def _is_counted_up_to(partition: Partition, cut_off: int) -> bool:
    return partition.delivered >= cut_off and not any(each <= cut_off for each in partition.pending)


def _put(items: tuple[Item, ...], index: int, item: Item) -> tuple[Item, ...]:
    return (*items[:index], item, *items[index + 1 :])


def _ids(entries: Sequence[Entry]) -> str:
    return "entry " + ", ".join(str(entry.id) for entry in entries)


def _named(readings: Readings) -> str:
    return "reading " + ", ".join(map(str, readings))


#: With one reading for each hour, and a failover of one shard.
PARTITION_FAILS_OVER = Sealing(hours=(0, 1), partition_failovers=1)
AVERAGES_FAIL_OVER = Sealing(hours=(0, 1), averages_failovers=1)
#: Without a failover.
TWO_READINGS_OF_AN_HOUR = Sealing(hours=(0, 0))
LARGE = Sealing(hours=(0, 0, 1), partition_failovers=1, averages_failovers=1)

#: The small world that shows a flaw.
WORLDS = {
    Flaw.TRUST_OWNERSHIP: TWO_READINGS_OF_AN_HOUR,
    Flaw.ANY_CONNECTION: PARTITION_FAILS_OVER,
    Flaw.PUBLISHED_IN_PARTITION: AVERAGES_FAIL_OVER,
    Flaw.NO_CUT_OFF: TWO_READINGS_OF_AN_HOUR,
    Flaw.UNSEEN_PUBLISHED_THROUGH: AVERAGES_FAIL_OVER,
}


def _chosen(flaw: str | None, large: bool) -> Sealing:  # noqa: FBT001
    if flaw is None:
        return LARGE if large else PARTITION_FAILS_OVER
    chosen = Flaw(flaw)
    return replace(LARGE if large else WORLDS[chosen], flaw=chosen)


if __name__ == "__main__":
    sys.exit(main(__doc__, Flaw, _chosen))
