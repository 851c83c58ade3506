"""Lists quarantined readings (the dead letters), and redrives them: counts them after a fix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, cast

import msgpack

from aggregator.aggregates import SeenDevices, encoded
from aggregator.window import aggregate_entries
from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import PartialFailures, recorded
from hourglass.cluster.scripts import Script, packed
from hourglass.errors import CorruptKey
from hourglass.model.clock import Instant
from hourglass.model.entries import unpack
from hourglass.model.keys import GREATEST_ID, RECORDS_KEPT_MS, Partition
from hourglass.model.readings import MILLI, Reason, Rules, degrees
from hourglass.service.cli import printable
from hourglassctl.audit.recompute import not_quarantined
from hourglassctl.config import (
    QuarantineSettings,
    RedriveSettings,
    reached,
)

_REDRIVE = Script.load("hourglassctl", "redrive", library="partials")
FIELDS = Script.load("hourglassctl", "fields")
_CHUNK = 500

#: Maximum bytes to read of one entry and of a chunk of entries; a larger entry is not read.
READ_BACK = 1_000_000
_STORED = frozenset({b"id", b"reason", b"fields", b"readings", b"at"})
_EXPIRED = "gone: its partition has expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A quarantined entry, or quarantined readings of a packed entry.

    id: id in the quarantine stream
    original_id: id in the partition's stream
    fields: the fields of the entry; empty if the partition's stream has expired and quarantine has
        no copy, because the entry was packed or quarantine was full
    size: bytes of an entry that is too large to be read; otherwise 0
    readings: number of readings
    at: bitmap of the readings in a packed entry, as in hourglass.model.readings.Reject; empty for
    all
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
        """The fields as `name=value`, truncated if they are long; one text per reading for readings
        of a packed entry."""
        if self.size:
            yield f"({self.size} bytes)"
            return
        if not (self.at and self.fields):
            yield _pairs(self.fields)
            return
        from hourglass.model.packed_codec import readings_at

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
    """Yield all quarantined readings, oldest partition first. Raises Unreachable or CorruptKey at
    the end, after all that can be read."""
    met = PartialFailures()
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
    """The next chunk of a partition, and the start of the one after it; None after the last."""
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
    """The fields of these entries of the partition's stream; the size in bytes of an entry that is
    too large; empty for a deleted entry."""
    found: list[Sequence[bytes] | int | None] = []
    with suppress(CorruptKey):  # the key has another type
        while len(found) < len(ids):
            found += cluster.run(FIELDS, [partition.stream], [READ_BACK, *ids[len(found) :]])
    return {
        entry_id: () if fields is None else fields for entry_id, fields in zip_longest(ids, found)
    }


def redrive(cluster: Cluster, item: Quarantined, rules: Rules, instant: Instant) -> str:
    """Count the readings that are usable under `rules`, at their event times; return the outcome as
    text.

    Unusable readings stay in quarantine. The entry in the partition's stream does not change, so
    that an audit, which counts from the raw readings, includes the redriven ones.
    """
    fields = item.fields
    if item.size:
        return f"stays: its {item.size} bytes exceed the maximum size that redrive reads"
    if not fields:
        return _EXPIRED
    if item.at:
        from hourglass.model.packed_codec import masked

        fields = masked(fields, item.at, only=True)
    partition = item.partition
    folded = aggregate_entries(partition, [(item.original_id, fields)], rules)
    reasons = ", ".join(sorted({str(reject.reason) for reject in folded.rejects}))
    if not folded.partials:
        return f"stays: {reasons}"
    outcome, *late = cluster.run(
        _REDRIVE,
        [
            partition.stream,
            partition.hours,
            partition.quarantine,
            *(partition.devices(hour) for hour in folded.partials),
        ],
        [
            item.id,
            instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
            packed(encoded(folded, SeenDevices())),
        ],
    )
    if outcome < 0:
        return _EXPIRED
    if not outcome:
        return "gone: it is no longer in quarantine"
    too_late = f", {late[0]} of them as late" if late[0] else ""
    stay = f", {folded.rejected} stay: {reasons}" if reasons else ""
    return f"redriven: {folded.counted} counted{too_late}{stay}"


def list_quarantine(settings: QuarantineSettings) -> None:
    """List the quarantined readings with the reason of each."""
    with reached(settings) as (cluster, instant):
        for item in quarantined(cluster, instant):
            for fields in item.shown:
                line = {
                    "partition": item.partition.stream,
                    "id": item.original_id.decode(),
                    "reason": item.reason,
                    "fields": fields,
                }
                data = json.dumps({**line, "readings": 1 if item.at else item.readings})
                print(data if settings.json else "  ".join(line.values()), flush=True)


def redrive_quarantine(settings: RedriveSettings) -> None:
    """Count quarantined readings that are usable now, each at its event time."""
    with reached(settings) as (cluster, instant):
        rules = Rules(
            min_milli_f=round(settings.min_temp_f * MILLI),
            max_milli_f=round(settings.max_temp_f * MILLI),
            latest_ms=instant.spec.latest_plausible(
                instant.real_ms, round(settings.future_tolerance_s * 1000)
            ),
        )
        for item in list(quarantined(cluster, instant)):
            if settings.id in ("", item.original_id.decode()):
                if item.reason == Reason.NO_READING and not settings.id:
                    outcome = f"stays: {item.reason}; --id counts it"
                else:
                    outcome = redrive(cluster, item, rules, instant)
                print(f"{item.partition.stream}  {item.original_id.decode()}  {outcome}")
