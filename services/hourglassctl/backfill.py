"""Hours that the warehouse lacks, put into it: from the averages' stream where they stand there
still, else from their hour records."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from averages_consumer.gaps import decoded, hours_of, refilled
from averages_consumer.warehouse import Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import recorded
from hourglass.cluster.published import Result, results
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.clock import Instant
from hourglass.model.keys import RECORDS_KEPT_MS, iso
from hourglassctl.config import (
    BackfillSettings,
    reached,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfilled:
    """What became of the hours asked for; hours are their start in ms.

    there: were in the warehouse before
    missing: were published, and nothing is left that says with what result
    """

    there: int
    from_stream: Sequence[int]
    from_records: Sequence[int]
    missing: Sequence[int]


def backfill(cluster: Cluster, instant: Instant, warehouse: Warehouse, hours: range) -> Backfilled:
    """Load what of `hours` (ms) was published, or was too late to be published, and is not there.
    Any number of consumers may be at work meanwhile. Raises Unreachable, CorruptKey,
    WarehouseUnreachable."""
    keys = cluster.keyspace
    published = results(cluster.call("ZRANGE", keys.published, 0, -1), key=keys.published)
    entries = cluster.call("XRANGE", keys.averages, "-", "+")
    revised, too_late = (
        results(cluster.call("ZRANGE", key, 0, -1), key=key).keys()
        for key in (keys.revisions, keys.too_late)
    )
    records = hours_of(cluster, recorded(cluster, instant, kept_ms=RECORDS_KEPT_MS))
    loaded = warehouse.hours(hours.start)

    def lacking(found: Iterable[HourlyAverage]) -> list[HourlyAverage]:
        return [
            a for a in found if hours.start <= a.start_ms < hours.stop and a.start_ms not in loaded
        ]

    known = believed(records, published, revised=revised, too_late=too_late)
    from_stream = lacking(decoded(entries).values())
    on_stream = {average.start_ms for average in from_stream}
    from_records = lacking(refilled(records, known.keys() - on_stream, known))
    warehouse.upsert([*from_stream, *from_records], datetime.now(UTC))
    done = {average.start_ms for average in (*from_stream, *from_records)}
    return Backfilled(
        there=sum(hours.start <= hour < hours.stop for hour in loaded),
        from_stream=sorted(on_stream),
        from_records=sorted(done - on_stream),
        missing=sorted(
            hour
            for hour in published
            if hours.start <= hour < hours.stop and hour not in loaded and hour not in done
        ),
    )


def believed(
    records: Iterable[HourRecord],
    published: Mapping[int, Result],
    *,
    revised: AbstractSet[int] = frozenset(),
    too_late: AbstractSet[int] = frozenset(),
) -> dict[int, Result]:
    """The result of each hour that belongs into the warehouse: the published one. Of an hour that
    was too late to be published the sealed record is the only result. Of an hour before those that
    are remembered, the sealed record is believed, unless the hour is known to be revised."""
    first = min(published, default=0)
    before = {
        record.start_ms: Result(record.count, record.sum_milli_f)
        for record in records
        if record.sealed
        and record.count
        and (
            record.start_ms in too_late
            or (record.start_ms < first and record.start_ms not in revised)
        )
    }
    return before | dict(published)


def backfill_lines(found: Backfilled) -> list[str]:
    """The result of a backfill, one number per line, and the hours that are still missing."""
    lines = [
        f"in the warehouse before  {found.there:>12,}",
        f"loaded from the stream   {len(found.from_stream):>12,}",
        f"loaded from hour records {len(found.from_records):>12,}",
        f"missing for good         {len(found.missing):>12,}",
    ]
    return lines + [f"MISSING {iso(hour)}" for hour in found.missing]


def backfill_as_data(found: Backfilled) -> dict[str, Any]:
    """The result of a backfill as data."""
    return {
        "there": found.there,
        "from_stream": [iso(hour) for hour in found.from_stream],
        "from_records": [iso(hour) for hour in found.from_records],
        "missing": [iso(hour) for hour in found.missing],
    }


def backfill_averages(settings: BackfillSettings) -> None:
    """Load published hours that the warehouse lacks from the stream or from their hour records;
    exit 1 if some are still missing."""
    hours = settings.hours
    with ExitStack() as resources:
        warehouse = resources.enter_context(Warehouse(settings.url))
        warehouse.create()
        cluster, instant = resources.enter_context(reached(settings))
        found = backfill(cluster, instant, warehouse, hours)
    if settings.json:
        print(json.dumps(backfill_as_data(found)))
    else:
        for line in backfill_lines(found):
            print(line)
    sys.exit(1 if found.missing else 0)
