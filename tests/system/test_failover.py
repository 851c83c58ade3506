"""Shards die, fall asleep, restart and hand over slots, with replicas behind them."""

from __future__ import annotations

import json
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from hourglass.errors import ConnectionLost
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import HOUR_MS, Partition
from hourglass.monitoring.shards import ShardGauges
from hourglassctl.local import bootstrap
from tests.support.cluster import EmbeddedCluster, Node
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, day_after
from tests.support.services import Services, services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system
failing_over = pytest.mark.embedded(replicas=1, persistence=True, node_timeout_ms=2000)
#: No node is called failing because the machine has no time for it.
steady = pytest.mark.embedded(replicas=1, node_timeout_ms=15_000)

#: Twenty minutes a second: an hour takes three.
SPEED = 1200.0
PORCH = ("porch", "--devices=6", "--period-s=3")
CAUTIOUS = ("--wait-replicas=1", "--wait-timeout-ms=500")
TAKEN = "hourglass_readings_taken_total"
WENT_BACK = "the averages' shard went back"


@pytest.fixture
def pipeline(embedded: EmbeddedCluster) -> Generator[Pipeline]:
    with Pipeline(embedded.url) as pipeline:
        yield pipeline


@pytest.fixture
def running(embedded: EmbeddedCluster) -> Generator[Services]:
    with services(embedded.url) as running:
        yield running


@pytest.fixture
def day(pipeline: Pipeline) -> Partition:
    """One on another shard than the averages."""
    shard = pipeline.master_of(KEYS.averages)
    days = (day_after(DAY, days) for days in range(100))
    return next(day for day in days if pipeline.master_of(day.stream) != shard)


def start(pipeline: Pipeline, running: Services, day: Partition, *options: str) -> None:
    """A producer and two aggregators, until an hour is published."""
    pipeline.run_clock(at(0, day=day), SPEED)
    running.producer(*PORCH, *options)
    for name in ("one", "other"):
        running.aggregator(name, "--lateness-s=1")
    wait_until(pipeline.averages, message="no hour is published")


def stream_to_hurt(pipeline: Pipeline) -> str:
    """One of the day's, on another shard than the averages."""
    shard = pipeline.master_of(KEYS.averages)
    streams = [each.stream for each in pipeline.partitions()]
    return next(stream for stream in streams if pipeline.master_of(stream) != shard)


def go_on(pipeline: Pipeline, running: Services) -> None:
    """Until the producer has caught up and an hour that begins from now on is published."""
    running.await_caught_up("porch")
    now_ms = pipeline.clock.refresh().now_ms
    wait_until(lambda: newest_hour(pipeline) > now_ms - HOUR_MS, message="no more hours")


def newest_hour(pipeline: Pipeline) -> int:
    averages = pipeline.averages()
    return averages[-1].start_ms if averages else 0


def tally_at_the_end(pipeline: Pipeline, running: Services) -> tuple[int, int]:
    """Readings that the producer was told were taken, and those that are there, all counted."""
    running.await_caught_up("porch")
    assert running.terminate("porch") == 0
    tally = json.loads(running.output("porch").read_text())
    assert tally["dropped"] == 0
    assert tally["taken"] == tally["produced"]
    entries = wait_until(pipeline.stored, message="not every shard answers")
    there = set(entries)
    assert len(there) == len(entries), "a reading stands there twice"
    wait_until(lambda: counted(pipeline) == len(there), message="not everything is counted")
    running.await_ready("one", "other")
    return tally["taken"], len(there)


def counted(pipeline: Pipeline) -> int:
    return sum(each.count + each.late for each in pipeline.day_records())


def check_nothing_is_gone(pipeline: Pipeline, running: Services) -> None:
    taken, there = tally_at_the_end(pipeline, running)
    assert taken == there
    assert pipeline.audit().differences == []


def await_new_master(pipeline: Pipeline, key: str, old: Node) -> None:
    wait_until(lambda: pipeline.master_of(key) != old.port, message="no replica takes over")


def cut_off(embedded: EmbeddedCluster, master: Node) -> None:
    """What the master is told from now on does not reach its replica."""
    (heir,) = embedded.replicas_of(master)
    tell(heir, "CONFIG", "SET", "masterauth", "wrong")
    tell(master, "CLIENT", "KILL", "TYPE", "replica")


def tell(node: Node, *command: str) -> Any:
    with bootstrap.client(node.port, timeout_s=30) as client:
        return cast(Any, client).execute_command(*command)


@failing_over
def test_with_wait_nothing_that_was_taken_is_lost_when_a_master_is_killed(
    pipeline: Pipeline, running: Services, embedded: EmbeddedCluster, day: Partition, lanes: int
) -> None:
    start(pipeline, running, day, *CAUTIOUS, f"--lanes={lanes}")
    stream = stream_to_hurt(pipeline)
    lost = embedded.master_of(stream)

    lost.kill()
    await_new_master(pipeline, stream, lost)
    lost.restart()  # as the replica that WAIT asks for
    go_on(pipeline, running)

    check_nothing_is_gone(pipeline, running)


