"""Sealing the hours that are due, and publishing what is sealed.

Any aggregator may do either at any time: the scripts decide, and what they decide once stays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby

from opentelemetry.trace import Span, SpanKind, Tracer

from aggregator.metrics import Metrics
from aggregator.publish_order import SealedHours, joined, publishable, unpublished
from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import PartialFailures, candidates
from hourglass.cluster.published import ahead_ms, frontier_ms
from hourglass.cluster.scripts import Script
from hourglass.errors import CorruptKey, Unreachable
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.clock import Instant, Mode, PipelineClock
from hourglass.model.devices import written_to
from hourglass.model.hour_records import decode_reported
from hourglass.model.keys import (
    AVERAGES_KEPT,
    GROUP,
    HOUR_MS,
    HOURS,
    PUBLISHED_KEPT,
    RECORDS_KEPT_MS,
    Partition,
    iso,
)
from hourglass.service.tracing import (
    context_of,
    exemplar,
    is_off,
    links_to,
    messaging,
    traceparent_of,
)

log = logging.getLogger(__name__)

_SEAL = Script.load("aggregator", "seal", library="calls")
_PUBLISH = Script.load("aggregator", "publish", library="calls")

#: A day that is published to its last hour is looked at again this often, in case a failover has
#: undone some of it.
SETTLED_S = 15.0
#: What was found to leave nothing to do is looked at again this often before another hour is over:
#: a day may begin late, and a partition that is not called for five seconds counts as one that
#: could not be reached.
CALM_S = 2.0
#: While an hour that is due waits, most likely for a batch on its way.
_WAITING_S = 0.1
#: And so many times as long as the step took: many partitions take long to ask.
_WAITING_TIMES = 4
#: An hour that comes due sooner than that is seen then.
_SOON_S = 0.01


@dataclass(slots=True, kw_only=True)
class Sealer:
    """What one process knows of sealing; Redis knows better, and every step asks it."""

    name: str
    cluster: Cluster
    clock: PipelineClock
    lateness_ms: int
    idle_ms: int
    metrics: Metrics
    tracer: Tracer
    _settled: dict[Partition, float] = field(default_factory=dict[Partition, float])
    #: Count and sum of each hour (its start in ms) as the publisher was shown them.
    _shown: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    _frontier_ms: int = -1
    _calm_until: float = 0.0
    _calm_ms: int = -1
    _hour_waits: bool = False
    _took_s: float = 0.0

    def tick(self) -> None:
        """A step, unless the last one, not long ago, left nothing to do, and no hour has come due
        since. Raises as `step`."""
        if time.monotonic() >= self._calm_until or self._has_come_due():
            self.step()

    def rest_s(self, most_s: float) -> float:
        """How long to wait before the next tick: `most_s`, or less where an hour waits, or one
        comes due before."""
        if self._hour_waits:
            return min(most_s, max(_WAITING_S, _WAITING_TIMES * self._took_s))
        instant = self.clock.look()
        ends_ms = instant.spec.due_ms(self._over_ms(instant) + HOUR_MS)
        if ends_ms is None:
            return most_s
        return min(most_s, max(_SOON_S, (ends_ms - instant.real_ms) / 1000))

    def _has_come_due(self) -> bool:
        try:
            return self._over_ms(self.clock.refresh()) != self._calm_ms
        except (Unreachable, CorruptKey):
            return True  # the step says so

    def _over_ms(self, instant: Instant) -> int:
        """Every hour that ends by then is over."""
        return instant.passed_ms // HOUR_MS * HOUR_MS

    def step(self) -> None:
        """Seal what is due, then publish in order, each as far as Redis lets it. Raises Unreachable
        or CorruptKey, after it has done and shown what there is without what it met; the next step
        finds the rest."""
        self._hour_waits = False
        began = time.monotonic()
        try:
            # The partitions first, the clock second: whoever sets the clock back for a replay does
            # so before writing a partition, so no partition is ever judged by the clock before its
            # own.
            partitions = candidates(self.cluster, self.clock.look())
            # Before the clock, too, what is published: an operator sets the clock back, and then
            # takes back what is published ahead of it.
            frontier = frontier_ms(self.cluster)
            instant = self.clock.refresh()
        except (Unreachable, CorruptKey):
            self._show_unknown(self.clock.look())
            raise
        self._see_frontier(-1 if frontier is None else frontier)
        self.metrics.published_ahead(ahead_ms(frontier, instant) / 1000)
        met = PartialFailures()
        days = [(day, list(members)) for day, members in groupby(partitions, lambda each: each.day)]
        asked = [
            self._seal_day(day, members, instant, met)
            for day, members in days
            if not self._is_settled(day)
        ]
        # What was settled when it was last seen holds nothing back while it cannot be seen.
        sealed = [each for each in asked if each.known or each.partition not in self._settled]
        try:
            self._publish_all(sealed, instant)
        finally:
            self._settle(sealed)
            self._show(sealed, settled=len(days) - len(sealed))
            self._forget_all_but([day for day, _ in days])
        met.tell()
        self._took_s = time.monotonic() - began
        self._hour_waits = any(each.waiting for each in sealed)
        if not self._hour_waits and all(map(self._is_published, sealed)):
            self._calm_until, self._calm_ms = time.monotonic() + CALM_S, self._over_ms(instant)

    def _publish_all(self, sealed: Sequence[SealedHours], instant: Instant) -> None:
        for record in publishable(sealed, after_ms=self._frontier_ms):
            if not self._publish(record, instant):
                break
        for each in sealed:
            self._report_the_rest(each, instant)

    def _settle(self, sealed: Sequence[SealedHours]) -> None:
        for each in sealed:
            if self._is_done(each):
                # Until a later hour is published, one of its empty hours may still get readings.
                rest_s = SETTLED_S if self._is_closed(each.partition) else 0.0
                self._settled[each.partition] = time.monotonic() + rest_s
            elif each.known:
                self._settled.pop(each.partition, None)

    def _show(self, sealed: Sequence[SealedHours], *, settled: int) -> None:
        """`settled`: days besides, all of whose hours are published."""
        self.metrics.due(
            sum(each.due for each in sealed) + HOURS * settled,
            overdue=unpublished(sealed, after_ms=self._frontier_ms),
        )

    def _show_unknown(self, instant: Instant) -> None:
        """While not even the days can be asked for, every hour waits that the calendar has beyond
        the frontier as it was last seen."""
        alive = self.cluster.keyspace.days_alive(instant.now_ms)
        days = [day for day in alive if day not in self._settled]
        self._show([self._unknown(day, instant) for day in days], settled=len(self._settled))

    def _forget_all_but(self, days: Sequence[Partition]) -> None:
        self._settled = {day: until for day, until in self._settled.items() if day in days}
        oldest_ms = min((day.day_ms for day in days), default=0)
        self._shown = {start: shown for start, shown in self._shown.items() if start >= oldest_ms}

    def _is_published(self, sealed: SealedHours) -> bool:
        return all(each.start_ms <= self._frontier_ms for each in sealed.records if each.count)

    def _is_done(self, day: SealedHours) -> bool:
        """Whether all of it is over, and what it has is published."""
        over = day.over == HOURS and bool(day.records) and not day.waiting
        return over and self._is_published(day)

    def _is_closed(self, day: Partition) -> bool:
        """Whether all of its hours are behind the frontier: nothing it gets is published now."""
        return day.end_ms - HOUR_MS <= self._frontier_ms

    def _is_settled(self, day: Partition) -> bool:
        return self._settled.get(day, 0.0) > time.monotonic()

    def _see_frontier(self, frontier_ms: int) -> None:
        if frontier_ms < self._frontier_ms:
            log.warning("the averages' shard went back: publishing again from the hour records")
            self._settled.clear()
            self._shown.clear()
        self._frontier_ms = frontier_ms

    def _seal_day(
        self, day: Partition, listed: Iterable[Partition], instant: Instant, met: PartialFailures
    ) -> SealedHours:
        """Seal what is due in every partition of `day`, the `listed` ones and its own. One that is
        damaged, or whose shard does not answer, waits."""

        def seal(partition: Partition, elsewhere: AbstractSet[int] = frozenset()) -> SealedHours:
            sealed = met.attempt(
                self.cluster, partition, lambda each: self._seal(each, instant, elsewhere)
            )
            return sealed or self._unknown(partition, instant)

        plain = seal(day)
        members = [plain, *map(seal, sorted({*listed, *plain.lanes} - {day}))]
        counted = frozenset[int]().union(*(each.sealed_with_readings for each in members))
        return joined(
            [
                seal(each.partition, counted) if counted - each.sealed - each.waiting else each
                for each in members
            ]
        )

    def _unknown(self, partition: Partition, instant: Instant) -> SealedHours:
        """Of a partition that cannot be asked: what is due waits."""
        over = self._over(partition, instant)
        waiting = frozenset(range(over))
        return SealedHours(partition=partition, records=(), over=over, waiting=waiting, known=False)

    def _over(self, partition: Partition, instant: Instant) -> int:
        """How many of its hours are over."""
        hours = (self._over_ms(instant) - partition.day_ms) // HOUR_MS
        return min(HOURS, max(0, hours))

    def _seal(
        self, partition: Partition, instant: Instant, elsewhere: AbstractSet[int]
    ) -> SealedHours:
        """Seal what may be sealed in one partition; `elsewhere`: hours that are sealed with
        readings in another one of its day."""
        began_ns = time.time_ns()
        over = self._over(partition, instant)
        waits = instant.spec.mode is not Mode.MANUAL  # who drives it has written all before
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
            raise self._deviates(partition.stream, reply)
        sealed_now, waiting, rows, lanes = reply
        self.metrics.sealed(len(sealed_now))
        records = tuple(decode_reported(partition, row) for row in rows)
        if sealed_now and not is_off(self.tracer):
            new = {partition.hour_start_ms(hour) for hour in sealed_now}
            for record in records:
                if record.count and record.start_ms in new:
                    self._tell_of_seal(partition, record, began_ns)
        return SealedHours(
            partition=partition,
            records=records,
            over=over,
            waiting=frozenset(waiting),
            lanes=written_to(partition, lanes or b""),
        )

    def _tell_of_seal(self, partition: Partition, record: HourRecord, began_ns: int) -> None:
        """A span; it goes on with the trace of the last batch that was counted into the hour, which
        the record remembers, so that whoever publishes the hour goes on with the same."""
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
                "hourglass.model.readings": record.count,
            },
        ).end()

    def _publishing(self, record: HourRecord) -> Span:
        """The span of a publication, in the trace of its hour; linked to those of further lanes.
        It is ended, and so exported, if the hour was published, or may have been: of nothing
        there is no span."""
        counted, *elsewhere = record.trace.split() or [""]
        return self.tracer.start_span(
            f"send {self.cluster.keyspace.averages}",
            context=context_of(counted),
            kind=SpanKind.PRODUCER,
            links=links_to(elsewhere),
            attributes={
                **messaging("send", self.cluster.keyspace.averages, 1, "publish"),
                "hourglass.hour": iso(record.start_ms),
            },
        )

    def _publish(self, record: HourRecord, instant: Instant) -> bool:
        """False if the frontier is not where this process saw it, or the hour is not over by the
        clock of the averages' shard: then nothing was done."""
        keys = self.cluster.keyspace
        self.cluster.check_clock(keys.averages)
        real_ms = self.cluster.real_ms()
        # Who drives the clock has moved it past the hour.
        is_manual = instant.spec.mode is Mode.MANUAL
        over_ms = 0 if is_manual else instant.deadline(record.start_ms + HOUR_MS)
        span = self._publishing(record)
        average = HourlyAverage.of(record, traceparent=traceparent_of(span))
        try:
            outcome = self.cluster.run(
                _PUBLISH,
                [keys.averages, keys.frontier, keys.published, keys.revisions, keys.too_late],
                [
                    record.start_ms,
                    record.count,
                    record.sum_milli_f,
                    self._frontier_ms if self._frontier_ms >= 0 else "",
                    AVERAGES_KEPT,
                    PUBLISHED_KEPT,
                    real_ms,
                    over_ms,
                    *(part for pair in average.fields().items() for part in pair),
                ],
            )
        except Unreachable:
            _end(span, "unknown")
            raise
        if isinstance(outcome, int):
            raise self._deviates(keys.averages, outcome)
        if outcome in (b"moved", b"early"):
            return False
        self._shown[record.start_ms] = record.count, record.sum_milli_f
        self._frontier_ms = max(self._frontier_ms, record.start_ms)
        hour = iso(record.start_ms)
        match outcome:
            case b"published":
                _end(span, "published")
                trace_of_it = exemplar(span)
                due_ms = instant.deadline(record.start_ms + HOUR_MS)
                self.metrics.published((instant.real_ms - due_ms) / 1000, trace_of_it)
                log.info(
                    "published %s: %d readings",
                    hour,
                    record.count,
                    extra={"hour": hour, "trace_id": (trace_of_it or {}).get("trace_id", "")},
                )
            case b"revised":
                self.metrics.revised()
                log.warning(
                    "hour %s was sealed anew with another result: not published",
                    hour,
                    extra={"hour": hour},
                )
            case b"too late":
                self.metrics.too_late()
                log.warning(
                    "hour %s got its readings after a later one was published",
                    hour,
                    extra={"hour": hour},
                )
            case _:
                pass
        return True

    def _deviates(self, key: str, ahead_ms: int) -> Unreachable:
        """What a script says whose shard has the wrong time, or was paused before it ran."""
        return Unreachable(
            f"the clock of Redis at {self.cluster.shard_of(key)} is {abs(ahead_ms) / 1000:,.1f} s "
            f"{'ahead' if ahead_ms > 0 else 'behind'}: nothing is sealed or published there"
        )

    def _report_the_rest(self, sealed: SealedHours, instant: Instant) -> None:
        """Show the publisher the hours behind the frontier that this process has not shown it yet:
        it alone knows which of them are a revision, or came too late."""
        for record in sealed.records:
            shown = self._shown.get(record.start_ms)
            behind = record.count and record.start_ms <= self._frontier_ms
            if behind and shown != (record.count, record.sum_milli_f):
                self._publish(record, instant)


def _end(span: Span, outcome: str) -> None:
    span.set_attribute("hourglass.outcome", outcome)
    span.end()
