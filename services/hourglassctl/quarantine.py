"""Readings that could not be used: listing them, and counting them after a fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, cast

import msgpack

from aggregator.commit import told
from aggregator.roster import Roster
from aggregator.window import fold
from hourglass.clock import Instant
from hourglass.cluster import Cluster
from hourglass.errors import Damaged
from hourglass.keys import GREATEST_ID, RECORDS_KEPT_MS, Partition
from hourglass.obstacles import Obstacles
from hourglass.partitions import recorded
from hourglass.readings import Rules, degrees, unpack
from hourglass.scripts import Script, packed
from hourglassctl.printable import printable
from hourglassctl.recount import not_quarantined

_REDRIVE = Script.load("hourglassctl", "redrive", library="tally")
FIELDS = Script.load("hourglassctl", "fields")
_CHUNK = 500
#: What is read of an entry, and of a chunk of them, in bytes; an entry that is larger is not read.
READ_BACK = 1_000_000
_STORED = frozenset({b"id", b"reason", b"fields", b"readings", b"at"})
_EXPIRED = "gone: its partition has expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An entry in quarantine, or readings of a packed one: where, why, and as what they came.

    fields: of the entry, cut where they are long; none where the partition's stream has expired and
        quarantine, full of others or because it was a packed entry, has not kept them
    size: bytes of the entry, where it is too large to be read
    readings: how many
    at: which of a packed entry's they are, as hourglass.readings.Reject has it; empty for all
    """

    partition: Partition
    id: bytes
    original_id: bytes
    reason: str
    fields: tuple[bytes, ...]
    size: int = 0
    readings: int = 1
    at: bytes = b""

    @property
    def shown(self) -> Iterator[str]:
        """The fields as `name=value`, long ones cut; of readings of a packed entry, as if each had
        come alone."""
        if self.size:
            yield f"({self.size} bytes)"
            return
        if not (self.at and self.fields):
            yield _pairs(self.fields)
            return
        from hourglass.arrays import readings_at

        entry = unpack(self.partition, self.original_id, self.fields, Rules())
        for device, ts_ms, milli_f in readings_at(entry, self.at):
            ts, temp_f = b"%d" % ts_ms, degrees(milli_f).encode()
            yield _pairs((b"device", device, b"ts", ts, b"temp_f", temp_f))


def _pairs(fields: Sequence[bytes]) -> str:
    texts = [printable(part[:100]) for part in fields]
    return " ".join(
        f"{name}={value}"[:60] for name, value in zip(texts[::2], texts[1::2], strict=False)
    )


def quarantined(cluster: Cluster, instant: Instant) -> Iterator[Quarantined]:
    """Everything in quarantine, oldest partition first. Raises Unreachable or Damaged, after all
    that can be read."""
    met = Obstacles()
    for partition in recorded(cluster, instant, kept_ms=RECORDS_KEPT_MS):
        after: bytes | None = b"-"
        while after:
            found = met.attempt(cluster, partition, partial(_chunk, cluster, after))
            items, after = found or ((), None)
            yield from items
    met.tell()


def _chunk(
    cluster: Cluster, after: bytes, partition: Partition
) -> tuple[Sequence[Quarantined], bytes | None]:
    """The next ones, and where those after them begin; None behind the last one."""
    chunk = cluster.call("XRANGE", partition.quarantine, after, "+", "COUNT", _CHUNK)
    for entry_id, values in chunk:
        if not _STORED.issubset(values):
            raise not_quarantined(partition, entry_id)
    bare = [values[b"id"] for _, values in chunk if not values[b"fields"]]
    raw = _raw_fields(cluster, partition, bare)
    items: list[Quarantined] = []
    for entry_id, values in chunk:
        kept = values[b"fields"]
        fields = cast(Any, msgpack).unpackb(kept, raw=True) if kept else raw[values[b"id"]]
        items.append(
            Quarantined(
                partition=partition,
                id=entry_id,
                original_id=values[b"id"],
                reason=values[b"reason"].decode(),
                fields=() if isinstance(fields, int) else tuple(fields),
                size=fields if isinstance(fields, int) else 0,
                readings=int(values[b"readings"]),
                at=values[b"at"],
            )
        )
    last = chunk[-1][0] if chunk else GREATEST_ID
    return items, None if last == GREATEST_ID else b"(" + last


def _raw_fields(
    cluster: Cluster, partition: Partition, ids: Sequence[bytes]
) -> dict[bytes, Sequence[bytes] | int]:
    """The fields of these entries of the partition's stream; of one that is too large its bytes;
    none for an entry that is gone."""
    found: list[Sequence[bytes] | int | None] = []
    with suppress(Damaged):  # another key stands in its place
        while len(found) < len(ids):
            found += cluster.run(FIELDS, [partition.stream], [READ_BACK, *ids[len(found) :]])
    return {
        entry_id: () if fields is None else fields for entry_id, fields in zip_longest(ids, found)
    }


def redrive(cluster: Cluster, item: Quarantined, rules: Rules, instant: Instant) -> str:
    """Count what can be used under `rules` by now, at its own event time; return what became of it.

    What still cannot be used stays where it is. The entry itself is not touched: whoever counts
    from the raw readings finds it there, and no longer in quarantine.
    """
    fields = item.fields
    if item.size:
        return f"stays: its {item.size} bytes are more than are read of an entry"
    if not fields:
        return _EXPIRED
    if item.at:
        from hourglass.arrays import masked

        fields = masked(fields, item.at, only=True)
    partition = item.partition
    folded = fold(partition, [(item.original_id, fields)], rules)
    reasons = ", ".join(sorted({str(reject.reason) for reject in folded.rejects}))
    if not folded.tallies:
        return f"stays: {reasons}"
    outcome, *late = cluster.run(
        _REDRIVE,
        [
            partition.stream,
            partition.hours,
            partition.quarantine,
            *(partition.devices(hour) for hour in folded.tallies),
        ],
        [
            item.id,
            instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
            packed(told(folded, Roster())),
        ],
    )
    if outcome < 0:
        return _EXPIRED
    if not outcome:
        return "gone: it is no longer in quarantine"
    too_late = f", {late[0]} of them as late" if late[0] else ""
    stay = f", {folded.rejected} stay: {reasons}" if reasons else ""
    return f"redriven: {folded.counted} counted{too_late}{stay}"
