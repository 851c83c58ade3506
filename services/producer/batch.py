"""Batches: numbered groups of readings of one partition, the ingest script's input. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count, groupby
from typing import TypeAlias

from hourglass.cluster.scripts import packed
from hourglass.model.devices import lane_index
from hourglass.model.keys import DAY_MS, HOUR_MS, Partition
from hourglass.model.readings import Reading, degrees
from producer.identities import Block, identify, without_known

#: Maps the start of a day (ms since the epoch) to the partitions that hold its readings.
Shares: TypeAlias = Callable[[int], Sequence[Partition]]

#: Maximum readings in a batch that is deduplicated. Each may take two steps on a block of its own,
#: and no script may hold a shard for more than 20 ms.
MOST_DEDUPLICATED = 1000

#: The watermark of a producer that has finished: no further reading follows.
NO_MORE_MS = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Readings of one partition under one sequence number; a batch without readings carries only
    a watermark.

    count: readings in the batch
    entries: stream entries that the batch appends
    latest_ms: the latest event time in the batch
    watermark_ms: in ms since the partition's start; after this batch the producer has sent all its
                  readings with an earlier event time to this partition
    payload: MessagePack of an array of device, ts (ms since the partition's start), temp_f
             repeated, and an array of packed entries, each an array of its fields and values
    blocks: the bits of its readings, by which Redis recognises those that it has; empty if the
            batch is not deduplicated
    tick_ms: width of a tick of these bits
    repeated: readings left out, because they are in this batch or in Redis already
    unidentified: readings in the batch without a bit, because the partition has no room for it
    """

    partition: Partition
    sequence: int
    count: int
    entries: int
    latest_ms: int
    watermark_ms: int
    payload: bytes
    blocks: tuple[Block, ...] = ()
    tick_ms: int = 0
    repeated: int = 0
    unidentified: int = 0

    @property
    def size(self) -> int:
        """Readings that the batch was made of."""
        return self.count + self.repeated

    def without(self, known: Sequence[bytes | None]) -> Batch:
        """This batch without the readings that Redis has already. Call it on the batch as it was
        made: Redis may have lost readings that it had at the last attempt.

        known: of each block, the bits that Redis has; None if it has no room for the block
        """
        pairs = list(zip(self.blocks, known, strict=True))
        blocks = [block._replace(known=bits) for block, bits in pairs if bits is not None]
        payload, count, entries = without_known(self.partition, self.payload, blocks, self.tick_ms)
        return replace(
            self,
            count=count,
            entries=entries,
            payload=payload,
            blocks=tuple(blocks),
            repeated=self.repeated + self.count - count,
            unidentified=sum(block.readings for block, bits in pairs if bits is None),
        )


class Numbering:
    """Numbers a producer's batches from 1 without gaps and records the last watermark sent to each
    partition. It drops a partition once its watermark reaches the end of the day."""

    def __init__(self) -> None:
        self._sequence = count(1)
        self._sent: dict[Partition, int] = {}

    def batch(
        self,
        partition: Partition,
        *,
        next_ms: int,
        count: int,
        entries: int,
        latest_ms: int,
        payload: bytes,
        blocks: Iterable[Block] = (),
        tick_ms: int = 0,
        repeated: int = 0,
    ) -> Batch:
        """The next batch in sequence.

        next_ms: lower bound of all later event times, in this partition or in others
        """
        watermark_ms = _watermark_ms(partition, next_ms)
        self._sent[partition] = watermark_ms
        if watermark_ms == DAY_MS:
            del self._sent[partition]
        return Batch(
            partition=partition,
            sequence=next(self._sequence),
            count=count,
            entries=entries,
            latest_ms=latest_ms,
            watermark_ms=watermark_ms,
            payload=payload,
            blocks=tuple(blocks),
            tick_ms=tick_ms,
            repeated=repeated,
        )

    def watermarks(self, next_ms: int, *, all_of_them: bool) -> Iterator[Batch]:
        """Batches that carry only a watermark, so that an aggregator can seal hours without waiting
        for the next reading: for the partitions whose watermark passes the end of an hour, or for
        all open partitions if `all_of_them` is set."""
        for partition, sent_ms in list(self._sent.items()):
            reached_ms = _watermark_ms(partition, next_ms)
            if all_of_them or reached_ms // HOUR_MS > sent_ms // HOUR_MS:
                yield self.batch(
                    partition,
                    next_ms=next_ms,
                    count=0,
                    entries=0,
                    latest_ms=partition.end_ms - 1,
                    payload=_NOTHING,
                )


