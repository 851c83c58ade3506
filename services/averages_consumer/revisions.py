"""Adds late readings to the warehouse, if --revisions is on: as a new revision of their hour's row,
or as the row of an hour that was too late to be published. Published averages do not change.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime

from averages_consumer.gaps import hours_of
from averages_consumer.metrics import Metrics
from averages_consumer.warehouse import Warehouse, WarehouseUnreachable
from averages_consumer.warehouse.table import revised
from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import recorded
from hourglass.cluster.published import results
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.clock import PipelineClock
from hourglass.model.keys import HOUR_MS, RECORDS_KEPT_MS, Partition

log = logging.getLogger(__name__)

#: Interval between two searches for late readings in live partitions.
REVISE_S = 5.0
#: The same for expired partitions, which change no more, but may have expired before a search.
EXPIRED_EVERY_S = 600.0


@dataclass(slots=True)
class Revisions:
    """Revises rows of the warehouse. Any number of processes may run it at the same time: the
    warehouse accepts each revision once."""

    cluster: Cluster
    clock: PipelineClock
    warehouse: Warehouse
    metrics: Metrics
    tell: Callable[[str, int, str | None], None]
    _before: Mapping[int, HourRecord] = field(default_factory=dict[int, HourRecord])
    _next_expired: float = 0.0

    def step(self) -> None:
        """Revise the hours whose late count has changed, but not since the last step.

        Waiting for a stable count gives few revisions for many late readings, and none while a
        partition is being counted again. Raises Unreachable, CorruptKey.
        """
        instant = self.clock.refresh()
        alive = recorded(self.cluster, instant)
        keys = self.cluster.keyspace
        members = self.cluster.call("ZRANGE", keys.too_late, 0, -1)
        published = self.cluster.call("ZRANGE", keys.published, 0, -1)
        unpublished = (
            results(members, key=keys.too_late).keys()
            - results(published, key=keys.published).keys()
        )
        records = self._late(alive, unpublished)
        settled = [each for hour, each in records.items() if self._before.get(hour) == each]
        self._before = records
        look_at_expired = time.monotonic() >= self._next_expired
        if look_at_expired:
            kept = recorded(self.cluster, instant, kept_ms=RECORDS_KEPT_MS)
            days = {each.day for each in alive}
            expired = [each for each in kept if each.day not in days]
            settled += self._late(expired, unpublished).values()
        try:
            if settled:
                self._load([each for each in settled if each.start_ms in unpublished])
                self._revise(settled)
        except WarehouseUnreachable as error:  # the consumer reports it
            log.debug("revisions: %s", error)
        else:
            if look_at_expired:
                self._next_expired = time.monotonic() + EXPIRED_EVERY_S

    def _late(
        self, partitions: Sequence[Partition], unpublished: AbstractSet[int]
    ) -> Mapping[int, HourRecord]:
        """The sealed hours of these days that have late readings, and the `unpublished` hours,
        which were too late as a whole, if they have readings."""
        return {
            record.start_ms: record
            for record in hours_of(self.cluster, partitions)
            if record.sealed
            and (record.late > 0 or (record.count and record.start_ms in unpublished))
        }

    def _load(self, records: Sequence[HourRecord]) -> None:
        """Insert rows for hours that were too late to be published."""
        averages = [HourlyAverage.of(each) for each in records if each.count]
        if not averages:
            return
        there = self.warehouse.hours(min(each.start_ms for each in averages))
        missing = [each for each in averages if each.start_ms not in there]
        if missing:
            self.warehouse.upsert(missing, datetime.now(UTC))
        for average in missing:
            self.tell(average.line, average.start_ms, None)

    def _revise(self, records: list[HourRecord]) -> None:
        hours = [record.start_ms for record in records]
        rows = {row.start_ms: row for row in self.warehouse.rows(min(hours), max(hours) + HOUR_MS)}
        wanted = [
            new
            for record in records
            if (row := rows.get(record.start_ms)) and (new := revised(row, record))
        ]
        for row in self.warehouse.revise(wanted, datetime.now(UTC)) if wanted else ():
            self.metrics.revised()
            self.tell(row.revision_line, row.start_ms, row.trace_id)
