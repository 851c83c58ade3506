"""A lane that no producer decided on, found after hours of its day were published without it."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from redis.cluster import RedisCluster

from hourglass.cluster.partitions import decide, enter, unlisted
from hourglass.model.keys import HOURS, Partition, iso
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.replica import Copy
from tests.support.services import services
from tests.support.waiting import wait_until

UNKNOWN = KEYS.partition(DAY.day_ms, 77)


@pytest.fixture(params=[1, 3], ids=["plain day", "day of three lanes"])
def pipeline(
    redis: RedisCluster,  # noqa: ARG001
    redis_url: str,
    request: pytest.FixtureRequest,
) -> Generator[Pipeline]:
    with Pipeline(redis_url, lanes=request.param) as pipeline:
        yield pipeline


def copy_of(pipeline: Pipeline, partition: Partition) -> Copy:
    """What a replica holds of a partition and its companions."""
    devices = (partition.devices(hour) for hour in range(HOURS))
    return Copy(pipeline, (partition.stream, partition.hours, partition.lanes, *devices))


def produce(pipeline: Pipeline, hour: int) -> None:
    """A reading of each of six devices."""
    pipeline.produce(*(reading(at(hour), 50.0, f"porch-{each}") for each in range(6)))


def write(pipeline: Pipeline, hour: int) -> None:
    """A foreign reading to the lane."""
    pipeline.xadd(to=UNKNOWN, ts=at(hour), temp_f=73)


def find(pipeline: Pipeline) -> None:
    """As an aggregator does once a minute."""
    instant = pipeline.clock.current()
    assert unlisted(pipeline.cluster, instant) == ([UNKNOWN], [])
    decide(pipeline.cluster, DAY, [UNKNOWN], instant, used=[UNKNOWN])
    enter(pipeline.cluster, [UNKNOWN], instant)


def count_and_seal(pipeline: Pipeline) -> None:
    pipeline.count(*pipeline.partitions())
    pipeline.seal()


def publish_hour(pipeline: Pipeline, hour: int = 0) -> None:
    produce(pipeline, hour)
    pipeline.count(*pipeline.partitions())
    pipeline.drive(at(hour + 1))
    pipeline.seal()
    assert [average.count for average in pipeline.averages()][-1:] == [6]


def assert_late(pipeline: Pipeline, late: int) -> None:
    """Audit is clean and calls so many readings of the first hour late."""
    found = pipeline.audit()
    assert found.differences == []
    assert (found.counted, found.late_by_hour) == (6, {at(0): late} if late else {})
    assert pipeline.cluster.call("ZCARD", KEYS.revisions) == 0


def test_a_reading_of_a_published_hour_is_late(pipeline: Pipeline) -> None:
    publish_hour(pipeline)
    write(pipeline, 0)

    find(pipeline)
    count_and_seal(pipeline)

    assert_late(pipeline, 1)
    assert pipeline.metric("hourglass_readings_late_total") == 1


def test_an_aggregator_that_finds_the_lane_calls_it_late(
    pipeline: Pipeline, redis_url: str
) -> None:
    publish_hour(pipeline)
    write(pipeline, 0)

    with services(redis_url) as running:
        running.aggregator()
        wait_until(lambda: pipeline.audit().late == 1, message="the reading is never late")
        produce(pipeline, 1)
        pipeline.drive(at(2))
        wait_until(lambda: len(pipeline.averages()) == 2, message="no hour is published")

    assert pipeline.audit().differences == []
    assert pipeline.cluster.call("ZCARD", KEYS.revisions) == 0


def test_an_hour_sealed_by_a_publisher_that_does_not_know_the_lane_is_closed_to_it(
    pipeline: Pipeline,
) -> None:
    nothing = Copy(pipeline, (KEYS.averages, KEYS.published_through, KEYS.published))
    publish_hour(pipeline)
    published = Copy(pipeline, (KEYS.averages, KEYS.published_through, KEYS.published))
    write(pipeline, 0)
    nothing.restore()  # as before that publisher, which is slow, publishes

    find(pipeline)
    pipeline.count(UNKNOWN)
    published.restore()
    pipeline.seal()

    assert_late(pipeline, 1)


def test_an_hour_too_late_to_be_published_is_closed_to_it(pipeline: Pipeline) -> None:
    publish_hour(pipeline, 1)
    produce(pipeline, 0)
    count_and_seal(pipeline)
    write(pipeline, 0)

    find(pipeline)
    count_and_seal(pipeline)

    found = pipeline.audit()
    assert [each.hour for each in found.differences] == [iso(at(0))]
    assert found.late_by_hour == {at(0): 1}
    assert pipeline.cluster.call("ZCARD", KEYS.too_late) == 1


def test_an_hour_without_readings_stays_open_to_it(pipeline: Pipeline) -> None:
    publish_hour(pipeline, 1)
    write(pipeline, 0)

    find(pipeline)
    count_and_seal(pipeline)

    assert pipeline.record(0, UNKNOWN).count == 1
    assert pipeline.audit().too_late == 1


def test_an_hour_in_progress_stays_open_to_it(pipeline: Pipeline) -> None:
    publish_hour(pipeline)
    write(pipeline, 1)
    find(pipeline)

    count_and_seal(pipeline)
    pipeline.drive(at(2))
    pipeline.seal()

    assert [average.count for average in pipeline.averages()] == [6, 1]
    assert pipeline.audit().clean


def test_it_is_late_again_after_a_failover_of_the_lane(pipeline: Pipeline) -> None:
    publish_hour(pipeline)
    write(pipeline, 0)
    before = copy_of(pipeline, UNKNOWN)
    find(pipeline)
    count_and_seal(pipeline)

    before.restore()
    count_and_seal(pipeline)

    assert_late(pipeline, 1)


def test_it_is_late_after_a_failover_that_loses_that_the_hour_was_sealed(
    pipeline: Pipeline,
) -> None:
    produce(pipeline, 0)
    pipeline.count(*pipeline.partitions())
    before = copy_of(pipeline, DAY)
    pipeline.drive(at(1))
    pipeline.seal()
    write(pipeline, 0)

    before.restore()
    find(pipeline)
    count_and_seal(pipeline)

    assert_late(pipeline, 1)


def test_what_it_counted_of_a_published_hour_is_counted_again_after_a_failover(
    pipeline: Pipeline,
) -> None:
    produce(pipeline, 0)
    write(pipeline, 0)
    pipeline.count(*(each for each in pipeline.partitions() if each != UNKNOWN))
    before = copy_of(pipeline, UNKNOWN)
    find(pipeline)
    pipeline.count(UNKNOWN)
    pipeline.drive(at(1))
    pipeline.seal()
    assert [average.count for average in pipeline.averages()] == [7]

    before.restore()
    count_and_seal(pipeline)

    found = pipeline.audit()
    assert (found.differences, found.counted, found.late) == ([], 7, 0)


def test_another_result_after_a_failover_is_still_a_revision(pipeline: Pipeline) -> None:
    produce(pipeline, 0)
    pipeline.count(*pipeline.partitions())
    before = copy_of(pipeline, DAY)
    pipeline.xadd(ts=at(0), temp_f=60)
    pipeline.count(DAY)
    pipeline.drive(at(1))
    pipeline.seal()
    write(pipeline, 0)
    find(pipeline)
    count_and_seal(pipeline)

    before.restore()  # with one reading less
    count_and_seal(pipeline)

    assert pipeline.cluster.call("ZCARD", KEYS.revisions) == 1
    assert [each.hour for each in pipeline.audit().differences] == [iso(at(0))]
