"""Looking for averages that the stream gave up before the warehouse had them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from averages_consumer.instruments import Instruments
from averages_consumer.report import describe_missing, missing_for_good, published_hours
from averages_consumer.warehouse import Warehouse
from hourglass.cluster import Cluster
from hourglass.groups import pending_ids
from hourglass.keys import AVERAGES, AVERAGES_GROUP, DAY_MS, PUBLISHED, RECORDS_KEPT_MS

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Gaps:
    """Reports the hours that are missing, again whenever they change."""

    cluster: Cluster
    warehouse: Warehouse
    metrics: Instruments
    _reported: Sequence[int] = ()

    def check(self) -> None:
        """Raises Unreachable, WarehouseAway."""
        # In this order: what is published, loaded and trimmed meanwhile is then not taken for lost.
        published = published_hours(self.cluster.call("ZRANGE", PUBLISHED, 0, -1))
        oldest = self.cluster.call("XRANGE", AVERAGES, "-", "+", "COUNT", 1)
        held = pending_ids(self.cluster, AVERAGES, AVERAGES_GROUP)
        loaded = self.warehouse.hours(from_ms=min(published, default=0))
        missing = missing_for_good(
            published,
            oldest_ms=_hour(oldest[0][0]) if oldest else None,
            held={_hour(entry_id) for entry_id in held},
            loaded=loaded,
        )
        self.metrics.missing(len(missing))
        if missing and missing != self._reported:
            log.error(
                "%s. Their hour records are kept for %d days after their day",
                describe_missing(missing),
                RECORDS_KEPT_MS // DAY_MS,
            )
        self._reported = missing


def _hour(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
