"""Snapshots of a pipeline that is well, for tests to make something wrong with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from averages_consumer.warehouse.table import HourRow, moment, row_of
from averages_consumer.web.view import PageSnapshot
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.clock import ClockSpec, Instant, Mode
from hourglass.model.keys import AVERAGES_GROUP, GROUP, HOUR_MS, Keyspace, Partition
from hourglass.monitoring.pipeline_status import PartitionView, PipelineStatus
from hourglass.monitoring.stream_stats import StreamState

DAY = Keyspace().partition(1_735_689_600_000)
#: Half past nine: hour 8 is published, hour 9 is in progress.
NOW_MS = DAY.hour_start_ms(9) + HOUR_MS // 2
PERIOD_S = 1.0


def instant(now_ms: int = NOW_MS, *, mode: Mode = Mode.WALL) -> Instant:
    return Instant(ClockSpec(mode=mode, origin_ms=now_ms), now_ms)


def average(hour: int, **changes: Any) -> HourlyAverage:
    values: dict[str, Any] = {
        "start_ms": DAY.hour_start_ms(hour),
        "count": 7200,
        "sum_milli_f": 7200 * 50_000,
        "min_milli_f": 40_000,
        "max_milli_f": 60_500,
        "devices": 2,
        "late": 0,
        "sealed_by": "aggregator-0",
    }
    return HourlyAverage(**{**values, **changes})


def row(average: HourlyAverage) -> HourRow:
    return HourRow(**row_of(average, moment(NOW_MS)))


def record(hour: int, *, sealed: bool = True, **changes: Any) -> HourRecord:
    like = average(hour)
    values: dict[str, Any] = {
        "start_ms": like.start_ms,
        "count": like.count,
        "sum_milli_f": like.sum_milli_f,
        "min_milli_f": like.min_milli_f,
        "max_milli_f": like.max_milli_f,
        "devices": like.devices,
    }
    return HourRecord(**{**values, **changes}, sealed=sealed)


def state(stream: str = DAY.stream, group: str = GROUP, **changes: Any) -> StreamState:
    values: dict[str, Any] = {
        "length": 68_400,
        "lag": 0,
        "lag_readings": 0,
        "pending": 0,
        "consumers": 2,
        "idle_ms": 300,
        "expires_ms": DAY.end_ms + DAY.end_ms - DAY.day_ms,
    }
    return StreamState(stream=stream, group=group, shard="10.0.0.1:6379", **{**values, **changes})


def averages_state(**changes: Any) -> StreamState:
    values: dict[str, Any] = {"length": 9, "lag_readings": None, "expires_ms": None}
    return state(Keyspace().averages, AVERAGES_GROUP, **{**values, **changes})


def polled(
    *,
    at: Instant | None = None,
    records: Sequence[HourRecord] | None = None,
    partition: StreamState | None = None,
    averages: StreamState | None = None,
    published_hour: int | None = 8,
    quarantined: Mapping[str, int] | None = None,
    damaged: Mapping[Partition, str] | None = None,
    **changes: Any,
) -> PipelineStatus:
    hours = [*map(record, range(9)), record(9, sealed=False, count=3600)]
    return PipelineStatus(
        instant=at or instant(),
        partitions=[
            PartitionView(DAY, partition or state(), hours if records is None else records)
        ],
        averages=averages or averages_state(),
        last=average(8),
        published_through_ms=None if published_hour is None else DAY.hour_start_ms(published_hour),
        damaged=damaged or {},
        quarantined=quarantined or {},
        **changes,
    )


def snapshot(**changes: Any) -> PageSnapshot:
    """A pipeline that is well, half past nine."""
    averages = [average(hour) for hour in range(9)]
    values: dict[str, Any] = {
        "instant": instant(),
        "averages": averages,
        "averages_at_ms": NOW_MS,
        "pipeline": polled(),
        "rows": [row(each) for each in averages],
        "rows_at_ms": NOW_MS,
    }
    return PageSnapshot(**{**values, **changes})
