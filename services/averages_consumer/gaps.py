"""Averages that the stream gave up before the warehouse had them: found, and loaded from their hour
records while these live."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from averages_consumer.hours import hours_of
from averages_consumer.instruments import Instruments
from averages_consumer.report import describe_missing, missing_for_good, refilled
from averages_consumer.warehouse import Warehouse
from hourglass.averages import HourlyAverage
from hourglass.cluster import Cluster
from hourglass.groups import pending_ids
from hourglass.keys import AVERAGES_GROUP, DAY_MS, RECORDS_KEPT_MS
from hourglass.partitions import lanes_of
from hourglass.publication import Result, results

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Gaps:
    """Fills what can be filled, and reports the hours that stay missing whenever they change."""

    cluster: Cluster
    warehouse: Warehouse
    metrics: Instruments
    _reported: Sequence[int] = ()

    def check(self) -> Sequence[HourlyAverage]:
        """What was loaded from hour records. Raises Unreachable, Damaged, WarehouseAway."""
        # In this order: what is published, loaded and trimmed meanwhile is then not taken for lost.
        keys = self.cluster.keyspace
        members = self.cluster.call("ZRANGE", keys.published, 0, -1)
        published = results(members, key=keys.published)
        oldest = self.cluster.call("XRANGE", keys.averages, "-", "+", "COUNT", 1)
        held = pending_ids(self.cluster, keys.averages, AVERAGES_GROUP)
        loaded = self.warehouse.hours(from_ms=min(published, default=0))
        missing = missing_for_good(
            published,
            oldest_ms=_hour(oldest[0][0]) if oldest else None,
            held={_hour(entry_id) for entry_id in held},
            loaded=loaded,
        )
        averages = self._refill(missing, published) if missing else []
        filled = {average.start_ms for average in averages}
        self._report([hour for hour in missing if hour not in filled])
        return averages

    def _refill(
        self, missing: Sequence[int], published: Mapping[int, Result]
    ) -> Sequence[HourlyAverage]:
        days = {self.cluster.keyspace.containing(hour) for hour in missing}
        partitions = sorted({*days, *lanes_of(self.cluster, days)})
        averages = refilled(hours_of(self.cluster, partitions), missing, published)
        self.warehouse.upsert(averages, datetime.now(UTC))
        if averages:
            self.metrics.refilled(len(averages))
            log.warning(
                "%s; loaded from the hour records instead",
                describe_missing([average.start_ms for average in averages]),
            )
        return averages

    def _report(self, missing: Sequence[int]) -> None:
        self.metrics.missing(len(missing))
        if missing and missing != self._reported:
            log.error(
                "%s, and their hour records, which are kept for %d days after their day, do not "
                "give what was published",
                describe_missing(missing),
                RECORDS_KEPT_MS // DAY_MS,
            )
        self._reported = missing


def _hour(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
