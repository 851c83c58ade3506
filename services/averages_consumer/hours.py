"""Reads hours from entries of the averages' stream, and from the hour records of whole days across
all their lanes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, starmap
from typing import Any

from hourglass.cluster.client import Cluster
from hourglass.errors import CorruptKey
from hourglass.model.averages import HourlyAverage, HourRecord, joined_hours
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import Partition


def hours_of(cluster: Cluster, partitions: Sequence[Partition]) -> list[HourRecord]:
    """The hour records of `partitions`, with the lanes of a day joined. Raises Unreachable.

    Partitions without records are ignored. A day with a corrupt record is left out; the aggregators
    report it.

    partitions: in order, all lanes of a day together
    """
    replies = cluster.pipeline([("HGETALL", each.hours) for each in partitions])
    hours: list[HourRecord] = []
    read = zip(partitions, replies, strict=True)
    for _, members in groupby(read, lambda each: each[0].day):
        with suppress(CorruptKey):
            hours += joined_hours(list(filter(None, starmap(_decoded, members))))
    return hours


def _decoded(partition: Partition, fields: Any) -> list[HourRecord]:
    if isinstance(fields, Exception):
        raise CorruptKey(f"{partition.hours} is not a hash of hour records") from fields
    return decode_hours(partition, fields)


def decoded(entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> dict[int, HourlyAverage]:
    """The averages in these entries of `temps:averages`, by hour (ms), in order. Invalid entries
    are left out."""
    found: dict[int, HourlyAverage] = {}
    for entry_id, fields in entries:
        with suppress(ValueError):  # the averages consumer reports and counts it
            average = HourlyAverage.decode(entry_id, fields)
            found[average.start_ms] = average
    return found
