"""FLUSHALL under the running pipeline: what can be made again is, and audit names what is gone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from averages_consumer.warehouse import Warehouse
from hourglass.model.keys import Partition
from hourglassctl.local import bootstrap
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, day_after
from tests.support.services import Services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

SPEED = 600.0
PORCH = ("porch", "--devices=3")
EAGER = ("aggregator", "--lateness-s=0")


@pytest.fixture
def day(pipeline: Pipeline) -> Partition:
    """One on another shard than the averages and the clock."""
    others = {pipeline.master_of(KEYS.averages), pipeline.master_of(KEYS.clock)}
    days = (day_after(DAY, days) for days in range(100))
    return next(day for day in days if pipeline.master_of(day.stream) not in others)


def flush(pipeline: Pipeline, key: str) -> None:
    with bootstrap.client(pipeline.master_of(key)) as shard:
        shard.flushall()


def counted(pipeline: Pipeline, day: Partition) -> int:
    return sum(each.count + each.late for each in pipeline.records(day).values())


def taken(running: Services) -> int:
    return int(running.metric("porch", "hourglass_readings_taken_total") or 0)


def test_the_averages_are_published_again_with_the_same_entries(
    pipeline: Pipeline, running: Services, day: Partition, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/warehouse.db"
    pipeline.run_clock(at(0, day=day), SPEED)
    running.producer(*PORCH)
    running.aggregator(*EAGER)
    running.start("consumer", "averages_consumer", "--warehouse-url", url)
    wait_until(lambda: len(pipeline.averages()) >= 2, message="nothing is published")
    before = pipeline.averages()

    flush(pipeline, KEYS.averages)

    wait_until(lambda: len(pipeline.averages()) > len(before), message="nothing is published again")
    # Readings may have come late meanwhile.
    again = pipeline.averages()[: len(before)]
    assert [replace(each, late=0) for each in again] == [replace(each, late=0) for each in before]
    assert running.said("aggregator").count("the averages' shard went back") == 1
    running.terminate("porch")
    with Warehouse(url) as warehouse:
        hours = len(pipeline.averages())
        wait_until(lambda: len(warehouse.hours()) >= hours, message="they are not loaded")
        wait_until(
            lambda: pipeline.audit(warehouse).differences == [], message="it does not add up"
        )
    running.await_ready("aggregator", "consumer")


def test_audit_gives_the_exact_number_of_lost_readings(
    pipeline: Pipeline, running: Services, day: Partition
) -> None:
    pipeline.run_clock(at(0, day=day), SPEED)
    running.producer(*PORCH)
    running.aggregator(*EAGER)
    wait_until(lambda: counted(pipeline, day) > 1_000, message="too little is counted")

    flush(pipeline, day.stream)

    before = taken(running)
    wait_until(lambda: taken(running) > before + 1_000, message="the producer does not go on")
    assert running.terminate("porch") == 0
    tally = json.loads(running.output("porch").read_text())
    stored = pipeline.cluster.call("XLEN", day.stream)
    wait_until(lambda: counted(pipeline, day) == stored, message="what is there is not counted")
    found = pipeline.audit()
    assert tally["taken"] == tally["produced"]
    assert (found.gone, found.lost, found.twice) == (tally["taken"] - stored, 0, 0)
    assert found.gone >= 1_000
    assert running.said("aggregator").count("is gone before any of its readings expired") <= 1
    running.await_ready("aggregator")


def test_when_everything_is_flushed_the_pipeline_goes_on_by_the_wall(
    pipeline: Pipeline, running: Services, redis: RedisCluster
) -> None:
    pipeline.run_clock(at(0), SPEED)
    running.producer(*PORCH)
    running.aggregator(*EAGER)
    wait_until(lambda: counted(pipeline, DAY) > 1_000, message="too little is counted")

    redis.flushall(target_nodes=RedisCluster.PRIMARIES)

    told = "the pipeline clock was changed: wall"
    for name in ("porch", "aggregator"):
        wait_until(lambda name=name: running.said(name).count(told) == 1, message="it is not said")
    wait_until(lambda: counted_today(pipeline) > 10, message="nothing is counted by the wall")
    assert running.terminate("porch") == 0
    running.await_ready("aggregator")
    wait_until(lambda: not pipeline.audit().lost, message="what is there is not counted")
    found = pipeline.audit()
    assert (found.lost, found.twice) == (0, 0)


def counted_today(pipeline: Pipeline) -> int:
    return sum(counted(pipeline, day) for day in KEYS.days_alive(pipeline.clock.refresh().now_ms))
