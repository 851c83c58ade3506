"""Batches: readings of one partition, numbered, as the ingest script takes them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, groupby

from hourglass.keys import DAY_MS, Partition
from hourglass.readings import Reading, degrees
from hourglass.scripts import packed


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Readings of one partition under one sequence number.

    latest_ms: the latest event time in it
    payload: MessagePack array of device, ts (ms since the partition's start), temp_f repeated
    """

    partition: Partition
    sequence: int
    count: int
    latest_ms: int
    payload: bytes


class Batcher:
    """Cuts readings into batches, numbered from 1 without gaps."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._sequence = count(1)

    def cut(self, readings: Iterable[Reading]) -> Iterator[Batch]:
        """Batches of at most `limit` readings in their order, each of one day."""
        for day, of_day in groupby(readings, lambda reading: reading.ts_ms // DAY_MS):
            chunk: list[Reading] = []
            for reading in of_day:
                chunk.append(reading)
                if len(chunk) == self._limit:
                    yield self._batch(day, chunk)
                    chunk = []
            if chunk:
                yield self._batch(day, chunk)

    def _batch(self, day: int, readings: list[Reading]) -> Batch:
        partition = Partition(day * DAY_MS)
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
            latest_ms=latest_ms,
            payload=packed(flat),
        )


@lru_cache(maxsize=1024)  # devices are read together
def _stamp(of_day_ms: int) -> bytes:
    return b"%d" % of_day_ms


@lru_cache(maxsize=65_536)
def _text(milli_f: int) -> bytes:
    return degrees(milli_f).encode()
