"""Sends batches to their partitions. Retries never store a batch twice."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from itertools import chain, islice
from typing import cast

from opentelemetry.trace import Span, SpanKind, Tracer

from hourglass.cluster.client import Cluster
from hourglass.cluster.link import Link, ResponseError
from hourglass.cluster.partitions import Days
from hourglass.cluster.scripts import Script, packed
from hourglass.errors import ConnectionLost, CorruptKey, Unreachable
from hourglass.model.clock import PipelineClock
from hourglass.model.keys import RECORDS_KEPT_MS, RETENTION_MS, Partition
from hourglass.service.tracing import NO_TRACER, is_off, messaging, traceparent_of
from producer.batch import Batch

_INGEST = Script.load("producer", "ingest", library="calls")
#: Error replies of a server that became a replica: to a new WAIT, and to one that was blocked.
_DEMOTED = ("WAIT cannot be used with replica", "UNBLOCKED")

#: Replies of the script that are not a number of readings.
_DUPLICATE, _EXPIRED, _OUT_OF_TURN = 0, -1, -2


class Outcome(Enum):
    """The result of sending a batch."""

    TAKEN = auto()
    DUPLICATE = auto()  # an earlier attempt was stored, and its reply was lost
    EXPIRED = auto()  # older than the retention time of its partition


class BatchWriter:
    """Writes batches in the order of their sequence numbers. Not thread-safe.

    It pipelines: it may send the next batch before the reply to the previous one arrives, so that
    server and caller work at the same time. Redis stores a batch only if it stored the one before
    it. After any failure the publisher therefore resends all batches from the first unconfirmed one
    on, unchanged and in order; this loses no batch and stores none twice.

    Of a batch that is deduplicated (see Batcher), Redis takes no reading of a device and tick that
    it has already. If it has some, it takes nothing and replies with them; the batch is then sent
    without them, and is taken if Redis still has exactly these.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: PipelineClock,
        *,
        incarnation: str,
        days: Days | None = None,
        wait_replicas: int = 0,
        wait_timeout_ms: int = 1000,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Connects to nothing yet.

        incarnation: unique name of this publisher; none before or after it may have the same
        days: the lanes of each day; without it every day has one lane
        wait_replicas: replicas that must confirm a batch; above 0 it disables pipelining
        """
        self._cluster = cluster
        self._clock = clock
        self._incarnation = incarnation
        self._days = days or Days(cluster, clock)
        self._wait_replicas = wait_replicas
        self._wait_timeout_ms = wait_timeout_ms
        self._tracer = tracer
        self._links: dict[Partition, Link] = {}
        self._acknowledged: Counter[Partition] = Counter()
        self._unconfirmed: deque[Batch] = deque()
        #: The first of `_unconfirmed` as it was made, if readings were left out of it since.
        self._whole: Batch | None = None
        #: Readings in `_unconfirmed`; other threads may read it.
        self.held = 0
        #: The span of each traced batch, by sequence number.
        self._spans: dict[int, Span] = {}
        #: Batches in flight: the first ones of `_unconfirmed`, all to one partition. More than one
        #: only if the last reply of that partition was a success.
        self._in_flight = 0
        self._sends_ahead_to: Partition | None = None

    def put(self, batch: Batch) -> None:
        """Append `batch` to the queue; `settle` sends it."""
        self._unconfirmed.append(batch)
        self.held += batch.size
        if not is_off(self._tracer):
            stream = batch.partition.stream
            self._spans[batch.sequence] = self._tracer.start_span(
                f"send {stream}",
                kind=SpanKind.PRODUCER,
                attributes={
                    **messaging("send", stream, batch.count, "ingest"),
                    "messaging.client.id": self._incarnation,
                },
            )

    def settle(self, *, leave: int = 0) -> Iterator[tuple[Batch, Outcome]]:
        """Send the queued batches and yield the outcome of each, in order, until at most `leave`
        are in flight.

        Raises Unreachable or CorruptKey; the next call then resends the batches not yielded.
        """
        while self._unconfirmed:
            self._send_all()
            if len(self._unconfirmed) == self._in_flight <= leave:
                return
            outcome = self._confirm()
            if outcome is None:
                continue
            self._end_span(outcome.name.lower())
            yield self._forget_first(), outcome

    @property
    def first(self) -> Batch:
        """The first unconfirmed batch; after an error, the batch that failed."""
        return self._unconfirmed[0]

    def give_up_first(self) -> int:
        """Drop the first unconfirmed batch; return its number of readings."""
        self._go_back()
        self._end_span("given up")
        return self._forget_first().size

    def _forget_first(self) -> Batch:
        batch = self._unconfirmed.popleft()
        self._whole = None
        self.held -= batch.size
        return batch

    def give_up(self) -> int:
        """Drop every unconfirmed batch; return their number of readings."""
        return sum(self.give_up_first() for _ in range(len(self._unconfirmed)))

    def close(self) -> None:
        while self._links:
            self._links.popitem()[1].close()
        self._in_flight = 0
        self._sends_ahead_to = None

    def _end_span(self, outcome: str) -> None:
        """End the span of the first batch."""
        if span := self._spans.pop(self._unconfirmed[0].sequence, None):
            span.set_attribute("hourglass.outcome", outcome)
            span.end()

    def _traceparent(self, batch: Batch) -> Sequence[str]:
        """The optional last argument of the script; empty if the batch is not traced."""
        span = self._spans.get(batch.sequence)
        return [traceparent] if span and (traceparent := traceparent_of(span)) else []

    def _send_all(self) -> None:
        """Send the first batch, or, after a success, all consecutive batches of its partition."""
        for batch in islice(self._unconfirmed, self._in_flight, None):
            if self._in_flight and not (
                batch.partition == self._unconfirmed[0].partition == self._sends_ahead_to
            ):
                return
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        instant = self._clock.current()
        partition = batch.partition
        self._days.partitions(partition.day)
        ahead = list(islice(self._unconfirmed, self._in_flight))
        with self._going_back():
            self._linked(partition).begin(
                _INGEST,
                [
                    partition.stream,
                    partition.producers,
                    partition.watermarks,
                    partition.identities,
                ],
                [
                    self._incarnation,
                    batch.sequence,
                    ahead[-1].sequence if ahead else 0,
                    self._acknowledged[partition] + sum(each.count for each in ahead),
                    instant.deadline(batch.latest_ms + RETENTION_MS),
                    instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
                    batch.count,
                    batch.watermark_ms,
                    batch.payload,
                    instant.expiry(partition.end_ms + RETENTION_MS),
                    packed([*chain.from_iterable(batch.blocks)]) if batch.blocks else "",
                    *self._traceparent(batch),
                ],
            )
        self._in_flight += 1

    def _confirm(self) -> Outcome | None:
        """Read the reply to the first batch in flight; return its outcome, or None if it is to be
        sent without the readings that Redis has."""
        batch = self._unconfirmed[0]
        with self._going_back():
            link = self._linked(batch.partition)
            self._in_flight -= 1
            taken = link.finish()
            if isinstance(taken, list):
                self._go_back()  # Redis rejects a batch in flight behind this one
                self._leave_out(cast(Sequence[bytes | None], taken))
                return None
            if taken == _OUT_OF_TURN:
                raise Unreachable("the partition lost the previous batch; it is sent again")
            if taken >= 0 and self._wait_replicas:
                self.await_replicas(link)
        if taken == _EXPIRED:
            self._go_back()  # Redis rejects a batch in flight behind an expired one
            return Outcome.EXPIRED
        self._acknowledged[batch.partition] += batch.count
        self._sends_ahead_to = None if self._wait_replicas else batch.partition
        is_duplicate = taken == _DUPLICATE and batch.count > 0
        return Outcome.DUPLICATE if is_duplicate else Outcome.TAKEN

    def _leave_out(self, known: Sequence[bytes | None]) -> None:
        """Leave the readings that Redis has out of the first batch. `known`: the bits that Redis
        has of each of its blocks, or None."""
        batch = self._unconfirmed[0]
        self._whole = whole = self._whole or batch
        of = {block.field: bits for block, bits in zip(batch.blocks, known, strict=True)}
        self._unconfirmed[0] = whole.without([of.get(block.field) for block in whole.blocks])

    @contextmanager
    def _going_back(self) -> Generator[None]:
        try:
            yield
        except ConnectionLost:
            self.close()
            self._cluster.refresh_topology()
            raise
        except (Unreachable, CorruptKey):
            self._go_back()
            raise
        except Exception:
            self.close()  # the number of unread replies on its links is unknown
            raise

    def _go_back(self) -> None:
        """Discard the replies in flight; the next send starts with the first batch alone."""
        if self._in_flight:
            self.close()  # their replies are never read
        self._sends_ahead_to = None

    def _linked(self, partition: Partition) -> Link:
        if partition not in self._links:
            if any(other.day != partition.day for other in self._links):
                self.close()
            try:
                self._links[partition] = self._cluster.link(partition.stream)
            except Unreachable:
                # A replica may have been promoted since the topology was last read.
                self._cluster.refresh_topology()
                raise
        return self._links[partition]

    def await_replicas(self, link: Link) -> None:
        """Wait until `wait_replicas` replicas have the writes made over `link`.

        Raises Unreachable.
        """
        try:
            have = link.call("WAIT", self._wait_replicas, self._wait_timeout_ms)
        except ResponseError as error:
            if not str(error).startswith(_DEMOTED):
                raise
            link.close()
            raise ConnectionLost(
                f"a replica was promoted: {error}; the batch is sent again"
            ) from error
        if have < self._wait_replicas:
            raise Unreachable(
                f"{have} of {self._wait_replicas} replicas confirmed within "
                f"{self._wait_timeout_ms} ms; the batch is sent again"
            )
