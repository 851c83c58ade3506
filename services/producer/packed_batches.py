"""Packed batches: entries that hold ticks of many devices, not one entry per reading. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hourglass.cluster.scripts import packed
from hourglass.model.devices import lane_index
from hourglass.model.entries import ENCODINGS
from hourglass.model.keys import DAY_MS
from hourglass.model.packed_codec import MISSING, encode
from producer.batch import Batch, Numbering, Shares
from producer.identities import Block, field_of, identify
from producer.identities import place as place_of_bit
from producer.simulator_array import Tick

#: Maximum bytes of values in an entry, by the width of a value. Redis stores entries in nodes of
#: 4 kB (stream-node-max-bytes); three arrays of the first size fill a node, and one of the second.
#: With a thousand devices a reading then takes 2.3 or 4.2 bytes, overhead included.
ENTRY_BYTES: Mapping[int, int] = {2: 1_280, 4: 4_000}
#: Maximum readings in a batch; a single tick of more devices may exceed it.
BATCH_READINGS = 10_000
#: Maximum devices in a batch; a tick of more devices is sent in parts. This many take one megabyte,
#: which Redis appends in 5 ms on a dedicated core; it serves no other client during that time.
BATCH_DEVICES = 250_000


class Array(NamedTuple):
    """Encoded ticks of consecutive devices.

    first: number of the first device; above 0 for a later part of a tick
    start_ms: event time of the first tick
    period_ms: time between two ticks
    devices: values per tick
    """

    first: int
    start_ms: int
    period_ms: int
    devices: int
    encoding: bytes
    values: bytes


class Packer:
    """Packs ticks into entries and entries into batches."""

    def __init__(
        self,
        device: str,
        *,
        partitions: Shares,
        limit: int = BATCH_READINGS,
        entry_bytes: Mapping[int, int] = ENTRY_BYTES,
        batch_devices: int = BATCH_DEVICES,
        deduplicate_ms: int = 0,
    ) -> None:
        """All devices of a packer write to the same one of the day's `partitions`.

        device: prefix of the device names, as in hourglass.model.devices.device_names
        deduplicate_ms: as for a Batcher; no longer than the distance of two ticks
        """
        self._device = device.encode()
        self._partitions = partitions
        self._limit = limit
        self._entry_bytes = entry_bytes
        self._batch_devices = batch_devices
        self._tick_ms = deduplicate_ms
        self._numbering = Numbering()

    def cut(
        self, ticks: Iterable[Tick], *, next_ms: int | None = None, to_all: bool = False
    ) -> Iterator[Batch]:
        """Batches of at most `limit` readings, or of one tick or a part of it. The ticks of a batch
        are of one day and have equal distances. See Batcher.cut for the parameters."""
        for run, then_ms in _followed(_runs(ticks, self._limit), next_ms):
            of_all = np.stack([tick.milli_f for tick in run])
            start_ms, latest_ms = run[0].ts_ms, run[-1].ts_ms
            period_ms = (latest_ms - start_ms) // max(1, len(run) - 1)
            partitions = self._partitions(start_ms - start_ms % DAY_MS)
            size, devices = self._batch_devices, of_all.shape[1]
            for first in range(0, devices, size):
                milli_f = of_all[:, first : first + size]
                encoding, values = encode(milli_f)
                blocks = self._blocks(first, [tick.ts_ms for tick in run], milli_f != MISSING)
                array = Array(first, start_ms, period_ms, milli_f.shape[1], encoding, values)
                entries = list(self._entries(array))
                yield self._numbering.batch(
                    partitions[lane_index(self._device, len(partitions))],
                    next_ms=then_ms if first + size >= devices else start_ms,
                    count=int(np.count_nonzero(milli_f != MISSING)),
                    entries=len(entries),
                    latest_ms=latest_ms,
                    payload=packed([[], entries]),
                    blocks=blocks,
                    tick_ms=self._tick_ms,
                )
        if next_ms is not None:
            yield from self._numbering.watermarks(next_ms, all_of_them=to_all)

    def _blocks(
        self, first: int, times_ms: Sequence[int], present: NDArray[np.bool_]
    ) -> Iterator[Block]:
        """The bits of the readings that are present; none if they are not deduplicated."""
        if not self._tick_ms:
            return
        of_day = np.array(times_ms) % DAY_MS
        ticks = of_day // self._tick_ms
        if (np.diff(ticks) == 0).any():
            raise ValueError("deduplicate_ms must not exceed the distance of two ticks")
        devices = present.shape[1]
        if first == 0 and devices == 1:
            times = of_day[present[:, 0]].tolist()
            yield from identify([self._device] * len(times), times, self._tick_ms)[0]
            return
        at = 0
        while at < devices:
            group, rows, width, position = place_of_bit(b"%s-%d" % (self._device, first + at))
            of_group = present[:, at : at + width - position]
            numbers = ticks // rows
            for number in range(int(numbers[0]), int(numbers[-1]) + 1):
                of_block = numbers == number
                bits = np.zeros((rows, width), np.bool_)
                bits[ticks[of_block] % rows, position : position + of_group.shape[1]] = of_group[
                    of_block
                ]
                mask = np.packbits(bits, bitorder="little").tobytes()
                upto = mask.rstrip(b"\0")
                if upto:
                    least = upto.lstrip(b"\0")
                    field = field_of(self._tick_ms, group, number)
                    yield Block(field, len(upto) - len(least), least)
            at += of_group.shape[1]

    def _entries(self, array: Array) -> Iterator[list[bytes]]:
        """Entries of several ticks each, or of a part of a tick if one is too large for an
        entry."""
        width = ENCODINGS[array.encoding].width
        most, tick = self._entry_bytes[width], array.devices * width
        if tick <= most:
            size = most // tick * tick
            for at in range(0, len(array.values), size):
                values = array.values[at : at + size]
                shape = [b"first", b"%d" % array.first] if array.first else []
                if len(values) > tick:
                    shape += [b"devices", b"%d" % array.devices]
                    shape += [b"period_ms", b"%d" % array.period_ms]
                yield self._entry(array, at // tick, values, shape)
        else:
            size = most // width * width
            for start, at in product(range(0, len(array.values), tick), range(0, tick, size)):
                values = array.values[start + at : start + min(at + size, tick)]
                first = b"%d" % (array.first + at // width)
                yield self._entry(array, start // tick, values, [b"first", first])

    def _entry(self, array: Array, tick: int, values: bytes, shape: list[bytes]) -> list[bytes]:
        ts = b"%d" % (array.start_ms + tick * array.period_ms)
        device = [b"device", self._device, b"ts", ts]
        return [*device, *shape, b"encoding", array.encoding, b"temps_f", values]


def _runs(ticks: Iterable[Tick], limit: int) -> Iterator[list[Tick]]:
    """Groups of ticks that fit into one batch: of the same day, at equal distances."""
    run: list[Tick] = []
    for tick in ticks:
        if run and not _continues(run, tick, limit):
            yield run
            run = []
        run.append(tick)
    if run:
        yield run


def _followed(runs: Iterable[list[Tick]], next_ms: int | None) -> Iterator[tuple[list[Tick], int]]:
    """Each run with the time of the tick after it."""
    before: list[Tick] = []
    for run in runs:
        if before:
            yield before, run[0].ts_ms
        before = run
    if before:
        yield before, before[-1].ts_ms if next_ms is None else next_ms


def _continues(run: Sequence[Tick], tick: Tick, limit: int) -> bool:
    last = run[-1]
    if (len(run) + 1) * tick.milli_f.size > limit:
        return False
    if tick.ts_ms // DAY_MS != last.ts_ms // DAY_MS:
        return False
    period_ms = tick.ts_ms - last.ts_ms
    return period_ms > 0 and (len(run) == 1 or period_ms == last.ts_ms - run[-2].ts_ms)
