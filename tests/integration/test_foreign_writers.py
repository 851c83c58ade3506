"""Whoever can XADD can write readings: no library, no index entry, no agreement but the key."""

from __future__ import annotations

import time

import pytest

from hourglass.model.keys import HOUR_MS, Partition
from hourglass.model.readings import Rules
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading
from tests.support.services import services
from tests.support.waiting import wait_until


def test_a_plain_xadd_counts_at_the_time_of_its_arrival(pipeline: Pipeline) -> None:
    instant = pipeline.use_wall_clock()
    today = KEYS.containing(instant.now_ms)

    entry_id = pipeline.xadd(to=today, temp_f=73)
    pipeline.count(today)

    arrived_ms = int(entry_id.partition(b"-")[0])
    hour = min(arrived_ms - today.day_ms, 86_399_999) // HOUR_MS
    record = pipeline.record(hour, today)
    assert (record.count, record.sum_milli_f, record.min_milli_f) == (1, 73_000, 73_000)


def test_an_aggregator_finds_partitions_that_no_index_lists(
    pipeline: Pipeline, redis_url: str
) -> None:
    instant = pipeline.use_wall_clock()
    today = KEYS.containing(instant.now_ms)
    yesterday = KEYS.partition(today.day_ms - 86_400_000)
    with services(redis_url) as running:
        running.aggregator()
        running.await_ready("aggregator")
        pipeline.xadd(to=today, temp_f=73)
        pipeline.xadd(to=yesterday, ts=yesterday.day_ms, temp_f=73)

        for partition in (today, yesterday):
            wait_until(
                lambda partition=partition: readings(pipeline, partition) == 1,
                message=f"{partition.stream} is not counted",
            )


def readings(pipeline: Pipeline, partition: Partition) -> int:
    return sum(record.count + record.late for record in pipeline.records(partition).values())


def test_explicit_event_time_ids_count_as_the_exercise_writes_them(pipeline: Pipeline) -> None:
    for second in range(0, 7200, 60):
        pipeline.xadd(entry_id=str(at(0, 0, second)), temp_f=50 + second // 3600)
    pipeline.drive(at(2))
    pipeline.count()

    pipeline.seal()

    first, second = pipeline.averages()
    assert (first.start_ms, first.count, first.sum_milli_f) == (at(0), 60, 60 * 50_000)
    assert (second.start_ms, second.count, second.sum_milli_f) == (at(1), 60, 60 * 51_000)


@pytest.mark.parametrize(
    ("past_midnight_ms", "counted"), [(-1, True), (0, True), (4_999, True), (5_001, False)]
)
def test_an_arrival_just_past_midnight_counts_in_the_last_hour(
    pipeline: Pipeline, past_midnight_ms: int, *, counted: bool
) -> None:
    pipeline.xadd(entry_id=f"{DAY.end_ms + past_midnight_ms}-0", temp_f=73)

    pipeline.count(rules=Rules(overrun_ms=5_000))

    assert pipeline.record(23).count == counted
    assert pipeline.cluster.call("XLEN", DAY.quarantine) == (not counted)
    assert pipeline.audit().clean


def test_a_ts_past_midnight_belongs_to_the_next_day(pipeline: Pipeline) -> None:
    pipeline.xadd(entry_id=f"{DAY.end_ms}-0", ts=DAY.end_ms, temp_f=73)
    pipeline.xadd(to=NEXT_DAY, entry_id=f"{DAY.end_ms}-0", ts=DAY.end_ms, temp_f=73)

    pipeline.count(DAY, NEXT_DAY)

    assert pipeline.cluster.call("XLEN", DAY.quarantine) == 1
    assert pipeline.record(0, NEXT_DAY).count == 1


def test_foreign_entries_and_a_producers_mix_freely(pipeline: Pipeline) -> None:
    pipeline.xadd(entry_id=f"{at(1)}-0", temp_f=40)
    pipeline.produce(reading(at(1), 50.0))
    pipeline.xadd(temp_f=60, ts=at(1), device="attic")
    pipeline.produce(reading(at(1), 70.0))

    pipeline.count()
    pipeline.drive(at(2))
    pipeline.seal()

    (average,) = pipeline.averages()
    assert (average.count, average.sum_milli_f, average.devices) == (4, 220_000, 3)


def test_entries_that_trickle_in_are_counted_together(pipeline: Pipeline, redis_url: str) -> None:
    instant = pipeline.use_wall_clock()
    today = KEYS.containing(instant.now_ms)
    linger_s = 0.2
    with services(redis_url, HOURGLASS_LINGER_MS=str(round(1000 * linger_s))) as running:
        running.aggregator()
        running.await_ready("aggregator")
        began = time.monotonic()
        for _ in range(200):
            pipeline.xadd(to=today, temp_f=73)
            time.sleep(0.005)
        wait_until(lambda: readings(pipeline, today) == 200, message="not all is counted")
        took_s = time.monotonic() - began

        commits = running.total("aggregator", "hourglass_commit_seconds_count")
    assert commits <= took_s / linger_s + 1
