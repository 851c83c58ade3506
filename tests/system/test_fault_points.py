"""Processes die at every step there is, and every reading is counted once. Replies that any script
loses: tests/protocol."""

from __future__ import annotations

import json
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from averages_consumer.warehouse import Warehouse
from hourglass.model.keys import AVERAGES_GROUP, HOUR_MS
from tests.support.fault_injection import LOAD, POINTS
from tests.support.keyspace import KEYS
from tests.support.pipeline import Pipeline, at, reading, tick
from tests.support.services import Services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

HOURS = 3
#: One every ten seconds.
PER_HOUR = 360
#: A batch of this many makes several commits of these hours.
BATCH = "--batch-entries=100"
#: Ten minutes a second: what is written in a test stays within DAY.
SPEED = 600.0

PRODUCER = ("divide.", "register.", "ingest.")
SCRIPTS = [point for point in POINTS if point not in LOAD]
OF_PRODUCER = [point for point in SCRIPTS if point.startswith(PRODUCER)]
OF_AGGREGATOR = [point for point in SCRIPTS if not point.startswith(PRODUCER)]
#: Where the first passage is not the most telling one.
PASSAGES = {"ingest": 3, "commit": 3, "seal": 5, "publish": 2}

DEVICES = "--devices=6"


@pytest.fixture
def pipeline(redis: RedisCluster, redis_url: str, lanes: int) -> Generator[Pipeline]:  # noqa: ARG001
    with Pipeline(redis_url, lanes=lanes) as pipeline:
        yield pipeline


def fault(point: str, action: str) -> str:
    passage = PASSAGES.get(point.partition(".")[0], 1)
    return f"{point}:{action}@{passage}"


def await_kill(running: Services, name: str) -> None:
    assert running.exit_status(name) == -signal.SIGKILL


def produce_hours(pipeline: Pipeline) -> None:
    """Hours that are due, twelve devices by turns plain and packed; what they amount to depends on
    the second."""
    for start in range(0, HOURS * PER_HOUR, 24):
        hour, first = divmod(start, PER_HOUR)
        temps_f = [hour + each / 100 for each in range(first, first + 24)]
        pipeline.produce(
            *(
                reading(at(hour) + (first + device) * 10_000, temps_f[device], f"porch-{device}")
                for device in range(12)
            )
        )
        pipeline.pack(tick(at(hour) + (first + 12) * 10_000, *temps_f[12:]))
    pipeline.drive(at(HOURS))


def check_hours(pipeline: Pipeline) -> None:
    """Every hour was published once, with every reading counted once."""
    wait_until(lambda: len(pipeline.averages()) == HOURS, message="the hours are never published")
    sums = [sum(1000 * hour + 10 * each for each in range(PER_HOUR)) for hour in range(HOURS)]
    assert [(each.count, each.sum_milli_f) for each in pipeline.averages()] == [
        (PER_HOUR, total) for total in sums
    ]
    assert pipeline.cluster.call("XINFO STREAM", KEYS.averages)["entries-added"] == HOURS
    assert sum(map(pipeline.pending, pipeline.partitions())) == 0
    assert pipeline.audit().differences == []


@pytest.mark.parametrize("point", OF_AGGREGATOR)
def test_an_aggregator_is_killed(pipeline: Pipeline, running: Services, point: str) -> None:
    produce_hours(pipeline)

    running.aggregator("first", BATCH, faults=fault(point, "kill"))
    await_kill(running, "first")
    running.aggregator("second", BATCH)

    check_hours(pipeline)
    running.await_ready("second")


@pytest.mark.parametrize("script", ["open", "commit", "seal", "publish", "reap"])
def test_an_aggregator_meets_an_error_that_no_code_expects(
    pipeline: Pipeline, running: Services, script: str
) -> None:
    produce_hours(pipeline)

    name = running.aggregator("aggregator", BATCH, faults=fault(f"{script}.after", "fail"))

    check_hours(pipeline)
    expected = f"ValueError: a fault at {script}.after"
    wait_until(lambda: "Traceback" in running.said(name), message="the error is not in the log")
    assert expected in running.said(name)
    running.await_ready(name)


@pytest.mark.parametrize(
    ("point", "packed"),
    [
        *((point, "off") for point in OF_PRODUCER),
        # Packed where it makes a difference.
        *((point, "on") for point in OF_PRODUCER if point.startswith("ingest.")),
    ],
)
def test_a_producer_is_killed(
    pipeline: Pipeline, running: Services, lanes: int, point: str, packed: str
) -> None:
    pipeline.run_clock(at(0), SPEED)
    options = (DEVICES, f"--packed={packed}", f"--lanes={lanes}")

    running.producer("porch", *options, faults=fault(point, "kill"))
    await_kill(running, "porch")
    before = len(pipeline.stored())
    running.producer("porch", *options)

    wait_until(lambda: len(pipeline.stored()) > before + 100, message="nothing is produced again")
    running.terminate("porch")
    entries = pipeline.stored()
    assert len(set(entries)) == len(entries)


@pytest.mark.parametrize("point", OF_PRODUCER)
def test_a_producer_meets_an_error_that_no_code_expects(
    pipeline: Pipeline, running: Services, point: str
) -> None:
    pipeline.run_clock(at(0), SPEED)

    name = running.producer("porch", DEVICES, faults=fault(point, "fail"))

    wait_until(lambda: f"ValueError: a fault at {point}" in running.said(name))
    wait_until(lambda: len(pipeline.stored()) > 1_000, message="too little is produced")
    running.await_ready(name)
    assert running.terminate(name) == 0
    tally = json.loads(running.output(name).read_text())
    entries = pipeline.stored()
    assert len(set(entries)) == len(entries) == tally["taken"] == tally["produced"]


@pytest.mark.parametrize("point", LOAD)
def test_an_averages_consumer_is_killed(
    pipeline: Pipeline, running: Services, tmp_path: Path, point: str
) -> None:
    url = f"sqlite:///{tmp_path}/warehouse.db"
    produce_hours(pipeline)
    for partition in pipeline.partitions():
        pipeline.count(partition)
    pipeline.seal()

    warehouse = {"HOURGLASS_WAREHOUSE_URL": url}
    running.start("first", "averages_consumer", **warehouse, faults=fault(point, "kill"))
    await_kill(running, "first")
    running.start("second", "averages_consumer", **warehouse)

    with Warehouse(url) as loaded:
        loaded.create()
        wait_until(lambda: len(loaded.hours()) == HOURS, message="the hours are never loaded")
        wait_until(lambda: unacknowledged(pipeline) == 0)
        assert loaded.hours() == {at(0) + hour * HOUR_MS for hour in range(HOURS)}
        assert pipeline.audit(loaded).differences == []


def unacknowledged(pipeline: Pipeline) -> int:
    return int(pipeline.cluster.call("XPENDING", KEYS.averages, AVERAGES_GROUP)["pending"])
