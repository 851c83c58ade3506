"""Makes the API's documents from a snapshot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import floor
from typing import Literal, cast

from averages_consumer.warehouse.table import HourRow, moment, trace_id_of
from averages_consumer.web.schemas import (
    Averages,
    Clock,
    Hour,
    OpenHour,
    Partition,
    Partitions,
    RedisSource,
    Source,
    Status,
)
from hourglass.cluster.published import Result
from hourglass.model.averages import HourlyAverage, HourRecord, mean_milli_f
from hourglass.model.keys import AVERAGES_KEPT, HOUR_MS
from hourglass.model.readings import MILLI
from hourglass.monitoring.pipeline_status import PartitionView, PipelineStatus, Snapshot
from hourglass.monitoring.problems import problems

WINDOW_MS = AVERAGES_KEPT * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSnapshot(Snapshot):
    """A snapshot with what only the page shows.

    averages: the averages on the stream, in order
    rows: the warehouse's rows of the last days, in order
    """

    averages: Sequence[HourlyAverage] = ()
    rows: Sequence[HourRow] = ()


def window(now_ms: int, last_ms: int | None) -> tuple[int, int]:
    """The five days to show, as start and end in ms. They end with the hour in progress.

    last_ms: the latest hour with an average, or None. If it is outside these five days, because the
        clock was set to another time, the range ends with it.
    """
    end = now_ms - now_ms % HOUR_MS + HOUR_MS
    if last_ms is not None and not end - WINDOW_MS - HOUR_MS <= last_ms < end:
        end = last_ms + HOUR_MS
    return end - WINDOW_MS - HOUR_MS, end


def completeness(observations: int, expected: int | None) -> float | None:
    """The fraction of the expected readings, at most 1, and 1 only if none is missing. None if
    their number is unknown."""
    if not expected:
        return None
    return min(1.0, floor(10_000 * observations / expected) / 10_000)


def expected_readings(devices: int, period_s: float) -> int | None:
    """The number of readings of `devices` in an hour; None if they have no common period."""
    return round(devices * HOUR_MS / MILLI / period_s) if period_s and devices else None


def averages(snapshot: PageSnapshot, period_s: float) -> Averages:
    """The averages of the last five days, from the stream, or from the warehouse where the stream
    has no entry."""
    rows = {row.start_ms: row for row in snapshot.rows}
    published = {average.start_ms: average for average in snapshot.averages}
    late = {}
    if snapshot.pipeline is not None:
        late = {record.start_ms: record.late for record in snapshot.pipeline.records()}
    start, end = window(snapshot.instant.now_ms, max(published, default=None))
    hours: list[Hour] = []
    for hour in sorted(hour for hour in {*rows, *published} if start <= hour < end):
        average, row = published.get(hour), rows.get(hour)
        if average is not None:
            hours.append(hour_of_entry(average, row, late.get(hour), period_s))
        elif row is not None:
            hours.append(hour_of_row(row, period_s))
    return Averages(start=moment(start), end=moment(end), hours=hours)


def hour_of_entry(
    average: HourlyAverage, row: HourRow | None, late: int | None, period_s: float
) -> Hour:
    """The document of an hour on the stream.

    row: the warehouse's row of the hour, if there is one
    late: the current number of late readings, if known
    """
    loaded = row if row and row.published == Result(average.count, average.sum_milli_f) else None
    if loaded and loaded.revision:
        return hour_of_row(loaded, period_s)
    return Hour(
        hour=average.start,
        average_temp_f=average.mean_milli_f / MILLI,
        min_temp_f=average.min_milli_f / MILLI,
        max_temp_f=average.max_milli_f / MILLI,
        observations=average.count,
        devices=average.devices,
        late=average.late if late is None else late,
        completeness=completeness(average.count, expected_readings(average.devices, period_s)),
        in_warehouse=loaded is not None,
        revision=0,
        trace_id=trace_id_of(average.traceparent),
    )


def hour_of_row(row: HourRow, period_s: float) -> Hour:
    return Hour(
        hour=row.hour,
        average_temp_f=row.average_temp_f,
        min_temp_f=row.min_temp_f,
        max_temp_f=row.max_temp_f,
        observations=row.observations,
        devices=row.devices,
        late=row.late,
        completeness=completeness(row.observations, expected_readings(row.devices, period_s)),
        in_warehouse=True,
        revision=row.revision,
        trace_id=row.trace_id,
    )


def partitions(snapshot: PageSnapshot) -> Partitions:
    pipeline = snapshot.pipeline
    if pipeline is None:
        return Partitions(partitions=[])
    shards = sorted({each.state.shard for each in pipeline.partitions})
    return Partitions(
        partitions=[
            _partition(
                each,
                shard=shards.index(each.state.shard) + 1,
                quarantined=pipeline.quarantined.get(each.state.stream, 0),
                removed=_removed(pipeline, each.state.stream),
            )
            for each in pipeline.partitions
        ]
    )


def _partition(
    view: PartitionView, *, shard: int, quarantined: int, removed: int | None
) -> Partition:
    state = view.state
    return Partition(
        stream=state.stream,
        day=_day(view.partition.day_ms),
        shard=f"#{shard}",
        length=state.length,
        lag=state.lag,
        lag_readings=state.lag_readings,
        pending=state.pending,
        consumers=state.consumers,
        expires=None if state.expires_ms is None else moment(state.expires_ms),
        counted=view.counted,
        late=sum(record.late for record in view.hours),
        quarantined=quarantined,
        removed=removed,
    )


def _removed(pipeline: PipelineStatus, stream: str) -> int | None:
    found = (pipeline.removals or {}).get(stream)
    return None if found is None else found.entries


def open_hours(snapshot: PageSnapshot, period_s: float) -> list[OpenHour]:
    """The hours with readings that are not sealed, and the hour in progress also without readings;
    empty before the first poll of Redis."""
    if snapshot.pipeline is None:
        return []
    now_ms = snapshot.instant.now_ms
    current = now_ms - now_ms % HOUR_MS
    empty = HourRecord(start_ms=current, count=0, sum_milli_f=0)
    found: dict[int, HourRecord] = {}
    sealed = False
    for record in snapshot.pipeline.records():
        sealed |= record.sealed and record.start_ms == current
        if record.count and not record.sealed:
            found[record.start_ms] = record
    if not sealed:
        found.setdefault(current, empty)
    return [_open_hour(found[hour], now_ms, period_s) for hour in sorted(found)]


def _open_hour(record: HourRecord, now_ms: int, period_s: float) -> OpenHour:
    elapsed = min(1.0, max(0.0, (now_ms - record.start_ms) / HOUR_MS))
    expected = expected_readings(record.devices, period_s)
    known = record.count > 0
    return OpenHour(
        hour=moment(record.start_ms),
        over=now_ms >= record.start_ms + HOUR_MS,
        elapsed=round(elapsed, 4),
        observations=record.count,
        devices=record.devices,
        expected=expected,
        completeness=completeness(record.count, expected),
        average_temp_f=mean_milli_f(record.sum_milli_f, record.count) / MILLI if known else None,
        min_temp_f=record.min_milli_f / MILLI if known else None,
        max_temp_f=record.max_milli_f / MILLI if known else None,
    )


def status(snapshot: PageSnapshot, period_s: float, served_by: str) -> Status:
    instant, pipeline = snapshot.instant, snapshot.pipeline
    states = [each.state for each in pipeline.partitions] if pipeline else []
    stream = pipeline.averages if pipeline else None
    published_through = pipeline.published_through_ms if pipeline else None
    return Status(
        served_by=served_by,
        real_time=moment(instant.real_ms),
        clock=Clock(
            time=moment(instant.now_ms),
            mode=cast(Literal["wall", "simulated", "manual"], str(instant.spec.mode)),
            speed=instant.spec.speed,
        ),
        redis=RedisSource(
            answers=snapshot.redis_answers,
            readable=snapshot.redis_readable,
            as_of=moment(snapshot.redis_at_ms),
        ),
        warehouse=Source(answers=snapshot.warehouse_answers, as_of=moment(snapshot.rows_at_ms)),
        published_until=None if published_through is None else moment(published_through + HOUR_MS),
        open_hours=open_hours(snapshot, period_s),
        lag=None if pipeline is None else sum_known([state.lag for state in states]),
        lag_readings=None
        if pipeline is None
        else sum_known([state.lag_readings for state in states]),
        pending=None if pipeline is None else sum(state.pending for state in states),
        to_load=None if stream is None else sum_known([stream.lag, stream.pending]),
        late=sum(record.late for record in pipeline.records()) if pipeline else None,
        quarantined=sum(pipeline.quarantined.values()) if pipeline else None,
        problems=problems(snapshot),
    )


def sum_known(numbers: Sequence[int | None]) -> int | None:
    """The sum; None if one of the numbers is None."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _day(day_ms: int) -> date:
    at: datetime = moment(day_ms)
    return at.date()
