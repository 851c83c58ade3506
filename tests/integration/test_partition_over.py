"""A partition that expires under an aggregator is over: said once, and nothing more is done."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.pipeline import DAY, Pipeline, at, day_after, reading
from tests.services import services
from tests.waiting import wait_until

SERIES = (
    f'hourglass_stream_length{{stream="{DAY.stream}"}}',
    f'hourglass_stream_group_lag{{group="aggregators",stream="{DAY.stream}"}}',
    f'hourglass_stream_group_lag_known{{group="aggregators",stream="{DAY.stream}"}}',
    f'hourglass_stream_group_messages_pending{{group="aggregators",stream="{DAY.stream}"}}',
    f'hourglass_stream_group_consumers{{group="aggregators",stream="{DAY.stream}"}}',
    f'hourglass_partition_expiry_timestamp_seconds{{stream="{DAY.stream}"}}',
)
OVER = f"partition {DAY.stream} is over"
#: By when DAY's readings have expired, or are about to.
TODAY = day_after(DAY, 2)
WATCHED_S = 1.0
#: A loop that does not wait uses about all of it.
IDLE_SHARE = 0.3


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processor time from /proc")
def test_it_is_said_once_costs_nothing_and_its_series_disappear(
    pipeline: Pipeline, redis_url: str
) -> None:
    pipeline.drive(at(1, day=TODAY))
    pipeline.xadd(ts=at(0), temp_f=73)
    pipeline.produce(reading(at(0, day=TODAY)))
    with services(redis_url) as running:
        name = running.aggregator("aggregator", "--seal-every-ms", "250")
        wait_until(lambda: pipeline.record(0).count == 1)
        for series in SERIES:
            wait_until(lambda series=series: running.metric(name, series) is not None)

        pipeline.cluster.call("PEXPIRE", DAY.stream, 1)
        wait_until(lambda: OVER in running.said(name), message="nobody notices")
        before_s = running.cpu_s(name)
        time.sleep(WATCHED_S)
        used_s = running.cpu_s(name) - before_s

        assert used_s < IDLE_SHARE * WATCHED_S
        for series in SERIES:
            wait_until(lambda series=series: running.metric(name, series) is None)
        assert running.metric(name, "hourglass_stream_partitions") == 1
        assert running.said(name).count(OVER) == 1
        assert " error " not in running.said(name)
        assert running.ready(name)
        assert pipeline.cluster.call("EXISTS", DAY.stream) == 0


def test_readings_of_other_days_go_on_being_counted(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.drive(at(1, day=TODAY))
    pipeline.xadd(ts=at(0), temp_f=73)
    with services(redis_url) as running:
        running.aggregator()
        wait_until(lambda: pipeline.record(0).count == 1)
        pipeline.cluster.call("PEXPIRE", DAY.stream, 1)
        wait_until(lambda: OVER in running.said("aggregator"), message="nobody notices")

        pipeline.produce(reading(at(0, day=TODAY)))
        wait_until(lambda: pipeline.record(0, TODAY).count == 1)

        # A partition that comes back, by a foreign writer's hand, is read again.
        pipeline.xadd(ts=at(2), temp_f=73)
        wait_until(lambda: pipeline.record(2).count + pipeline.record(2).late == 1)
