"""Decodes stream entries to readings. No other module decodes their fields.

An entry is one reading, or packed: ticks of many devices in one array. Temperatures are integers,
thousandths of a degree Fahrenheit ("milli_f"), so that sums are exact and do not depend on order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import groupby
from math import isfinite
from operator import itemgetter
from typing import NamedTuple

from hourglass.model.keys import HOUR_MS, Partition

MILLI = 1000
LONGEST_NUMBER = 32
LONGEST_DEVICE = 128

#: Event time in entries of this producer, in ms since the partition's start, which takes fewer
#: digits. Other writers use `ts`, in ms since the epoch.
TIME_OF_DAY = b"day_ms"

#: The field with the trace context of the span that sent a batch, in the batch's first entry.
TRACEPARENT = b"traceparent"


class Reason(StrEnum):
    """Why a reading cannot be used."""

    NO_TEMPERATURE = "no temp_f"
    NOT_A_NUMBER = "temp_f is not a number"
    NOT_FINITE = "temp_f is not finite"
    NO_READING = "temp_f is a value that a sensor gives in place of a reading"
    IMPLAUSIBLE = "temp_f is outside the plausible range"
    BAD_TIMESTAMP = "ts is not a time in ms"
    WRONG_DAY = "event time is on another day"
    TS_IN_S = "ts is in seconds, not in ms"
    TS_IN_US = "ts is in microseconds, not in ms"
    TS_IN_NS = "ts is in nanoseconds, not in ms"
    FAR_FUTURE = "event time is too far in the future"
    BAD_DEVICE = "device name is too long"
    TOO_LARGE = "entry is larger than HOURGLASS_MAX_ENTRY_BYTES allows"
    BAD_ARRAY = "temps_f and the fields that describe it do not agree"
    UNDELIVERABLE = "delivered too often without being counted"


class Unusable(ValueError):
    """A reading that cannot be counted, for the given `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Reading(NamedTuple):
    """One temperature of one device at one event time."""

    device: bytes
    ts_ms: int
    milli_f: int


class Readings(NamedTuple):
    """Readings as columns: index n of each sequence belongs to reading n."""

    devices: Sequence[bytes]
    times_ms: Sequence[int]
    milli_f: Sequence[int]

    def and_also(self, others: Readings) -> Readings:
        return Readings(
            [*self.devices, *others.devices],
            [*self.times_ms, *others.times_ms],
            [*self.milli_f, *others.milli_f],
        )

    def by_hour(self) -> Iterator[tuple[int, Readings]]:
        """Yield the start of each hour in ms, and its readings."""
        if not self.times_ms:
            return
        first, last = min(self.times_ms) // HOUR_MS, max(self.times_ms) // HOUR_MS
        if first == last:
            yield first * HOUR_MS, self
            return
        hours = [ts_ms // HOUR_MS for ts_ms in self.times_ms]
        rows = sorted(zip(hours, *self, strict=True), key=itemgetter(0))
        for hour, of_hour in groupby(rows, itemgetter(0)):
            _, devices, times_ms, milli_f = zip(*of_hour, strict=True)
            yield hour * HOUR_MS, Readings(devices, times_ms, milli_f)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The criteria of a usable reading.

    min_milli_f, max_milli_f: the plausible range, inclusive
    overrun_ms: time after midnight within which an arrival still counts in its stream's day
    latest_ms: the latest allowed event time; None sets no limit
    no_reading_milli_f: values that sensors send in place of a measurement
    max_entry_bytes: maximum bytes of all names and values of an entry
    """

    min_milli_f: int = -150 * MILLI
    max_milli_f: int = 250 * MILLI
    overrun_ms: int = 5_000
    latest_ms: int | None = None
    no_reading_milli_f: frozenset[int] = frozenset()
    max_entry_bytes: int = 1_000_000


@lru_cache(maxsize=65_536)  # temperatures recur; a look-up takes a tenth of the time
def milli_f(text: bytes) -> int:
    """Thousandths of a degree from decimal text, rounded half to even; raises Unusable.

    Exact for up to three decimals: the float nearest to such a number, times 1000, is within
    half a unit of it for every magnitude a temperature can have.
    """
    if len(text) > LONGEST_NUMBER or b"_" in text:
        raise Unusable(Reason.NOT_A_NUMBER)
    try:
        thousandths = float(text) * MILLI
    except ValueError:
        raise Unusable(Reason.NOT_A_NUMBER) from None
    if not isfinite(thousandths):
        raise Unusable(Reason.NOT_FINITE)
    return round(thousandths)


def decode(partition: Partition, entry_id: bytes, fields: Sequence[bytes], rules: Rules) -> Reading:
    """The reading in a plain entry; `fields` alternates names and values. Raises Unusable."""
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    device = values.get(b"device", b"unknown")
    text = values.get(b"temp_f")
    if text is None:
        raise Unusable(Reason.NO_TEMPERATURE)
    temperature = milli_f(text)
    ts_ms = event_time(partition, entry_id, values, rules)
    if not partition.day_ms <= ts_ms < partition.end_ms:
        raise Unusable(Reason.WRONG_DAY)
    if rules.latest_ms is not None and ts_ms > rules.latest_ms:
        raise Unusable(Reason.FAR_FUTURE)
    if temperature in rules.no_reading_milli_f:
        raise Unusable(Reason.NO_READING)
    if not rules.min_milli_f <= temperature <= rules.max_milli_f:
        raise Unusable(Reason.IMPLAUSIBLE)
    if len(device) > LONGEST_DEVICE:
        raise Unusable(Reason.BAD_DEVICE)
    return Reading(device, ts_ms, temperature)


def event_time(
    partition: Partition, entry_id: bytes, values: Mapping[bytes, bytes], rules: Rules
) -> int:
    """The event time in ms since the epoch: field `ts`, or TIME_OF_DAY, or else the id's
    milliseconds, which are the arrival time.

    An arrival up to `overrun_ms` after midnight counts in the last hour of the stream's day,
    because the writer chose the stream before midnight. Raises Unusable.
    """
    if (ts := values.get(b"ts")) is not None:
        ts_ms = whole_number(ts, Reason.BAD_TIMESTAMP)
        _refuse_another_unit(ts_ms, partition)
        return ts_ms
    if (of_day := values.get(TIME_OF_DAY)) is not None:
        return partition.day_ms + whole_number(of_day, Reason.BAD_TIMESTAMP)
    ts_ms = int(entry_id.partition(b"-")[0])
    return partition.end_ms - 1 if 0 <= ts_ms - partition.end_ms <= rules.overrun_ms else ts_ms


def _refuse_another_unit(ts: int, partition: Partition) -> None:
    """Raise Unusable if `ts` is outside this day in ms, but inside it in another unit."""
    if partition.day_ms <= ts < partition.end_ms:
        return
    units = (
        (Reason.TS_IN_S, ts * 1000),
        (Reason.TS_IN_US, ts // 1000),
        (Reason.TS_IN_NS, ts // 1_000_000),
    )
    for reason, ts_ms in units:
        if partition.day_ms <= ts_ms < partition.end_ms:
            raise Unusable(reason)


def whole_number(text: bytes, otherwise: Reason) -> int:
    if not text.isdigit() or len(text) > LONGEST_NUMBER:
        raise Unusable(otherwise)
    return int(text)


def degrees(milli: int) -> str:
    """`milli` thousandths as decimal text without trailing zeros: 73000 is "73"."""
    sign = "-" if milli < 0 else ""
    whole, thousandths = divmod(abs(milli), MILLI)
    fraction = f"{thousandths:03d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
