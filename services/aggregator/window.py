"""From entries to what a batch adds to each hour. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hourglass.keys import HOUR_MS, Partition
from hourglass.readings import Reason, Rules, Unusable, decode


class Entry(NamedTuple):
    """A stream entry as Redis delivers it: `fields` alternates names and values."""

    id: bytes
    fields: Sequence[bytes]


class Reject(NamedTuple):
    """An entry that cannot be used."""

    entry: Entry
    reason: Reason


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
    for entry in entries:
        folded.ids.append(entry.id)
        if entry.id in undeliverable:
            folded.rejects.append(Reject(entry, Reason.UNDELIVERABLE))
            continue
        try:
            device, ts_ms, milli_f = decode(partition, entry.id, entry.fields, rules)
        except Unusable as unusable:
            folded.rejects.append(Reject(entry, unusable.reason))
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
