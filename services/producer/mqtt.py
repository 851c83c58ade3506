"""The MQTT source: receives messages from a broker, and acknowledges those that Redis has stored.

One thread serves the connection: it reads messages, writes acknowledgements and reconnects. The
sender's thread takes readings and settles them. producer.mqtt_session decides what is acknowledged.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections import Counter
from contextlib import suppress
from threading import Condition, Event

from paho.mqtt.client import MQTTMessage

from hourglass.errors import ConfigurationError
from hourglass.model.clock import PipelineClock
from hourglass.model.readings import Reading
from hourglass.service.runtime import Service
from producer.metrics import MqttMetrics
from producer.mqtt_connection import (
    MQTT_3,
    MQTT_5,
    STOP_S,
    Connection,
    ConnectionEnded,
    TooManyUnsettled,
    VersionRefused,
)
from producer.mqtt_messages import Reason, Unreadable
from producer.mqtt_options import MqttOptions
from producer.mqtt_session import Content, Session

log = logging.getLogger(__name__)

#: The worker that serves the connection.
WORKER = "mqtt"
#: Pause before a connection is tried again: the first, doubled up to the second.
PAUSE_S = 0.5
MOST_PAUSE_S = 8.0
#: A broker that cannot be reached for this long is waited for no longer: the watermark follows the
#: clock, as an aggregator waits for a silent producer (HOURGLASS_PRODUCER_IDLE_S).
BROKER_IDLE_S = 30.0
#: Topics and devices that are remembered.
_MOST_NAMES = 100_000
#: Interval of the gauges, and the time after which a silent device is forgotten.
SHOW_S = 1.0
FORGET_S = 86_400.0


class MqttSource:
    """Readings from the devices of a broker, in the order of receipt."""

    def __init__(
        self,
        service: Service,
        clock: PipelineClock,
        metrics: MqttMetrics,
        options: MqttOptions,
    ) -> None:
        """Connects to nothing yet."""
        self._service = service
        self._clock = clock
        self._metrics = metrics
        self._options = options
        self._session = Session()
        self._changed = Condition()
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
            service.resources.callback(end.close)
        self._is_finished = Event()
        self._was_subscribed = False
        self._version = MQTT_5
        self._left_out: Counter[Reason] = Counter()
        self._logged: set[tuple[str, str]] = set()
        self._devices: dict[bytes, float] = {}
        self._shown_s = 0.0

    # What the sender calls.

    def __len__(self) -> int:
        return self._session.waiting

    def take(self, limit: int, timeout_s: float) -> list[Reading]:
        """As Buffer.take, but once there is a reading, it waits for more: for a short time, and for
        no more than the broker sends at once."""
        with self._changed:
            if not self._session.waiting and not self._service.stop.is_set():
                self._changed.wait(min(timeout_s, STOP_S))
            if self._session.waiting:
                self._changed.wait_for(self._is_batch, self._options.linger_s)
            return [] if self._service.stop.is_set() else self._session.take(limit)

    def _is_batch(self) -> bool:
        most = min(self._options.batch_readings, self._session.most_in_flight)
        return self._session.waiting >= most or self._service.stop.is_set()

    def settled(self, count: int) -> None:
        """Redis took the first `count` readings that were taken, or they count as dropped."""
        if count:
            with self._changed:
                self._session.settle(count)
            self._wake()

    @property
    def next_ms(self) -> int:
        """The watermark: see Session."""
        return self._session.watermark_ms

    @property
    def drained(self) -> bool:
        """Whether to take no more; what is left, the broker keeps."""
        return self._service.stop.is_set()

    def finish(self) -> None:
        """No reading will be settled any more."""
        self._is_finished.set()
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            self._wake_writer.send(b"\0")

    # What the connection's thread does.

    def run(self) -> None:
        """Receive until the service stops and the sender has finished."""
        pause_s, lost_s = PAUSE_S, time.monotonic()
        while not self._service.stop.is_set():
            connection = Connection(
                self._options,
                self._version,
                self._session,
                self._changed,
                self._wake_reader,
                now_ms=self._now_ms,
                received=self._received,
                subscribed=self._subscribed,
            )
            try:
                self._serve(connection)
                break
            except (ConnectionEnded, OSError) as error:
                self._lost(error)
                ended = error
            except ConfigurationError as error:
                if not self._was_subscribed:
                    raise
                self._lost(error)
                ended = error
            finally:
                connection.close()
            if isinstance(ended, TooManyUnsettled):
                self._wait_for_redis()
            if connection.is_lasting:
                pause_s, lost_s = PAUSE_S, time.monotonic()
            self._wait(pause_s, lost_s)
            pause_s = min(MOST_PAUSE_S, 2 * pause_s)
        self._service.retire(WORKER)

    def _serve(self, connection: Connection) -> None:
        """Connect, and serve the connection until the sender has finished. Raises ConnectionEnded,
        OSError, ConfigurationError."""
        self._service.beat(WORKER)
        connection.open()
        while not self._is_finished.is_set():
            self._service.beat(WORKER)
            connection.pump()
            self._show()
        connection.pump()

    def _now_ms(self) -> int:
        return self._clock.current().now_ms

    def _subscribed(self) -> None:
        self._was_subscribed = True
        self._metrics.connected(is_connected=True)
        self._service.mark_recovered(WORKER)
        version = "5" if self._version is MQTT_5 else "3.1.1"
        filters, broker = ", ".join(self._options.filters), self._options.broker.shown
        log.info("subscribed to %s at %s (MQTT %s)", filters, broker, version)

    def _lost(self, error: Exception) -> None:
        self._metrics.connected(is_connected=False)
        if isinstance(error, VersionRefused) and not self._was_subscribed:
            self._version = MQTT_3 if self._version is MQTT_5 else MQTT_5
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        what = f"{self._options.broker.shown}: {cause}"
        if isinstance(error, ssl.SSLCertVerificationError) and not self._was_subscribed:
            raise ConfigurationError(
                f"{what}: check HOURGLASS_MQTT_CA_FILE and the host in HOURGLASS_MQTT_URL"
            )
        self._service.mark_failing(WORKER, f"the MQTT broker is not connected: {what}")

    def _wait_for_redis(self) -> None:
        """Until the broker may send again. The watermark stays: the broker holds messages."""
        while (
            self._session.unsettled >= self._options.receive_maximum
            and not self._service.stop.is_set()
        ):
            self._service.beat(WORKER)
            self._service.stop.wait(STOP_S)

    def _wait(self, pause_s: float, lost_s: float) -> None:
        """Pause before the next attempt."""
        until_s = time.monotonic() + pause_s
        while not self._service.stop.is_set() and time.monotonic() < until_s:
            self._service.beat(WORKER)
            if time.monotonic() >= lost_s + BROKER_IDLE_S:
                self._follow_the_clock()
            self._service.stop.wait(STOP_S)

    def _follow_the_clock(self) -> None:
        with self._changed:
            self._session.wait_no_longer(self._now_ms())
            self._changed.notify()

    def _received(self, message: MQTTMessage, content: Content | None) -> None:
        reading = self._reading(message)
        with self._changed:
            self._session.received(content, reading)
            if self._session.waiting == 1 or self._is_batch():
                self._changed.notify()

    def _reading(self, message: MQTTMessage) -> Reading | None:
        """The reading in a message; None if it has none, which is counted."""
        topic = message.topic
        self._metrics.received(message.qos)
        if message.qos == 0:
            self._log_first(topic, "QoS 0", "a message came with QoS 0: when the producer or Redis "
                            "is down, the broker drops such messages")  # fmt: skip
        try:
            reading = self._options.messages.reading(
                topic,
                bytes(message.payload),
                is_retained=message.retain,
                now_ms=self._now_ms(),
            )
        except Unreadable as unreadable:
            self._left_out[unreadable.reason] += 1
            self._metrics.unreadable(unreadable.reason)
            self._log_first(topic, unreadable.reason, f"no reading in a message: {unreadable}")
            return None
        if reading.device in self._devices or len(self._devices) < _MOST_NAMES:
            self._devices[reading.device] = time.monotonic()
        return reading

    def _log_first(self, topic: str, reason: str, what: str) -> None:
        """Log `what` once for each topic and reason."""
        if (topic, reason) not in self._logged and len(self._logged) < _MOST_NAMES:
            self._logged.add((topic, reason))
            log.warning("topic %r: %s", topic, what)

    def _show(self) -> None:
        """Set the gauges, and the line in /readyz."""
        now_s = time.monotonic()
        if now_s < self._shown_s + SHOW_S:
            return
        self._shown_s = now_s
        forgotten = [name for name, at_s in self._devices.items() if at_s < now_s - FORGET_S]
        for name in forgotten:
            del self._devices[name]
        silent = sum(at_s < now_s - self._options.silent_s for at_s in self._devices.values())
        self._metrics.show(
            devices=len(self._devices),
            silent=silent,
            unacknowledged=self._session.unacknowledged,
            is_behind=self._session.is_behind,
        )
        left_out = ", ".join(f"{count} {reason}" for reason, count in self._left_out.items())
        self._service.note(
            WORKER,
            f"MQTT: {self._options.broker.shown}, {len(self._devices)} devices, {silent} silent, "
            f"{self._session.unacknowledged} messages unacknowledged, "
            f"without a reading: {left_out or 'none'}",
        )
