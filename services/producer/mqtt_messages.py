"""MQTT messages to readings: from topic and payload to device, temperature and time. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self, cast

from hourglass.errors import ConfigurationError
from hourglass.model.keys import DAY_MS, RETENTION_MS
from hourglass.model.readings import MILLI, Reading

#: The level of a topic pattern that holds the device's name.
DEVICE = "{device}"
#: The value of the option `mqtt_time` with which every reading gets its arrival time.
ARRIVAL = "arrival"
#: Names of fields that are recognised without a pointer, in lower case, in order of preference.
TEMPERATURE_NAMES = ("temperature", "temp", "value")
TIME_NAMES = ("time", "timestamp", "ts", "datetime", "last_seen")

_LONGEST_DEVICE = 128
_LONGEST_PAYLOAD = 65_536
_LONGEST_NUMBER = 32
_GREATEST = Decimal(1_000_000)
#: A greater number of seconds is a number of milliseconds: in seconds it is the year 5138.
_LEAST_MS = Decimal(10**11)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
#: Texts that sensors and gateways send while they have no measurement, in lower case.
_NO_READING = frozenset({"", "nan", "null", "none", "unavailable", "unknown"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unit(StrEnum):
    F = "F"
    C = "C"
    K = "K"


class Reason(StrEnum):
    """Why a message gives no reading."""

    RETAINED = "retained"
    TOO_LARGE = "too_large"
    OTHER_TOPIC = "other_topic"
    BAD_DEVICE = "bad_device"
    NOT_TEXT = "not_text"
    NOT_JSON = "not_json"
    NO_FIELD = "no_field"
    NO_READING = "no_reading"
    NOT_A_NUMBER = "not_a_number"
    NO_TIME = "no_time"
    BAD_TIME = "bad_time"
    TOO_OLD = "too_old"
    FUTURE = "future"


#: The reasons in words, for log lines.
IN_WORDS = {
    Reason.RETAINED: "the message is retained: the time of its measurement is unknown",
    Reason.TOO_LARGE: f"the payload is larger than {_LONGEST_PAYLOAD} bytes",
    Reason.OTHER_TOPIC: "HOURGLASS_MQTT_TOPICS has no such topic: the session had it before",
    Reason.BAD_DEVICE: f"the device name is empty or longer than {_LONGEST_DEVICE} bytes",
    Reason.NOT_TEXT: "the payload is not UTF-8 text",
    Reason.NOT_JSON: "the payload is not JSON",
    Reason.NO_FIELD: "the payload has no field at HOURGLASS_MQTT_VALUE, or none that is recognised",
    Reason.NO_READING: "the value means that the sensor has no reading",
    Reason.NOT_A_NUMBER: f"the value is no number, or beyond {_GREATEST:,}",
    Reason.NO_TIME: "the payload has no field at HOURGLASS_MQTT_TIME",
    Reason.BAD_TIME: "the time is neither ISO 8601 nor a number of seconds or milliseconds",
    Reason.TOO_OLD: "the time is more than two days ago",
    Reason.FUTURE: "the time is more than one day ahead",
}


class Unreadable(ValueError):
    def __init__(self, reason: Reason) -> None:
        super().__init__(IN_WORDS[reason])
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pointer:
    """A JSON pointer (RFC 6901)."""

    tokens: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, *, option: str) -> Self:
        """Raises ConfigurationError."""
        if not text.startswith("/") or re.search("~(?![01])", text):
            raise ConfigurationError(
                f"{option} is {text!r}: give a JSON pointer such as /DS18B20/Temperature"
            )
        tokens = text[1:].split("/")
        return cls(tuple(each.replace("~1", "/").replace("~0", "~") for each in tokens))

    def resolve(self, document: Any) -> Any:
        """The value in `document`. Raises KeyError."""
        for token in self.tokens:
            if isinstance(document, dict):
                document = cast(dict[str, Any], document)[token]
            elif isinstance(document, list) and re.fullmatch("0|[1-9][0-9]{0,6}", token):
                elements = cast(list[Any], document)
                if int(token) >= len(elements):
                    raise KeyError(token)
                document = elements[int(token)]
            else:
                raise KeyError(token)
        return document


@dataclass(frozen=True, slots=True)
class TopicPattern:
    levels: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """A topic in which one level is {device}. Raises ConfigurationError."""
        levels = tuple(text.split("/"))
        if (
            levels.count(DEVICE) != 1
            or levels[0].startswith("$")
            or any(set(level) & set("+#{}\0") for level in levels if level != DEVICE)
        ):
            raise ConfigurationError(
                f"--mqtt-topics has {text!r}: give topics in which exactly one level is {DEVICE} "
                f"and no other wildcard stands, such as sensors/{DEVICE}/temperature"
            )
        return cls(levels)

    @property
    def topic_filter(self) -> str:
        return "/".join("+" if level == DEVICE else level for level in self.levels)

    def device(self, topic: str) -> str | None:
        """The device's name in `topic`; None if the topic does not match."""
        levels = topic.split("/")
        if len(levels) != len(self.levels):
            return None
        device = ""
        for level, expected in zip(levels, self.levels, strict=True):
            if expected == DEVICE:
                device = level
            elif level != expected:
                return None
        return device


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFormat:
    """How messages are read.

    value: where the temperature is; None takes the payload itself, or a field of a known name
    time: where the time is; None takes a field of a known name, if there is one
    arrival: whether readings get their arrival time, whatever the payload has
    no_reading: numbers that sensors send in place of a measurement
    """

    patterns: Sequence[TopicPattern]
    unit: Unit
    value: Pointer | None = None
    time: Pointer | None = None
    arrival: bool = False
    no_reading: frozenset[Decimal] = frozenset()

    def reading(self, topic: str, payload: bytes, *, is_retained: bool, now_ms: int) -> Reading:
        """The reading in a message that arrived at `now_ms`, which is its time if it has none of
        its own. Raises Unreadable."""
        if is_retained:
            raise Unreadable(Reason.RETAINED)
        device = self._device(topic)
        if len(payload) > _LONGEST_PAYLOAD:
            raise Unreadable(Reason.TOO_LARGE)
        try:
            text = payload.decode().strip()
        except UnicodeDecodeError:
            raise Unreadable(Reason.NOT_TEXT) from None
        is_document = self.value is not None or self.time is not None or text.startswith(("{", "["))
        if not text:
            raise Unreadable(Reason.NO_READING)
        document = _parsed(text) if is_document else text
        milli_f = self._milli_f(document)
        return Reading(device, self._time_ms(document, now_ms), milli_f)

    def _device(self, topic: str) -> bytes:
        names = (pattern.device(topic) for pattern in self.patterns)
        name = next((name for name in names if name is not None), None)
        if name is None:
            raise Unreadable(Reason.OTHER_TOPIC)
        device = name.encode()
        if not 0 < len(device) <= _LONGEST_DEVICE:
            raise Unreadable(Reason.BAD_DEVICE)
        return device

    def _milli_f(self, document: Any) -> int:
        try:
            value = (
                self.value.resolve(document)
                if self.value
                else _recognised(document, TEMPERATURE_NAMES)
                if isinstance(document, dict)
                else document
            )
        except KeyError:
            raise Unreadable(Reason.NO_FIELD) from None
        if value is None or (isinstance(value, str) and value.strip().lower() in _NO_READING):
            raise Unreadable(Reason.NO_READING)
        number = _number(value)
        if number is None or abs(number) > _GREATEST:
            raise Unreadable(Reason.NOT_A_NUMBER)
        if number in self.no_reading:
            raise Unreadable(Reason.NO_READING)
        return to_milli_f(number, self.unit)

    def _time_ms(self, document: Any, now_ms: int) -> int:
        if self.arrival:
            return now_ms
        try:
            time = self.time.resolve(document) if self.time else _recognised(document, TIME_NAMES)
        except KeyError:
            time = None
        if time is None:
            if self.time:
                raise Unreadable(Reason.NO_TIME) from None
            return now_ms
        ts_ms = time_ms(time)
        if ts_ms is None:
            raise Unreadable(Reason.BAD_TIME)
        if ts_ms <= now_ms - RETENTION_MS:
            raise Unreadable(Reason.TOO_OLD)
        if ts_ms > now_ms + DAY_MS:  # the aggregator judges the rest
            raise Unreadable(Reason.FUTURE)
        return ts_ms


