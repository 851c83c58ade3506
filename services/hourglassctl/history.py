"""Reads temperatures from files: CSV, plain or compressed, Parquet, and logs of Zigbee2MQTT.

A file yields its rows in order: a reading, or a bad row with its line number and reason, or nothing
for a missing value. Pure, but for reading the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zoneinfo import ZoneInfo

from hourglass.errors import ConfigurationError
from hourglass.model.readings import Reading
from hourglassctl.history_values import (
    Bad,
    BadRow,
    Form,
    Row,
    Unit,
    plain,
    reading_in,
    unit_of,
)

#: Names of columns, as `plain` gives them.
_TIMES = ("ts", "time", "timestamp", "datetime", "date", "dateutc", "lastchanged", "zeit", "datum")
_TEMPERATURES = ("tempf", "tempc", "tempk", "temperature", "temp", "tmp", "temperatur", "value")
_DEVICES = ("device", "sensor", "station", "stationid", "entityid", "name", "topic", "id")
_ZIGBEE = re.compile(
    r"\[(?P<time>[^\]]+)\].* topic '(?P<topic>[^']+)', payload '(?P<payload>\{.*\})'"
)


def rows(path: Path, form: Form) -> Iterator[Row | BadRow]:
    """The rows of a file. Raises ConfigurationError."""
    try:
        zone = ZoneInfo(form.timezone)
    except (KeyError, ValueError, OSError):
        raise ConfigurationError(
            f"--timezone {form.timezone!r} is unknown: give a name such as Europe/Berlin"
        ) from None
    try:
        if path.suffix == ".parquet":
            yield from _table(*_parquet(path), form, zone)
            return
        with path.open("rb") as file:
            text = io.TextIOWrapper(
                gunzipped(file), encoding="utf-8-sig", errors="replace", newline=""
            )
            first = text.readline()
            lines = _from(first, text)
            if _ZIGBEE.match(first):
                yield from _log(lines, form, zone)
            else:
                yield from _table(*_csv(first, lines, form), form, zone)
    except (OSError, EOFError, csv.Error) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from None


def gunzipped(file: BinaryIO) -> Any:
    """The file, decompressed if it is gzip."""
    magic = file.read(2)
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if magic == b"\x1f\x8b" else file


def _from(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _csv(
    first: str, lines: Iterator[str], form: Form
) -> tuple[Sequence[str], Iterator[tuple[int, Sequence[Any]]]]:
    delimiter = form.delimiter or max(",;\t|", key=first.count)
    reader = csv.reader(lines, delimiter={"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter))
    header: Sequence[str] = next(reader, ())

    def numbered() -> Iterator[tuple[int, Sequence[Any]]]:
        for row in reader:
            if row:
                yield reader.line_num, row

    return header, numbered()


def _parquet(path: Path) -> tuple[Sequence[str], Iterator[tuple[int, Sequence[Any]]]]:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise ConfigurationError(
            'Parquet needs pyarrow: pip install "hourglass[parquet]", or give a CSV file'
        ) from None
    file: Any = parquet.ParquetFile(path)

    def numbered() -> Iterator[tuple[int, Sequence[Any]]]:
        line = 0
        for batch in file.iter_batches(batch_size=10_000):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                line += 1
                yield line, row

    return file.schema_arrow.names, numbered()


def _column(header: Sequence[str], given: str, known: Sequence[str], option: str) -> int | None:
    """The index of the column named `given`, or of one with a known name. Raises
    ConfigurationError."""
    if given:
        if given not in header:
            raise ConfigurationError(
                f"there is no column {given!r}: give one of {', '.join(header)} with {option}"
            )
        return header.index(given)
    names = [plain(each) for each in header]
    return next((names.index(each) for each in known if each in names), None)


def _table(
    header: Sequence[str],
    numbered: Iterator[tuple[int, Sequence[Any]]],
    form: Form,
    zone: ZoneInfo,
) -> Iterator[Row | BadRow]:
    time = _column(header, form.time, _TIMES, "--time")
    temperature = _column(header, form.temperature, _TEMPERATURES, "--temperature")
    device = _column(header, form.device, _DEVICES, "--device")
    if time is None or temperature is None:
        raise ConfigurationError(
            f"no column of {', '.join(header) or 'the file'} is recognised as "
            f"{'time' if time is None else 'temperature'}: give --time and --temperature"
        )
    column, _, good = form.quality.partition("=")
    quality = _column(header, column, (), "--quality") if column else None
    parse = partial(reading_in, form=form, zone=zone, unit=unit_of(header[temperature], form))
    for line, row in numbered:
        texts = [row[at] if at < len(row) else "" for at in (time, temperature)]
        name = str(row[device]) if device is not None and device < len(row) else form.name
        if quality is not None and (
            quality >= len(row) or str(row[quality]).strip() not in good.split(",")
        ):
            continue
        yield from _parsed(parse, line, texts[0], texts[1], name)


def _log(lines: Iterator[str], form: Form, zone: ZoneInfo) -> Iterator[Row | BadRow]:
    """What Zigbee2MQTT published, in the lines of its log that have a temperature."""
    unit = form.unit or Unit.C
    parse = partial(reading_in, form=form, zone=zone, unit=lambda _: unit)
    for number, line in enumerate(lines, 1):
        found = _ZIGBEE.match(line)
        if found is None:
            continue
        try:
            payload = json.loads(found["payload"])
        except ValueError:
            yield BadRow(number, "the payload is no JSON", found["time"], "", found["topic"])
            continue
        if form.temperature or "temperature" in payload:
            value = payload.get(form.temperature or "temperature", "")
            device = found["topic"].rpartition("/")[2]
            yield from _parsed(parse, number, found["time"], value, device)


def _parsed(
    parse: Callable[[Any, Any, str], Reading | None], line: int, time: Any, value: Any, device: str
) -> Iterator[Row | BadRow]:
    try:
        reading = parse(time, value, device)
    except Bad as bad:
        yield BadRow(line, str(bad), str(time), str(value), device)
    else:
        if reading is not None:
            yield Row(line, reading)


def days(found: Iterator[Row | BadRow], day_ms: int) -> Iterator[Day]:
    """The readings by day, in order of time. Within a day, and the one after it, a file may be in
    any order; a row that comes later is bad.

    day_ms: length of a day
    """
    waiting: dict[int, list[Reading]] = {}
    bad: list[BadRow] = []
    released = latest = -1
    for each in found:
        if isinstance(each, BadRow):
            bad.append(each)
            continue
        line, reading = each
        day = reading.ts_ms // day_ms
        if day <= released:
            device = reading.device.decode(errors="replace")
            reason = "more than a day out of order: sort the file"
            bad.append(BadRow(line, reason, str(reading.ts_ms), "", device))
            continue
        waiting.setdefault(day, []).append(reading)
        latest = max(latest, day)
        while waiting and min(waiting) < latest - 1:
            released = min(waiting)
            yield Day(released * day_ms, sorted(waiting.pop(released), key=_time), bad)
            bad = []
    for day in sorted(waiting):
        yield Day(day * day_ms, sorted(waiting.pop(day), key=_time), bad)
        bad = []
    if bad:
        yield Day(max(0, latest) * day_ms, [], bad)


class Day(NamedTuple):
    """The readings of a UTC day, and the bad rows found while it was read."""

    start_ms: int
    readings: Sequence[Reading]
    bad: Sequence[BadRow]


def _time(reading: Reading) -> int:
    return reading.ts_ms


def summary(bad: Mapping[str, Sequence[int]]) -> str:
    """The bad rows by reason, with the first line numbers."""
    return "\n".join(
        f"  {len(lines):,} rows: {reason} (line {', '.join(map(str, lines[:5]))}"
        f"{', ...' if len(lines) > 5 else ''})"
        for reason, lines in bad.items()
    )
