"""Finds published hours that the warehouse lacks, and loads them from the stream or from their hour
records.

Causes: the stream was trimmed before they were loaded, or the warehouse lost committed rows (a
removed file, a standby without the last commits, a restored backup).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, starmap
from typing import Any

from averages_consumer.metrics import Metrics
from averages_consumer.warehouse import Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.groups import pending_ids
from hourglass.cluster.partitions import lanes_of
from hourglass.cluster.published import Result, results
from hourglass.errors import CorruptKey
from hourglass.model.averages import HourlyAverage, HourRecord, joined_hours
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import AVERAGES_GROUP, DAY_MS, HOUR_MS, RECORDS_KEPT_MS, Partition, iso
from hourglass.monitoring.stream_stats import read_streams

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Gaps:
    """Loads missing hours, and logs those that stay missing whenever their list changes."""

    cluster: Cluster
    warehouse: Warehouse
    metrics: Metrics
    _reported: Sequence[int] = ()

    def check(self) -> Sequence[HourlyAverage]:
        """Load missing hours; return their averages. Raises Unreachable, CorruptKey,
        WarehouseUnreachable."""
        # The order of the reads matters: an hour that is published, loaded or trimmed between them
        # must not count as missing.
        keys = self.cluster.keyspace
        members = self.cluster.call("ZRANGE", keys.published, 0, -1)
        published = results(members, key=keys.published)
        delivered = self._delivered()
        waiting = self.cluster.call("XRANGE", keys.averages, b"(" + delivered, "+", "COUNT", 1)
        on_stream = decoded(self.cluster.call("XRANGE", keys.averages, "-", delivered))
        held = pending_ids(self.cluster, keys.averages, AVERAGES_GROUP)
        expected = published.keys() | on_stream.keys()
        missing = missing_hours(
            expected,
            waiting_ms=_hour(waiting[0][0]) if waiting else None,
            held={_hour(entry_id) for entry_id in held},
            loaded=self.warehouse.hours(from_ms=min(expected, default=0)),
        )
        averages = self._refill(missing, on_stream, published) if missing else []
        filled = {average.start_ms for average in averages}
        self._report([hour for hour in missing if hour not in filled])
        return averages

    def _delivered(self) -> bytes:
        """The id of the last entry delivered to the group."""
        states = read_streams(self.cluster, [self.cluster.keyspace.averages], AVERAGES_GROUP)
        return (states[0].last_delivered if states else None) or b"0-0"

    def _refill(
        self,
        missing: Sequence[int],
        on_stream: Mapping[int, HourlyAverage],
        published: Mapping[int, Result],
    ) -> Sequence[HourlyAverage]:
        from_stream = [on_stream[hour] for hour in missing if hour in on_stream]
        from_records = self._from_records([h for h in missing if h not in on_stream], published)
        averages = sorted([*from_stream, *from_records], key=lambda each: each.start_ms)
        self.warehouse.upsert(averages, datetime.now(UTC))
        if averages:
            self.metrics.refilled(len(averages))
            log.warning(
                "%s; loaded %d from the stream and %d from hour records",
                describe_missing([average.start_ms for average in averages]),
                len(from_stream),
                len(from_records),
            )
        return averages

    def _from_records(
        self, hours: Sequence[int], published: Mapping[int, Result]
    ) -> Sequence[HourlyAverage]:
        if not hours:
            return []
        days = {self.cluster.keyspace.containing(hour) for hour in hours}
        partitions = sorted({*days, *lanes_of(self.cluster, days)})
        return refilled(hours_of(self.cluster, partitions), hours, published)

    def _report(self, missing: Sequence[int]) -> None:
        self.metrics.missing(len(missing))
        if missing and missing != self._reported:
            log.error(
                "%s; neither the stream nor the hour records, which are kept for %d days after "
                "their day, contain the published averages",
                describe_missing(missing),
                RECORDS_KEPT_MS // DAY_MS,
            )
        self._reported = missing


def _hour(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


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


def refilled(
    records: Iterable[HourRecord], missing: Iterable[int], published: Mapping[int, Result]
) -> list[HourlyAverage]:
    """The averages of the `missing` hours, made from their hour records.

    An hour whose record differs from the published result stays missing: the consumer cannot
    decide which of the two is correct.
    """
    wanted = set(missing)
    return [
        HourlyAverage.of(record)
        for record in records
        if record.sealed
        and record.start_ms in wanted
        and published.get(record.start_ms) == Result(record.count, record.sum_milli_f)
    ]


def missing_hours(
    expected: Iterable[int],
    *,
    waiting_ms: int | None,
    held: AbstractSet[int],
    loaded: AbstractSet[int],
) -> list[int]:
    """The expected hours that are neither in the warehouse nor still to be loaded, in order.

    Only published hours are expected: an hour without readings has no entry. Callers must read the
    arguments from Redis and the warehouse in this order, so that an hour that is loaded meanwhile
    does not count as missing.

    waiting_ms: hour of the first entry not yet delivered to the group; None if there is none
    held: hours of pending entries, whether still in the stream or trimmed
    loaded: hours in the warehouse
    """
    return sorted(
        hour
        for hour in set(expected)
        if (waiting_ms is None or hour < waiting_ms) and hour not in held and hour not in loaded
    )


def describe_missing(hours: Sequence[int]) -> str:
    """One line that names `hours`, which must be in order and not empty."""
    count = "1 published hour was" if len(hours) == 1 else f"{len(hours)} published hours were"
    return f"{count} not in the warehouse: {_spans(hours)}"


def _spans(hours: Sequence[int]) -> str:
    """Consecutive hours as ranges, as in "2025-01-01T00:00:00Z to 2025-01-01T05:00:00Z"."""
    spans: list[list[int]] = []
    for hour in hours:
        if spans and hour == spans[-1][1] + HOUR_MS:
            spans[-1][1] = hour
        else:
            spans.append([hour, hour])
    return ", ".join(
        iso(first) if first == last else f"{iso(first)} to {iso(last)}" for first, last in spans
    )
