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
from typing import Any, NamedTuple, TypeAlias

from hourglass.model.devices import MOST_NUMBERS
from hourglass.model.keys import DAY_MS, HOUR_MS, Partition

MILLI = 1000
_LONGEST_NUMBER = 32
_LONGEST_DEVICE = 128
_LONGEST_BASE = _LONGEST_DEVICE - len("-9999999")
#: Maximum values in one packed entry.
MOST_PACKED = 10_000
#: The field with the values; its presence makes an entry a packed one.
ARRAY = b"temps_f"

#: Event time in entries of this producer, in ms since the partition's start, which takes fewer
#: digits. Other writers use `ts`, in ms since the epoch.
TIME_OF_DAY = b"day_ms"

#: The fields of a reading. A usable entry of at most three of them has a bounded size; an entry
#: with both time fields may not, because only one of them is checked.
_OF_A_READING = frozenset({b"device", b"ts", TIME_OF_DAY, b"temp_f"})

#: The field with the trace context of the span that sent a batch, in the batch's first entry.
TRACEPARENT = b"traceparent"

#: A stream entry as Redis delivers it: its id and its fields, which alternate names and values.
Entry: TypeAlias = Sequence[Any]


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


class Encoding(NamedTuple):
    """The encoding of the values of a packed entry: little-endian signed integers of `width` bytes
    in units of `milli_f` thousandths of a degree. The least integer marks a missing reading."""

    width: int
    milli_f: int


#: The encodings by their names in the field `encoding`, the narrowest and finest first.
ENCODINGS: Mapping[bytes, Encoding] = {
    b"i16/100": Encoding(2, 10),
    b"i16/10": Encoding(2, 100),
    b"i32/1000": Encoding(4, 1),
}


class Packed(NamedTuple):
    """Ticks of a producer's devices. Value t * devices + i of `values` belongs to the device with
    the number `first` + i at `ts_ms` + t * `period_ms`.

    first: None for a single device whose name is `device`, without a number
    """

    device: bytes
    first: int | None
    devices: int
    ts_ms: int
    period_ms: int
    encoding: Encoding
    values: bytes

    @property
    def size(self) -> int:
        """The number of values, including those of missing readings."""
        return len(self.values) // self.encoding.width

    @property
    def ticks(self) -> int:
        return self.size // self.devices

    def name(self, index: int) -> bytes:
        """The name of the device with this index within the tick."""
        return self.device if self.first is None else b"%s-%d" % (self.device, self.first + index)


class PackedEntry(NamedTuple):
    """A packed entry and its id; its readings are not checked yet."""

    id: bytes
    packed: Packed


class Reject(NamedTuple):
    """An unusable entry, or unusable readings of a packed entry whose other readings are usable.

    readings: number of unusable readings; an entry that cannot be decoded counts as one
    at: empty for a whole entry; otherwise a bitmap of the unusable values of its array, bit 0 being
        the lowest bit of byte 0
    size: bytes of the entry, if its size is the reason; otherwise 0
    """

    id: bytes
    reason: Reason
    fields: Sequence[bytes]
    readings: int = 1
    at: bytes = b""
    size: int = 0

    @property
    def explanation(self) -> str:
        """The reason, with the size of an entry that is too large."""
        return f"{self.reason}: {self.size} bytes" if self.size else str(self.reason)


class Decoded(NamedTuple):
    """The decoded contents of a batch of entries."""

    readings: Readings
    packed: Sequence[PackedEntry]
    rejects: Sequence[Reject]


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
    if len(text) > _LONGEST_NUMBER or b"_" in text:
        raise Unusable(Reason.NOT_A_NUMBER)
    try:
        thousandths = float(text) * MILLI
    except ValueError:
        raise Unusable(Reason.NOT_A_NUMBER) from None
    if not isfinite(thousandths):
        raise Unusable(Reason.NOT_FINITE)
    return round(thousandths)


def decode_all(partition: Partition, entries: Sequence[Entry], rules: Rules) -> Decoded:
    """Decode stream entries to plain readings, checked against `rules`; packed entries, not checked
    yet; and unusable entries."""
    readings = _decode_together(partition, entries, rules)
    if readings is not None:
        return Decoded(readings, [], [])
    plain: list[Entry] = []
    packed: list[PackedEntry] = []
    rejects: list[Reject] = []
    for entry in entries:
        entry_id, fields = entry
        size = sum(map(len, fields))
        if size > rules.max_entry_bytes:
            rejects.append(Reject(entry_id, Reason.TOO_LARGE, fields, size=size))
        elif ARRAY in fields[::2]:
            try:
                packed.append(PackedEntry(entry_id, unpack(partition, entry_id, fields, rules)))
            except Unusable as unusable:
                rejects.append(Reject(entry_id, unusable.reason, fields))
        else:
            plain.append(entry)
    readings = _decode_together(partition, plain, rules) if len(plain) < len(entries) else None
    if readings is None:
        readings, unusable = _decode_apart(partition, plain, rules)
        rejects += unusable
    return Decoded(readings, packed, rejects)


def _decode_apart(
    partition: Partition, entries: Sequence[Entry], rules: Rules
) -> tuple[Readings, list[Reject]]:
    """Decode entries of which some are unusable or have other fields."""
    together, singly = Readings((), (), ()), entries
    # The first entry of a traced batch has a traceparent; the others have equal fields.
    traced = [entry for entry in entries if TRACEPARENT in entry[1]]
    alike = [entry for entry in entries if TRACEPARENT not in entry[1]] if traced else []
    if alike and (readings := _decode_together(partition, alike, rules)):
        together, singly = readings, traced
    usable: list[Reading] = []
    rejects: list[Reject] = []
    for entry_id, fields in singly:
        try:
            usable.append(decode(partition, entry_id, fields, rules))
        except Unusable as unusable:
            rejects.append(Reject(entry_id, unusable.reason, fields))
    if not usable:
        return together, rejects
    one_by_one = Readings(*zip(*usable, strict=True))
    return together.and_also(one_by_one) if together.times_ms else one_by_one, rejects


