"""Seals the hours that are due, and decides when to look for more.

Any aggregator may seal at any time: the script decides, and its decisions are final.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby

from opentelemetry.trace import Tracer

from aggregator.metrics import Metrics
from aggregator.publish_order import SealedHours, joined, unpublished
from aggregator.publisher import Publisher, clock_deviates
from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import PartialFailures, candidates
from hourglass.cluster.published import ahead_ms, published_through_ms
from hourglass.cluster.scripts import Script
from hourglass.errors import CorruptKey, Unreachable
from hourglass.model.averages import HourRecord
from hourglass.model.clock import Instant, Mode, PipelineClock
from hourglass.model.devices import written_to
from hourglass.model.hour_records import decode_reported
from hourglass.model.keys import GROUP, HOUR_MS, HOURS, RECORDS_KEPT_MS, Partition, iso
from hourglass.service.tracing import context_of, is_off

_SEAL = Script.load("aggregator", "seal", library="calls")

#: A day that is published to its last hour is checked again this often, in case a failover has
#: undone some of it.
SETTLED_S = 15.0
#: After a step that left nothing to do, the next one follows after this time, even if no further
#: hour is over: a day may begin late, and a partition without a call for five seconds counts as one
#: that could not be reached.
IDLE_S = 2.0
#: Wait for an hour that is due and not sealed, most likely because of a batch in flight.
_WAITING_S = 0.1
#: Wait at least this many times the duration of a step, because many partitions take long.
_WAITING_TIMES = 4
#: Do not wait for less than this until an hour comes due.
_SOON_S = 0.01


@dataclass(slots=True, kw_only=True)
class HourSealer:
    """Runs the seal script on partitions. It keeps no state."""

    name: str
    cluster: Cluster
    lateness_ms: int
    idle_ms: int
    metrics: Metrics
    tracer: Tracer

    def seal_day(
        self,
        day: Partition,
        listed: Iterable[Partition],
        instant: Instant,
        failures: PartialFailures,
    ) -> SealedHours:
        """Seal what is due in every partition of `day`: the `listed` ones and its own. A corrupt
        partition, or one whose shard does not answer, waits."""

        def seal(partition: Partition, elsewhere: AbstractSet[int] = frozenset()) -> SealedHours:
            sealed = failures.attempt(
                self.cluster, partition, lambda each: self._seal(each, instant, elsewhere)
            )
            return sealed or unknown(partition, instant)

        plain = seal(day)
        members = [plain, *map(seal, sorted({*listed, *plain.lanes} - {day}))]
        counted = frozenset[int]().union(*(each.sealed_with_readings for each in members))
        return joined(
            [
                seal(each.partition, counted) if counted - each.sealed - each.waiting else each
                for each in members
            ]
        )

    def _seal(
        self, partition: Partition, instant: Instant, elsewhere: AbstractSet[int]
    ) -> SealedHours:
        """Seal what may be sealed in one partition.

        elsewhere: hours that are sealed with readings in another partition of the day
        """
        began_ns = time.time_ns()
        over = _hours_over(partition, instant)
        # A replay moves a manual clock only after it has written everything before.
        waits = instant.spec.mode is not Mode.MANUAL
        self.cluster.check_clock(partition.stream)
        reply = self.cluster.run(
            _SEAL,
            [
                partition.stream,
                partition.hours,
                partition.lanes,
                partition.producers,
                partition.watermarks,
                *(partition.devices(hour) for hour in range(HOURS)),
            ],
            [
                GROUP,
                over,
                self.name,
                instant.now_ms,
                instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
                instant.deadline(instant.now_ms - instant.now_ms % HOUR_MS + HOUR_MS),
                self.lateness_ms if waits else 0,
                self.idle_ms if waits else 0,
                "".join("01"[hour in elsewhere] for hour in range(HOURS)),
                self.cluster.real_ms(),
            ],
        )
        if isinstance(reply, int):
            raise clock_deviates(self.cluster, partition.stream, reply)
        sealed_now, waiting, rows, lanes = reply
        self.metrics.sealed(len(sealed_now))
        records = tuple(decode_reported(partition, row) for row in rows)
        if sealed_now and not is_off(self.tracer):
            new = {partition.hour_start_ms(hour) for hour in sealed_now}
            for record in records:
                if record.count and record.start_ms in new:
                    self._trace(partition, record, began_ns)
        return SealedHours(
            partition=partition,
            records=records,
            over=over,
            waiting=frozenset(waiting),
            lanes=written_to(partition, lanes or b""),
        )

    def _trace(self, partition: Partition, record: HourRecord, began_ns: int) -> None:
        """Make a span in the trace of the last batch counted into the hour. The record stores that
        trace, so the publication continues it too."""
        self.tracer.start_span(
            f"seal {partition.stream}",
            context=context_of(record.trace),
            start_time=began_ns,
            attributes={
                "db.system.name": "redis",
                "db.operation.name": "EVALSHA",
                "db.stored_procedure.name": "seal",
                "hourglass.partition": partition.stream,
                "hourglass.hour": iso(record.start_ms),
                "hourglass.readings": record.count,
            },
        ).end()


def unknown(partition: Partition, instant: Instant) -> SealedHours:
    """The state of a partition that cannot be read: what is due waits."""
    over = _hours_over(partition, instant)
    return SealedHours(
        partition=partition, records=(), over=over, waiting=frozenset(range(over)), known=False
    )


def _hours_over(partition: Partition, instant: Instant) -> int:
    """How many of its hours are over."""
    return min(HOURS, max(0, (_over_ms(instant) - partition.day_ms) // HOUR_MS))


def _over_ms(instant: Instant) -> int:
    """The end of the last hour that is over."""
    return instant.passed_ms // HOUR_MS * HOUR_MS


@dataclass(slots=True, kw_only=True)
class Sealer:
    """Seals and publishes for one process, and schedules its steps. What it remembers only saves
    calls: Redis is the source of truth."""

    name: str
    cluster: Cluster
    clock: PipelineClock
    lateness_ms: int
    idle_ms: int
    metrics: Metrics
    tracer: Tracer
    _hours: HourSealer = field(init=False)
    _publisher: Publisher = field(init=False)
    #: Days that need no step until the given time, of the monotonic clock.
    _settled: dict[Partition, float] = field(default_factory=dict[Partition, float])
    _idle_until: float = 0.0
    _idle_over_ms: int = -1
    _hour_waits: bool = False
    _step_took_s: float = 0.0

    def __post_init__(self) -> None:
        self._hours = HourSealer(
            name=self.name,
            cluster=self.cluster,
            lateness_ms=self.lateness_ms,
            idle_ms=self.idle_ms,
            metrics=self.metrics,
            tracer=self.tracer,
        )
        self._publisher = Publisher(cluster=self.cluster, metrics=self.metrics, tracer=self.tracer)

    def tick(self) -> None:
        """Do a step, unless the last one left nothing to do less than IDLE_S ago and no further
        hour is over. Raises as `step`."""
        if time.monotonic() >= self._idle_until or self._another_hour_is_over():
            self.step()

    def rest_s(self, most_s: float) -> float:
        """The pause before the next tick: `most_s`, or less if an hour waits or comes due."""
        if self._hour_waits:
            return min(most_s, max(_WAITING_S, _WAITING_TIMES * self._step_took_s))
        instant = self.clock.current()
        ends_ms = instant.spec.due_ms(_over_ms(instant) + HOUR_MS)
        if ends_ms is None:
            return most_s
        return min(most_s, max(_SOON_S, (ends_ms - instant.real_ms) / 1000))

    def _another_hour_is_over(self) -> bool:
        with suppress(Unreachable, CorruptKey):
            return _over_ms(self.clock.refresh()) != self._idle_over_ms
        return True  # the step raises the error

    def step(self) -> None:
        """Seal what is due, then publish in order. Raises Unreachable or CorruptKey after it has
        done everything that these errors do not prevent; the next step continues."""
        self._hour_waits = False
        began = time.monotonic()
        try:
            # The partitions before the clock: a replay sets the clock back before it writes a
            # partition, so no partition is judged by the clock before its own.
            partitions = candidates(self.cluster, self.clock.current())
            # The published-through hour before the clock, too: an operator sets the clock back
            # before unpublishing the hours after it.
            published_through = published_through_ms(self.cluster)
            instant = self.clock.refresh()
        except (Unreachable, CorruptKey):
            self._show_unknown(self.clock.current())
            raise
        if self._publisher.went_back(-1 if published_through is None else published_through):
            self._settled.clear()
        self.metrics.published_ahead(ahead_ms(published_through, instant) / 1000)
        failures = PartialFailures()
        days = [(day, list(members)) for day, members in groupby(partitions, lambda each: each.day)]
        read = [
            self._hours.seal_day(day, members, instant, failures)
            for day, members in days
            if self._settled.get(day, 0.0) <= time.monotonic()
        ]
        # A day that was settled holds nothing back while it cannot be read.
        sealed = [each for each in read if each.known or each.partition not in self._settled]
        try:
            self._publisher.publish_all(sealed, instant)
        finally:
            self._settle(sealed)
            self._show(sealed, settled=len(days) - len(sealed))
            self._forget_all_but([day for day, _ in days])
        failures.tell()
        self._step_took_s = time.monotonic() - began
        self._hour_waits = any(each.waiting for each in sealed)
        if not self._hour_waits and all(map(self._publisher.is_published, sealed)):
            self._idle_until, self._idle_over_ms = time.monotonic() + IDLE_S, _over_ms(instant)

    def _settle(self, sealed: Sequence[SealedHours]) -> None:
        for each in sealed:
            if self._is_done(each):
                # Until its last hour is published or overtaken, an empty one may get readings.
                last_ms = each.partition.end_ms - HOUR_MS
                rest_s = SETTLED_S if last_ms <= self._publisher.published_through_ms else 0.0
                self._settled[each.partition] = time.monotonic() + rest_s
            elif each.known:
                self._settled.pop(each.partition, None)

    def _show(self, sealed: Sequence[SealedHours], *, settled: int) -> None:
        """`settled`: number of other days, all of whose hours are published."""
        self.metrics.due(
            sum(each.due for each in sealed) + HOURS * settled,
            overdue=unpublished(sealed, after_ms=self._publisher.published_through_ms),
        )

    def _show_unknown(self, instant: Instant) -> None:
        """Show every hour of the calendar after the published-through hour as waiting, while not
        even the list of days can be read."""
        alive = self.cluster.keyspace.days_alive(instant.now_ms)
        days = [day for day in alive if day not in self._settled]
        self._show([unknown(day, instant) for day in days], settled=len(self._settled))

    def _forget_all_but(self, days: Collection[Partition]) -> None:
        self._settled = {day: until for day, until in self._settled.items() if day in days}
        self._publisher.forget_before(min((day.day_ms for day in days), default=0))

    def _is_done(self, day: SealedHours) -> bool:
        """Whether all of its hours are over, and those with readings published."""
        over = day.over == HOURS and bool(day.records) and not day.waiting
        return over and self._publisher.is_published(day)