_NOTHING = packed([[], []])


def _watermark_ms(partition: Partition, next_ms: int) -> int:
    """The watermark relative to the start of the partition, limited to its day."""
    return min(DAY_MS, max(0, next_ms - partition.day_ms))


class Batcher:
    """Groups readings into batches.

    A source that can repeat readings sets `deduplicate_ms`, usually to identities.TICK_MS: Redis
    then takes one reading of a device in each tick of that width, whatever batch or producer it
    comes in. Repeated readings are left out and counted (`Batch.repeated`).
    """

    def __init__(
        self, *, limit: int, partitions: Shares, in_order: bool = True, deduplicate_ms: int = 0
    ) -> None:
        """What its source gives.

        in_order: readings come in the order of their times; otherwise `next_ms` alone says which
                  may follow
        deduplicate_ms: width of a tick, at most the shortest period of the devices; 0 takes every
                        reading
        """
        self._limit = min(limit, MOST_DEDUPLICATED) if deduplicate_ms else limit
        self._in_order = in_order
        self._tick_ms = deduplicate_ms
        self._partitions = partitions
        self._numbering = Numbering()

    def cut(
        self, readings: Iterable[Reading], *, next_ms: int | None = None, to_all: bool = False
    ) -> Iterator[Batch]:
        """Batches of at most `limit` readings of one partition, in the order of the readings. All
        readings of a device of one day are in the same partition.

        next_ms: event time of the next reading; None if it is unknown, but not earlier than these
        to_all: send the watermark to every open partition, also to those without readings here
        """

        def followed(by_ms: int) -> int:
            return by_ms if self._in_order else next_ms or 0

        if not self._in_order:
            readings = sorted(readings, key=_day)
        last: list[tuple[Partition, list[Reading]]] = []
        for day, of_day in groupby(readings, _day):
            for partition, chunk in last:
                yield self._batch(partition, chunk, followed(partition.end_ms))
            partitions = self._partitions(day * DAY_MS)
            lanes = len(partitions)
            chunks: list[list[Reading]] = [[] for _ in partitions]
            for reading in of_day:
                lane = lane_index(reading.device, lanes) if lanes > 1 else 0
                if len(chunks[lane]) == self._limit:
                    yield self._batch(partitions[lane], chunks[lane], followed(reading.ts_ms))
                    chunks[lane] = []
                chunks[lane].append(reading)
            last = [each for each in zip(partitions, chunks, strict=True) if each[1]]
        for partition, chunk in last:
            then_ms = followed(chunk[-1].ts_ms) if next_ms is None else next_ms
            yield self._batch(partition, chunk, then_ms)
        if next_ms is not None:
            yield from self._numbering.watermarks(next_ms, all_of_them=to_all)

    def _batch(self, partition: Partition, readings: Sequence[Reading], next_ms: int) -> Batch:
        blocks: list[Block] = []
        given = len(readings)
        if self._tick_ms:
            of_day = (reading.ts_ms - partition.day_ms for reading in readings)
            devices = (reading.device for reading in readings)
            blocks, repeated = identify(devices, of_day, self._tick_ms)
            if repeated:
                left_out = set(repeated)
                readings = [each for at, each in enumerate(readings) if at not in left_out]
        devices, times_ms, milli_f = zip(*readings, strict=True)
        flat: list[bytes] = [b""] * (3 * len(readings))
        flat[0::3] = devices
        flat[1::3] = [_stamp(ts_ms - partition.day_ms) for ts_ms in times_ms]
        flat[2::3] = [_text(each) for each in milli_f]
        return self._numbering.batch(
            partition,
            next_ms=next_ms,
            count=len(readings),
            entries=len(readings),
            latest_ms=max(times_ms),
            payload=packed([flat, []]),
            blocks=blocks,
            tick_ms=self._tick_ms,
            repeated=given - len(readings),
        )


def _day(reading: Reading) -> int:
    return reading.ts_ms // DAY_MS


@lru_cache(maxsize=1024)  # all devices of a tick have the same time stamp
def _stamp(of_day_ms: int) -> bytes:
    return b"%d" % of_day_ms


@lru_cache(maxsize=65_536)
def _text(milli_f: int) -> bytes:
    return degrees(milli_f).encode()