def to_milli_f(temperature: Decimal, unit: Unit) -> int:
    """Thousandths of a degree Fahrenheit, rounded half to even."""
    celsius = temperature - Decimal("273.15") if unit is Unit.K else temperature
    fahrenheit = temperature if unit is Unit.F else celsius * 9 / 5 + 32
    return round(fahrenheit * MILLI)


def time_ms(time: Any) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 text, in UTC if it has no offset, or of a number
    of seconds or milliseconds; None if it is neither, or before the epoch."""
    number = _number(time)
    if number is not None:
        ms = int(number if number >= _LEAST_MS else number * 1000)
        return ms if 0 <= number < _LEAST_MS * 1000 else None
    try:
        at = datetime.fromisoformat(time.strip())
    except (AttributeError, ValueError):
        return None
    ms = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)
    return ms if ms >= 0 else None


def no_reading_values(text: str) -> frozenset[Decimal]:
    """The numbers of the option `mqtt_no_reading`. Raises ConfigurationError."""
    numbers = [_number(each) for each in text.split(",") if each.strip()]
    if None in numbers:
        raise ConfigurationError(
            f"--mqtt-no-reading is {text!r}: give numbers with commas between them"
        )
    return frozenset(each for each in numbers if each is not None)


def _parsed(text: str) -> Any:
    """The JSON document in `text`, its numbers as text: a float would round them."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise Unreadable(Reason.NOT_JSON) from None


def _recognised(document: Any, names: Sequence[str]) -> Any:
    """The field of `document` with the first of these names, in upper or lower case. Raises
    KeyError."""
    if not isinstance(document, dict):
        raise KeyError(names[0])
    fields = {name.lower(): value for name, value in cast(dict[str, Any], document).items()}
    for name in names:
        if name in fields:
            return fields[name]
    raise KeyError(names[0])


def _number(value: Any) -> Decimal | None:
    if not isinstance(value, str):
        return None
    text = value.strip()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text)
