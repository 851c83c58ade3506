"""Batches: readings of one partition, numbered, as the ingest script takes them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, groupby
from typing import TypeAlias

from hourglass.keys import DAY_MS, Partition
from hourglass.lanes import place
from hourglass.readings import Reading, degrees
from hourglass.scripts import packed

#: The partitions that the day which begins at this time is shared out to.
Shares: TypeAlias = Callable[[int], Sequence[Partition]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Readings of one partition under one sequence number.

    entries: what they take up in the stream
    latest_ms: the latest event time in it
    payload: MessagePack of an array of device, ts (ms since the partition's start), temp_f
             repeated, and an array of packed entries, each an array of its fields and values
    """

    partition: Partition
    sequence: int
    count: int
    entries: int
    latest_ms: int
    payload: bytes


class Batcher:
    """Cuts readings into batches, numbered from 1 without gaps."""

    def __init__(self, *, limit: int, partitions: Shares) -> None:
        self._limit = limit
        self._partitions = partitions
        self._sequence = count(1)

    def cut(self, readings: Iterable[Reading]) -> Iterator[Batch]:
        """Batches of at most `limit` readings in their order, each of one partition. A device's
        readings of a day are all of one."""
        for day, of_day in groupby(readings, lambda reading: reading.ts_ms // DAY_MS):
            partitions = self._partitions(day * DAY_MS)
            lanes = len(partitions)
            chunks: list[list[Reading]] = [[] for _ in partitions]
            for reading in of_day:
                lane = place(reading.device, lanes) if lanes > 1 else 0
                chunks[lane].append(reading)
                if len(chunks[lane]) == self._limit:
                    yield self._batch(partitions[lane], chunks[lane])
                    chunks[lane] = []
            for partition, chunk in zip(partitions, chunks, strict=True):
                if chunk:
                    yield self._batch(partition, chunk)

    def _batch(self, partition: Partition, readings: Sequence[Reading]) -> Batch:
        devices, times_ms, milli_f = zip(*readings, strict=True)
        latest_ms = max(times_ms)
        flat: list[bytes] = [b""] * (3 * len(readings))
        flat[0::3] = devices
        flat[1::3] = [_stamp(ts_ms - partition.day_ms) for ts_ms in times_ms]
        flat[2::3] = [_text(each) for each in milli_f]
        return Batch(
            partition=partition,
            sequence=next(self._sequence),
            count=len(readings),
            entries=len(readings),
            latest_ms=latest_ms,
            payload=packed([flat, []]),
        )


@lru_cache(maxsize=1024)  # devices are read together
def _stamp(of_day_ms: int) -> bytes:
    return b"%d" % of_day_ms


@lru_cache(maxsize=65_536)
def _text(milli_f: int) -> bytes:
    return degrees(milli_f).encode()
