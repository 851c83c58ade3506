"""Devices → buffer → batches → partition: the producer's two loops.

One gives readings at the devices' pace whatever becomes of Redis; the other sees that Redis takes
each batch once. Between them stands the buffer.
"""

from __future__ import annotations

import logging

from hourglass.clock import PipelineClock
from hourglass.errors import Damaged, Unreachable
from hourglass.runtime import Service
from producer.batch import Batcher
from producer.buffer import Buffer
from producer.devices import Devices
from producer.instruments import Instruments, Loss
from producer.publisher import Outcome, Publisher

log = logging.getLogger(__name__)

RETRY_S = 0.1
#: Batches on their way while the next one is made.
SENT_AHEAD = 1


class Flow:
    """What the two loops share. The service stops when the last reading has been dealt with."""

    def __init__(
        self, service: Service, clock: PipelineClock, buffer: Buffer, metrics: Instruments
    ) -> None:
        self._service = service
        self._clock = clock
        self._buffer = buffer
        self._metrics = metrics

    def sense(self, devices: Devices, linger_s: float) -> None:
        """Devices → buffer."""
        while not devices.finished:
            self._service.beat("sensors")
            instant = self._clock.look()
            due = devices.due(instant.spec, instant.now_ms)
            self._metrics.produced(len(due.readings))
            if due.skipped:
                self._metrics.dropped(due.skipped, Loss.SKIPPED)
                log.warning("the clock leapt: %d readings skipped", due.skipped)
            if lost := self._buffer.put(due.readings):
                self._metrics.dropped(lost, Loss.BUFFER_FULL)
            self._metrics.buffered(len(self._buffer))
            if self._service.stop.wait(linger_s):
                break
        self._service.silence("sensors")
        self._buffer.close()

    def send(self, publisher: Publisher, batch_readings: int) -> None:
        """Buffer → batches → partition; the next batch is made while Redis takes the last one."""
        batcher = Batcher(limit=batch_readings)
        while not self._buffer.drained:
            self._service.beat("publisher")
            for batch in batcher.cut(self._buffer.take(batch_readings, 1.0)):
                publisher.put(batch)
            self._settle(publisher, leave=SENT_AHEAD if len(self._buffer) else 0)
            self._metrics.buffered(len(self._buffer))
        self._service.silence("publisher")
        self._service.stop.set()

    def _settle(self, publisher: Publisher, *, leave: int) -> None:
        """Try until Redis has the batches, or until told to stop while Redis is away.

        What a damaged partition refuses to the end of its day is given up, for the sake of the
        next day's.
        """
        while True:
            self._service.beat("publisher")
            try:
                for batch, outcome in publisher.settle(leave=leave):
                    self._service.well("publisher")
                    if outcome is Outcome.EXPIRED:
                        self._metrics.dropped(batch.count, Loss.EXPIRED)
                    else:
                        self._metrics.taken(batch.count, duplicate=outcome is Outcome.DUPLICATE)
            except Unreachable as error:
                self._service.trouble("publisher", str(error))
                self._metrics.retried()
            except Damaged as error:
                self._service.trouble("publisher", str(error))
                if self._clock.look().now_ms >= publisher.first.partition.end_ms:
                    self._metrics.dropped(publisher.give_up_first(), Loss.REFUSED)
                    continue
            else:
                return
            if self._service.stop.wait(RETRY_S):
                self._metrics.dropped(publisher.give_up(), Loss.STOPPED)
                return
