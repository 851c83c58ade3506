"""Finds published hours that the warehouse lacks, and loads them from the stream or from their hour
records.

Causes: the stream was trimmed before they were loaded, or the warehouse lost committed rows (a
removed file, a standby without the last commits, a restored backup).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from averages_consumer.hours import decoded, hours_of
from averages_consumer.metrics import Metrics
from averages_consumer.report import describe_missing, missing_hours, refilled
from averages_consumer.warehouse import Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.groups import pending_ids
from hourglass.cluster.partitions import lanes_of
from hourglass.cluster.published import Result, results
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import AVERAGES_GROUP, DAY_MS, RECORDS_KEPT_MS
from hourglass.monitoring.stream_stats import survey

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
        WarehouseAway."""
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
        states = survey(self.cluster, [self.cluster.keyspace.averages], AVERAGES_GROUP)
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
