"""Devices → buffer → batches → partition: the producer's loops.

One loop generates readings at the devices' rate, whether Redis is reachable or not. One loop for
each lane sends batches until Redis has stored each of them once. Buffers decouple the loops.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hourglass.cluster.partitions import Days
from hourglass.errors import CorruptKey, HourglassError, Unforeseen, UnsupportedServer
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.keys import Partition, iso
from hourglass.service.runtime import Service
from producer.batch import NO_MORE_MS, Batch, Shares
from producer.buffer import Buffer
from producer.devices import Devices
from producer.entry_format import Encoder
from producer.metrics import Loss, Metrics
from producer.writer import BatchWriter, Outcome

log = logging.getLogger(__name__)

RETRY_S = 0.1
#: Back-off after a corrupt key: the first pause, doubled after each failure up to the second value.
DAMAGE_S = 0.5
MOST_DAMAGE_S = 8.0
#: Batches in flight while the next one is made.
SENT_AHEAD = 1
#: Longest interval between two batches to a partition. Batches without readings keep a producer
#: with a long period registered as alive.
HEARTBEAT_S = 5.0


class Input(Protocol):
    """Where a sender takes items from: a buffer, or a source that keeps its readings itself."""

    def __len__(self) -> int: ...
    def take(self, limit: int, timeout_s: float) -> list[Any]: ...
    @property
    def next_ms(self) -> int: ...
    @property
    def drained(self) -> bool: ...


class Keeping(Input, Protocol):
    """A source that keeps each reading until it is settled."""

    def settled(self, count: int) -> None: ...
    def finish(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The path of readings to Redis. Each lane of simulated devices has its own, so that an
    unreachable shard delays only the lanes it holds.

    encoder: factory of the encoder
    readings: readings in one item
    together: items to send in one batch
    is_kept: whether the source keeps readings that Redis has not stored when the service stops;
        then they count as produced once they are stored or dropped
    """

    name: str
    encoder: Callable[[Shares], Encoder]
    readings: int
    together: int
    publisher: BatchWriter
    is_kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedLine(Line):
    devices: Devices
    buffer: Buffer[Any]


