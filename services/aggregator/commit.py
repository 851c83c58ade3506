"""One consumer name's work on one partition: read or reclaim a batch, aggregate it, commit it.

A batch is committed over the connection that delivered it, so the entries are those the server
still has.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer

from aggregator.aggregates import MOST_WORK, BatchAggregate, SeenDevices, encoded, work_of
from aggregator.metrics import Metrics
from aggregator.reclaim import Reclaimed, Reclaimer
from aggregator.window import aggregate_entries
from hourglass.cluster.link import Link
from hourglass.cluster.scripts import Script, packed
from hourglass.errors import DeliveryLost
from hourglass.model.clock import Instant
from hourglass.model.entries import Entry, Reject, origins
from hourglass.model.keys import GROUP, RECORDS_KEPT_MS, RETENTION_MS, Partition
from hourglass.model.readings import Reason, Rules
from hourglass.service.tracing import (
    NO_TRACER,
    exemplar,
    is_off,
    links_to,
    messaging,
    traceparent_of,
)

_COMMIT = Script.load("aggregator", "commit", library="partials")


@dataclass(slots=True)
class _Batch:
    """Entries that are committed, one part after the other.

    waiting: the parts that are not sent yet
    given_up: they go to quarantine unread
    renewed: rules and instant are by a clock that has just been read
    """

    waiting: deque[Sequence[Entry]]
    rules: Rules
    instant: Instant
    span: Span
    given_up: bool = False
    renewed: bool = False

    @property
    def left(self) -> int:
        """Entries that are not sent yet."""
        return sum(map(len, self.waiting))


@dataclass(slots=True)
class _Sent:
    """A part whose commit is on its way."""

    batch: _Batch
    entries: Sequence[Entry]
    aggregate: BatchAggregate
    started: float


@dataclass(slots=True)
class BatchCommitter:
    """One partition, one connection, one consumer name that holds one batch at a time.

    Replies come in the order of sending, so a caller that prefetches over the same link with
    another committer calls the one's `request`, the other's `submit`, the one's `receive`, the
    other's `settle`.

    renewed: rules and time by a clock that has just been read. Before a reading is refused as being
        too far in the future it is asked for: its writer may have learned of a leap sooner
    """

    link: Link
    partition: Partition
    incarnation: bytes
    consumer: str
    metrics: Metrics
    seen: SeenDevices = field(default_factory=SeenDevices)
    tracer: Tracer = NO_TRACER
    renewed: Callable[[], tuple[Rules, Instant]] | None = None
    reclaimer: Reclaimer = field(init=False)
    _sent: _Sent | None = None
    _next: Reclaimed | None = None

    def __post_init__(self) -> None:
        # Under a name of its own, so that its pending list holds reclaimed entries alone.
        name = f"{self.consumer}-claims"
        self.reclaimer = Reclaimer(self.link, self.partition, name, self.metrics)

    def read(self, count: int, block_ms: int | None) -> Sequence[Entry]:
        """New entries, at most `count`; waits for them up to `block_ms`."""
        self.request(count, block_ms)
        return self.receive()

    def request(self, count: int, block_ms: int | None = None) -> None:
        """Ask for new entries; without `block_ms` for those that are there already."""
        wait = () if block_ms is None else ("BLOCK", block_ms)
        self.link.send(
            "XREADGROUP", "GROUP", GROUP, self.consumer,
            "COUNT", count, *wait, "STREAMS", self.partition.stream, ">",
        )  # fmt: skip

    def receive(self) -> Sequence[Entry]:
        """The entries asked for."""
        reply = self.link.receive()
        return reply[0][1] if reply else []

    @property
    def has_claimed(self) -> bool:
        """Whether `recover` has taken over entries that it has not counted yet."""
        return self._next is not None

    def recover(
        self, rules: Rules, instant: Instant, *, idle_ms: int, limit: int, on: bool = True
    ) -> bool:
        """Count entries that other consumers have held for `idle_ms`; those that were delivered
        `limit` times are given up unread. Meanwhile, if it is to go `on`, the server prepares the
        next ones. False if there are none, or another process counts them. Raises as `settle`."""
        batch, self._next = self._next or self.reclaimer.take(idle_ms, limit=limit), None
        if batch is None:
            return False
        if batch.given_up:
            self.give_up(batch.given_up, instant)
            return self.settle()
        following = None
        if on and not batch.may_be_poison:
            following = self.reclaimer.prepare(idle_ms, limit=limit)
        if following:
            self.reclaimer.request(following)
        self.submit(batch.entries, rules, instant)
        if following:
            self._next = self.reclaimer.receive(following)
        return self.settle()

    def give_up(self, ids: Sequence[bytes], instant: Instant) -> None:
        """Send the commit that puts these entries into quarantine, whichever consumer holds them.
        It takes their ids alone: an entry may be larger than this process may allocate. Raises
        ConnectionLost."""
        entries = [(entry_id, ()) for entry_id in ids]
        self._send_next(_Batch(deque([entries]), Rules(), instant, INVALID_SPAN, given_up=True))

    def submit(self, entries: Sequence[Entry], rules: Rules, instant: Instant) -> None:
        """Aggregate `entries`, which this link delivered, and send the commit, of a part of them if
        that of all would block the shard. Raises ConnectionLost."""
        if entries:
            self._send_next(_Batch(deque([entries]), rules, instant, self._span(entries)))

    def _send_next(self, batch: _Batch) -> None:
        """Send the first of what waits, as much as makes a commit."""
        entries = batch.waiting.popleft()
        while True:
            aggregate = self._aggregate(entries, batch)
            counted = encoded(aggregate, self.seen)
            parts = min(len(entries), -(-work_of(aggregate.ids, *counted) // MOST_WORK))
            if parts == 1:
                break
            size = -(-len(entries) // parts)
            entries, *others = [entries[at : at + size] for at in range(0, len(entries), size)]
            batch.waiting.extendleft(reversed(others))
        started = time.perf_counter()
        self._send(aggregate, counted, batch)
        self._sent = _Sent(batch, entries, aggregate, started)

    def _aggregate(self, entries: Sequence[Entry], batch: _Batch) -> BatchAggregate:
        if batch.given_up:
            rejects = [Reject(entry_id, Reason.UNDELIVERABLE, ()) for entry_id, _ in entries]
            ids = [reject.id for reject in rejects]
            return BatchAggregate(ids, {}, rejects, latest_ms=self.partition.day_ms)
        aggregate = aggregate_entries(self.partition, entries, batch.rules)
        is_ahead = any(each.reason is Reason.FAR_FUTURE for each in aggregate.rejects)
        if is_ahead and self.renewed and not batch.renewed:
            batch.rules, batch.instant = self.renewed()
            batch.renewed = True
            aggregate = aggregate_entries(self.partition, entries, batch.rules)
        return aggregate

    def _span(self, entries: Sequence[Entry]) -> Span:
        """The span of one batch, linked to the producers' batches in it."""
        if is_off(self.tracer):
            return INVALID_SPAN
        stream = self.partition.stream
        return self.tracer.start_span(
            f"process {stream}",
            kind=SpanKind.CONSUMER,
            links=links_to(origins(entries)),
            attributes={
                **messaging("process", stream, len(entries), "commit"),
                "messaging.consumer.group.name": GROUP,
                "messaging.client.id": self.consumer,
            },
        )

    def settle(self) -> bool:
        """Wait until the batch is committed; False if another consumer has counted some of it.

        Raises ConnectionLost; then nothing is known of the batch, and what was not committed comes
        back by redelivery. Raises ResponseError NOGROUP when the group was created again since:
        open the partition again.
        """
        whole = True
        while (sent := self._sent) is not None:
            self._sent = None
            batch, answered = sent.batch, False
            try:
                done, *answer = self.link.finish()
                answered = True
            finally:
                if not (answered and batch.waiting):
                    batch.span.end()
            if done == 1:
                seconds = time.perf_counter() - sent.started
                self._account(sent.aggregate, answer[0], seconds, exemplar(batch.span))
            elif done < 0:
                raise DeliveryLost(f"{self.consumer} has entries pending that it was never given")
            else:
                whole = False
                self.metrics.conflict()
                pending = frozenset(answer[0])
                entries = [entry for entry in sent.entries if entry[0] in pending]
                if entries:
                    batch.waiting.appendleft(entries)
            if batch.waiting:
                self._send_next(batch)
        return whole

    def _send(self, aggregate: BatchAggregate, counted: Sequence[Any], batch: _Batch) -> None:
        partition, instant = self.partition, batch.instant
        trace = traceparent_of(batch.span)
        self.link.begin(
            _COMMIT,
            [
                partition.stream,
                partition.hours,
                partition.quarantine,
                *(partition.devices(hour) for hour in aggregate.partials),
            ],
            [
                GROUP,
                self.incarnation,
                self.consumer,
                batch.left,
                instant.deadline(aggregate.latest_ms + RETENTION_MS),
                instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
                packed([aggregate.ids, *counted, *([trace] if trace else [])]),
            ],
        )

    def _account(
        self, aggregate: BatchAggregate, late: int, seconds: float, trace: Mapping[str, str] | None
    ) -> None:
        self.metrics.committed(
            entries=len(aggregate.ids),
            counted=aggregate.counted - late,
            late=late,
            seconds=seconds,
            exemplar=trace,
        )
        quarantined = Counter[Reason]()
        for reject in aggregate.rejects:
            quarantined[reject.reason] += reject.readings
        for reason, count in quarantined.items():
            self.metrics.quarantined(reason, count)
        self.seen.mark_committed(aggregate.partials)
