"""A lane that no producer decided on, found after hours of its day were published without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from hourglass.cluster.client import Cluster
from hourglass.cluster.published import Result, results
from hourglass.model.averages import HourRecord, joined_hours
from hourglass.model.devices import shares, written_to
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import HOURS, Partition

_FIELDS = [f"{hour:02d}:{name}" for hour in range(HOURS) for name in ("count", "sum", "sealed")]


def sealed_without(cluster: Cluster, partition: Partition) -> AbstractSet[int]:
    """Hours (their start in ms) that are sealed or published without `partition`, if it is about
    to be opened for the first time. Only a lane that no producer decided on can have any: an hour
    waits for those that are decided. Raises Unreachable, CorruptKey."""
    if partition.lane is None or cluster.call("HEXISTS", partition.hours, "incarnation"):
        return frozenset()
    day = partition.day
    # The lanes first: a sealer that seals an hour of the plain partition after this knows the lane.
    (text,) = cluster.pipeline([("GET", day.lanes)])
    lanes = text or b""
    if isinstance(lanes, Exception) or partition in shares(day, lanes):
        return frozenset()  # a damaged key is the failure of the plain partition
    members = cluster.call("ZRANGE", cluster.keyspace.published, 0, -1)
    published = results(members, key=cluster.keyspace.published)
    others = [day, *(lane for lane in written_to(day, lanes) if lane != partition)]
    return overtaken([_records(cluster, each) for each in others], published)


def overtaken(
    others: Sequence[Sequence[HourRecord]], published: Mapping[int, Result]
) -> AbstractSet[int]:
    """The same, from the records of the day's other partitions, the plain one first. Pure.

    Every hour that the plain partition has sealed: a publisher of it may not know the lane. And
    every published hour: a failover may have lost that it was sealed. Not so an hour that all other
    partitions have sealed with another result than the published one: a failover has lost what the
    lane had counted, and it is counted again.
    """
    sealed = {
        record.start_ms: Result(record.count, record.sum_milli_f)
        for record in joined_hours(others)
        if record.sealed
    }
    return frozenset(
        hour
        for hour in {record.start_ms for record in others[0] if record.sealed} | published.keys()
        if hour not in published or sealed.get(hour, published[hour]) == published[hour]
    )


def _records(cluster: Cluster, partition: Partition) -> Sequence[HourRecord]:
    values = cluster.call("HMGET", partition.hours, *_FIELDS)
    found = zip(_FIELDS, values, strict=True)
    return decode_hours(
        partition, {name.encode(): value for name, value in found if value is not None}
    )
