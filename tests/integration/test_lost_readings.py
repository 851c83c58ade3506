"""Readings that Redis had taken and has lost are told while the partition lives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from aggregator.collectors import LostReadingsGauges, read_lost_readings
from tests.support.pipeline import DAY, Pipeline, at, day_after, reading
from tests.support.services import services
from tests.support.waiting import wait_until

NEXT_DAY = day_after(DAY, 1)


def seen(pipeline: Pipeline) -> dict[str, int]:
    return dict(read_lost_readings(pipeline.cluster, pipeline.clock.refresh()).gone())


def test_nothing_is_gone_of_what_is_there(pipeline: Pipeline) -> None:
    pipeline.drive(at(1, day=NEXT_DAY))
    pipeline.produce(*(reading(at(0, minute)) for minute in range(10)))
    pipeline.produce(reading(at(0, day=NEXT_DAY)))
    assert seen(pipeline) == {DAY.stream: 0, NEXT_DAY.stream: 0}


def test_what_was_deleted_is_gone_once_its_producer_is_heard_of_again(pipeline: Pipeline) -> None:
    pipeline.drive(at(1, day=NEXT_DAY))
    pipeline.produce(*(reading(at(0, minute)) for minute in range(10)))
    pipeline.produce(reading(at(0, day=NEXT_DAY)))
    pipeline.cluster.call("DEL", DAY.stream, *DAY.companions)
    assert seen(pipeline) == {NEXT_DAY.stream: 0}  # unknown is not zero
    pipeline.produce(reading(at(1)))
    assert seen(pipeline) == {DAY.stream: 10, NEXT_DAY.stream: 0}


@pytest.mark.parametrize("damage", [("SET", "no hash"), ("HSET", "somebody", "1")])
def test_of_a_key_that_no_producer_wrote_nothing_is_known(
    pipeline: Pipeline, damage: Sequence[str]
) -> None:
    pipeline.drive(at(1, day=NEXT_DAY))
    pipeline.produce(reading(at(0, day=NEXT_DAY)))
    command, *value = damage
    pipeline.cluster.call(command, DAY.producers, *value)
    pipeline.cluster.call("PEXPIRE", DAY.producers, 60_000)
    assert seen(pipeline) == {NEXT_DAY.stream: 0}


def test_entries_removed_before_they_were_counted_stay_gone_while_many_wait(
    pipeline: Pipeline,
) -> None:
    """An alert that compares the series with its past fires once for a loss."""
    registry = CollectorRegistry()
    gauges = LostReadingsGauges(registry)

    def shown() -> float | None:
        gauges.poll(pipeline.cluster, pipeline.clock.refresh())
        return registry.get_sample_value("hourglass_readings_lost", {"stream": DAY.stream})

    def wait_and_remove(waiting: int) -> None:
        """Of those that wait, one in the middle: the lag is not known then."""
        added = [pipeline.xadd(ts=at(0), temp_f=50) for _ in range(waiting)]
        pipeline.cluster.call("XDEL", DAY.stream, added[5])

    for _ in range(3):
        pipeline.xadd(ts=at(0), temp_f=50)
    pipeline.count()
    assert shown() == 0
    wait_and_remove(10)
    assert shown() == 1
    wait_and_remove(3_000)
    assert read_lost_readings(pipeline.cluster, pipeline.clock.refresh()).gone() == {DAY.stream: 0}
    assert shown() == 1
    pipeline.count()
    assert shown() == 2


def test_an_aggregator_exports_what_is_gone(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.drive(at(1))
    pipeline.produce(*(reading(at(0, minute)) for minute in range(10)))
    with services(redis_url) as running:
        running.aggregator()
        sample = f'hourglass_readings_lost{{stream="{DAY.stream}"}}'
        wait_until(lambda: running.metric("aggregator", sample) == 0)
        pipeline.cluster.call("DEL", DAY.stream, *DAY.companions)
        pipeline.produce(reading(at(0, 30)))
        wait_until(lambda: running.metric("aggregator", sample) == 10)
