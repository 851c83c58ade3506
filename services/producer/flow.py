"""Devices → buffer → batches → partition: the producer's loops.

One gives readings at the devices' pace whatever becomes of Redis; another, for each lane, sees that
Redis takes each batch once. Between them stand the buffers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hourglass.clock import Instant, PipelineClock
from hourglass.errors import Damaged, HourglassError, Unforeseen, Unsuitable
from hourglass.keys import Partition, iso
from hourglass.partitions import Days
from hourglass.runtime import Service
from producer.batch import NO_MORE_MS, Batch
from producer.buffer import Buffer
from producer.devices import Devices
from producer.instruments import Instruments, Loss
from producer.layout import Layout
from producer.publisher import Outcome, Publisher

log = logging.getLogger(__name__)

RETRY_S = 0.1
#: A damaged key is tried again after this, and after twice as long each time, up to a limit.
DAMAGE_S = 0.5
MOST_DAMAGE_S = 8.0
#: Batches on their way while the next one is made.
SENT_AHEAD = 1
#: So often at least a partition gets a message, so that a producer whose devices are read seldom
#: counts as one that lives.
HEARTBEAT_S = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """The way of the devices that share a lane: a shard that is away holds up only its own."""

    name: str
    layout: Layout
    devices: Devices
    buffer: Buffer[Any]
    publisher: Publisher


class Flow:
    """What the loops share. The service stops when the last reading has been dealt with."""

    def __init__(
        self,
        service: Service,
        clock: PipelineClock,
        days: Days,
        lines: Sequence[Line],
        metrics: Instruments,
    ) -> None:
        self._service = service
        self._clock = clock
        self._days = days
        self._lines = lines
        self._metrics = metrics
        #: By line, the last pause before a damaged key was tried again.
        self._pauses_s: dict[str, float] = {}

    def sense(self, linger_s: float) -> None:
        """Devices → buffers."""
        while not all(line.devices.finished for line in self._lines):
            self._service.beat("sensors")
            instant = self._clock.look()
            for line in self._lines:
                self._sense(line, instant)
            self._show_buffered()
            if self._service.stop.wait(linger_s):
                break
        self._service.silence("sensors")
        for line in self._lines:
            line.buffer.close()

    def _sense(self, line: Line, instant: Instant) -> None:
        due = line.devices.due(instant.spec, instant.now_ms)
        # Those skipped, too: what was produced is taken or dropped in the end, whatever happens.
        self._metrics.produced(len(due.items) * line.layout.readings + due.skipped)
        if due.back_ms:
            log.warning("the clock went back: readings go on from %s", iso(instant.now_ms))
        if due.skipped:
            self._metrics.dropped(due.skipped, Loss.SKIPPED)
            log.warning("the clock leapt: %d readings skipped", due.skipped)
        if lost := line.buffer.put(due.items, next_ms=line.devices.next_ms) * line.layout.readings:
            self._metrics.dropped(lost, Loss.BUFFER_FULL)
            log.warning("the buffer of the %s is full: %d readings dropped", line.name, lost)

    def send(self, line: Line) -> None:
        """Buffer → batches → partition; the next batch is made while Redis takes the last one."""
        cutter = line.layout.cutter(
            lambda day_ms: self._partitions(line, self._days.beginning_at(day_ms))
        )
        sent_s = time.monotonic()
        while not line.buffer.drained:
            self._service.beat(line.name)
            items = line.buffer.take(line.layout.together, 1.0)
            is_silent = time.monotonic() >= sent_s + HEARTBEAT_S
            for batch in cutter.cut(items, next_ms=line.buffer.next_ms, to_all=is_silent):
                line.publisher.put(batch)
                sent_s = time.monotonic()
            self._settle(line, leave=SENT_AHEAD if len(line.buffer) else 0)
            self._show_buffered()
        # Aggregators need not wait for this producer.
        for batch in cutter.cut((), next_ms=NO_MORE_MS):
            line.publisher.put(batch)
        self._settle(line, leave=0)
        self._service.silence(line.name)
        if all(line.buffer.drained for line in self._lines):
            self._service.stop.set()

    def give_up_the_rest(self) -> None:
        """At the end: what no loop could get rid of, because Redis is silent and a batch is still
        in its hands, is given up with what this run gave up before."""
        self._metrics.give_up_the_rest()
        if stopped := self._metrics.stopped:
            log.warning("stopped before Redis had taken all: %d readings dropped", stopped)

    def _show_buffered(self) -> None:
        self._metrics.buffered(
            sum(
                len(line.buffer) * line.layout.readings + line.publisher.held
                for line in self._lines
            )
        )

    def _partitions(self, line: Line, day: Partition) -> Sequence[Partition]:
        """Those that `day` is shared out to. Asks until Redis tells, or until its batches would be
        given up anyway, be they for here or there."""
        while True:
            self._service.beat(line.name)
            try:
                return self._days.partitions(day)
            except Unsuitable:
                raise
            except Exception as error:
                log.debug("%s", line.name, exc_info=True)
                if self._give_up(line, day, error):
                    return (day,)

    def _settle(self, line: Line, *, leave: int) -> None:
        """Try until Redis has the batches, or until they are given up."""
        publisher = line.publisher
        while True:
            self._service.beat(line.name)
            try:
                for batch, outcome in publisher.settle(leave=leave):
                    self._service.well(line.name)
                    if batch.count:
                        self._account(batch, outcome)
            except Unsuitable:
                raise
            except Exception as error:
                log.debug("%s", line.name, exc_info=True)
                match self._give_up(line, publisher.first.partition, error):
                    case Loss.REFUSED:
                        stream = publisher.first.partition.stream
                        if refused := publisher.give_up_first():
                            self._metrics.dropped(refused, Loss.REFUSED)
                            log.warning(
                                "%s refused to its end: %d readings dropped",
                                stream,
                                refused,
                                extra={"partition": stream},
                            )
                    case Loss.STOPPED:
                        self._metrics.dropped(publisher.give_up(), Loss.STOPPED)
                        return
                    case _:
                        pass
            else:
                return

    def _account(self, batch: Batch, outcome: Outcome) -> None:
        if outcome is not Outcome.EXPIRED:
            duplicate = outcome is Outcome.DUPLICATE
            self._metrics.taken(batch.count, batch.entries, duplicate=duplicate)
            return
        self._metrics.dropped(batch.count, Loss.EXPIRED)
        log.warning(
            "%d readings of %s are older than it lives: dropped",
            batch.count,
            batch.partition.stream,
            extra={"partition": batch.partition.stream},
        )

    def _give_up(self, line: Line, partition: Partition, failure: Exception) -> Loss | None:
        """Why to try no more: told to stop while Redis is away; or a damaged partition refuses to
        the end of its day, and the next day's readings wait. None after a pause to try again.
        A failure that no code expects is one of the partition's, too: the readings are kept."""
        error = failure if isinstance(failure, HourglassError) else Unforeseen.of(failure)
        begins = self._service.trouble(line.name, error)
        pause_s = RETRY_S
        if isinstance(error, Damaged):
            if self._clock.look().now_ms >= partition.end_ms:
                return Loss.REFUSED
            before_s = 0.0 if begins else self._pauses_s.get(line.name, 0.0)
            pause_s = min(MOST_DAMAGE_S, max(DAMAGE_S, 2 * before_s))
            self._pauses_s[line.name] = pause_s
        else:
            self._metrics.retried()
        return Loss.STOPPED if self._service.stop.wait(pause_s) else None
