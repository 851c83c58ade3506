"""What can be found after a run: raw readings, records, rows, and what producers reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby

from hourglass.cluster.partitions import recorded
from hourglass.model.averages import joined_hours
from hourglass.model.devices import device_names
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import DAY_MS, HOUR_MS, RETENTION_MS, Partition, iso
from hourglass.model.packed_codec import readings_in
from hourglass.model.readings import Reading, Rules, Unusable
from hourglassctl.audit.collect import audit
from hourglassctl.audit.compare import Audit, Result
from hourglassctl.demo.run import expected_hours
from hourglassctl.replay import EXERCISE_START_MS
from producer.simulator import Sensors
from tests.lab.drill.reckoning import Evidence, Hours
from tests.lab.drill.stage import PERIOD_MS, SEED, DrillFailed, Stage

_ANYTHING = Rules(min_milli_f=-(1 << 62), max_milli_f=1 << 62, overrun_ms=DAY_MS)
_CHUNK = 5000


def gather(stage: Stage) -> tuple[Evidence, Audit]:
    """After the load has ended and everything is at rest. Raises Unreachable, WarehouseUnreachable,
    and DrillFailed if raw readings have expired: nothing is left to compare the hours with."""
    stage.redis.refresh_topology()
    instant = stage.clock.refresh()
    if instant.now_ms >= EXERCISE_START_MS + DAY_MS + RETENTION_MS:
        raise DrillFailed(
            f"it took until {iso(instant.now_ms)} by the pipeline's clock, when the first day's "
            "readings had expired: a machine with less to do, or a lower --rate, takes less"
        )
    partitions = recorded(stage.redis, instant)
    days = [list(members) for _, members in groupby(partitions, lambda each: each.day)]
    stored: dict[str, dict[int, Result]] = {}
    for day in days:
        for producer, hours in _stored(stage, day).items():
            stored.setdefault(producer, {}).update(hours)
    evidence = Evidence(
        ledgers=stage.ledgers,
        acknowledged=_acknowledged(stage, partitions),
        generated=_generated(stage),
        stored=stored,
        foreign=stage.foreign,
        counted=_counted(stage, days),
    )
    return evidence, audit(stage.redis, stage.clock.current(), stage.warehouse)


def _generated(stage: Stage) -> dict[str, Hours]:
    """By each producer that was there from the beginning and whose readings were all taken."""
    given: dict[str, Hours] = {}
    for name, ledger in stage.ledgers.items():
        if ledger.whole and name not in stage.unpredictable:
            sensors = Sensors(device_names(name, stage.devices), seed=SEED, period_ms=PERIOD_MS)
            end_ms = EXERCISE_START_MS + ledger.produced // stage.devices * PERIOD_MS
            given[name] = expected_hours([sensors], EXERCISE_START_MS, end_ms)
    return given


def _acknowledged(stage: Stage, partitions: Sequence[Partition]) -> dict[str, int]:
    """Readings acknowledged to each producer that was killed, as its last batch for each partition
    reports them."""
    acknowledged: dict[str, int] = {}
    for partition in partitions:
        for incarnation, report in stage.redis.call("HGETALL", partition.producers).items():
            producer = incarnation.decode().partition(":")[0]
            if producer in stage.services.names and producer not in stage.ledgers:
                acknowledged[producer] = acknowledged.get(producer, 0) + int(report.split()[1])
    return acknowledged


def _stored(stage: Stage, day: Sequence[Partition]) -> dict[str, dict[int, Result]]:
    """The readings of producers in the partitions of one day, by producer and hour; each device and
    time once, however often it stands there."""
    seen: dict[tuple[bytes, int], int] = {}
    for partition in day:
        for reading in _readings(stage, partition):
            seen[reading.device, reading.ts_ms] = reading.milli_f
    counts: dict[tuple[bytes, int], int] = defaultdict(int)
    sums: dict[tuple[bytes, int], int] = defaultdict(int)
    for (device, ts_ms), milli_f in seen.items():
        counts[device, ts_ms - ts_ms % HOUR_MS] += 1
        sums[device, ts_ms - ts_ms % HOUR_MS] += milli_f
    stored: dict[str, dict[int, Result]] = {}
    for (device, hour), count in counts.items():
        # A producer's devices are numbered, and it takes several to make the load.
        producer = device.decode().rpartition("-")[0]
        if producer in stage.services.names:
            hours = stored.setdefault(producer, {})
            before = hours.get(hour, Result(0, 0))
            hours[hour] = Result(before.count + count, before.sum_milli_f + sums[device, hour])
    return stored


def _readings(stage: Stage, partition: Partition) -> Iterator[Reading]:
    link = stage.redis.link(partition.stream)
    try:
        after = b"-"
        while chunk := link.call("XRANGE", partition.stream, after, "+", "COUNT", _CHUNK):
            for entry_id, fields in chunk:
                with suppress(Unusable):
                    yield from readings_in(partition, entry_id, fields, _ANYTHING)
            after = b"(" + chunk[-1][0]
    finally:
        link.close()


def _counted(stage: Stage, days: Sequence[Sequence[Partition]]) -> Hours:
    """What each hour has counted; the warehouse's word where the record is gone."""
    rows = stage.warehouse.rows(days[0][0].day_ms, days[-1][0].end_ms)
    counted = {row.start_ms: Result(row.observations, row.sum_milli_f) for row in rows}
    for day in days:
        members = [decode_hours(each, stage.redis.call("HGETALL", each.hours)) for each in day]
        for record in joined_hours(members):
            counted[record.start_ms] = Result(
                record.count + record.late, record.sum_milli_f + record.late_sum_milli_f
            )
    return {hour: result for hour, result in counted.items() if result.count}
