"""The pipeline's status: what `status`, the demo and the web page show."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import recorded
from hourglass.cluster.published import published_through_ms, results
from hourglass.errors import CorruptKey, UnsupportedServer
from hourglass.model.averages import HourlyAverage, HourRecord, joined_hours
from hourglass.model.clock import Instant
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import (
    AVERAGES_GROUP,
    GREATEST_ID,
    GROUP,
    HOUR_MS,
    HOURS,
    RECORDS_KEPT_MS,
    Partition,
)
from hourglass.model.strays import Reason, Strays, decode
from hourglass.monitoring.server_settings import Finding
from hourglass.monitoring.stream_stats import Removals, StreamState, read_streams, removals

#: Age from which data counts as stale. The page polls Redis every second, the warehouse every two.
REDIS_STALE_MS = 5_000
WAREHOUSE_STALE_MS = 10_000

#: The page's two polls of Redis, each of which may find corrupt data.
Poll: TypeAlias = Literal["averages", "pipeline"]

_REMEDY = "is not what the pipeline put there: rename or delete it"


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A live partition: the state of its stream, and its hours."""

    partition: Partition
    state: StreamState
    hours: Sequence[HourRecord]

    @property
    def counted(self) -> int:
        """Readings counted so far, including late ones."""
        return sum(record.count + record.late for record in self.hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatus:
    """The result of one poll of Redis.

    averages: None while the stream does not exist
    last: its newest entry; None if there is none, or if it is not an average
    damaged: partitions that cannot be processed, and why
    quarantined: readings in quarantine, by the name of their partition's stream
    revised: hours sealed again with another result after they were published
    too_late: hours that got their first reading after a later hour was published
    strays: stray streams, as the aggregators recorded them
    removals: entries that another program removed, by stream; None if the Redis user may not read
        them
    """

    instant: Instant
    partitions: Sequence[PartitionView]
    averages: StreamState | None
    last: HourlyAverage | None
    published_through_ms: int | None
    damaged: Mapping[Partition, str] = field(default_factory=dict[Partition, str])
    quarantined: Mapping[str, int] = field(default_factory=dict[str, int])
    revised: int = 0
    too_late: AbstractSet[int] = frozenset()
    strays: Mapping[Reason, Strays] = field(default_factory=dict[Reason, Strays])
    removals: Mapping[str, Removals] | None = field(default_factory=dict[str, Removals])

    def records(self) -> Iterator[HourRecord]:
        """The hours of the live days, with the lanes of a day joined, in order."""
        for _, members in groupby(self.partitions, lambda each: each.partition.day):
            yield from joined_hours([each.hours for each in members])

    def hours_due(self) -> list[int]:
        """The hours that are over and have readings, but are not published."""
        published_ms = -1 if self.published_through_ms is None else self.published_through_ms
        return [
            record.start_ms
            for partition in self.partitions
            for record in partition.hours
            if record.count
            and record.start_ms > published_ms
            and self.instant.is_due(record.start_ms + HOUR_MS, 0)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of pipeline, warehouse and this process at one moment; problems are found in
    it. Times are real time in ms; an hour is its start in ms.

    instant: the current time, by the last reading of the clock
    begun_ms: time of the first poll of Redis
    pipeline: the last status of the pipeline; None before the first poll
    averages_at_ms, rows_at_ms: time of the last answer of Redis and of the warehouse
    due_since: for each due hour with readings that is not published, the time it became due
    not_ready: reasons why this process is not ready
    unreadable: error of each poll that Redis answered with corrupt data
    unreadable_at_ms: time of the last such answer
    missing_hours: published hours that the warehouse lacks and nothing can restore
    late_and_loaded: hours too late to be published that the warehouse has
    server_findings: settings of Redis that endanger data
    """

    instant: Instant
    begun_ms: int = 0
    pipeline: PipelineStatus | None = None
    averages_at_ms: int = 0
    rows_at_ms: int = 0
    due_since: Mapping[int, int] = field(default_factory=dict[int, int])
    not_ready: Sequence[str] = ()
    unreadable: Mapping[Poll, str] = field(default_factory=dict[Poll, str])
    unreadable_at_ms: int = 0
    missing_hours: int = 0
    late_and_loaded: AbstractSet[int] = frozenset()
    server_findings: Sequence[Finding] = ()

    @property
    def redis_at_ms(self) -> int:
        """The age of the oldest data from Redis; the time of the first poll if there is none."""
        polled_ms = self.pipeline.instant.real_ms if self.pipeline else self.begun_ms
        return min(self.averages_at_ms, polled_ms)

    @property
    def redis_answers(self) -> bool:
        answered_ms = max(self.redis_at_ms, self.unreadable_at_ms)
        return self.instant.real_ms - answered_ms <= REDIS_STALE_MS

    @property
    def redis_readable(self) -> bool | None:
        """Whether the data in Redis can be read; None before the first complete poll."""
        if self.unreadable:
            return False
        return None if self.pipeline is None else True

    @property
    def warehouse_answers(self) -> bool:
        return self.instant.real_ms - self.rows_at_ms <= WAREHOUSE_STALE_MS


def collect(cluster: Cluster, instant: Instant) -> PipelineStatus:
    """Read the pipeline's status, in a number of round trips that does not depend on the number of
    partitions.

    Raises Unreachable, UnsupportedServer; CorruptKey for a key that belongs to no partition.
    """
    keys = cluster.keyspace
    partitions = recorded(cluster, instant)
    states = {s.stream: s for s in read_streams(cluster, [p.stream for p in partitions], GROUP)}
    alive = [partition for partition in partitions if partition.stream in states]
    records = cluster.pipeline([("HGETALL", partition.hours) for partition in alive])
    damaged = damage(cluster, partitions, states.values())
    views = [
        PartitionView(partition, states[partition.stream], _hours(partition, fields, damaged))
        for partition, fields in zip(alive, records, strict=True)
    ]
    quarantined = _quarantined(cluster, instant, damaged)
    averages = read_streams(cluster, [keys.averages], AVERAGES_GROUP)
    newest = cluster.call("XREVRANGE", keys.averages, "+", "-", "COUNT", 1)
    commands = (
        ("ZCARD", keys.revisions),
        ("ZRANGE", keys.too_late, 0, -1),
        ("GET", keys.strays),
    )
    replies = cluster.pipeline(commands)
    for (_, key, *_), reply in zip(commands, replies, strict=True):
        if isinstance(reply, Exception):
            raise CorruptKey(f"{key} {_REMEDY}")
    revised, too_late, strays = replies
    return PipelineStatus(
        instant=instant,
        partitions=views,
        averages=averages[0] if averages else None,
        last=_decoded(*newest[0]) if newest else None,
        published_through_ms=published_through_ms(cluster),
        damaged=damaged,
        quarantined=quarantined,
        revised=revised,
        too_late=results(too_late, key=keys.too_late).keys(),
        strays=decode(strays, key=keys.strays),
        removals=_removals(cluster, alive),
    )


def _removals(cluster: Cluster, partitions: Sequence[Partition]) -> Mapping[str, Removals] | None:
    try:
        found = list(removals(cluster, partitions))
    except UnsupportedServer:  # an earlier users.acl does not permit the script
        return None
    return {each.stream: one for each, one in zip(partitions, found, strict=True) if one}


def _quarantined(
    cluster: Cluster, instant: Instant, damaged: MutableMapping[Partition, str]
) -> Mapping[str, int]:
    kept = recorded(cluster, instant, kept_ms=RECORDS_KEPT_MS)
    replies = cluster.pipeline([("HMGET", each.hours, "quarantined") for each in kept])
    found: dict[str, int] = {}
    for partition, reply in zip(kept, replies, strict=True):
        try:
            found[partition.stream] = int(reply[0] or 0)
        except (TypeError, ValueError):  # an error in place of a reply, or of a number
            damaged.setdefault(partition, f"{partition.hours} {_REMEDY}")
    return found


def _hours(
    partition: Partition,
    fields: Mapping[bytes, bytes] | Exception,
    damaged: MutableMapping[Partition, str],
) -> list[HourRecord]:
    """Empty if the key that holds them is of another type, or holds no records."""
    try:
        return [] if isinstance(fields, Exception) else decode_hours(partition, fields)
    except CorruptKey as error:
        damaged.setdefault(partition, str(error))
        return []


def _decoded(entry_id: bytes, fields: Mapping[bytes, bytes]) -> HourlyAverage | None:
    try:
        return HourlyAverage.decode(entry_id, fields)
    except ValueError:  # the averages consumer logs and counts it
        return None


#: The last millisecond that an id can have.
_LAST_MS = GREATEST_ID.partition(b"-")[0]


def damage(
    cluster: Cluster, partitions: Collection[Partition], states: Iterable[StreamState]
) -> dict[Partition, str]:
    """By partition, what is wrong with the first key of it that is of another type, or with a
    stream that takes no more entries. One round trip to each shard. Raises Unreachable.

    What the hashes hold is for those who read them. states: of the streams, as far as they live
    """
    found = {
        partition: f"{state.stream} takes no more entries, because it has the greatest id there "
        "is: rename or delete it when its readings are counted"
        for state in states
        if (state.last_delivered or b"").startswith(_LAST_MS)
        and (partition := cluster.keyspace.named(state.stream))
    }
    kinds = [(each, key, kind) for each in partitions for key, kind in _kinds(each).items()]
    types = cluster.pipeline([("TYPE", key) for _, key, _ in kinds])
    for (partition, key, kind), reply in zip(kinds, types, strict=True):
        of = str(reply) if isinstance(reply, Exception) else reply.decode()
        if of not in (kind, "none"):
            found.setdefault(partition, f"{key} is a {of}, not a {kind}: rename or delete it")
    return found


def _kinds(partition: Partition) -> Mapping[str, str]:
    return {
        partition.stream: "stream",
        partition.hours: "hash",
        partition.producers: "hash",
        partition.watermarks: "zset",
        partition.identities: "hash",
        partition.lanes: "string",
        partition.quarantine: "stream",
        **{partition.devices(hour): "hash" for hour in range(HOURS)},
    }
