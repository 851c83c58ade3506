"""One connection to an MQTT broker, from its start to its end.

One thread serves it: every call and every callback is made by that thread. What ends a connection
is a ConnectionEnded; another connection is then another object, and nothing is carried over but the
Session, which knows what is acknowledged.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from threading import Condition
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from hourglass.errors import ConfigurationError
from producer.mqtt_options import MqttOptions
from producer.mqtt_session import Content, Session

MQTT_5 = MQTTProtocolVersion.MQTTv5
MQTT_3 = MQTTProtocolVersion.MQTTv311
KEEP_ALIVE_S = 30
#: Interval of the requests that show whether the broker holds messages back.
FENCE_S = 1.0
#: A broker that answers nothing for this long counts as lost.
ANSWER_S = 30.0
#: Longest time until a waiting thread sees that the service stops.
STOP_S = 0.2
#: A session that lasted for less was taken over, or the broker is not well.
LASTING_S = 10.0
#: Messages that are read before acknowledgements are written.
_AT_ONCE = 500

#: Refusals that no later attempt changes, with their remedies.
_REFUSED = {
    "Bad user name or password": "check the user in HOURGLASS_MQTT_URL and its password",
    "Not authorized": "check the user in HOURGLASS_MQTT_URL and the broker's access rules",
    "Banned": "allow this client at the broker",
    "Client identifier not valid": "set HOURGLASS_NAME to a name that the broker accepts",
    "Bad authentication method": "use a broker that takes a user name and a password",
}


class ConnectionEnded(Exception):
    """The connection cannot be used, or is not to be used any longer; the message says why."""


class TooManyUnsettled(ConnectionEnded):
    """Only a broker sends so much that does not limit messages in flight: over MQTT 3.1.1, or
    messages of QoS 0, which are not acknowledged."""


class VersionRefused(ConnectionEnded):
    """The broker may know another version of MQTT."""


class Connection:
    """A client that is connected once."""

    def __init__(
        self,
        options: MqttOptions,
        version: MQTTProtocolVersion,
        session: Session,
        changed: Condition,
        wake: socket.socket,
        *,
        now_ms: Callable[[], int],
        received: Callable[[MQTTMessage, Content | None], None],
        subscribed: Callable[[], None],
    ) -> None:
        """Connects to nothing yet.

        changed: guards `session`; notified when its watermark may have moved
        wake: ends a wait when it can be read
        received: called with each message that the session does not know
        subscribed: called once messages can come
        """
        self._options = options
        self._version = version
        self._session = session
        self._changed = changed
        self._wake = wake
        self._now_ms = now_ms
        self._received = received
        self._subscribed = subscribed
        self._is_connected = False
        self._subscribed_s: float | None = None
        self._ended: ConnectionEnded | None = None
        self._packets = 0
        self._fence_s = 0.0
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=version,
            clean_session=None if version is MQTT_5 else False,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if options.broker.username:
            client.username_pw_set(options.broker.username, options.broker.password)
        if options.tls is not None:
            client.tls_set_context(options.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_message = self._on_message

    def open(self) -> None:
        """Connect; the broker answers later. Raises OSError."""
        options: dict[str, Any] = {}
        if self._version is MQTT_5:
            properties: Any = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self._options.session_expiry_s
            properties.ReceiveMaximum = self._options.receive_maximum
            options = {"clean_start": False, "properties": properties}
        broker = self._options.broker
        self._client.connect(broker.host, broker.port, KEEP_ALIVE_S, **options)
        self._fence_s = time.monotonic()

    @property
    def is_lasting(self) -> bool:
        """Whether messages could come for longer than a client that takes over lets them."""
        since_s = self._subscribed_s
        return since_s is not None and time.monotonic() > since_s + LASTING_S

    def pump(self) -> None:
        """Read and write what there is; wait for it for a short time. Raises ConnectionEnded,
        OSError; ConfigurationError if the broker refuses the client."""
        connection: Any = self._client.socket()
        if connection is None:
            raise self._ended or ConnectionEnded("the connection was lost")
        pending = getattr(connection, "pending", None)
        writing = [connection] if self._client.want_write() else []
        wait_s = 0.0 if pending is not None and pending() else STOP_S
        ready, _, _ = select.select([connection, self._wake], writing, [], wait_s)
        if self._wake in ready:
            self._wake.recv(4096)
        self._read()
        with self._changed:
            packet_ids = self._session.acknowledge()
        for packet_id in packet_ids:
            self._client.ack(packet_id, 1)
        if self._client.want_write():
            self._check(self._client.loop_write())
        self._check(self._client.loop_misc())
        if self._session.unsettled >= 2 * self._options.receive_maximum:
            raise TooManyUnsettled(f"{self._session.unsettled} readings wait for Redis")
        self._send_fence()

    def close(self) -> None:
        """End the connection; the broker keeps the session."""
        self._client.on_disconnect = None
        self._client.disconnect()
        if (connection := self._client.socket()) is not None:
            connection.close()

    def _send_fence(self) -> None:
        """Send a fence from time to time, but one at a time."""
        now_s = time.monotonic()
        is_waiting = self._session.awaits_fence or self._subscribed_s is None
        if is_waiting and now_s >= self._fence_s + ANSWER_S:
            raise ConnectionEnded(f"no answer within {ANSWER_S:.0f} s")
        if not is_waiting and now_s >= self._fence_s + FENCE_S:
            self._fence_s = now_s
            with self._changed:
                self._session.fence_sent(self._now_ms())
            self._client.unsubscribe(f"hourglass/{self._options.client_id}/fence")

    def _check(self, result: MQTTErrorCode) -> None:
        if self._ended is not None:
            raise self._ended
        if result is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionEnded(error_string(result))

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            before = self._packets
            self._check(self._client.loop_read())
            if self._packets == before:
                return

    def _on_connect(
        self,
        client: Client,
        _data: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._packets += 1
        if reason.is_failure:
            text = str(reason)
            if remedy := _REFUSED.get(text):
                raise ConfigurationError(f"the MQTT broker says {text!r}: {remedy}")
            kind = VersionRefused if "protocol version" in text else ConnectionEnded
            self._ended = kind(f"the broker refuses the connection: {text}")
            return
        with self._changed:
            self._session.connected(is_resumed=flags.session_present)
        self._is_connected = True
        if self._version is MQTT_5:
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            client.subscribe([(each, options) for each in self._options.filters])
        else:
            client.subscribe([(each, 1) for each in self._options.filters])

    def _on_subscribe(
        self,
        _client: Client,
        _data: Any,
        _packet_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._packets += 1
        for topic_filter, reason in zip(self._options.filters, reasons, strict=True):
            if reason.is_failure or reason.value == 0:
                granted = "QoS 0 alone" if reason.value == 0 else str(reason)
                self._ended = ConnectionEnded(
                    f"the broker answers {granted!r} to the subscription {topic_filter}"
                )
                return
        self._subscribed_s = time.monotonic()
        self._subscribed()

    def _on_unsubscribe(
        self,
        _client: Client,
        _data: Any,
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
        _data: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._ended is not None:
            return
        if not flags.is_disconnect_packet_from_server:
            # A broker may close the connection at a version that it does not know.
            kind = ConnectionEnded if self._is_connected else VersionRefused
            self._ended = kind(f"the connection was lost{self._taken_over()}")
        else:
            self._ended = ConnectionEnded(
                f"the broker ended the connection: {reason}{self._taken_over()}"
            )

    def _taken_over(self) -> str:
        """The likely reason why a session ends soon; not every broker gives it."""
        if not self._is_connected or self.is_lasting:
            return ""
        return (
            f"; another client may use the name {self._options.client_id}: give each process a "
            "HOURGLASS_NAME of its own"
        )

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._packets += 1
        content = None
        if message.qos:
            content = Content(message.mid, hash((message.topic, message.payload)))
            with self._changed:
                if self._session.is_known(content, is_duplicate=message.dup):
                    return
        self._received(message, content)
