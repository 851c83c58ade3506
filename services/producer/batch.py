"""Batches: numbered groups of readings of one partition, the ingest script's input. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, groupby
from typing import TypeAlias

from hourglass.cluster.scripts import packed
from hourglass.model.devices import lane_index
from hourglass.model.keys import DAY_MS, HOUR_MS, Partition
from hourglass.model.readings import Reading, degrees

#: Maps the start of a day (ms since the epoch) to the partitions that hold its readings.
Shares: TypeAlias = Callable[[int], Sequence[Partition]]

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
    """

    partition: Partition
    sequence: int
    count: int
    entries: int
    latest_ms: int
    watermark_ms: int
    payload: bytes


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
    """Groups readings into batches."""

    def __init__(self, *, limit: int, partitions: Shares, in_order: bool = True) -> None:
        """`in_order`: readings come in the order of their times; otherwise `next_ms` alone says
        which may follow."""
        self._limit = limit
        self._in_order = in_order
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
        )


def _day(reading: Reading) -> int:
    return reading.ts_ms // DAY_MS


@lru_cache(maxsize=1024)  # all devices of a tick have the same time stamp
def _stamp(of_day_ms: int) -> bytes:
    return b"%d" % of_day_ms


@lru_cache(maxsize=65_536)
def _text(milli_f: int) -> bytes:
    return degrees(milli_f).encode()
