"""A partition that expires under an aggregator is over: said once, and nothing more is done."""

from __future__ import annotations

import re
import time
from pathlib import Path

from hourglass.model.keys import DAY_MS, PIPELINE
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, day_after, reading
from tests.support.services import services
from tests.support.waiting import wait_until

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
#: When neither the calendar nor, by itself, the index knows of DAY any more.
LONG_AFTER = day_after(DAY, 9)
RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "runbooks" / "HourglassReadingsAtRisk.md"
MORE_TIME = re.findall(r"^redis-cli -c (.*)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
WATCHED_S = 1.0
#: Commands that an idle aggregator gives a shard; a loop that does not wait gives thousands.
PER_S = 300


def test_an_expired_partition_is_logged_once_costs_nothing_and_its_series_disappear(
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
        # In the shard's own time: on a busy machine the aggregator gets no further meanwhile.
        before, began_s = asked(pipeline)
        time.sleep(WATCHED_S)
        after, ended_s = asked(pipeline)

        assert after - before < PER_S * (ended_s - began_s)
        for series in SERIES:
            wait_until(lambda series=series: running.metric(name, series) is None)
        assert running.metric(name, "hourglass_stream_partitions") == 1
        assert running.said(name).count(OVER) == 1
        assert " error " not in running.said(name)
        assert running.ready(name)
        assert pipeline.cluster.call("EXISTS", DAY.stream) == 0


def asked(pipeline: Pipeline) -> tuple[int, float]:
    """How many commands the shard of DAY has processed, and its time in seconds."""
    link = pipeline.cluster.link(DAY.stream)
    (processed,) = re.findall(rb"total_commands_processed:(\d+)", link.call("INFO", "stats"))
    seconds, micros = map(int, link.call("TIME"))
    link.close()
    return int(processed), seconds + micros / 1e6


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


def test_one_that_was_given_more_time_is_counted_and_published(
    pipeline: Pipeline, redis_url: str
) -> None:
    pipeline.produce(reading(at(0)))
    real_ms = pipeline.clock.current().real_ms
    pipeline.cluster.call("ZADD", KEYS.partitions, real_ms, DAY.stream)  # its last moment
    for command in MORE_TIME:
        said = command.replace("$until", str(real_ms + DAY_MS)).replace(PIPELINE, KEYS.pipeline)
        pipeline.cluster.call(*said.split())

    pipeline.drive(at(1, day=LONG_AFTER))
    pipeline.produce(reading(at(0, day=LONG_AFTER)))
    with services(redis_url) as running:
        running.aggregator()
        wait_until(lambda: len(pipeline.averages()) == 2, message="one of them is forgotten")
    assert pipeline.averages()[0].start_ms == DAY.day_ms
