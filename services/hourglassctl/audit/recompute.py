"""Counts a partition again from its raw readings, to check the hour records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aggregator.window import aggregate_entries
from hourglass.cluster.client import Cluster
from hourglass.cluster.link import Link
from hourglass.cluster.scripts import Script
from hourglass.errors import CorruptKey
from hourglass.model.averages import HourRecord
from hourglass.model.entries import Entry
from hourglass.model.hour_records import decode_hours, gone
from hourglass.model.keys import DAY_MS, GREATEST_ID, GROUP, Partition, order_of
from hourglass.model.readings import Reason, Rules
from hourglass.monitoring.stream_stats import REMOVED, Removals

_SNAPSHOT = Script.load("hourglassctl", "snapshot")

#: Plausibility and lateness are the aggregator's to judge: what it did not quarantine, it counted.
_ANYTHING = Rules(
    min_milli_f=-(1 << 62), max_milli_f=1 << 62, overrun_ms=DAY_MS, max_entry_bytes=1 << 62
)
_CHUNK = 1000
#: What a group was given last that was given nothing, or is not there.
_NOTHING = b"0-0"


@dataclass(frozen=True, slots=True)
class RawHour:
    """Readings of one hour that are in the stream and acknowledged."""

    count: int = 0
    sum_milli_f: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """A partition's records beside its raw readings, as of one instant.

    raw: by hour start; None if the stream is gone, so that there is nothing to compare with
    remade: the stream was deleted and created again: the records may count more than it has
    quarantined: readings in quarantine
    unaccounted: acknowledged readings that are neither usable nor in quarantine
    gone: acknowledged readings that are missing, of producers that have written since
    removals: what another program removed from the stream; None if the stream is gone
    packed: entries may hold more than one reading
    uncounted: readings of producers that were neither counted nor in quarantine when the stream was
        deleted; unknown readings of other writers may hide some
    """

    partition: Partition
    records: tuple[HourRecord, ...]
    raw: dict[int, RawHour] | None
    remade: bool = False
    quarantined: int = 0
    unaccounted: int = 0
    gone: int = 0
    uncounted: int = 0
    removals: Removals | None = None
    packed: bool = False


def not_quarantined(partition: Partition, entry_id: bytes) -> CorruptKey:
    """An entry in quarantine that another writer put there."""
    return CorruptKey(
        f"{partition.quarantine} has the entry {entry_id.decode()}, which no aggregator put there: "
        "remove it with XDEL"
    )


def recount(cluster: Cluster, partition: Partition) -> Recomputed:
    """Safe on a live partition: the records and the point up to which they are compared are one
    snapshot, and entries do not change; should something be taken out of quarantine meanwhile, or
    the stream expire, it begins again. Raises Unreachable, CorruptKey."""
    link = cluster.link(partition.stream)
    try:
        while (found := _recount(link, partition)) is None:
            pass
        return found
    finally:
        link.close()


def _recount(link: Link, partition: Partition) -> Recomputed | None:
    """None if something was taken out of quarantine meanwhile, or the stream went."""
    keys = [partition.stream, partition.hours, partition.quarantine, partition.producers]
    flat, producers, written, delivered, pending, retried, mark = link.run(_SNAPSHOT, keys, [GROUP])
    readings, entries = written
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    records = tuple(decode_hours(partition, fields))
    lost = sum(map(gone, producers))
    if not delivered:
        return Recomputed(
            partition=partition,
            records=records,
            raw=None,
            gone=lost,
            uncounted=max(0, int(readings) - int(fields.get(b"acknowledged", 0))),
        )
    counted = sum(each.count + each.late for each in records)
    if delivered == _NOTHING and counted and b"remade" not in fields:
        raise CorruptKey(
            f"the group of {partition.stream} was destroyed, and its readings have not been "
            "counted again since: start an aggregator"
        )
    quarantined, whole, parts, large = _rejected(link, partition)
    chunks = _chunks_without(link, partition.stream, delivered, {*large, *retried})
    raw, unaccounted, packed = _count(partition, chunks, {*pending, *whole}, parts)
    if mark and link.run(_SNAPSHOT, keys, [GROUP])[-1] != mark:
        return None
    # After the entries were read: whatever was not there any more is among these.
    removed = Removals.decode(link.run(REMOVED, [partition.stream, partition.hours], [GROUP]))
    if removed is None:  # it expired while being read
        return None
    return Recomputed(
        partition=partition,
        records=records,
        raw=raw,
        remade=b"remade" in fields,
        quarantined=quarantined,
        unaccounted=unaccounted,
        gone=lost,
        removals=removed,
        packed=packed or int(readings) > int(entries),
    )


def _rejected(
    link: Link, partition: Partition
) -> tuple[int, set[bytes], Mapping[bytes, list[bytes]], set[bytes]]:
    """Readings in quarantine; the entries that are there as a whole; those of which some readings
    are, with the bits that say which; and the entries that may be too large to be read."""
    readings, whole, parts = 0, set[bytes](), defaultdict[bytes, list[bytes]](list)
    large = set[bytes]()
    for chunk in _chunks(link, partition.quarantine, b"+"):
        for entry_id, flat in chunk:
            row = dict(zip(flat[::2], flat[1::2], strict=True))
            try:
                of_entry, at, held = row[b"id"], row[b"at"], int(row[b"readings"])
                reason = row[b"reason"].decode(errors="replace")
            except (KeyError, ValueError):
                raise not_quarantined(partition, entry_id) from None
            readings += held
            if at:
                parts[of_entry].append(at)
            else:
                whole.add(of_entry)
            if reason.startswith((Reason.UNDELIVERABLE, Reason.TOO_LARGE)):
                large.add(of_entry)
    return readings, whole, parts, large


def _count(
    partition: Partition,
    chunks: Iterable[Sequence[Entry]],
    without: Collection[bytes],
    parts: Mapping[bytes, list[bytes]],
) -> tuple[dict[int, RawHour], int, bool]:
    """By hour; those that no rule lets pass; and whether there are more of them than entries."""
    packed = False
    counts: dict[int, int] = {}
    sums: dict[int, int] = {}
    unaccounted = 0
    for chunk in chunks:
        counted = [entry for entry in chunk if entry[0] not in without] if without else chunk
        if parts:
            counted = [_without(entry, parts.get(entry[0], ())) for entry in counted]
        folded = aggregate_entries(partition, counted, _ANYTHING)
        unaccounted += folded.rejected
        packed |= folded.counted + folded.rejected > len(counted)
        for hour, tally in folded.partials.items():
            counts[hour] = counts.get(hour, 0) + tally.count
            sums[hour] = sums.get(hour, 0) + tally.sum_milli_f
    hours = {
        partition.hour_start_ms(hour): RawHour(count, sums[hour]) for hour, count in counts.items()
    }
    return hours, unaccounted, packed


def _without(entry: Entry, parts: Sequence[bytes]) -> Entry:
    """The entry without the readings at these bits."""
    entry_id, fields = entry
    for at in parts:
        from hourglass.model.packed_codec import masked

        fields = masked(fields, at, only=False)
    return entry_id, fields


def _chunks_without(
    link: Link, stream: str, up_to: bytes, unread: Collection[bytes]
) -> Iterator[Sequence[Entry]]:
    """As _chunks, without these entries, which may be larger than this process may allocate."""
    after = b"-"
    for each in sorted(unread, key=order_of):
        if order_of(each) <= order_of(up_to):
            yield from _chunks(link, stream, b"(" + each, after=after)
            after = b"(" + each
    yield from _chunks(link, stream, up_to, after=after)


def _chunks(
    link: Link, stream: str, up_to: bytes, *, after: bytes = b"-"
) -> Iterator[Sequence[Entry]]:
    """A stream's entries in order; while one chunk is looked at, the server reads the next."""
    link.send("XRANGE", stream, after, up_to, "COUNT", _CHUNK)
    while chunk := link.receive():
        last = chunk[-1][0]
        if last == GREATEST_ID:
            yield chunk
            return
        link.send("XRANGE", stream, b"(" + last, up_to, "COUNT", _CHUNK)
        yield chunk
