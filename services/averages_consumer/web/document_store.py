"""The current documents, encoded once for all clients, and the clients that receive each change.

The collector's threads pass new data to the store, which updates the documents every second and
with each average. It calls its listeners with the new documents, in the thread that updated them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from threading import Lock
from typing import Any

import msgspec

from averages_consumer.warehouse.table import HourRow
from averages_consumer.web import view
from averages_consumer.web.view import PageSnapshot
from hourglass.cluster.published import Update
from hourglass.errors import CorruptKey, Unreachable
from hourglass.model.averages import HourlyAverage
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.keys import AVERAGES_KEPT
from hourglass.monitoring.pipeline_status import PipelineStatus, Poll
from hourglass.monitoring.server_settings import Finding

#: The names of the documents in the API and on the event stream, in the order they are sent.
NAMES = ("averages", "status", "partitions")

MOST_VIEWERS = 100
#: Shortest interval between two messages to one client.
PAUSE_S = 0.1


def etag_of(body: bytes) -> str:
    """A weak entity tag: the compressed and the plain response share it."""
    return f'W/"{blake2b(body, digest_size=12).hexdigest()}"'


@dataclass(frozen=True)
class Document:
    """One document, encoded."""

    name: str
    body: bytes

    @cached_property
    def etag(self) -> str:
        return etag_of(self.body)

    @cached_property
    def event(self) -> bytes:
        """The document as a server-sent event (https://html.spec.whatwg.org/#server-sent-events).
        The body is one line, because the JSON encoder emits no line breaks."""
        return b"event: %b\ndata: %b\n\n" % (self.name.encode(), self.body)


Documents = Mapping[str, Document]


class DocumentStore:
    """The current documents and the state they are made from. Thread-safe."""

    def __init__(
        self,
        clock: PipelineClock,
        *,
        begun: Instant,
        name: str,
        period_s: float,
        not_ready: Callable[[], Sequence[str]],
        missing_hours: Callable[[], int],
        server_findings: Callable[[], Sequence[Finding]],
    ) -> None:
        """Starts with documents that show an unknown state.

        begun: the current time, used until `clock` has been read
        not_ready, missing_hours, server_findings: called for each update of the documents
        """
        self._clock = clock
        self._name = name
        self._period_s = period_s
        self._not_ready = not_ready
        self._missing_hours = missing_hours
        self._server_findings = server_findings
        self._lock = Lock()
        #: The last reading of the clock.
        self.instant = begun
        self._listeners: list[Callable[[Documents], None]] = []
        self._begun = begun
        self._begun_s = time.monotonic()
        self._snapshot = PageSnapshot(
            instant=begun,
            begun_ms=begun.real_ms,
            averages_at_ms=begun.real_ms,
            rows_at_ms=begun.real_ms,
        )
        self.documents: Documents = {}
        self.refresh()

    def listen(self, listener: Callable[[Documents], None]) -> None:
        self._listeners.append(listener)

    @property
    def averages(self) -> Sequence[HourlyAverage]:
        """The averages on the stream, in order."""
        return self._snapshot.averages

    def received(self, update: Update) -> None:
        """Record the result of a read of the averages' stream, also an empty one. New averages
        update the documents at once."""
        changed = bool(update.averages) or update.replaces
        known = self._snapshot.averages
        averages = update.added_to(known, AVERAGES_KEPT) if changed else known
        self._know(averages=averages, averages_at_ms=self._now().real_ms)
        self._found("averages", {})
        if changed:
            self.refresh()

    def polled(self, pipeline: PipelineStatus) -> None:
        due_since = still_due(self._snapshot.due_since, pipeline)
        if (before := self._snapshot.pipeline) is not None:
            pipeline = with_known_removals(pipeline, before)
        self._know(pipeline=pipeline, due_since=due_since)
        self._found("pipeline", {})

    def unreadable(self, poll: Poll, why: str) -> None:
        """Record that Redis answered this poll with data that cannot be read, and why."""
        self._know(unreadable_at_ms=self._now().real_ms)
        self._found(poll, {poll: why})

    @property
    def too_late(self) -> AbstractSet[int]:
        """Hours that were too late to be published."""
        return self._snapshot.pipeline.too_late if self._snapshot.pipeline else frozenset()

    def loaded(self, rows: Sequence[HourRow], late_and_loaded: AbstractSet[int]) -> None:
        self._know(rows=rows, late_and_loaded=late_and_loaded, rows_at_ms=self._now().real_ms)

    def refresh(self) -> None:
        """Update the documents and call the listeners."""
        with self._lock:
            now = replace(
                self._snapshot,
                instant=self._now(),
                not_ready=self._not_ready(),
                missing_hours=self._missing_hours(),
                server_findings=self._server_findings(),
            )
            self.documents = self._encoded(now)
            for listener in self._listeners:
                listener(self.documents)

    def _now(self) -> Instant:
        try:
            self.instant = self._clock.current()
        except (Unreachable, CorruptKey):  # never read: add the time elapsed since the start
            passed_ms = round(1000 * (time.monotonic() - self._begun_s))
            self.instant = replace(self._begun, real_ms=self._begun.real_ms + passed_ms)
        return self.instant

    def _found(self, poll: Poll, unreadable: Mapping[Poll, str]) -> None:
        """Replace the read errors of this poll."""
        with self._lock:
            before = self._snapshot.unreadable
            others = {each: before[each] for each in before if each != poll}
            self._snapshot = replace(self._snapshot, unreadable={**others, **unreadable})

    def _know(self, **changes: Any) -> None:
        with self._lock:
            self._snapshot = replace(self._snapshot, **changes)

    def _encoded(self, snapshot: PageSnapshot) -> Documents:
        made = (
            view.averages(snapshot, self._period_s),
            view.status(snapshot, self._period_s, self._name),
            view.partitions(snapshot),
        )
        return {
            name: self._kept_if_same(Document(name, msgspec.json.encode(each)))
            for name, each in zip(NAMES, made, strict=True)
        }

    def _kept_if_same(self, fresh: Document) -> Document:
        """The previous object if the body did not change: it caches its entity tag and event."""
        before = self.documents.get(fresh.name)
        return before if before is not None and before.body == fresh.body else fresh


class Subscribers:
    """The clients of the event stream. Each receives the documents that changed, at its own speed.

    There is no queue per client. A slow client receives the current documents when it is ready, and
    skips the versions in between. Use it in one event loop; only `show` is thread-safe.
    """

    def __init__(self, documents: Documents) -> None:
        self.count = 0
        self._documents = documents
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def full(self) -> bool:
        return self.count >= MOST_VIEWERS

    @contextmanager
    def one_more(self) -> Generator[None]:
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    def attach(self) -> None:
        """Use the running event loop for all clients."""
        self._loop = asyncio.get_running_loop()

    def show(self, documents: Documents) -> None:
        """Replace the documents and wake the clients."""
        self._documents = documents
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """End every stream. Call it in the event loop."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def events(self) -> AsyncGenerator[bytes]:
        """The events for one client: all documents first, then those that change."""
        sent: Mapping[str, Document] = {}
        while not self._closed:
            changed, documents = self._changed, self._documents
            fresh = [each for each in documents.values() if sent.get(each.name) is not each]
            sent = documents
            if fresh:
                yield b"".join(each.event for each in fresh)
                await asyncio.sleep(PAUSE_S)
            if self._documents is documents:
                await changed.wait()


def still_due(before: Mapping[int, int], pipeline: PipelineStatus) -> Mapping[int, int]:
    """The time at which each due hour became due: as in `before`, or now for a new one. Hours that
    are no longer due are left out."""
    now_ms = pipeline.instant.real_ms
    return {hour: before.get(hour, now_ms) for hour in pipeline.hours_due()}


def with_known_removals(pipeline: PipelineStatus, before: PipelineStatus) -> PipelineStatus:
    """`pipeline` with the losses known before: while many entries are not delivered, one poll
    finds fewer than an earlier one did."""
    if not pipeline.removals or not before.removals:
        return pipeline
    known = before.removals
    removals = {name: each.after(known.get(name, each)) for name, each in pipeline.removals.items()}
    return replace(pipeline, removals=removals)