class ProducerPipeline:
    """The producer's loops. They stop the service after the last reading is sent or dropped."""

    def __init__(
        self,
        service: Service,
        clock: PipelineClock,
        days: Days,
        lines: Sequence[SimulatedLine],
        metrics: Metrics,
    ) -> None:
        self._service = service
        self._clock = clock
        self._days = days
        self._lines = lines
        self._metrics = metrics
        #: The last pause before a retry on a corrupt key, by the name of the line.
        self._pauses_s: dict[str, float] = {}

    def sense(self, linger_s: float) -> None:
        """Devices → buffers."""
        while not all(line.devices.finished for line in self._lines):
            self._service.beat("sensors")
            instant = self._clock.current()
            for line in self._lines:
                self._sense(line, instant)
            self._show_buffered()
            if self._service.stop.wait(linger_s):
                break
        self._service.retire("sensors")
        for line in self._lines:
            line.buffer.close()

    def _sense(self, line: SimulatedLine, instant: Instant) -> None:
        due = line.devices.due(instant.spec, instant.now_ms)
        # Skipped readings count as produced: at the end, produced = taken + dropped.
        self._metrics.produced(len(due.items) * line.readings + due.skipped)
        if due.back_ms:
            log.warning("the clock went back: readings continue from %s", iso(instant.now_ms))
        if due.skipped:
            self._metrics.dropped(due.skipped, Loss.SKIPPED)
            log.warning("the clock jumped forward: %d readings skipped", due.skipped)
        if lost := line.buffer.put(due.items, next_ms=line.devices.next_ms) * line.readings:
            self._metrics.dropped(lost, Loss.BUFFER_FULL)
            log.warning("the buffer of the %s is full: %d readings dropped", line.name, lost)

    def send(self, line: SimulatedLine) -> None:
        """Buffer → batches → partition; makes the next batch while Redis processes the last one."""
        cutter = line.encoder(
            lambda day_ms: self._partitions(line, self._days.beginning_at(day_ms))
        )
        sent_s = time.monotonic()
        while not line.buffer.drained:
            self._service.beat(line.name)
            items = line.buffer.take(line.together, 1.0)
            if self._put(line, cutter, items, line.buffer.next_ms, sent_s):
                sent_s = time.monotonic()
            self._settle(line, leave=SENT_AHEAD if len(line.buffer) else 0)
            self._show_buffered()
        # The final watermark lets aggregators seal hours without waiting for this producer.
        for batch in cutter.cut((), next_ms=NO_MORE_MS):
            line.publisher.put(batch)
        self._settle(line, leave=0)
        self._service.retire(line.name)
        if all(line.buffer.drained for line in self._lines):
            self._service.stop.set()

    def forward(self, line: Line, source: Keeping) -> None:
        """Source → batches → partition. A reading is settled once Redis has stored it; what is not
        settled when the service stops, the source keeps.

        Sends no final watermark: what the source receives meanwhile comes after a restart, and an
        aggregator waits for it like for a producer that is silent.
        """
        encoder = line.encoder(
            lambda day_ms: self._partitions(line, self._days.beginning_at(day_ms))
        )
        sent_s = time.monotonic()
        while not source.drained:
            self._service.beat(line.name)
            next_ms = source.next_ms  # of readings that are settled, so before others are taken
            items = source.take(line.together, 1.0)
            if self._put(line, encoder, items, next_ms, sent_s):
                sent_s = time.monotonic()
            self._metrics.buffered(len(source) + len(items))
            if not self._settle(line, leave=0):
                break
            source.settled(len(items))
        source.finish()
        self._service.retire(line.name)

    def _put(
        self, line: Line, encoder: Encoder, items: Sequence[Any], next_ms: int, sent_s: float
    ) -> bool:
        """Queue `items` in batches; whether there was a batch. After a pause since `sent_s` there
        is one for each open partition."""
        is_silent = time.monotonic() >= sent_s + HEARTBEAT_S
        batches = list(encoder.cut(items, next_ms=next_ms, to_all=is_silent))
        for batch in batches:
            line.publisher.put(batch)
        return bool(batches)

    def give_up_the_rest(self) -> None:
        """Count the readings that are still buffered or in flight at exit as dropped, and log the
        number of readings dropped because of the stop."""
        self._metrics.give_up_the_rest()
        if stopped := self._metrics.stopped:
            log.warning("stopped before Redis stored all readings: %d readings dropped", stopped)

    def _show_buffered(self) -> None:
        self._metrics.buffered(
            sum(len(line.buffer) * line.readings + line.publisher.held for line in self._lines)
        )

    def _partitions(self, line: Line, day: Partition) -> Sequence[Partition]:
        """The partitions of `day`. Retries until Redis answers; returns the plain partition once
        batches of that day would be given up, so that they are counted as dropped."""
        while True:
            self._service.beat(line.name)
            try:
                return self._days.partitions(day)
            except UnsupportedServer:
                raise
            except Exception as error:
                log.debug("%s", line.name, exc_info=True)
                if self._give_up(line, day, error):
                    return (day,)

    def _settle(self, line: Line, *, leave: int) -> bool:
        """Send until at most `leave` batches are in flight; give up those that cannot be sent.
        False if the service stopped meanwhile."""
        publisher = line.publisher
        while True:
            self._service.beat(line.name)
            try:
                for batch, outcome in publisher.settle(leave=leave):
                    self._service.mark_recovered(line.name)
                    if batch.size:
                        self._account(line, batch, outcome)
            except UnsupportedServer:
                raise
            except Exception as error:
                log.debug("%s", line.name, exc_info=True)
                match self._give_up(line, publisher.first.partition, error):
                    case Loss.REFUSED:
                        stream = publisher.first.partition.stream
                        if refused := publisher.give_up_first():
                            self._dropped(line, refused, Loss.REFUSED)
                            log.warning(
                                "%s was corrupt until its day ended: %d readings dropped",
                                stream,
                                refused,
                                extra={"partition": stream},
                            )
                    case Loss.STOPPED:
                        stopped = publisher.give_up()
                        self._metrics.dropped(0 if line.is_kept else stopped, Loss.STOPPED)
                        return False
                    case _:
                        pass
            else:
                return True

    def _dropped(self, line: Line, count: int, reason: Loss) -> None:
        if line.is_kept:
            self._metrics.produced(count)
        self._metrics.dropped(count, reason)

    def _account(self, line: Line, batch: Batch, outcome: Outcome) -> None:
        if outcome is not Outcome.EXPIRED:
            duplicate = outcome is Outcome.DUPLICATE
            if line.is_kept:
                self._metrics.produced(batch.size)
            self._metrics.repeated(batch.repeated)
            self._metrics.unidentified(batch.unidentified)
            if batch.count:
                self._metrics.taken(batch.count, batch.entries, duplicate=duplicate)
            return
        self._dropped(line, batch.size, Loss.EXPIRED)
        log.warning(
            "%d readings of %s are older than the retention time: dropped",
            batch.size,
            batch.partition.stream,
            extra={"partition": batch.partition.stream},
        )

    def _give_up(self, line: Line, partition: Partition, failure: Exception) -> Loss | None:
        """The reason to give up, or None after a pause, to try again.

        STOPPED: the service stops while Redis is unreachable. REFUSED: the partition was corrupt
        until its day ended, and readings of the next day wait behind it. An unexpected error counts
        as an error of the partition, so that its readings are kept.
        """
        error = failure if isinstance(failure, HourglassError) else Unforeseen.of(failure)
        begins = self._service.mark_failing(line.name, error)
        pause_s = RETRY_S
        if isinstance(error, CorruptKey):
            if self._clock.current().now_ms >= partition.end_ms:
                return Loss.REFUSED
            before_s = 0.0 if begins else self._pauses_s.get(line.name, 0.0)
            pause_s = min(MOST_DAMAGE_S, max(DAMAGE_S, 2 * before_s))
            self._pauses_s[line.name] = pause_s
        else:
            self._metrics.retried()
        return Loss.STOPPED if self._service.stop.wait(pause_s) else None
