"""Where an MQTT broker is, and what to receive from it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from hourglass.cluster.seed import Tls, shown_node
from hourglass.errors import ConfigurationError
from producer.mqtt_messages import MessageFormat


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
