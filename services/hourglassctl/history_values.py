"""Reads one temperature and its time from the texts of a row. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hourglass.errors import ConfigurationError
from hourglass.model.readings import Reading


class Unit(StrEnum):
    F = "F"
    C = "C"
    K = "K"


class Fold(StrEnum):
    """What to do with a local time that there is twice, when clocks go back."""

    REFUSE = "refuse"
    FIRST = "first"


class Row(NamedTuple):
    line: int
    reading: Reading


class BadRow(NamedTuple):
    """A row without a usable reading. time, temperature, device: the texts in the row."""

    line: int
    reason: str
    time: str
    temperature: str
    device: str


class Bad(ValueError):
    """The reason why a row cannot be used."""


#: Texts of a temperature that was not measured.
MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "m", "9999", "-9999", "999.9", "-999.9")
#: Units that the names of columns say, as `plain` gives them.
_UNITS = {"tempf": Unit.F, "tempc": Unit.C, "tempk": Unit.K}
#: NOAA's hourly files: tenths of a degree Celsius, and a quality code.
_NOAA = re.compile(r"([+-]\d{4}),(\w)")
_NOAA_SUSPECT = "2367"
_LATEST_S = 10_000_000_000  # greater numbers are milliseconds
_MOST_F = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How to read a file; an empty name of a column means one that is recognised.

    device: the column of device names
    name: the device of a file without such a column
    missing: texts of temperatures that were not measured, in addition to MISSING
    quality: a column and the texts in it that mark a good value, as COLUMN=TEXT,TEXT
    """

    time: str = ""
    temperature: str = ""
    device: str = ""
    name: str = "file"
    unit: Unit | None = None
    timezone: str = "UTC"
    fold: Fold = Fold.REFUSE
    time_format: str = ""
    delimiter: str = ""
    decimal_comma: bool = False
    missing: str = ""
    quality: str = ""


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"[(\[].*", "", name.lower()))


def unit_of(column: str, form: Form) -> Callable[[str], Unit]:
    """The unit of a value: the option's, or what the column's name says. Raises
    ConfigurationError."""
    named = re.search(r"[(\[]\s*°?\s*([FCK])\s*[)\]]", column)
    unit = form.unit or _UNITS.get(plain(column)) or (Unit(named[1]) if named else None)

    def of(value: str) -> Unit:
        if unit is None and not _NOAA.fullmatch(value):
            raise ConfigurationError(f"the unit of {column} is unknown: give --unit F, C or K")
        return unit or Unit.C

    return of


def reading_in(
    time: Any, value: Any, device: str, *, form: Form, zone: ZoneInfo, unit: Callable[[str], Unit]
) -> Reading | None:
    """The reading in a row; None if its value is missing. Raises Bad, ConfigurationError."""
    text = "" if value is None else str(value).strip()
    if text.lower() in MISSING or text in form.missing.split(","):
        return None
    of = unit(text)
    if noaa := _NOAA.fullmatch(text):
        if noaa[1] == "+9999" or noaa[2] in _NOAA_SUSPECT:
            return None
        degrees, of = int(noaa[1]) / 10, form.unit or Unit.C
    else:
        degrees = _number(text, decimal_comma=form.decimal_comma)
    degrees_f = _fahrenheit(degrees, of)
    if not abs(degrees_f) <= _MOST_F:  # nor is it finite
        raise Bad("the temperature is out of range")
    return Reading(device.strip().encode(), _time_ms(time, form, zone), round(1000 * degrees_f))


def _number(text: str, *, decimal_comma: bool) -> float:
    if decimal_comma:
        text = text.replace(".", "").replace(",", ".")
    if "_" in text:
        raise Bad("the temperature is no number")
    try:
        return float(text)
    except ValueError:
        raise Bad("the temperature is no number") from None


def _fahrenheit(degrees: float, unit: Unit) -> float:
    match unit:
        case Unit.F:
            return degrees
        case Unit.C:
            return degrees * 1.8 + 32
        case Unit.K:
            return (degrees - 273.15) * 1.8 + 32


def _time_ms(value: Any, form: Form, zone: ZoneInfo) -> int:
    """A time in ms since the epoch. Raises Bad."""
    time = value if isinstance(value, datetime) else _parse_time(str(value).strip(), form)
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        local = time.replace(tzinfo=zone, fold=0)
        if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != time:
            raise Bad(f"the time does not exist in {form.timezone}")
        is_twice = local.utcoffset() != local.replace(fold=1).utcoffset()
        if is_twice and form.fold is Fold.REFUSE:
            raise Bad(f"the time is there twice in {form.timezone}")
        time = local
    return round(time.timestamp() * 1000)


def _parse_time(text: str, form: Form) -> datetime | int:
    try:
        if form.time_format:
            return datetime.strptime(text, form.time_format)  # noqa: DTZ007
        if re.fullmatch(r"\d{9,16}(\.\d+)?", text):
            number = float(text)
            return round(number if number >= _LATEST_S else number * 1000)
        if german := re.fullmatch(r"(\d\d)\.(\d\d)\.(\d{4})(.*)", text):
            text = f"{german[3]}-{german[2]}-{german[1]}{german[4]}"
        return datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise Bad("the time is not understood: give --time-format") from None
