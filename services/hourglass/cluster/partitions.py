"""Which partitions there are: by the calendar, by the index, and by what a day says itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple, TypeVar

from hourglass.cluster.client import Cluster
from hourglass.cluster.scripts import Script
from hourglass.errors import CorruptKey, HourglassError, Unforeseen, Unreachable
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.devices import encode, shares, spread, written_to
from hourglass.model.keys import (
    MOST_UNDECIDED_LANES,
    RECORDS_KEPT_MS,
    RETENTION_MS,
    Partition,
)

log = logging.getLogger(__name__)
_DIVIDE = Script.load("hourglass", "divide")
_REGISTER = Script.load("hourglass", "register")


def decide(
    cluster: Cluster,
    day: Partition,
    proposed: Iterable[Partition],
    instant: Instant,
    *,
    used: Iterable[Partition] = (),
) -> tuple[Partition, ...]:
    """The partitions that `day` is shared out to: `proposed`, if no process decided before.

    used: lanes that the caller knows to have been written to
    """
    expires = instant.expiry(day.end_ms + RECORDS_KEPT_MS)
    decided = cluster.run(
        _DIVIDE, [day.lanes, day.hours], [encode(proposed), encode(used), expires]
    )
    return shares(day, decided)


def enter(cluster: Cluster, partitions: Collection[Partition], instant: Instant) -> None:
    """Enter partitions of one day into the index, before their first reading is written."""
    expires = max(instant.deadline(each.end_ms + RETENTION_MS) for each in partitions)
    names = [each.stream for each in partitions]
    cluster.run(_REGISTER, [cluster.keyspace.partitions], [expires, *names])


def candidates(cluster: Cluster, instant: Instant) -> list[Partition]:
    """Every partition that may live, in order: the index's, and the plain ones of their days and
    of the calendar's, because a foreign writer enters nothing into an index. Of lanes that no
    producer decided on, the first MOST_UNDECIDED_LANES."""
    keyspace = cluster.keyspace
    names = cluster.call("ZRANGE", keyspace.partitions, 0, -1)
    parsed = (keyspace.named(name.decode(errors="replace")) for name in names)
    indexed = {each for each in parsed if each is not None}
    days = keyspace.days_alive(instant.now_ms)
    lanes = [each for each in indexed if each.lane is not None]
    if len(lanes) > MOST_UNDECIDED_LANES:
        indexed.difference_update(_undecided(cluster, lanes)[MOST_UNDECIDED_LANES:])
    return sorted({*days, *indexed, *(each.day for each in indexed)})


def recorded(cluster: Cluster, instant: Instant, *, kept_ms: int = RETENTION_MS) -> list[Partition]:
    """The candidates, and the partitions of the days of the last `kept_ms` as those themselves
    say, in order: a day keeps its lanes when the index has lost them, or dropped them in time."""
    days = cluster.keyspace.days_alive(instant.now_ms, kept_ms=kept_ms)
    found = {*candidates(cluster, instant), *days}
    return sorted({*found, *lanes_of(cluster, {each.day for each in found})})


def lanes_of(cluster: Cluster, days: Collection[Partition]) -> list[Partition]:
    """The lanes of `days`, as those themselves say."""
    return [lane for day, text in _texts(cluster, days) for lane in written_to(day, text)]


def _texts(cluster: Cluster, days: Collection[Partition]) -> list[tuple[Partition, bytes]]:
    """What each day says of its lanes; nothing of a key of another type: the aggregators say so."""
    texts = cluster.pipeline([("GET", day.lanes) for day in days])
    return [(day, text) for day, text in zip(days, texts, strict=True) if isinstance(text, bytes)]


def _undecided(cluster: Cluster, lanes: Iterable[Partition]) -> list[Partition]:
    """Those of `lanes` that no producer decided on, in order."""
    lanes = set(lanes)
    decided = {
        lane
        for day, text in _texts(cluster, {each.day for each in lanes})
        for lane in shares(day, text)
    }
    return sorted(lanes - decided)


class Unlisted(NamedTuple):
    """Lanes that live and that the index does not have.

    found: those to enter into it
    left_out: those beyond MOST_UNDECIDED_LANES, which are not worked on
    """

    found: Sequence[Partition]
    left_out: Sequence[Partition]


def unlisted(cluster: Cluster, instant: Instant) -> Unlisted:
    """Found by trying every name that the calendar's days may have. For once a minute."""
    known = set(candidates(cluster, instant))
    lanes = [
        lane
        for day in cluster.keyspace.days_alive(instant.now_ms)
        for lane in day.numbered_lanes
        if lane not in known
    ]
    exist = cluster.pipeline([("EXISTS", lane.stream) for lane in lanes])
    living = [lane for lane, exists in zip(lanes, exist, strict=True) if exists]
    if not living:
        return Unlisted((), ())
    listed = [each for each in known if each.lane is not None]
    room = max(0, MOST_UNDECIDED_LANES - len(_undecided(cluster, listed)))
    left_out = _undecided(cluster, living)[room:]
    return Unlisted([lane for lane in living if lane not in set(left_out)], left_out)


