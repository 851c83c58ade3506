"""What a message over MQTT says: of which device, at what time, how warm."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourglass.errors import ConfigurationError
from hourglass.model.keys import DAY_MS, RETENTION_MS
from hourglass.model.readings import MILLI, degrees
from hourglass.model.readings import milli_f as milli_f_of_text
from producer.mqtt_messages import (
    MessageFormat,
    Pointer,
    Reason,
    TopicPattern,
    Unit,
    Unreadable,
    no_reading_values,
    time_ms,
    to_milli_f,
)

NOW_MS = 1_736_900_000_123
TOPIC = "sensors/porch/temperature"
PATTERN = TopicPattern.parse("sensors/{device}/temperature")
DEFAULTS: dict[str, Any] = {"patterns": [PATTERN], "unit": Unit.F}
LEVELS = st.text(st.characters(exclude_characters="/+#{}\0", codec="utf-8"), max_size=9)


def pointer(text: str) -> Pointer:
    return Pointer.parse(text, option="--mqtt-value")


def read(payload: str | bytes, topic: str = TOPIC, **options: Any) -> tuple[bytes, int, int]:
    format_ = MessageFormat(**{**DEFAULTS, **options})
    text = payload if isinstance(payload, bytes) else payload.encode()
    return format_.reading(topic, text, is_retained=False, now_ms=NOW_MS)


def reason(payload: str | bytes, topic: str = TOPIC, **options: Any) -> Reason:
    with pytest.raises(Unreadable) as error:
        read(payload, topic, **options)
    return error.value.reason


def test_a_number_alone_is_a_temperature_at_the_time_of_arrival() -> None:
    assert read("70.5") == (b"porch", NOW_MS, 70_500)


@pytest.mark.parametrize(
    "payload",
    [
        '{"temperature": 21.5, "humidity": 40}',
        '{"Temperature": "21.5"}',
        '{"humidity": 40, "temp": 21.50}',
        '{"value": 2.15e1}',
        " 21.5 \n",
        "+21.5",
    ],
)
def test_a_temperature_is_recognised(payload: str) -> None:
    assert read(payload, unit=Unit.C) == (b"porch", NOW_MS, 70_700)


def test_a_pointer_names_the_field_of_a_device_that_sends_many() -> None:
    tasmota = (
        '{"Time":"2025-01-15T00:10:00","DS18B20":{"Id":"01","Temperature":21.5},"TempUnit":"C"}'
    )
    found = read(tasmota, unit=Unit.C, value=pointer("/DS18B20/Temperature"), time=pointer("/Time"))
    at = datetime(2025, 1, 15, 0, 10, tzinfo=UTC)
    assert found == (b"porch", int(at.timestamp() * 1000), 70_700)


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def paths(document: Any) -> list[tuple[str, Any]]:
    """Every pointer into a document, and the value there, by the text of RFC 6901."""
    found: list[tuple[str, Any]] = []
    members: dict[Any, Any] = {}
    if isinstance(document, list):
        members = dict(enumerate(cast(list[Any], document)))
    elif isinstance(document, dict):
        members = cast(dict[str, Any], document)
    for key, value in members.items():
        name = str(key)
        token = name.replace("~", "~0").replace("/", "~1")
        found.append((f"/{token}", value))
        found += [(f"/{token}{below}", each) for below, each in paths(value)]
    return found


@given(DOCUMENTS)
def test_a_pointer_finds_every_value_of_a_document(document: Any) -> None:
    for text, value in paths(document):
        assert pointer(text).resolve(document) == value


@given(DOCUMENTS, st.text(max_size=6))
def test_a_pointer_finds_nothing_that_is_not_there(document: Any, text: str) -> None:
    known = dict(paths(document))
    try:
        parsed = pointer(f"/{text}")
    except ConfigurationError:
        assert "~" in text
        return
    if f"/{text}" not in known:
        with pytest.raises(KeyError):
            parsed.resolve(document)


@pytest.mark.parametrize("text", ["", "Temperature", "/a~2", "/a~"])
def test_what_is_no_pointer_is_a_wrong_option(text: str) -> None:
    with pytest.raises(ConfigurationError, match="give a JSON pointer"):
        pointer(text)


@given(st.integers(-459_000, 1_000_000))
def test_fahrenheit_stays_as_it_is(milli_f: int) -> None:
    text = degrees(milli_f)
    assert read(text)[2] == milli_f == milli_f_of_text(text.encode())


@given(st.decimals(-273, 5000, places=3), st.sampled_from(Unit))
def test_units_differ_by_what_they_differ(temperature: Decimal, unit: Unit) -> None:
    exact = {
        Unit.F: temperature,
        Unit.C: temperature * 9 / 5 + 32,
        Unit.K: (temperature - Decimal("273.15")) * 9 / 5 + 32,
    }[unit]
    assert abs(to_milli_f(temperature, unit) - exact * MILLI) <= Decimal("0.5")


@given(st.integers(10**12, 7 * 10**12), st.integers(-14 * 60, 14 * 60))
def test_a_time_is_the_same_in_every_form(ms: int, offset_min: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    zone = timezone(timedelta(minutes=offset_min))
    forms = [
        at.astimezone(zone).isoformat(),
        at.isoformat().replace("+00:00", "Z"),
        at.replace(tzinfo=None).isoformat(),
        str(ms),
        f"{ms // 1000}.{ms % 1000:03}",
    ]
    assert [time_ms(form) for form in forms] == [ms] * len(forms)


@pytest.mark.parametrize("time", ["yesterday", "-5", "1e30", True, None, [], {}, "", "nan"])
def test_what_is_no_time_is_none(time: Any) -> None:
    assert time_ms(time) is None


@given(st.binary(max_size=40) | DOCUMENTS.map(lambda each: json.dumps(each).encode()))
def test_any_payload_is_a_reading_or_has_a_reason(payload: bytes) -> None:
    pointers: dict[str, Any] = {"value": pointer("/a"), "time": pointer("/b")}
    for options in ({}, pointers):
        with suppress(Unreadable):
            device, ts_ms, _ = read(payload, **options)
            assert device == b"porch"
            assert NOW_MS - RETENTION_MS < ts_ms <= NOW_MS + DAY_MS


@pytest.mark.parametrize(
    ("payload", "options", "expected"),
    [
        (b"\xff", {}, Reason.NOT_TEXT),
        ("", {}, Reason.NO_READING),
        ("nan", {}, Reason.NO_READING),
        ("unavailable", {}, Reason.NO_READING),
        ('{"temperature": null}', {}, Reason.NO_READING),
        ("-127.0", {"no_reading": no_reading_values("-127, 85")}, Reason.NO_READING),
        ("85", {"no_reading": no_reading_values("-127, 85")}, Reason.NO_READING),
        ("warm", {}, Reason.NOT_A_NUMBER),
        ("21,5", {}, Reason.NOT_A_NUMBER),
        ("1_000", {}, Reason.NOT_A_NUMBER),
        ("1e9", {}, Reason.NOT_A_NUMBER),
        ("Infinity", {}, Reason.NOT_A_NUMBER),
        ('{"temperature": true}', {}, Reason.NOT_A_NUMBER),
        ('{"temperature": [1]}', {}, Reason.NOT_A_NUMBER),
        ("{", {}, Reason.NOT_JSON),
        ("[" * 60_000, {}, Reason.NOT_JSON),
        ("21.5 C", {"value": pointer("/t")}, Reason.NOT_JSON),
        ('{"humidity": 40}', {}, Reason.NO_FIELD),
        ('{"a": 1}', {"value": pointer("/t")}, Reason.NO_FIELD),
        ('{"temp": 1}', {"time": pointer("/t")}, Reason.NO_TIME),
        ('{"temp": 1, "t": null}', {"time": pointer("/t")}, Reason.NO_TIME),
        ('{"temp": 1, "time": "noon"}', {}, Reason.BAD_TIME),
        ('{"temp": 1, "time": "1970-01-01T00:00:10"}', {}, Reason.TOO_OLD),
        (f'{{"temp": 1, "time": {NOW_MS - RETENTION_MS}}}', {}, Reason.TOO_OLD),
        (f'{{"temp": 1, "time": {NOW_MS + DAY_MS + 1}}}', {}, Reason.FUTURE),
        ("1" * 65_537, {}, Reason.TOO_LARGE),
    ],
    ids=str,
)
def test_what_cannot_be_read_has_its_reason(
    payload: str | bytes, options: dict[str, Any], expected: Reason
) -> None:
    assert reason(payload, **options) is expected


def test_a_retained_message_is_left_out() -> None:
    with pytest.raises(Unreadable) as error:
        MessageFormat(patterns=[PATTERN], unit=Unit.F).reading(
            TOPIC, b"70", is_retained=True, now_ms=NOW_MS
        )
    assert error.value.reason is Reason.RETAINED


def test_the_time_of_arrival_can_be_taken_instead() -> None:
    assert read('{"temp": 70, "time": "noon"}', arrival=True) == (b"porch", NOW_MS, 70_000)


@given(st.lists(LEVELS, max_size=3), LEVELS, st.lists(LEVELS, max_size=3))
def test_a_pattern_finds_the_device_in_its_own_topics(
    before: list[str], device: str, after: list[str]
) -> None:
    if before and before[0].startswith("$"):
        return
    pattern = TopicPattern.parse("/".join([*before, "{device}", *after]))
    topic = "/".join([*before, device, *after])
    assert pattern.device(topic) == device
    assert pattern.device(f"{topic}/more") is None
    assert pattern.topic_filter.split("/") == [*before, "+", *after]
    if after:
        assert pattern.device("/".join([*before, device, *after[:-1], f"{after[-1]}x"])) is None


def test_the_first_pattern_that_fits_names_the_device() -> None:
    patterns = [TopicPattern.parse("a/{device}"), TopicPattern.parse("{device}/b")]
    assert [read("1", topic, patterns=patterns)[0] for topic in ("a/b", "c/b")] == [b"b", b"c"]


@pytest.mark.parametrize(
    "text",
    ["", "sensors/temperature", "a/+/{device}", "{device}/#", "{device}/{device}", "a-{device}",
     "$share/g/{device}", "a/{other}/{device}"],
)  # fmt: skip
def test_what_is_no_pattern_is_a_wrong_option(text: str) -> None:
    with pytest.raises(ConfigurationError, match="exactly one level"):
        TopicPattern.parse(text)


def test_a_topic_without_a_device_has_its_reason() -> None:
    assert reason("1", "sensors//temperature") is Reason.BAD_DEVICE
    assert reason("1", f"sensors/{'é' * 65}/temperature") is Reason.BAD_DEVICE
    assert reason("1", "sensors/porch/humidity") is Reason.OTHER_TOPIC


@pytest.mark.parametrize("text", ["warm", "1;2"])
def test_values_that_are_no_reading_are_numbers(text: str) -> None:
    with pytest.raises(ConfigurationError, match="give numbers"):
        no_reading_values(text)
