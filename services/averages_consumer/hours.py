"""What the hour records of whole days say, whatever lanes those are shared out to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from hourglass.averages import HourRecord, joined_hours
from hourglass.cluster import Cluster
from hourglass.keys import Partition
from hourglass.records import decode_hours


def hours_of(cluster: Cluster, partitions: Sequence[Partition]) -> list[HourRecord]:
    """The hours of the days of `partitions`, which are in order, each day's as one. Raises
    Unreachable.

    A partition without records has no say, nor has one whose records are a key of another type: the
    aggregators say so.
    """
    replies = cluster.pipeline([("HGETALL", each.hours) for each in partitions])
    records = [
        decode_hours(partition, fields)
        for partition, fields in zip(partitions, replies, strict=True)
        if not isinstance(fields, Exception)
    ]
    by_day = groupby(filter(None, records), lambda each: Partition.containing(each[0].start_ms))
    return [hour for _, members in by_day for hour in joined_hours(list(members))]