def left_out_line(lanes: Sequence[Partition]) -> str:
    """Of lanes that are not worked on."""
    return (
        f"{len(lanes):,} lanes are not read, the first is {lanes[0].stream}: no producer decided "
        f"on them, and only {MOST_UNDECIDED_LANES} such lanes are read; delete them, or have the "
        "writer use fewer"
    )


class Days:
    """What one process knows of the days it writes to; safe to share between threads."""

    def __init__(self, cluster: Cluster, clock: PipelineClock, *, lanes: int = 1) -> None:
        """`lanes`: how many a day gets that this process is the first to write to."""
        self._cluster = cluster
        self._clock = clock
        self._lanes = lanes
        self._known: dict[Partition, tuple[Partition, ...]] = {}
        self._lock = Lock()

    def partitions(self, day: Partition) -> tuple[Partition, ...]:
        """The partitions that producers share `day` out to. Raises Unreachable, but never again
        once it has returned them."""
        known = self._known.get(day)
        if known is None:
            with self._lock:
                known = self._known.get(day) or self._begin(day, self._clock.current())
        return known

    def shares(self, day_ms: int) -> tuple[Partition, ...]:
        """The same for the day that begins at `day_ms`."""
        return self.partitions(self.beginning_at(day_ms))

    def beginning_at(self, day_ms: int) -> Partition:
        """The day that begins at `day_ms`."""
        return self._cluster.keyspace.partition(day_ms)

    def _begin(self, day: Partition, instant: Instant) -> tuple[Partition, ...]:
        if _is_over(day, instant):
            return (day,)
        decided = decide(self._cluster, day, self._proposed(day), instant)
        enter(self._cluster, decided, instant)
        if len(decided) != self._lanes:
            log.warning(
                "%s has %d lanes, not %d: its first producer's number holds until midnight",
                day.stream, len(decided), self._lanes,
            )  # fmt: skip
        self._known[day] = decided
        return decided

    def renew(self) -> None:
        """Enter the lanes of every day again, in case a failover lost them, and learn what others
        have decided meanwhile. Raises Unreachable."""
        for day, used in list(self._known.items()):
            instant = self._clock.current()
            if _is_over(day, instant):
                del self._known[day]
            elif used != (day,):
                decided = decide(self._cluster, day, used, instant, used=used)
                enter(self._cluster, {*used, *decided}, instant)
                self._known[day] = decided

    def _proposed(self, day: Partition) -> Sequence[Partition]:
        if self._lanes == 1:
            return (day,)
        return spread(day, self._lanes, self._cluster.shards(), self._cluster.shard_of)


def _is_over(day: Partition, instant: Instant) -> bool:
    """Whether none of its readings may live any more."""
    return instant.deadline(day.end_ms + RETENTION_MS) <= instant.real_ms


log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(slots=True)
class PartialFailures:
    """What one round met. It asks no shard twice that did not answer: that takes its time."""

    damaged: dict[Partition, CorruptKey] = field(default_factory=dict[Partition, CorruptKey])
    silent: dict[str, Unreachable] = field(default_factory=dict[str, Unreachable])

    def attempt(
        self, cluster: Cluster, partition: Partition, act: Callable[[Partition], Result]
    ) -> Result | None:
        """What `act` makes of `partition`; None if it is damaged, its shard does not answer, or
        `act` fails in a way that no code expects."""
        shard = ""
        try:
            shard = cluster.shard_of(partition.stream)
            if partition not in self.damaged and shard not in self.silent:
                return act(partition)
        except CorruptKey as error:
            self.damaged[partition] = error
        except Unreachable as error:
            self.silent[shard] = error
        except HourglassError:
            raise
        except Exception as error:
            log.debug("%s", partition.stream, exc_info=True)
            self.damaged[partition] = Unforeseen.of(error, about=partition.stream)
        return None

    def tell(self) -> None:
        """Raises Unreachable or CorruptKey, unless there were none."""
        message = "; ".join(map(str, [*self.silent.values(), *self.damaged.values()]))
        if self.silent:
            raise Unreachable(message)
        for damage in self.damaged.values():
            if isinstance(damage, Unforeseen):
                raise Unforeseen(message) from damage.__cause__
        if self.damaged:
            raise CorruptKey(message)


def with_each(
    cluster: Cluster, partitions: Iterable[Partition], act: Callable[[Partition], object]
) -> None:
    """Do `act` with each of `partitions`. Raises Unreachable or CorruptKey, after it has done it
    with all the others."""
    met = PartialFailures()
    for partition in partitions:
        met.attempt(cluster, partition, act)
    met.tell()
