"""The MQTT source: receives messages from a broker, and acknowledges those that Redis has stored.

One thread serves the connection: it reads messages, writes acknowledgements and reconnects. The
sender's thread takes readings and settles them. producer.mqtt_session decides what is acknowledged.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Event
from typing import Any
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from hourglass.cluster.url import Tls, shown_node
from hourglass.errors import ConfigurationError
from hourglass.model.clock import PipelineClock
from hourglass.model.readings import Reading
from hourglass.service.runtime import Service
from producer.metrics import MqttMetrics
from producer.mqtt_messages import MessageFormat, Reason, Unreadable
from producer.mqtt_session import Content, Session

log = logging.getLogger(__name__)

#: The worker that serves the connection.
WORKER = "mqtt"
KEEP_ALIVE_S = 30
#: Pause before a connection is tried again: the first, doubled up to the second.
PAUSE_S = 0.5
MOST_PAUSE_S = 8.0
#: Interval of the requests that show whether the broker holds messages back.
FENCE_S = 1.0
#: A broker that does not answer for this long is waited for no longer: the watermark follows the
#: clock, as an aggregator waits for a silent producer (HOURGLASS_PRODUCER_IDLE_S).
BROKER_IDLE_S = 30.0
#: Longest time until a waiting thread sees that the service stops.
_STOP_S = 0.2
#: Messages that are read before acknowledgements are written.
_AT_ONCE = 500
#: Topics and devices that are remembered.
_MOST_NAMES = 100_000
#: Interval of the gauges, and the time after which a silent device is forgotten.
SHOW_S = 1.0
FORGET_S = 86_400.0

#: Refusals that no later attempt changes, with their remedies.
_REFUSED = {
    "Bad user name or password": "check the user in HOURGLASS_MQTT_URL and its password",
    "Not authorized": "check the user in HOURGLASS_MQTT_URL and the broker's access rules",
    "Banned": "allow this client at the broker",
    "Client identifier not valid": "set HOURGLASS_NAME to a name that the broker accepts",
    "Bad authentication method": "use a broker that takes a user name and a password",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker is, and how to log in."""

    host: str
    port: int
    is_tls: bool
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str, password: str) -> Broker:
        """From mqtt(s)://[user[:password]@]host[:port]. Raises ConfigurationError."""
        remedy = "give mqtt://[user@]host[:port], or mqtts:// for TLS"
        if not url:
            raise ConfigurationError(f"HOURGLASS_MQTT_URL is not set: {remedy}")
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts"):
            raise ConfigurationError(f"the MQTT URL has no mqtt:// or mqtts:// scheme: {remedy}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:  # its message may contain a misplaced password
            host, port = None, None
        if not host or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigurationError(f"the MQTT URL has a bad host, port or path: {remedy}")
        is_tls = parts.scheme == "mqtts"
        found = unquote(parts.password or "") or password or None
        if found and not parts.username:
            raise ConfigurationError(
                "there is a password for MQTT and no user: name the user in HOURGLASS_MQTT_URL"
            )
        return cls(
            host=host,
            port=port or (8883 if is_tls else 1883),
            is_tls=is_tls,
            username=unquote(parts.username or "") or None,
            password=found,
        )

    @property
    def shown(self) -> str:
        return shown_node(self.host, self.port)

    def tls_context(self, files: Tls) -> ssl.SSLContext | None:
        """Raises ConfigurationError if the files are not what they should be."""
        if not self.is_tls:
            if any((files.ca_file, files.cert_file, files.key_file)):
                raise ConfigurationError(
                    "TLS files are set, but the MQTT URL is not for TLS: use mqtts:// in "
                    "HOURGLASS_MQTT_URL, or unset the files"
                )
            return None
        try:
            context = ssl.create_default_context(cafile=files.ca_file or None)
        except OSError as error:
            raise ConfigurationError(
                f"{files.ca_file} has no CA certificates ({error.strerror}): "
                "check HOURGLASS_MQTT_CA_FILE"
            ) from None
        try:
            if files.cert_file:
                context.load_cert_chain(files.cert_file, files.key_file or None, password="")
        except OSError as error:
            raise ConfigurationError(
                f"{files.cert_file} and {files.key_file or 'no key file'} are not a certificate "
                f"and key ({error.strerror}): check HOURGLASS_MQTT_CERT_FILE and "
                "HOURGLASS_MQTT_KEY_FILE"
            ) from None
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttOptions:
    """What an MQTT source is to do.

    client_id: name of the session at the broker; no other client may have it
    group: name of the shared subscription; empty subscribes alone
    receive_maximum: messages that the broker may have in flight
    session_expiry_s: how long the broker keeps the session of a producer that is down
    silent_s: time without a reading after which a device counts as silent
    batch_readings, linger_s: how many readings are taken at once, and how long they may wait
    """

    broker: Broker
    tls: ssl.SSLContext | None
    messages: MessageFormat
    client_id: str
    group: str
    receive_maximum: int
    session_expiry_s: int
    silent_s: float
    batch_readings: int
    linger_s: float

    @property
    def filters(self) -> list[str]:
        """What to subscribe to."""
        prefix = f"$share/{self.group}/" if self.group else ""
        return [f"{prefix}{each.topic_filter}" for each in self.messages.patterns]


class _ConnectionEnded(Exception):
    """The connection cannot be used, or is not to be used any longer; the message says why."""


class _TooManyUnsettled(_ConnectionEnded):
    """Only a broker sends so much that does not limit messages in flight: over MQTT 3.1.1, or
    messages of QoS 0, which are not acknowledged."""


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
        self._broker = options.broker
        self._filters = options.filters
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._session = Session()
        self._changed = Condition()
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
            service.resources.callback(end.close)
        self._is_finished = Event()
        self._was_connected = False
        self._is_connected = False
        self._is_subscribed = False
        self._ended: str | None = None
        self._packets = 0
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
                self._changed.wait(min(timeout_s, _STOP_S))
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
            self._service.beat(WORKER)
            self._is_connected = self._is_subscribed = False
            client = self._client()
            try:
                self._serve(client)
                break
            except (_ConnectionEnded, OSError) as error:
                if self._is_subscribed:
                    pause_s, lost_s = PAUSE_S, time.monotonic()
                self._lost(error)
                is_full = isinstance(error, _TooManyUnsettled)
            finally:
                client.on_disconnect = None
                client.disconnect()
                if (connection := client.socket()) is not None:
                    connection.close()
            if is_full:
                self._wait_for_redis()
                lost_s = time.monotonic()
            else:
                self._wait(pause_s, lost_s)
                pause_s = min(MOST_PAUSE_S, 2 * pause_s)
        self._service.retire(WORKER)

    def _wait_for_redis(self) -> None:
        """Until the broker may send again. The watermark stays: the broker holds messages."""
        while (
            self._session.unsettled >= self._options.receive_maximum
            and not self._service.stop.is_set()
        ):
            self._service.beat(WORKER)
            self._service.stop.wait(_STOP_S)

    def _lost(self, error: Exception) -> None:
        self._metrics.connected(is_connected=False)
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        what = f"{self._broker.shown}: {cause}"
        if not self._was_connected and isinstance(error, ssl.SSLCertVerificationError):
            raise ConfigurationError(f"{what}: check HOURGLASS_MQTT_CA_FILE and the host's name")
        self._service.mark_failing(WORKER, f"the MQTT broker is not connected: {what}")

    def _wait(self, pause_s: float, lost_s: float) -> None:
        """Pause before the next attempt."""
        until_s = time.monotonic() + pause_s
        while not self._service.stop.is_set() and time.monotonic() < until_s:
            self._service.beat(WORKER)
            if time.monotonic() >= lost_s + BROKER_IDLE_S:
                self._follow_the_clock()
            self._service.stop.wait(_STOP_S)

    def _follow_the_clock(self) -> None:
        with self._changed:
            self._session.wait_no_longer(self._clock.look().now_ms)
            self._changed.notify()

    def _client(self) -> Client:
        """A client for one connection: nothing of the connection before is carried over."""
        is_5 = self._protocol is MQTTProtocolVersion.MQTTv5
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._options.client_id,
            protocol=self._protocol,
            clean_session=None if is_5 else False,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if self._broker.username:
            client.username_pw_set(self._broker.username, self._broker.password)
        if self._options.tls is not None:
            client.tls_set_context(self._options.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_message = self._on_message
        return client

    def _serve(self, client: Client) -> None:
        """Connect, and serve the connection until the service stops. Raises _ConnectionEnded or
        OSError."""
        self._ended = None
        options: dict[str, Any] = {}
        if self._protocol is MQTTProtocolVersion.MQTTv5:
            properties: Any = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self._options.session_expiry_s
            properties.ReceiveMaximum = self._options.receive_maximum
            options = {"clean_start": False, "properties": properties}
        client.connect(self._broker.host, self._broker.port, KEEP_ALIVE_S, **options)
        began_s = fence_s = time.monotonic()
        while not self._is_finished.is_set():
            self._service.beat(WORKER)
            self._pump(client)
            now_s = time.monotonic()
            if not self._is_subscribed and now_s >= began_s + KEEP_ALIVE_S:
                raise _ConnectionEnded(f"no answer within {KEEP_ALIVE_S} s")
            if self._is_subscribed and now_s >= fence_s + FENCE_S:
                fence_s = self._fence(client, now_s, fence_s)
            self._show()
        self._pump(client)

    def _fence(self, client: Client, now_s: float, sent_s: float) -> float:
        """Send a fence, unless one is on its way; the time of the last one."""
        with self._changed:
            if not self._session.awaits_fence:
                self._session.fence_sent(self._clock.look().now_ms)
                client.unsubscribe(f"hourglass/{self._options.client_id}/fence")
                return now_s
        if now_s >= sent_s + BROKER_IDLE_S:
            raise _ConnectionEnded(f"no answer within {BROKER_IDLE_S:.0f} s")
        return sent_s

    def _pump(self, client: Client) -> None:
        """Read and write what there is; wait for it for a short time."""
        connection: Any = client.socket()
        if connection is None:
            raise _ConnectionEnded(self._ended or "the connection was lost")
        pending = getattr(connection, "pending", None)
        writing = [connection] if client.want_write() else []
        wait_s = 0.0 if pending is not None and pending() else _STOP_S
        ready, _, _ = select.select([connection, self._wake_reader], writing, [], wait_s)
        if self._wake_reader in ready:
            self._wake_reader.recv(4096)
        self._read(client)
        with self._changed:
            packet_ids = self._session.acknowledge()
        for packet_id in packet_ids:
            client.ack(packet_id, 1)
        if client.want_write():
            self._check(client.loop_write())
        self._check(client.loop_misc())
        if self._ended is not None:
            raise _ConnectionEnded(self._ended)
        if self._session.unsettled >= 2 * self._options.receive_maximum:
            raise _TooManyUnsettled(f"{self._session.unsettled} readings wait for Redis")

    def _check(self, result: MQTTErrorCode) -> None:
        if result is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise _ConnectionEnded(self._ended or error_string(result))

    def _read(self, client: Client) -> None:
        for _ in range(_AT_ONCE):
            before = self._packets
            self._check(client.loop_read())
            if self._packets == before or self._ended is not None:
                return

    def _on_connect(
        self,
        client: Client,
        _userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._packets += 1
        if reason.is_failure:
            self._refused(str(reason))
            return
        with self._changed:
            self._session.connected(is_resumed=flags.session_present)
        self._is_connected = True
        if self._protocol is MQTTProtocolVersion.MQTTv5:
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            client.subscribe([(each, options) for each in self._filters])
        else:
            client.subscribe([(each, 1) for each in self._filters])

    def _refused(self, reason: str) -> None:
        self._ended = f"the broker refuses the connection: {reason}"
        if "protocol version" in reason:
            self._protocol = MQTTProtocolVersion.MQTTv311
        elif not self._was_connected and (remedy := _REFUSED.get(reason)):
            raise ConfigurationError(f"the MQTT broker says {reason!r}: {remedy}")

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: Any,
        _packet_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._packets += 1
        for topic_filter, reason in zip(self._filters, reasons, strict=True):
            if reason.is_failure or reason.value == 0:
                granted = "QoS 0 alone" if reason.value == 0 else str(reason)
                self._ended = f"the broker answers {granted!r} to the subscription {topic_filter}"
                return
        self._was_connected = self._is_subscribed = True
        self._metrics.connected(is_connected=True)
        self._service.mark_recovered(WORKER)
        version = "5" if self._protocol is MQTTProtocolVersion.MQTTv5 else "3.1.1"
        log.info("subscribed to %s at %s (MQTT %s)", ", ".join(self._filters), self._broker.shown,
                 version)  # fmt: skip

    def _on_unsubscribe(
        self,
        _client: Client,
        _userdata: Any,
        _packet_id: int,
        _reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._packets += 1
        with self._changed:
            self._session.fence_answered()
            self._changed.notify()

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        is_early = self._ended is None and not self._is_connected
        self._ended = self._ended or (
            f"the broker ended the connection: {reason}"
            if flags.is_disconnect_packet_from_server
            else "the connection was lost"
        )
        if str(reason) == "Session taken over":
            self._ended += (
                f"; another client uses the name {self._options.client_id}: give each process a "
                "HOURGLASS_NAME of its own"
            )
        if is_early:
            # A broker may close the connection at a version that it does not know.
            self._protocol = (
                MQTTProtocolVersion.MQTTv311
                if self._protocol is MQTTProtocolVersion.MQTTv5
                else MQTTProtocolVersion.MQTTv5
            )

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._packets += 1
        content = None
        if message.qos:
            content = Content(message.mid, hash((message.topic, message.payload)))
            with self._changed:
                if self._session.is_known(content, is_duplicate=message.dup):
                    return
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
                now_ms=self._clock.look().now_ms,
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
            f"MQTT: {self._broker.shown}, {len(self._devices)} devices, {silent} silent, "
            f"{self._session.unacknowledged} messages unacknowledged, "
            f"without a reading: {left_out or 'none'}",
        )
