"""A shard is dead: what is due waits and is counted as waiting, and hours of other days are
published as far as nothing earlier may still come."""

from __future__ import annotations

import time
from itertools import count

import pytest

import aggregator.sealer as sealer_module
from hourglass.errors import Unreachable
from hourglass.model.keys import Partition
from tests.support.cluster import EmbeddedCluster, Node
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, day_after, reading
from tests.support.services import services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

OVERDUE = "hourglass_averages_overdue"


def alone(pipeline: Pipeline) -> Partition:
    """A day whose shard holds neither the day after it nor what the whole pipeline needs; nor is
    the day after it on the index's."""
    shard = pipeline.master_of
    for each in (day_after(DAY, days) for days in count()):
        today = shard(day_after(each).stream)
        others = [today, *map(shard, (KEYS.partitions, KEYS.clock, KEYS.averages))]
        if shard(each.stream) not in others and today != shard(KEYS.partitions):
            return each
    raise AssertionError


def produce(pipeline: Pipeline, day: Partition, *hours: int) -> None:
    pipeline.produce(*(reading(at(hour, day=day)) for hour in hours))
    pipeline.count(day)


def kill(pipeline: Pipeline, embedded: EmbeddedCluster, key: str) -> Node:
    node = embedded.node_at(pipeline.master_of(key))
    node.kill()
    return node


def seals(pipeline: Pipeline) -> bool:
    try:
        pipeline.cluster.refresh_topology()
        pipeline.seal()
    except Unreachable:
        return False
    return True


def published(pipeline: Pipeline) -> list[int]:
    return [average.start_ms for average in pipeline.averages()]


def test_a_dead_shard_whose_day_is_published_holds_up_no_other(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline:
        yesterday = alone(pipeline)
        today = day_after(yesterday)
        pipeline.drive(today.day_ms)
        produce(pipeline, yesterday, 23)
        produce(pipeline, today, 0, 1)
        pipeline.drive(at(1, day=today))
        pipeline.seal()

        kill(pipeline, embedded, yesterday.stream)
        pipeline.drive(at(2, day=today))
        with pytest.raises(Unreachable):
            pipeline.seal()

        assert published(pipeline) == [at(23, day=yesterday), at(0, day=today), at(1, day=today)]
        assert pipeline.metric(OVERDUE) == 0


def test_a_day_that_ended_in_silence_is_remembered_as_published(
    embedded: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "SETTLED_S", 0.0)
    with Pipeline(embedded.url) as pipeline:
        yesterday = alone(pipeline)
        today = day_after(yesterday)
        pipeline.drive(today.day_ms)
        produce(pipeline, yesterday, 20)
        produce(pipeline, today, 0)
        sealer = pipeline.sealer()
        sealer.step()

        kill(pipeline, embedded, yesterday.stream)
        pipeline.drive(at(1, day=today))
        with pytest.raises(Unreachable):
            pipeline.seal()
        assert published(pipeline) == [at(20, day=yesterday)]

        with pytest.raises(Unreachable):
            sealer.step()
        assert published(pipeline) == [at(20, day=yesterday), at(0, day=today)]


@pytest.mark.embedded(persistence=True)
def test_hours_of_a_dead_shard_are_overdue_and_not_overtaken(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline:
        yesterday = alone(pipeline)
        today = day_after(yesterday)
        pipeline.drive(at(22, day=yesterday))
        produce(pipeline, yesterday, 21, 22, 23)
        produce(pipeline, today, 0)
        pipeline.seal()
        assert pipeline.metric(OVERDUE) == 0

        shard = kill(pipeline, embedded, yesterday.stream)
        pipeline.drive(at(1, day=today))
        for _ in range(2):
            with pytest.raises(Unreachable):
                pipeline.seal()
        assert published(pipeline) == [at(21, day=yesterday)]
        assert pipeline.metric(OVERDUE) == 3

        shard.restart()
        wait_until(lambda: seals(pipeline), message="the shard does not come back")
        assert published(pipeline)[1:] == [
            at(22, day=yesterday), at(23, day=yesterday), at(0, day=today)
        ]  # fmt: skip
        assert pipeline.metric(OVERDUE) == 0


@pytest.mark.embedded(masters=4)  # the index and the clock on two of them
@pytest.mark.parametrize("dead", ["a calendar day's", "the index's"])
def test_an_aggregator_that_starts_meanwhile_counts_what_it_can_reach(
    embedded: EmbeddedCluster, dead: str
) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        yesterday = alone(pipeline)
        today = day_after(yesterday)
        key = yesterday.stream if dead == "a calendar day's" else KEYS.partitions
        pipeline.drive(at(1, day=today))
        pipeline.produce(reading(at(0, day=today)))

        kill(pipeline, embedded, key)
        running.aggregator()
        wait_until(lambda: pipeline.record(0, today).count == 1, message="it is not counted")


@pytest.mark.parametrize("key", [KEYS.partitions, KEYS.clock, KEYS.averages])
def test_hours_come_due_while_the_shard_of_what_all_days_need_is_dead(
    embedded: EmbeddedCluster, key: str
) -> None:
    with Pipeline(embedded.url) as pipeline:
        produce(pipeline, DAY, 0)
        pipeline.drive(at(1))
        sealer = pipeline.sealer()
        sealer.step()
        assert published(pipeline) == [at(0)]
        assert pipeline.metric(OVERDUE) == 0

        pipeline.run_clock(at(3, 0, 1), 1.0)
        kill(pipeline, embedded, key)
        with pytest.raises(Unreachable):
            sealer.step()

        assert pipeline.metric(OVERDUE) == 2


@pytest.mark.extended
@pytest.mark.embedded(node_timeout_ms=2_000)
def test_a_search_for_shards_in_vain_takes_no_memory(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        for day in (DAY, day_after(DAY), day_after(DAY, 2)):
            produce(pipeline, day, 0)
        running.aggregator()
        running.await_ready("aggregator")
        before_mib = running.rss_mib("aggregator")
        for node in embedded.nodes[:2]:
            node.kill()

        sizes_mib: list[float] = []
        for _ in range(30):
            time.sleep(0.5)
            sizes_mib.append(running.rss_mib("aggregator"))
    assert max(sizes_mib) < 2 * before_mib
