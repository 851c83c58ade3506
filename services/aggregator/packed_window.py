"""From packed entries to what a batch adds to each hour, array by array. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aggregator.aggregates import BatchAggregate, PartialAggregate
from hourglass.model.devices import blocks_of, blocks_of_range
from hourglass.model.entries import Encoding, Packed, PackedEntry, Reject
from hourglass.model.keys import HOUR_MS, Partition
from hourglass.model.packed_codec import bitmap, decode, missing
from hourglass.model.readings import Reason, Rules

#: By entry and reason, where in an entry the readings are that cannot be used.
Unusable: TypeAlias = defaultdict[bytes, dict[Reason, list[int]]]


class TickRange(NamedTuple):
    """Ticks of an entry that share an hour, or a fault: `start` up to, not including, `stop`."""

    id: bytes
    packed: Packed
    start: int
    stop: int

    @property
    def values(self) -> bytes:
        values, tick = self.packed.values, self.packed.devices * self.packed.encoding.width
        return values[self.start * tick : self.stop * tick]  # the very object, if it is all of it

    @property
    def latest_ms(self) -> int:
        return self.packed.ts_ms + (self.stop - 1) * self.packed.period_ms


def aggregate_packed(
    partition: Partition, entries: Sequence[PackedEntry], rules: Rules, aggregate: BatchAggregate
) -> None:
    """Add the readings in `entries` to `aggregate`.

    All that share an hour and an encoding become one array, so what numpy is asked to do does not
    grow with the number of entries.
    """
    groups: defaultdict[tuple[int, Encoding], list[TickRange]] = defaultdict(list)
    unusable: Unusable = defaultdict(dict)
    for entry_id, packed in entries:
        for fate, start, stop in _fates(partition, packed, rules):
            ticks = TickRange(entry_id, packed, start, stop)
            if isinstance(fate, Reason):
                present = decode(packed.encoding, ticks.values) != missing(packed.encoding)
                _mark(unusable, ticks, fate, present)
            else:
                groups[fate, packed.encoding].append(ticks)
    for (hour, encoding), ranges in groups.items():
        partial = aggregate.partials.setdefault(hour, PartialAggregate())
        _count(encoding, ranges, rules, partial, unusable)
        aggregate.latest_ms = max(aggregate.latest_ms, *(ticks.latest_ms for ticks in ranges))
    for entry in entries:
        if entry.id in unusable:
            aggregate.rejects += _rejects(entry, unusable[entry.id])
    partials = aggregate.partials.items()
    aggregate.partials = {hour: partial for hour, partial in partials if partial.count}


def _fates(
    partition: Partition, packed: Packed, rules: Rules
) -> Iterator[tuple[int | Reason, int, int]]:
    """Each run of ticks with the hour it counts in, or why none of them can be used."""
    ticks, start = packed.ticks, 0
    while start < ticks:
        at_ms = packed.ts_ms + start * packed.period_ms
        fate, until_ms = _fate(partition, at_ms, rules.latest_ms)
        stop = ticks
        if ticks > 1 and until_ms is not None:
            stop = min(ticks, start - (at_ms - until_ms) // packed.period_ms)
        yield fate, start, stop
        start = stop


def _fate(
    partition: Partition, at_ms: int, latest_ms: int | None
) -> tuple[int | Reason, int | None]:
    """What becomes of a tick at `at_ms`, and before what time that holds; None is for ever."""
    if at_ms < partition.day_ms:
        return Reason.WRONG_DAY, partition.day_ms
    if at_ms >= partition.end_ms:
        return Reason.WRONG_DAY, None
    if latest_ms is not None and at_ms > latest_ms:
        return Reason.FAR_FUTURE, partition.end_ms
    hour = (at_ms - partition.day_ms) // HOUR_MS
    until_ms = partition.hour_start_ms(hour + 1)
    return hour, until_ms if latest_ms is None else min(until_ms, latest_ms + 1)


def _count(
    encoding: Encoding,
    ranges: Sequence[TickRange],
    rules: Rules,
    partial: PartialAggregate,
    unusable: Unusable,
) -> None:
    """Add the usable readings in `ranges`, which are of one hour, to `partial`."""
    values = decode(encoding, b"".join([ticks.values for ticks in ranges]))
    lowest = max(-(-rules.min_milli_f // encoding.milli_f), missing(encoding) + 1)
    highest = min(rules.max_milli_f // encoding.milli_f, -missing(encoding) - 1)
    silent = _silent(encoding, values, rules)
    if values.min() < lowest or values.max() > highest or silent is not None:
        good = (values >= lowest) & (values <= highest)
        if silent is not None:
            good &= ~silent
        sizes = [len(ticks.values) // encoding.width for ticks in ranges]
        starts = [0, *accumulate(sizes)]
        whole = np.logical_and.reduceat(good, starts[:-1])
        for index in np.flatnonzero(~whole).tolist():
            part = slice(starts[index], starts[index + 1])
            present = values[part] != missing(encoding)
            if silent is not None:
                _mark(unusable, ranges[index], Reason.NO_READING, present & silent[part])
                present &= ~silent[part]
            _mark(unusable, ranges[index], Reason.IMPLAUSIBLE, present & ~good[part])
            _see(partial, ranges[index].packed, good[part])
        ranges = [ranges[index] for index in np.flatnonzero(whole).tolist()]
        values = values[good]
    for packed in {each.packed[:3]: each.packed for each in ranges}.values():
        _see(partial, packed)
    if values.size:
        partial.count += values.size
        partial.sum_milli_f += encoding.milli_f * int(values.sum(dtype=np.int64))
        partial.min_milli_f = min(partial.min_milli_f, encoding.milli_f * int(values.min()))
        partial.max_milli_f = max(partial.max_milli_f, encoding.milli_f * int(values.max()))


def _silent(
    encoding: Encoding, values: NDArray[np.integer[Any]], rules: Rules
) -> NDArray[np.bool_] | None:
    """Which values are what a sensor gives in place of a reading; None if none is."""
    codes = [
        milli_f // encoding.milli_f
        for milli_f in rules.no_reading_milli_f
        if milli_f % encoding.milli_f == 0
    ]
    if not codes:
        return None
    silent = np.isin(values, codes)
    return silent if silent.any() else None


def _see(partial: PartialAggregate, packed: Packed, good: NDArray[np.bool_] | None = None) -> None:
    """Note the devices that gave one of the `good` readings; of all, if they are not given."""
    seen = (1 << packed.devices) - 1
    if good is not None:
        at_all = good.reshape(-1, packed.devices).any(axis=0)
        seen = int.from_bytes(np.packbits(at_all, bitorder="little").tobytes(), "little")
    if packed.first is None:
        blocks = blocks_of([packed.device] if seen else []).items()
    else:
        blocks = blocks_of_range(packed.device, packed.first, seen)
    for block, bits in blocks:
        partial.blocks[block] = partial.blocks.get(block, 0) | bits


def _mark(unusable: Unusable, ticks: TickRange, reason: Reason, where: NDArray[np.bool_]) -> None:
    positions = np.flatnonzero(where) + ticks.start * ticks.packed.devices
    if positions.size:
        unusable[ticks.id].setdefault(reason, []).extend(positions.tolist())


def _rejects(entry: PackedEntry, unusable: dict[Reason, list[int]]) -> list[Reject]:
    """The entry as a whole if none of its readings can be used, for one reason; else where those
    are that cannot, for each reason."""
    packed = entry.packed
    present = np.count_nonzero(decode(packed.encoding, packed.values) != missing(packed.encoding))
    (reason, positions), *others = unusable.items()
    if not others and len(positions) == present:
        return [Reject(entry.id, reason, (), len(positions))]
    return [
        Reject(entry.id, reason, (), len(positions), bitmap(positions, packed.size))
        for reason, positions in unusable.items()
    ]
