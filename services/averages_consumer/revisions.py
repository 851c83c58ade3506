"""Late readings taken into the warehouse, where that is asked for: as a new revision of their
hour's row. What is published stays as it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from averages_consumer.hours import hours_of
from averages_consumer.instruments import Instruments
from averages_consumer.report import revision_line
from averages_consumer.table import revised
from averages_consumer.warehouse import Warehouse, WarehouseAway
from hourglass.averages import HourRecord
from hourglass.clock import PipelineClock
from hourglass.cluster import Cluster
from hourglass.keys import HOUR_MS, RECORDS_KEPT_MS, Partition
from hourglass.partitions import recorded

log = logging.getLogger(__name__)

#: How often late readings are looked for, in the days that live.
REVISE_S = 5.0
#: And in those that expired: nothing comes any more, but nobody may have looked before they did.
EXPIRED_EVERY_S = 600.0


@dataclass(slots=True)
class Revisions:
    """Any number of processes may do it at once: the warehouse takes each revision once."""

    cluster: Cluster
    clock: PipelineClock
    warehouse: Warehouse
    metrics: Instruments
    tell: Callable[[str, int, str | None], None]
    _before: Mapping[int, HourRecord] = field(default_factory=dict[int, HourRecord])
    _next_expired: float = 0.0

    def step(self) -> None:
        """Take in what has come late since the last step, of hours of which nothing came meanwhile:
        so a flood of late readings makes few revisions, and a partition that is being counted
        again, whose late count is on its way, makes none. Raises Unreachable, Damaged."""
        instant = self.clock.refresh()
        alive = recorded(self.cluster, instant)
        records = self._late(alive)
        settled = [each for hour, each in records.items() if self._before.get(hour) == each]
        self._before = records
        look_at_expired = time.monotonic() >= self._next_expired
        if look_at_expired:
            kept = recorded(self.cluster, instant, kept_ms=RECORDS_KEPT_MS)
            days = {each.day for each in alive}
            settled += self._late([each for each in kept if each.day not in days]).values()
        try:
            if settled:
                self._revise(settled)
        except WarehouseAway as error:  # the consumer says so
            log.debug("revisions: %s", error)
        else:
            if look_at_expired:
                self._next_expired = time.monotonic() + EXPIRED_EVERY_S

    def _late(self, partitions: Sequence[Partition]) -> Mapping[int, HourRecord]:
        """The sealed hours of these days that late readings came for."""
        return {
            record.start_ms: record
            for record in hours_of(self.cluster, partitions)
            if record.sealed and record.late > 0
        }

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
            self.tell(revision_line(row), row.start_ms, row.trace_id)