@pytest.mark.extended
@failing_over
def test_without_wait_audit_says_exactly_what_a_failover_lost(
    pipeline: Pipeline, running: Services, embedded: EmbeddedCluster, day: Partition, lanes: int
) -> None:
    # A packed producer writes to one lane alone.
    packed = "on" if lanes == 1 else "off"
    start(pipeline, running, day, f"--lanes={lanes}", f"--packed={packed}")
    stream = stream_to_hurt(pipeline)
    lost = embedded.master_of(stream)

    cut_off(embedded, lost)
    goal = running.total("porch", TAKEN) + 2_000 * lanes
    wait_until(lambda: running.total("porch", TAKEN) > goal, message="too little is taken")
    lost.kill()
    await_new_master(pipeline, stream, lost)
    go_on(pipeline, running)

    taken, there = tally_at_the_end(pipeline, running)
    found = pipeline.audit()
    assert taken - there >= 1_000
    assert (found.gone, found.lost, found.twice) == (taken - there, 0, 0)


@pytest.mark.extended
@failing_over
def test_a_master_that_slept_over_the_node_time_out_has_no_say_any_more(
    pipeline: Pipeline, running: Services, embedded: EmbeddedCluster, day: Partition, lanes: int
) -> None:
    start(pipeline, running, day, *CAUTIOUS, f"--lanes={lanes}")
    stream = stream_to_hurt(pipeline)
    sleeper = embedded.master_of(stream)

    sleeper.pause()
    await_new_master(pipeline, stream, sleeper)
    sleeper.resume()
    go_on(pipeline, running)

    check_nothing_is_gone(pipeline, running)


@steady
@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_master_that_became_a_replica_confirms_nothing(
    pipeline: Pipeline,
    embedded: EmbeddedCluster,
    meanwhile: bool,  # noqa: FBT001
) -> None:
    publisher = pipeline.publisher("porch", wait_replicas=2, wait_timeout_ms=600_000)
    link = pipeline.cluster.link(DAY.stream)
    master = embedded.master_of(DAY.stream)
    (heir,) = embedded.replicas_of(master)

    def demote() -> None:
        if meanwhile:
            wait_until(lambda: b"cmd=wait" in tell(master, "CLIENT", "LIST"))
        tell(heir, "CLUSTER", "FAILOVER", "TAKEOVER")
        wait_until(lambda: not is_master(master), message="it stays master")

    with ThreadPoolExecutor() as threads:
        demoted = threads.submit(demote)
        if not meanwhile:
            demoted.result()
        with pytest.raises(ConnectionLost, match="a replica was promoted"):
            publisher.await_replicas(link)
        demoted.result()


@failing_over
def test_averages_that_a_failover_took_back_are_published_again(
    pipeline: Pipeline, running: Services, embedded: EmbeddedCluster, day: Partition
) -> None:
    start(pipeline, running, day, *CAUTIOUS)
    lost = embedded.master_of(KEYS.averages)

    cut_off(embedded, lost)
    hours = len(pipeline.averages())
    # By the second, both aggregators have seen the first: whichever comes to the new master before
    # the other finds it gone.
    wait_until(lambda: len(pipeline.averages()) > hours + 1, message="no two hours are published")
    published = pipeline.averages()
    lost.kill()
    await_new_master(pipeline, KEYS.averages, lost)
    go_on(pipeline, running)

    assert any(WENT_BACK in running.said(name) for name in ("one", "other"))
    again = {average.start_ms: average for average in pipeline.averages()}
    # Readings may have come late meanwhile, and who seals is told as it is.
    assert [amount(again.get(average.start_ms)) for average in published] == [
        *map(amount, published)
    ]
    check_nothing_is_gone(pipeline, running)


@failing_over
def test_all_nodes_are_restarted_at_once_and_have_what_they_had(
    pipeline: Pipeline, running: Services, embedded: EmbeddedCluster, day: Partition, lanes: int
) -> None:
    start(pipeline, running, day, *CAUTIOUS, f"--lanes={lanes}")

    embedded.restart()
    go_on(pipeline, running)

    check_nothing_is_gone(pipeline, running)


@pytest.mark.extended
@steady
@pytest.mark.parametrize("key", ["the day", KEYS.averages])
def test_a_slot_moves_to_another_shard_and_back_while_it_is_in_use(
    pipeline: Pipeline, running: Services, embedded: EmbeddedCluster, day: Partition, key: str
) -> None:
    start(pipeline, running, day)
    moved = day.stream if key == "the day" else key
    here = embedded.master_of(moved)
    there = next(node for node in embedded.nodes if node is not here and is_master(node))

    for target in (there, here):
        embedded.move_slot(moved, target)
        assert embedded.master_of(moved) is target
        go_on(pipeline, running)

    check_nothing_is_gone(pipeline, running)


def amount(average: HourlyAverage | None) -> tuple[int, int] | None:
    return average and (average.count, average.sum_milli_f)


def is_master(node: Node) -> bool:
    return bool(tell(node, "ROLE")[0] == b"master")


@failing_over
def test_a_master_whose_replica_has_taken_over_is_not_called_down(
    pipeline: Pipeline, embedded: EmbeddedCluster
) -> None:
    """Not even by a process that meets the shard nowhere else."""
    registry = CollectorRegistry()
    gauges = ShardGauges(registry)

    def all_up() -> bool:
        gauges.poll(pipeline.cluster, lambda: None)
        return registry.get_sample_value("hourglass_redis_up") == 1

    assert all_up()
    master = pipeline.cluster.shard_of(DAY.stream)
    embedded.node_at(int(master.rpartition(":")[2])).kill()
    assert not all_up()
    shard = {"shard": master}
    assert registry.get_sample_value("hourglass_redis_shard_up", shard) == 0

    wait_until(all_up, message="a shard that has failed over is called down")
    assert registry.get_sample_value("hourglass_redis_shard_up", shard) is None
