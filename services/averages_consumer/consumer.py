"""From the averages' stream to the warehouse: read, decode, commit, acknowledge.

The consumer acknowledges an entry after the warehouse has committed it. The warehouse has one row
per hour, so an entry that is delivered again changes nothing.
"""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Any, NamedTuple, Protocol, TextIO

from opentelemetry.trace import Span, SpanKind, Tracer

from averages_consumer.gaps import Gaps
from averages_consumer.metrics import Metrics
from averages_consumer.warehouse import LoginRefused, Warehouse, WarehouseUnreachable
from averages_consumer.warehouse.table import trace_id_of
from hourglass.cluster.client import Cluster
from hourglass.cluster.groups import group_is_gone
from hourglass.cluster.link import Link, ResponseError
from hourglass.errors import CorruptKey, Unreachable, UnsupportedServer
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import AVERAGES_GROUP, iso
from hourglass.service.tracing import context_of, exemplar, links_to, messaging

log = logging.getLogger(__name__)

BATCH_ENTRIES = 1000
BLOCK_MS = 500
RECONNECT_S = 0.2
GAPS_EVERY_S = 60.0
#: Back-off between attempts to reach the warehouse: the first pause and the longest.
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 5.0


class Host(Protocol):
    """The part of hourglass.service.runtime.Service that a consumer uses."""

    name: str
    stop: Event

    def beat(self, worker: str) -> None: ...
    def mark_failing(self, worker: str, what: str) -> object: ...
    def mark_recovered(self, worker: str) -> None: ...


class Entry(NamedTuple):
    """A stream entry as Redis delivers it: `fields` alternates names and values."""

    id: bytes
    fields: Sequence[bytes]


class _GroupGone(Exception):
    """The stream or its group was deleted before or during a blocking read."""


