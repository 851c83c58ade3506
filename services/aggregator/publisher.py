"""Publishes sealed hours on the averages' stream.

Any aggregator may publish at any time: the script decides, and its decisions are final.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from opentelemetry.trace import Span, SpanKind, Tracer

from aggregator.metrics import Metrics
from aggregator.publish_order import SealedHours, publishable
from hourglass.cluster.client import Cluster
from hourglass.cluster.published import Result, results
from hourglass.cluster.scripts import Script
from hourglass.errors import Unreachable
from hourglass.model.averages import HourlyAverage, HourRecord, joined_hours
from hourglass.model.clock import Instant, Mode
from hourglass.model.devices import shares, written_to
from hourglass.model.hour_records import decode_hours
from hourglass.model.hour_records import field as field_of
from hourglass.model.keys import AVERAGES_KEPT, HOUR_MS, HOURS, PUBLISHED_KEPT, Partition, iso
from hourglass.service.tracing import context_of, exemplar, links_to, messaging, traceparent_of

log = logging.getLogger(__name__)

_PUBLISH = Script.load("aggregator", "publish", library="calls")


@dataclass(slots=True, kw_only=True)
class Publisher:
    """Publishes for one process. What it remembers only saves calls: Redis is the source of truth.

    published_through_ms: start of the last published hour as last read; -1 if there is none
    """

    cluster: Cluster
    metrics: Metrics
    tracer: Tracer
    published_through_ms: int = -1
    #: Count and sum of each hour (its start in ms) that the script was called with.
    _submitted: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])

    def publish_all(self, days: Sequence[SealedHours], instant: Instant) -> None:
        """Publish what may be published of these days, in order. Raises Unreachable, CorruptKey."""
        for record in publishable(days, after_ms=self.published_through_ms):
            if not self._publish(record, instant):
                break
        for each in days:
            self._submit_earlier(each, instant)

    def is_published(self, sealed: SealedHours) -> bool:
        """Whether every hour with readings is published or overtaken."""
        return all(
            each.start_ms <= self.published_through_ms for each in sealed.records if each.count
        )

    def went_back(self, published_through_ms: int) -> bool:
        """Set the published-through hour as read from Redis; whether it is earlier than before, as
        after a failover: then hours are published again from their records."""
        back = published_through_ms < self.published_through_ms
        if back:
            log.warning("the averages' shard went back: publishing again from the hour records")
            self._submitted.clear()
        self.published_through_ms = published_through_ms
        return back

    def forget_before(self, oldest_ms: int) -> None:
        """Forget the hours that start before `oldest_ms`."""
        self._submitted = {
            start: submitted for start, submitted in self._submitted.items() if start >= oldest_ms
        }

    def _submit_earlier(self, sealed: SealedHours, instant: Instant) -> None:
        """Call the script with the hours up to the published-through hour that this process has not
        submitted yet: only the script knows whether one is a revision, or came too late."""
        for record in sealed.records:
            submitted = self._submitted.get(record.start_ms)
            earlier = record.count and record.start_ms <= self.published_through_ms
            if earlier and submitted != (record.count, record.sum_milli_f):
                self._publish(record, instant)

    def _publish(self, record: HourRecord, instant: Instant) -> bool:
        """False if the published-through hour has changed, or the hour is not over by the clock of
        the averages' shard: then nothing was done."""
        keys = self.cluster.keyspace
        self.cluster.check_clock(keys.averages)
        real_ms = self.cluster.real_ms()
        # A replay has moved a manual clock past the hour.
        is_manual = instant.spec.mode is Mode.MANUAL
        over_ms = 0 if is_manual else instant.deadline(record.start_ms + HOUR_MS)
        span = self._span(record)
        average = HourlyAverage.of(record, traceparent=traceparent_of(span))
        try:
            outcome = self.cluster.run(
                _PUBLISH,
                [
                    keys.averages,
                    keys.published_through,
                    keys.published,
                    keys.revisions,
                    keys.too_late,
                ],
                [
                    record.start_ms,
                    record.count,
                    record.sum_milli_f,
                    self.published_through_ms if self.published_through_ms >= 0 else "",
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
            raise clock_deviates(self.cluster, keys.averages, outcome)
        if outcome in (b"moved", b"early"):
            return False
        self._submitted[record.start_ms] = record.count, record.sum_milli_f
        self.published_through_ms = max(self.published_through_ms, record.start_ms)
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
                    "hour %s was sealed again with another result: not published",
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

    def _span(self, record: HourRecord) -> Span:
        """A span in the trace of the hour, linked to the traces of further lanes. It is ended, and
        so exported, only if the hour was published or may have been."""
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


def _end(span: Span, outcome: str) -> None:
    span.set_attribute("hourglass.outcome", outcome)
    span.end()


def clock_deviates(cluster: Cluster, key: str, ahead_ms: int) -> Unreachable:
    """The error of a script on a shard whose clock deviates, or that was paused before it ran."""
    return Unreachable(
        f"the clock of Redis at {cluster.shard_of(key)} is {abs(ahead_ms) / 1000:,.1f} s "
        f"{'ahead' if ahead_ms > 0 else 'behind'}: nothing is sealed or published there"
    )


_FIELDS = [field_of(hour, name) for hour in range(HOURS) for name in ("count", "sum", "sealed")]


def sealed_without(cluster: Cluster, partition: Partition) -> AbstractSet[int]:
    """Hours (their start in ms) that were sealed or published without `partition`, a lane that no
    producer decided on and that is about to be opened for the first time; of other partitions
    there are none, because an hour waits for them. Raises Unreachable, CorruptKey."""
    if partition.lane is None or cluster.call("HEXISTS", partition.hours, "incarnation"):
        return frozenset()
    day = partition.day
    # The lanes first: a sealer that seals an hour of the plain partition after this knows the lane.
    (text,) = cluster.pipeline([("GET", day.lanes)])
    lanes = text or b""
    if isinstance(lanes, Exception) or partition in shares(day, lanes):
        return frozenset()  # a corrupt key is the failure of the plain partition
    members = cluster.call("ZRANGE", cluster.keyspace.published, 0, -1)
    published = results(members, key=cluster.keyspace.published)
    others = [day, *(lane for lane in written_to(day, lanes) if lane != partition)]
    return overtaken([_records(cluster, each) for each in others], published)


def overtaken(
    others: Sequence[Sequence[HourRecord]], published: Mapping[int, Result]
) -> AbstractSet[int]:
    """The same, from the records of the day's other partitions, the plain one first. Pure.

    It has every hour that the plain partition has sealed, because its publisher may not know the
    lane; and every published hour, because a failover may have lost that it was sealed. It does not
    have an hour that all other partitions have sealed with another result than the published one:
    a failover has lost what the lane had counted, and it is counted again.
    """
    sealed = {
        record.start_ms: Result(record.count, record.sum_milli_f)
        for record in joined_hours(others)
        if record.sealed
    }
    return frozenset(
        hour
        for hour in {record.start_ms for record in others[0] if record.sealed} | published.keys()
        if hour not in published or sealed.get(hour, published[hour]) == published[hour]
    )


def _records(cluster: Cluster, partition: Partition) -> Sequence[HourRecord]:
    values = cluster.call("HMGET", partition.hours, *_FIELDS)
    found = zip(_FIELDS, values, strict=True)
    return decode_hours(
        partition, {name.encode(): value for name, value in found if value is not None}
    )
