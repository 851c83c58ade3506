"""The producer's options."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hourglass.cluster.seed import Tls
from hourglass.errors import ConfigurationError
from hourglass.model.keys import MOST_LANES, RETENTION_MS
from hourglass.service.config import ServiceSettings, option, secret
from producer.entry_format import PACKED_FROM, Packing
from producer.mqtt_messages import (
    ARRIVAL,
    MessageFormat,
    Pointer,
    TopicPattern,
    Unit,
    no_reading_values,
)


class Source(StrEnum):
    """Where readings come from."""

    SIMULATED = "simulated"
    MQTT = "mqtt"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings(ServiceSettings):
    """The options of a producer process."""

    source: Source = option(
        Source.SIMULATED, "Where readings come from: simulated devices, or a broker of MQTT."
    )
    devices: int = option(1, "Devices that this process simulates.", minimum=1)
    period_s: float = option(1.0, "Time between two readings of a device.", unit="s", minimum=0.001)
    lanes: int = option(
        1,
        "Number of lanes (streams, on different shards) that each day is spread over. The value "
        "of the first producer of a day applies to all producers until midnight, UTC.",
        minimum=1,
        maximum=MOST_LANES,
    )
    seed: int = option(0, "Seed of the simulated temperatures.")
    until: str = option(
        "", "Pipeline time (ISO 8601, UTC) at which to finish and exit; empty means no end."
    )
    packed: Packing = option(
        Packing.AUTO,
        "Whether to pack the readings of many devices into one entry; "
        f"auto packs from {PACKED_FROM} devices on.",
    )
    batch_readings: int = option(
        1000,
        "Maximum readings in one batch of unpacked readings.",
        unit="readings",
        minimum=1,
        maximum=5000,
    )
    linger_ms: int = option(
        50, "Maximum time that readings wait to be sent in one batch.", unit="ms", minimum=1
    )
    buffer_readings: int = option(
        100_000,
        "Capacity of the buffer for readings while Redis is unreachable; when it is full, the "
        "oldest are dropped and counted.",
        unit="readings",
        minimum=1,
    )
    wait_replicas: int = option(
        0, "Number of replicas that must confirm a batch before it counts as stored.", minimum=0
    )
    wait_timeout_ms: int = option(
        1000,
        "Maximum wait for these replicas before the batch is sent again.",
        unit="ms",
        minimum=1,
    )
    tally_file: str = option(
        "",
        "File for the tally that is printed at exit: readings produced, taken and dropped.",
    )
    mqtt_url: str = option(
        "", "The broker: mqtt://[user@]host[:port], or mqtts:// for TLS.", secret=True
    )
    mqtt_password: str = option(
        "", "Password, used if the URL has none; only as environment variable.",
        secret=True, flag=False,
    )  # fmt: skip
    mqtt_password_file: str | None = option(None, "File with the password in its first line.")
    mqtt_ca_file: str | None = option(
        None, "File with the CA certificates to trust (PEM); without it those of the system."
    )
    mqtt_cert_file: str | None = option(None, "File with the client certificate (PEM).")
    mqtt_key_file: str | None = option(None, "File with the client certificate's key (PEM).")
    mqtt_topics: str = option(
        "",
        "Topics of the devices, with commas between them; the level {device} is the name of the "
        "device: sensors/{device}/temperature.",
    )
    mqtt_value: str = option(
        "",
        "JSON pointer to the temperature, such as /DS18B20/Temperature; empty takes the payload if "
        "it is a number, else the field temperature, temp or value.",
    )
    mqtt_unit: str = option("", "Unit of the temperatures: C, F or K.")
    mqtt_time: str = option(
        "",
        "JSON pointer to the time, which is ISO 8601 (UTC if it has no offset) or seconds or "
        "milliseconds since the epoch; empty takes the field time, timestamp, ts, datetime or "
        f"last_seen if there is one; {ARRIVAL} always takes the time of arrival.",
    )
    mqtt_no_reading: str = option(
        "-127",
        "Values that sensors send in place of a reading, in their unit, with commas between them.",
    )
    mqtt_group: str = option(
        "hourglass",
        "Name of the shared subscription, whose replicas divide the messages; empty subscribes "
        "alone, for a broker without shared subscriptions.",
    )
    mqtt_receive_maximum: int = option(
        5000,
        "Maximum messages that the broker sends before Redis has stored them.",
        unit="messages",
        minimum=1,
        maximum=65_535,
    )
    mqtt_session_expiry_s: int = option(
        RETENTION_MS // 1000,
        "How long the broker keeps messages for a producer that is down.",
        unit="s",
        minimum=60,
        maximum=0xFFFF_FFFE,
    )
    mqtt_silent_s: float = option(
        900.0,
        "Time without a reading after which a device counts as silent.",
        unit="s",
        minimum=1,
    )

    @property
    def mqtt_messages(self) -> MessageFormat:
        """How messages are read. Raises ConfigurationError."""
        topics = [each.strip() for each in self.mqtt_topics.split(",") if each.strip()]
        if not topics:
            raise ConfigurationError(
                "HOURGLASS_MQTT_TOPICS is not set: give topics such as sensors/{device}/temperature"
            )
        if self.mqtt_unit not in tuple(Unit):
            raise ConfigurationError(
                f"HOURGLASS_MQTT_UNIT is {self.mqtt_unit!r}: give the unit of the temperatures, "
                "C, F or K"
            )
        is_arrival = self.mqtt_time == ARRIVAL
        return MessageFormat(
            patterns=[TopicPattern.parse(each) for each in topics],
            unit=Unit(self.mqtt_unit),
            value=_pointer(self.mqtt_value, "HOURGLASS_MQTT_VALUE"),
            time=None if is_arrival else _pointer(self.mqtt_time, "HOURGLASS_MQTT_TIME"),
            arrival=is_arrival,
            no_reading=no_reading_values(self.mqtt_no_reading),
        )

    @property
    def mqtt_tls(self) -> Tls:
        return Tls(
            ca_file=self.mqtt_ca_file, cert_file=self.mqtt_cert_file, key_file=self.mqtt_key_file
        )

    def read_mqtt_password(self) -> str:
        """Raises ConfigurationError."""
        return secret(self.mqtt_password, self.mqtt_password_file, "HOURGLASS_MQTT_PASSWORD_FILE")

    def check_mqtt_group(self) -> str:
        """The name of the shared subscription. Raises ConfigurationError."""
        if set(self.mqtt_group) & set("/+#\0"):
            raise ConfigurationError(
                f"HOURGLASS_MQTT_GROUP is {self.mqtt_group!r}: give a name without /, + and #"
            )
        return self.mqtt_group


def _pointer(text: str, option: str) -> Pointer | None:
    return Pointer.parse(text, option=option) if text else None
