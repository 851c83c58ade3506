"""Counting a partition anew from its raw readings, by whoever doubts the hour records."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from hourglass.averages import HourRecord
from hourglass.cluster import Cluster, Link
from hourglass.keys import DAY_MS, GROUP, Partition
from hourglass.ledgers import gone
from hourglass.readings import Entry, Rules, decode_all
from hourglass.records import decode_hours
from hourglass.scripts import Script

_SNAPSHOT = Script.load("hourglassctl", "snapshot")

#: Plausibility and lateness are the aggregator's to judge: what it did not quarantine, it counted.
_ANYTHING = Rules(min_milli_f=-(1 << 62), max_milli_f=1 << 62, overrun_ms=DAY_MS)
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class RawHour:
    """Readings of one hour that are in the stream and acknowledged."""

    count: int = 0
    sum_milli_f: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """A partition's records beside its raw readings, as of one instant.

    raw: by hour start; None if the stream is gone, so that there is nothing to compare with
    remade: the stream was deleted and made anew, so that the records may count more than is there
    quarantined: entries in quarantine
    unaccounted: acknowledged entries that are neither usable nor in quarantine
    gone: readings that producers were told were taken and that are not there, as far as each of
        them has been heard of since
    """

    partition: Partition
    records: tuple[HourRecord, ...]
    raw: dict[int, RawHour] | None
    remade: bool = False
    quarantined: int = 0
    unaccounted: int = 0
    gone: int = 0


def recount(cluster: Cluster, partition: Partition) -> Recount:
    """Safe on a live partition: the records and the point up to which they are compared are one
    snapshot, and entries do not change. Raises Unreachable."""
    link = cluster.link(partition.stream)
    try:
        keys = [partition.stream, partition.hours, partition.quarantine, partition.producers]
        flat, producers, delivered, pending = link.run(_SNAPSHOT, keys, [GROUP])
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        records = tuple(decode_hours(partition, fields))
        lost = sum(map(gone, producers))
        if not delivered:
            return Recount(partition=partition, records=records, raw=None, gone=lost)
        rejected = {
            fields[fields.index(b"id") + 1]
            for chunk in _chunks(link, partition.quarantine, b"+")
            for _, fields in chunk
        }
        raw, unaccounted = _count(link, partition, delivered, {*pending, *rejected})
        if link.call("EXISTS", partition.stream) == 0:  # it expired while being read
            return Recount(partition=partition, records=records, raw=None, gone=lost)
        return Recount(
            partition=partition,
            records=records,
            raw=raw,
            remade=b"remade" in fields,
            quarantined=len(rejected),
            unaccounted=unaccounted,
            gone=lost,
        )
    finally:
        link.close()


def _count(
    link: Link, partition: Partition, up_to: bytes, without: Collection[bytes]
) -> tuple[dict[int, RawHour], int]:
    counts: dict[int, int] = {}
    sums: dict[int, int] = {}
    unaccounted = 0
    for chunk in _chunks(link, partition.stream, up_to):
        counted = [entry for entry in chunk if entry[0] not in without] if without else chunk
        readings, rejects = decode_all(partition, counted, _ANYTHING)
        unaccounted += len(rejects)
        for start_ms, of_hour in readings.by_hour():
            counts[start_ms] = counts.get(start_ms, 0) + len(of_hour.milli_f)
            sums[start_ms] = sums.get(start_ms, 0) + sum(of_hour.milli_f)
    return {start: RawHour(count, sums[start]) for start, count in counts.items()}, unaccounted


def _chunks(link: Link, stream: str, up_to: bytes) -> Iterator[Sequence[Entry]]:
    """A stream's entries in order; while one chunk is looked at, the server reads the next."""
    link.send("XRANGE", stream, "-", up_to, "COUNT", _CHUNK)
    while chunk := link.receive():
        link.send("XRANGE", stream, b"(" + chunk[-1][0], up_to, "COUNT", _CHUNK)
        yield chunk
