"""A foreign writer that invents lanes costs an aggregator neither threads nor connections: it
consumes every shard with one of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from hourglass.cluster.partitions import decide
from hourglass.model.keys import LANE_NUMBERS, MOST_UNDECIDED_LANES, Partition
from tests.support.commands import run_hourglass
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at
from tests.support.services import Services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

NUMBERS = range(0, LANE_NUMBERS - 1, 2)
#: A producer decided on this one.
DECIDED = KEYS.partition(DAY.day_ms, LANE_NUMBERS - 1)


def threads(running: Services, name: str) -> int:
    return len(list(Path(f"/proc/{running.pid(name)}/task").iterdir()))


def consuming_connections(pipeline: Pipeline) -> int:
    """Connections whose last command read entries as a consumer. All others never do."""
    return sum(
        client["cmd"] == "xreadgroup"
        for master in pipeline.cluster.masters()
        for client in pipeline.cluster.ask(master, "CLIENT LIST")
    )


def invented(day: Partition) -> list[Partition]:
    return [KEYS.partition(day.day_ms, number) for number in NUMBERS]


def counted(pipeline: Pipeline, lanes: list[Partition]) -> int:
    return sum(bool(pipeline.records(each)) for each in lanes)


def test_invented_lanes_take_no_thread_and_no_connection(
    pipeline: Pipeline, running: Services, redis_url: str
) -> None:
    pipeline.drive(at(0, 30))  # no hour is over: with the first one sealed it is too late to decide
    pipeline.xadd(to=DAY, ts=at(0), temp_f=50)
    before = running.aggregator("before")
    wait_until(lambda: pipeline.record(0).count == 1, message="the plain day is not counted")
    running.await_ready(before)  # every worker has been started
    few = threads(running, before)  # with the consumer of one shard
    running.terminate(before)
    decide(pipeline.cluster, DAY, [DECIDED], pipeline.clock.current())

    pipeline.drive(at(2, day=NEXT_DAY))
    lanes = [*invented(DAY), *invented(NEXT_DAY)]
    for each in lanes:
        pipeline.xadd(to=each, ts=each.day_ms, temp_f=50)
        pipeline.cluster.call("EXPIRE", each.stream, 3600)  # nothing else ends those left out
    pipeline.xadd(to=DECIDED, ts=at(0), temp_f=50)

    name = running.aggregator("after")
    wait_until(lambda: reports_them(running, name), message="lanes left out are not reported")
    wait_until(lambda: counted(pipeline, [DECIDED]) == 1, message="a decided lane is not read")
    wait_until(lambda: counted(pipeline, lanes) == MOST_UNDECIDED_LANES, message="too few are read")

    shards = len(pipeline.cluster.masters())
    assert threads(running, name) < few + shards
    wait_until(lambda: 0 < consuming_connections(pipeline) <= shards, message="connections")
    assert counted(pipeline, lanes) == MOST_UNDECIDED_LANES
    left_out = len(lanes) - MOST_UNDECIDED_LANES
    status = run_hourglass("status", "--redis-url", redis_url)
    assert f"{left_out} lanes are not read" in " ".join(status.stdout.split())
    assert running.said(name).count(f"{left_out} lanes are not read") == 1


def reports_them(running: Services, name: str) -> bool:
    status, reasons = running.get(name, "/readyz")
    return status == 503 and "lanes are not read" in reasons
