"""Readings that could not be used: listing them, and putting them back after a fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgpack

from hourglass.clock import Instant
from hourglass.cluster import Cluster
from hourglass.keys import RECORDS_KEPT_MS, Partition
from hourglass.partitions import recorded
from hourglass.readings import Rules, Unusable, decode
from hourglass.scripts import Script

_REDRIVE = Script.load("hourglassctl", "redrive")
_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """One reading in quarantine: where, why, and as what it came.

    fields: cut where they are long; none where quarantine is full of others and the partition's
        stream, where they stand too, has expired
    """

    partition: Partition
    id: bytes
    original_id: bytes
    reason: str
    fields: tuple[bytes, ...]

    @property
    def shown(self) -> str:
        """The fields as `name=value`, long ones cut."""
        texts = [part.decode(errors="backslashreplace") for part in self.fields]
        pairs = zip(texts[::2], texts[1::2], strict=False)
        return " ".join(f"{name}={value}"[:60] for name, value in pairs)


def quarantined(cluster: Cluster, instant: Instant) -> Iterator[Quarantined]:
    """Everything in quarantine, oldest partition first. Raises Unreachable."""
    for partition in recorded(cluster, instant, kept_ms=RECORDS_KEPT_MS):
        after = "-"
        while chunk := cluster.call("XRANGE", partition.quarantine, after, "+", "COUNT", _CHUNK):
            bare = [values[b"id"] for _, values in chunk if not values[b"fields"]]
            raw = _raw_fields(cluster, partition, bare)
            for entry_id, values in chunk:
                packed = values[b"fields"]
                yield Quarantined(
                    partition=partition,
                    id=entry_id,
                    original_id=values[b"id"],
                    reason=values[b"reason"].decode(),
                    fields=tuple(cast(Any, msgpack).unpackb(packed, raw=True))
                    if packed
                    else raw[values[b"id"]],
                )
            after = f"({chunk[-1][0].decode()}"


def _raw_fields(
    cluster: Cluster, partition: Partition, ids: Sequence[bytes]
) -> dict[bytes, tuple[bytes, ...]]:
    """The fields of these entries of the partition's stream; none for an entry that is gone."""
    found = cluster.pipeline([("XRANGE", partition.stream, each, each) for each in ids])
    return {
        entry_id: tuple(part for _, fields in entries for pair in fields.items() for part in pair)
        for entry_id, entries in zip(ids, found, strict=True)
    }


def redrive(cluster: Cluster, item: Quarantined, rules: Rules) -> str:
    """Put a reading back as a new entry with its own event time; return what became of it.

    One that still cannot be used under `rules` stays where it is.
    """
    try:
        reading = decode(item.partition, item.original_id, item.fields, rules)
    except Unusable as unusable:
        return f"stays: {unusable}"
    fields = list(item.fields)
    if b"ts" not in fields[::2]:
        fields += [b"ts", str(reading.ts_ms).encode()]
    partition = item.partition
    new_id = cluster.run(
        _REDRIVE,
        [partition.stream, partition.quarantine],
        [item.id, item.original_id, *fields],
    )
    return f"redriven as {new_id.decode()}" if new_id else "gone: its partition has expired"