@dataclass(slots=True, kw_only=True)
class Consumer:
    """Loads averages for one process. All work is done in the thread that calls `work`."""

    host: Host
    cluster: Cluster
    warehouse: Warehouse
    gaps: Gaps
    metrics: Metrics
    tracer: Tracer
    claim_idle_ms: int
    #: Interval between two searches for published hours that the warehouse lacks.
    gaps_every_s: float = GAPS_EVERY_S
    #: Output for a line per loaded average; None logs it instead.
    out: TextIO | None = field(default_factory=lambda: sys.stdout)
    #: Set once the consumer has reached both the warehouse and the stream.
    begun: Event = field(default_factory=Event)
    _cursor: bytes = b"0-0"
    _next_claim: float = 0.0
    _next_gaps: float = 0.0
    #: Entries already reported whose acknowledgement is not confirmed.
    _reported: set[bytes] = field(default_factory=set[bytes])

    @property
    def stream(self) -> str:
        return self.cluster.keyspace.averages

    def work(self) -> None:
        """Load averages until the service stops. Raises ConfigurationError, UnsupportedServer,
        LoginRefused."""
        self._persist(self.warehouse.create)
        while not self.host.stop.is_set():
            self.host.beat("averages")
            try:
                with closing(self.cluster.link(self.stream)) as link:
                    self._follow(link)
            except _GroupGone as gone:
                log.warning("%s: creating the consumer group again", gone)
            except (Unreachable, CorruptKey) as error:
                self.host.mark_failing("redis", str(error))
                self.host.stop.wait(RECONNECT_S)
                self._refresh_topology()
            except ResponseError as error:
                raise UnsupportedServer(
                    f"{self.stream} cannot be read through a consumer group ({error}): check the "
                    "permissions of the Redis user"
                ) from error

    def _follow(self, link: Link) -> None:
        """Consume over one connection, under a consumer name unique to it."""
        self._make_group(link)
        self.host.mark_recovered("redis")
        self.begun.set()
        consumer = f"{self.host.name}-{uuid.uuid4().hex[:8]}"
        while not self.host.stop.is_set():
            self.host.beat("averages")
            self._look_for_gaps()
            self._load(link, self._claim(link, consumer) or self._read(link, consumer))

    def _make_group(self, link: Link) -> None:
        """Create the group at the stream's first entry. A group that is created again reads all
        entries again, which changes nothing in the warehouse."""
        try:
            link.call("XGROUP", "CREATE", self.stream, AVERAGES_GROUP, "0", "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _read(self, link: Link, consumer: str) -> Sequence[Entry]:
        reply = self._group_call(
            link,
            "XREADGROUP", "GROUP", AVERAGES_GROUP, consumer,
            "COUNT", BATCH_ENTRIES, "BLOCK", BLOCK_MS, "STREAMS", self.stream, ">",
        )  # fmt: skip
        return [Entry(*entry) for entry in reply[0][1]] if reply else []

    def _claim(self, link: Link, consumer: str) -> Sequence[Entry]:
        """Claim pending entries that were idle for too long: one batch per call, until the scan of
        the pending list is complete."""
        if time.monotonic() < self._next_claim:
            return []
        self._cursor, entries, _ = self._group_call(
            link,
            "XAUTOCLAIM", self.stream, AVERAGES_GROUP, consumer, self.claim_idle_ms,
            self._cursor, "COUNT", BATCH_ENTRIES,
        )  # fmt: skip
        if self._cursor == b"0-0":
            self._next_claim = time.monotonic() + self.claim_idle_ms / 2000
        self.metrics.reclaimed(len(entries))
        return [Entry(*entry) for entry in entries]

    def _group_call(self, link: Link, *command: str | bytes | int) -> Any:
        try:
            return link.call(*command)
        except ResponseError as error:
            if group_is_gone(error):
                raise _GroupGone(str(error)) from None
            raise

    def _load(self, link: Link, entries: Sequence[Entry]) -> None:
        """Commit to the warehouse, report, acknowledge. If the service stops while the warehouse is
        unreachable, do none of it: the entries stay pending in the group."""
        if not entries:
            return
        averages: dict[bytes, HourlyAverage] = {}
        invalid: dict[bytes, ValueError] = {}
        for entry in entries:
            try:
                averages[entry.id] = _decode(entry)
            except ValueError as error:
                invalid[entry.id] = error
        with self._span(list(averages.values()), len(entries)):
            if averages and not self._commit(list(averages.values())):
                return
            self._report(averages, invalid)
            self._acknowledge(link, entries)
        self._reported.difference_update(averages, invalid)

    def _acknowledge(self, link: Link, entries: Sequence[Entry]) -> None:
        link.call("XACK", self.stream, AVERAGES_GROUP, *(entry.id for entry in entries))

    def _span(
        self, averages: Sequence[HourlyAverage], entries: int
    ) -> AbstractContextManager[Span]:
        """The span of one load: in the trace of its hour; for several hours, linked to each."""
        traceparents = [average.traceparent for average in averages if average.traceparent]
        return self.tracer.start_as_current_span(
            f"process {self.stream}",
            context=context_of(traceparents[0]) if len(traceparents) == 1 else None,
            kind=SpanKind.CONSUMER,
            links=links_to(traceparents),
            attributes={
                **messaging("process", self.stream, entries),
                "messaging.consumer.group.name": AVERAGES_GROUP,
            },
        )

    def _commit(self, averages: Sequence[HourlyAverage]) -> bool:
        """Write to the warehouse; False if the service stopped before it succeeded."""
        return self._persist(lambda: self._write(averages))

    def _write(self, averages: Sequence[HourlyAverage]) -> None:
        started = time.perf_counter()
        self.warehouse.upsert(averages, datetime.now(UTC))
        self.metrics.wrote(time.perf_counter() - started, exemplar())

    def _persist(self, write: Callable[[], None]) -> bool:
        """Call `write` until it succeeds, or until the service stops; whether it succeeded.

        Raises LoginRefused: a retry uses the same password, and a restart may read a new one.
        """
        retry_s = FIRST_RETRY_S
        while True:
            self.host.beat("averages")
            try:
                write()
            except LoginRefused:
                raise
            except WarehouseUnreachable as error:
                self.metrics.warehouse_failed()
                self.host.mark_failing("warehouse", str(error))
            else:
                self.host.mark_recovered("warehouse")
                return True
            if self.host.stop.wait(retry_s):
                return False
            retry_s = min(2 * retry_s, LAST_RETRY_S)
            # Afterwards look at once for hours that were lost or trimmed during the outage.
            self._next_gaps = 0.0

    def _report(
        self, averages: Mapping[bytes, HourlyAverage], invalid: Mapping[bytes, ValueError]
    ) -> None:
        """Report each entry once, also if it is delivered again after a lost acknowledgement."""
        for entry_id, average in averages.items():
            if entry_id not in self._reported:
                self._report_loaded(average)
        for entry_id, error in invalid.items():
            if entry_id not in self._reported:
                self.metrics.invalid()
                log.error(
                    "entry %s is not a valid average, it is not loaded: %s",
                    entry_id.decode(),
                    error,
                    extra={"consumer": self.host.name},
                )
        self._reported.update(averages, invalid)

    def _report_loaded(self, average: HourlyAverage) -> None:
        self.metrics.loaded(average)
        self.tell(average.line, average.start_ms, trace_id_of(average.traceparent))

    def tell(self, text: str, hour_ms: int, trace_id: str | None) -> None:
        """Print the line, or log it with its hour and trace."""
        if self.out:
            print(text, file=self.out, flush=True)
        else:
            facts = {"consumer": self.host.name, "hour": iso(hour_ms), "trace_id": trace_id or ""}
            log.info("%s", text, extra=facts)

    def _look_for_gaps(self) -> None:
        if time.monotonic() >= self._next_gaps:
            self._next_gaps = time.monotonic() + self.gaps_every_s
            try:
                averages = self.gaps.check()
            except LoginRefused:
                raise
            except WarehouseUnreachable as error:
                self.metrics.warehouse_failed()
                self.host.mark_failing("warehouse", str(error))
                self._next_gaps = time.monotonic() + LAST_RETRY_S
                return
            self.host.mark_recovered("warehouse")
            for average in averages:
                self._report_loaded(average)

    def _refresh_topology(self) -> None:
        try:
            self.cluster.refresh_topology()
        except Unreachable as error:
            log.debug("topology: %s", error)


def _decode(entry: Entry) -> HourlyAverage:
    names, values = entry.fields[::2], entry.fields[1::2]
    return HourlyAverage.decode(entry.id, dict(zip(names, values, strict=True)))
