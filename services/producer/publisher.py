"""From batches to the partition: each once, however often it has to be tried."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from itertools import islice

from opentelemetry.trace import Span, SpanKind, Tracer

from hourglass.clock import PipelineClock
from hourglass.cluster import Cluster, Link, ResponseError
from hourglass.errors import Damaged, Severed, Unreachable
from hourglass.keys import RECORDS_KEPT_MS, RETENTION_MS, Partition
from hourglass.partitions import Days
from hourglass.scripts import Script
from hourglass.telemetry import NO_TRACER, is_off, messaging, traceparent_of
from producer.batch import Batch

_INGEST = Script.load("producer", "ingest", library="calls")
#: What a server that has become a replica says to WAIT, and to whoever was waiting.
_DEMOTED = ("WAIT cannot be used with replica", "UNBLOCKED")

#: The script's replies that are no number of readings.
_DUPLICATE, _EXPIRED, _OUT_OF_TURN = 0, -1, -2


class Outcome(Enum):
    """What became of a batch."""

    TAKEN = auto()
    DUPLICATE = auto()  # an earlier try whose answer was lost had been taken
    EXPIRED = auto()  # older than its partition may live


class Publisher:
    """Writes batches in the order of their sequence numbers. Not for several threads.

    The next batch may be sent before the answer to the one before it is there, so that the server
    works while the caller does. Each but the first of those on their way is taken only if the one
    before it was. So whatever fails, going back to the first that is not confirmed and sending all
    again, unchanged and in order, loses nothing and adds nothing twice.
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
        """`incarnation` is a name that no other publisher ever has; without `days` it knows days
        of one lane.

        With `wait_replicas`, a batch counts as taken once that many replicas have it, and none is
        sent ahead.
        """
        self._cluster = cluster
        self._clock = clock
        self._incarnation = incarnation
        self._days = days or Days(cluster, clock)
        self._wait_replicas = wait_replicas
        self._wait_timeout_ms = wait_timeout_ms
        self._tracer = tracer
        self._links: dict[Partition, Link] = {}
        self._told: Counter[Partition] = Counter()
        self._unconfirmed: deque[Batch] = deque()
        #: Readings in those; another thread may look.
        self.held = 0
        #: The spans of those, by sequence number, where they are traced.
        self._spans: dict[int, Span] = {}
        #: How many of those are on their way, from the first, all to one partition; more than one
        #: only to the one that answered last, and well.
        self._on_their_way = 0
        self._sends_ahead_to: Partition | None = None

    def put(self, batch: Batch) -> None:
        """Line `batch` up behind the others; `settle` sends it."""
        self._unconfirmed.append(batch)
        self.held += batch.count
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
        """Send what was put, and yield what became of each batch, in order, until no more than
        `leave` are on their way.

        Raises Unreachable or Damaged, after which the next call tries again what was not yielded.
        """
        while self._unconfirmed:
            self._send_all()
            if len(self._unconfirmed) == self._on_their_way <= leave:
                return
            outcome = self._confirm()
            self._end_span(outcome.name.lower())
            yield self._forget_first(), outcome

    @property
    def first(self) -> Batch:
        """The first batch that is not confirmed; after an error, the one that had it."""
        return self._unconfirmed[0]

    def give_up_first(self) -> int:
        """Forget that batch; how many readings it held."""
        self._go_back()
        self._end_span("given up")
        return self._forget_first().count

    def _forget_first(self) -> Batch:
        batch = self._unconfirmed.popleft()
        self.held -= batch.count
        return batch

    def give_up(self) -> int:
        """Forget every batch that is not confirmed; how many readings they held."""
        return sum(self.give_up_first() for _ in range(len(self._unconfirmed)))

    def close(self) -> None:
        while self._links:
            self._links.popitem()[1].close()
        self._on_their_way = 0
        self._sends_ahead_to = None

    def _end_span(self, outcome: str) -> None:
        """Of the first batch."""
        if span := self._spans.pop(self._unconfirmed[0].sequence, None):
            span.set_attribute("hourglass.outcome", outcome)
            span.end()

    def _traceparent(self, batch: Batch) -> Sequence[str]:
        """As the script takes it: nothing where nothing is traced."""
        span = self._spans.get(batch.sequence)
        return [said] if span and (said := traceparent_of(span)) else []

    def _send_all(self) -> None:
        """Send what may be sent now: the first batch, or all that follow it to its partition."""
        for batch in islice(self._unconfirmed, self._on_their_way, None):
            if self._on_their_way and not (
                batch.partition == self._unconfirmed[0].partition == self._sends_ahead_to
            ):
                return
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        instant = self._clock.look()
        partition = batch.partition
        self._days.partitions(partition.day)
        ahead = list(islice(self._unconfirmed, self._on_their_way))
        with self._going_back():
            self._linked(partition).begin(
                _INGEST,
                [partition.stream, partition.producers, partition.watermarks],
                [
                    self._incarnation,
                    batch.sequence,
                    ahead[-1].sequence if ahead else 0,
                    self._told[partition] + sum(each.count for each in ahead),
                    instant.deadline(batch.latest_ms + RETENTION_MS),
                    instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
                    batch.count,
                    batch.watermark_ms,
                    batch.payload,
                    *self._traceparent(batch),
                ],
            )
        self._on_their_way += 1

    def _confirm(self) -> Outcome:
        """What became of the first batch on its way."""
        batch = self._unconfirmed[0]
        with self._going_back():
            link = self._linked(batch.partition)
            self._on_their_way -= 1
            taken = link.finish()
            if taken == _OUT_OF_TURN:
                raise Unreachable("the partition has lost the batch before this one")
            if taken >= 0 and self._wait_replicas:
                self.await_replicas(link)
        if taken == _EXPIRED:
            self._go_back()  # the next one, if it is on its way, is refused for this one
            return Outcome.EXPIRED
        self._told[batch.partition] += batch.count
        self._sends_ahead_to = None if self._wait_replicas else batch.partition
        is_duplicate = taken == _DUPLICATE and batch.count > 0
        return Outcome.DUPLICATE if is_duplicate else Outcome.TAKEN

    @contextmanager
    def _going_back(self) -> Generator[None]:
        try:
            yield
        except Severed:
            self.close()
            self._cluster.refresh_topology()
            raise
        except (Unreachable, Damaged):
            self._go_back()
            raise
        except Exception:
            self.close()  # what is still to be read on its links is not known
            raise

    def _go_back(self) -> None:
        """Nothing is on its way any more; the first batch goes alone next."""
        if self._on_their_way:
            self.close()  # nobody reads their answers
        self._sends_ahead_to = None

    def _linked(self, partition: Partition) -> Link:
        if partition not in self._links:
            if any(other.day != partition.day for other in self._links):
                self.close()
            try:
                self._links[partition] = self._cluster.link(partition.stream)
            except Unreachable:
                # Its replica may have taken over since the topology was last asked for.
                self._cluster.refresh_topology()
                raise
        return self._links[partition]

    def await_replicas(self, link: Link) -> None:
        """Until they have what was written over `link`. Raises Unreachable."""
        try:
            have = link.call("WAIT", self._wait_replicas, self._wait_timeout_ms)
        except ResponseError as error:
            if not str(error).startswith(_DEMOTED):
                raise
            link.close()
            raise Severed(f"a replica has taken over: {error}") from error
        if have < self._wait_replicas:
            raise Unreachable(
                f"{have} of {self._wait_replicas} replicas confirmed within "
                f"{self._wait_timeout_ms} ms; the batch is tried again"
            )