def origins(entries: Sequence[Entry]) -> list[str]:
    """The traceparents in the entries' fields, one per traced batch of a producer."""
    return [
        fields[fields.index(TRACEPARENT) + 1].decode(errors="replace")
        for _, fields in entries
        if TRACEPARENT in fields[::2]
    ]


def _decode_together(
    partition: Partition, entries: Sequence[Entry], rules: Rules
) -> Readings | None:
    """Decode entries column by column, in a third of the time of `decode` for each; None unless all
    are usable and have the same fields in the same order."""
    if not entries:
        return Readings((), (), ())
    try:
        columns = list(zip(*[fields for _, fields in entries], strict=True))
        names = [set(column) for column in columns[::2]]
        values = {name: value for (name,), value in zip(names, columns[1::2], strict=True)}
        if ARRAY in values:
            return None
        if len(values) > 3 or values.keys() - _OF_A_READING:
            most = sum(len(name) + max(map(len, column)) for name, column in values.items())
            if most > rules.max_entry_bytes:
                return None
        milli = [*map(milli_f, values[b"temp_f"])]
        times_ms = _times_together(partition, entries, values.get(b"ts"), values.get(TIME_OF_DAY))
    except (KeyError, ValueError):
        return None
    devices = values.get(b"device", (b"unknown",) * len(entries))
    latest_ms = max(times_ms)
    if (
        min(milli) < rules.min_milli_f
        or max(milli) > rules.max_milli_f
        or min(times_ms) < partition.day_ms
        or latest_ms >= partition.end_ms
        or (rules.latest_ms is not None and latest_ms > rules.latest_ms)
        or max(map(len, devices)) > _LONGEST_DEVICE
        or not rules.no_reading_milli_f.isdisjoint(milli)
    ):
        return None
    return Readings(devices, times_ms, milli)


def _times_together(
    partition: Partition,
    entries: Sequence[Entry],
    stamps: Sequence[bytes] | None,
    of_day: Sequence[bytes] | None,
) -> list[int]:
    """The event times in ms since the epoch: from `stamps`, else from `of_day`, else from the
    entries' ids. Raises ValueError if a text is not a time."""
    texts = of_day if stamps is None else stamps
    if texts is None:
        return [int(entry_id.partition(b"-")[0]) for entry_id, _ in entries]
    if not b"".join(texts).isdigit():  # int() would accept signs, spaces and underscores
        raise ValueError
    if max(map(len, texts)) > _LONGEST_NUMBER:
        raise ValueError
    if stamps is None:
        day_ms = partition.day_ms
        return [day_ms + of_day_ms for of_day_ms in map(int, texts)]
    return [*map(int, texts)]


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
    if len(device) > _LONGEST_DEVICE:
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
        ts_ms = _integer(ts, Reason.BAD_TIMESTAMP)
        _refuse_another_unit(ts_ms, partition)
        return ts_ms
    if (of_day := values.get(TIME_OF_DAY)) is not None:
        return partition.day_ms + _integer(of_day, Reason.BAD_TIMESTAMP)
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


def _integer(text: bytes, otherwise: Reason) -> int:
    if not text.isdigit() or len(text) > _LONGEST_NUMBER:
        raise Unusable(otherwise)
    return int(text)


def unpack(partition: Partition, entry_id: bytes, fields: Sequence[bytes], rules: Rules) -> Packed:
    """Decode a packed entry. All fields but `temps_f` and `encoding` are optional. Raises Unusable.

    device     prefix of the devices' names
    first      number of the first device, the others follow; by default 0, and a single device
               has no number
    devices    values per tick; by default all values are one tick
    ts         event time of the first tick, as for a plain reading
    period_ms  time between two ticks, if there are several
    encoding   one of ENCODINGS
    temps_f    the values, tick by tick
    """
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    encoding = ENCODINGS.get(named.get(b"encoding", b""))
    values = named[ARRAY]
    if encoding is None or b"temp_f" in named:
        raise Unusable(Reason.BAD_ARRAY)
    size, rest = divmod(len(values), encoding.width)
    devices = _integer(named.get(b"devices", b"%d" % size), Reason.BAD_ARRAY)
    period_ms = _integer(named.get(b"period_ms", b"0"), Reason.BAD_ARRAY)
    first = named.get(b"first")
    number = _integer(b"0" if first is None else first, Reason.BAD_ARRAY)
    if (
        rest
        or not 0 < size <= MOST_PACKED
        or devices == 0
        or size % devices
        or (devices < size and not (0 < period_ms < DAY_MS and b"ts" in named))
        or number + devices > MOST_NUMBERS
    ):
        raise Unusable(Reason.BAD_ARRAY)
    device = named.get(b"device", b"unknown")
    if len(device) > _LONGEST_BASE:
        raise Unusable(Reason.BAD_DEVICE)
    ts_ms = event_time(partition, entry_id, named, rules)
    numbered = first is not None or devices > 1
    return Packed(device, number if numbered else None, devices, ts_ms, period_ms, encoding, values)


def degrees(milli: int) -> str:
    """`milli` thousandths as decimal text without trailing zeros: 73000 is "73"."""
    sign = "-" if milli < 0 else ""
    whole, thousandths = divmod(abs(milli), MILLI)
    fraction = f"{thousandths:03d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
