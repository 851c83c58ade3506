"""Decodes batches of stream entries: plain ones of one reading, and packed ones, which hold ticks
of many devices in one array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from hourglass.model.devices import MOST_NUMBERS
from hourglass.model.keys import DAY_MS, Partition
from hourglass.model.readings import (
    LONGEST_DEVICE,
    LONGEST_NUMBER,
    TIME_OF_DAY,
    TRACEPARENT,
    Reading,
    Readings,
    Reason,
    Rules,
    Unusable,
    decode,
    event_time,
    milli_f,
    whole_number,
)

_LONGEST_BASE = LONGEST_DEVICE - len("-9999999")

#: Maximum values in one packed entry.
MOST_PACKED = 10_000

#: The field with the values; its presence makes an entry a packed one.
ARRAY = b"temps_f"

#: The fields of a reading. A usable entry of at most three of them has a bounded size; an entry
#: with both time fields may not, because only one of them is checked.
_OF_A_READING = frozenset({b"device", b"ts", TIME_OF_DAY, b"temp_f"})

#: A stream entry as Redis delivers it: its id and its fields, which alternate names and values.
Entry: TypeAlias = Sequence[Any]


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
        or max(map(len, devices)) > LONGEST_DEVICE
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
    if max(map(len, texts)) > LONGEST_NUMBER:
        raise ValueError
    if stamps is None:
        day_ms = partition.day_ms
        return [day_ms + of_day_ms for of_day_ms in map(int, texts)]
    return [*map(int, texts)]


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
    devices = whole_number(named.get(b"devices", b"%d" % size), Reason.BAD_ARRAY)
    period_ms = whole_number(named.get(b"period_ms", b"0"), Reason.BAD_ARRAY)
    first = named.get(b"first")
    number = whole_number(b"0" if first is None else first, Reason.BAD_ARRAY)
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
