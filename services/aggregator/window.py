"""From entries to what a batch adds to each hour. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from hourglass.keys import HOUR_MS, Partition
from hourglass.readings import Reason, Rules, Unusable, decode

#: A stream entry as Redis delivers it: its id, and names and values in turn.
Entry: TypeAlias = Sequence[Any]


#: What quarantine keeps of an entry: so many fields, and so many bytes of each name and value.
MOST_FIELDS = 16
MOST_BYTES = 1024
_OF_A_READING = (b"temp_f", b"ts", b"device")


class Reject(NamedTuple):
    """An entry that cannot be used, with as much of its fields as quarantine keeps."""

    id: bytes
    reason: Reason
    fields: Sequence[bytes]


@dataclass(slots=True)
class Tally:
    """What a batch adds to one hour; temperatures in thousandths of a degree."""

    count: int = 0
    sum_milli_f: int = 0
    min_milli_f: int = 1 << 62
    max_milli_f: int = -(1 << 62)
    devices: set[bytes] = field(default_factory=set[bytes])


@dataclass(slots=True)
class Fold:
    """A batch, folded: every entry is in `ids`, and in one tally or among the rejects."""

    ids: list[bytes]
    tallies: dict[int, Tally]
    rejects: list[Reject]
    latest_ms: int


def fold(
    partition: Partition,
    entries: Iterable[Entry],
    rules: Rules,
    undeliverable: Collection[bytes] = (),
) -> Fold:
    """Sort `entries` into hours (0 to 23) and rejects.

    An entry whose id is in `undeliverable` is rejected without being decoded: decoding may be
    what killed whoever tried.
    """
    folded = Fold([], {}, [], partition.day_ms)
    tallies = folded.tallies
    day_ms = partition.day_ms
    for entry_id, fields in entries:
        folded.ids.append(entry_id)
        if entry_id in undeliverable:
            folded.rejects.append(Reject(entry_id, Reason.UNDELIVERABLE, kept(fields)))
            continue
        try:
            device, ts_ms, milli_f = decode(partition, entry_id, fields, rules)
        except Unusable as unusable:
            folded.rejects.append(Reject(entry_id, unusable.reason, kept(fields)))
            continue
        hour = (ts_ms - day_ms) // HOUR_MS
        tally = tallies.get(hour)
        if tally is None:
            tally = tallies[hour] = Tally()
        tally.count += 1
        tally.sum_milli_f += milli_f
        if milli_f < tally.min_milli_f:
            tally.min_milli_f = milli_f
        if milli_f > tally.max_milli_f:
            tally.max_milli_f = milli_f
        tally.devices.add(device)
        if ts_ms > folded.latest_ms:
            folded.latest_ms = ts_ms
    return folded


def kept(fields: Sequence[bytes]) -> Sequence[bytes]:
    """`fields` within the bounds of what quarantine keeps; those of a reading are kept first."""
    if len(fields) <= 2 * MOST_FIELDS and max(map(len, fields), default=0) <= MOST_BYTES:
        return fields
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    pairs.sort(key=lambda pair: pair[0] not in _OF_A_READING)
    return [part[:MOST_BYTES] for pair in pairs[:MOST_FIELDS] for part in pair]
