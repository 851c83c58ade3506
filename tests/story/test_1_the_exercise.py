"""Start reading here.

The exercise: a device gives one temperature reading a second. Its readings go to one stream per
day, which expires; from them comes one average per hour, on a stream that holds the last five days;
from there each average goes to a warehouse. Ten days, from 1 January 2025, are replayed here
through the services as they are in use.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, cast

import pytest
from redis.cluster import RedisCluster

from hourglass.model.clock import PipelineClock
from hourglass.model.keys import DAY_MS, HOUR_MS, RETENTION_MS
from hourglassctl.audit.collect import audit
from hourglassctl.replay import EXERCISE_START_MS, DataSet, replay
from tests.story.conftest import Running
from tests.support.keyspace import KEYS

#: Up to two million readings go through the services.
pytestmark = pytest.mark.timeout(180)

TEN_DAYS = 240


def averages_by_hand(data: DataSet) -> dict[int, tuple[int, Decimal]]:
    """Count and mean of each hour, from the generator alone and with decimal arithmetic."""
    temperatures: dict[int, list[Decimal]] = {}
    for reading in data.sensors().read(data.start_ms, data.end_ms):
        hour = reading.ts_ms // HOUR_MS * HOUR_MS
        temperatures.setdefault(hour, []).append(Decimal(reading.milli_f) / 1000)
    return {
        hour: (
            len(values),
            (sum(values, Decimal(0)) / len(values)).quantize(
                Decimal("0.001"), rounding=ROUND_HALF_EVEN
            ),
        )
        for hour, values in temperatures.items()
    }


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.extended)])
def test_ten_days_become_240_exact_averages(running: Running, devices: int) -> None:
    # However many devices there are, an hour has one average.
    data = DataSet(devices=devices, seed=7)
    taken = replay(running.cluster, data)
    assert taken == devices * 864_000
    running.await_published(data.end_ms - HOUR_MS)

    # The stream keeps the last five days, in order, each entry under its hour's start.
    averages = running.averages()
    last_five_days = range(data.end_ms - 5 * DAY_MS, data.end_ms, HOUR_MS)
    assert [average.start_ms for average in averages] == list(last_five_days)

    # The warehouse has all ten, and every one is what the generator says it must be.
    rows = running.await_rows(TEN_DAYS)
    assert len(rows) == TEN_DAYS
    expected = averages_by_hand(data)
    for row in rows:
        count, mean = expected[row.start_ms]
        assert row.observations == count == devices * 3600
        assert row.average_temp_f == float(mean)
        assert row.devices == devices

    # And a count of the raw readings finds the same.
    instant = PipelineClock(running.cluster).refresh()
    found = audit(running.cluster, instant, running.warehouse)
    assert found.clean, found.differences
    assert (found.counted, found.late, found.recounted_hours) == (taken, 0, TEN_DAYS)


def test_readings_of_2025_do_not_expire_as_they_are_written(
    running: Running, redis: RedisCluster
) -> None:
    # "Two days after the reading" is long ago by the wall clock. The replay drives the pipeline
    # clock, and it is by that clock that a partition expires.
    data = DataSet(days=2, period_ms=60_000)
    replay(running.cluster, data)
    running.await_published(data.end_ms - HOUR_MS)
    for day in range(2):
        stream = KEYS.partition(EXERCISE_START_MS + day * DAY_MS).stream
        assert redis.xlen(stream) == 1440
        assert 0 < cast(Any, redis).pttl(stream) <= RETENTION_MS + 2 * DAY_MS


def test_the_exercises_own_consumer_reads_the_averages_unchanged(
    running: Running, redis: RedisCluster
) -> None:
    data = DataSet(days=1, period_ms=60_000)
    replay(running.cluster, data)
    running.await_published(data.end_ms - HOUR_MS)

    # One entry at a time from the beginning, four fields by name, as text.
    lines: list[str] = []
    last_id = "0"
    while response := cast(Any, redis).xread({KEYS.averages: last_id}, count=1):
        entry_id, fields = response[0][1][0]
        message = {name.decode(): value.decode() for name, value in fields.items()}
        lines.append(
            f"{message['date']} at {message['hour']}: {message['average_temp_f']}F "
            f"({message['num_observations']} observations)"
        )
        last_id = entry_id.decode()
    assert len(lines) == 24
    assert lines[0].startswith("2025/01/01 at 0: ")
    assert lines[23].startswith("2025/01/01 at 23: ")
    assert lines[23].endswith("F (60 observations)")
