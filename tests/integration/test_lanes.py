"""A day shared out to lanes: decided once, counted apart, published together, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import count

import numpy as np
import pytest
from redis.cluster import RedisCluster

from aggregator.collectors import read_progress as progress
from averages_consumer.web.view import PageSnapshot, open_hours
from hourglass.cluster.partitions import decide, lanes_of, unlisted
from hourglass.errors import CorruptKey
from hourglass.model.devices import lane_index
from hourglass.model.keys import Partition
from hourglass.model.readings import Reading, Rules
from hourglass.monitoring.pipeline_status import collect
from hourglassctl.quarantine import quarantined, redrive
from hourglassctl.replay import DataSet, replay, reset
from producer.simulator_array import Tick
from tests.support.keyspace import KEYS
from tests.support.leftovers import keys_of
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, Writer, at, reading
from tests.support.services import services
from tests.support.waiting import wait_until

LANES = 3


@pytest.fixture
def pipeline(redis: RedisCluster, redis_url: str) -> Generator[Pipeline]:  # noqa: ARG001
    with Pipeline(redis_url, lanes=LANES) as pipeline:
        yield pipeline


def device_of(lane: int, lanes: int = LANES) -> str:
    """A device that writes to the first, second… of so many lanes."""
    names = (f"porch-{number}" for number in count())
    return next(name for name in names if lane_index(name.encode(), lanes) == lane)


def one_for_each_lane(ts_ms: int, temp_f: float = 50.0) -> list[Reading]:
    return [reading(ts_ms, temp_f, device_of(lane)) for lane in range(LANES)]


def lanes(pipeline: Pipeline, day: Partition = DAY) -> tuple[Partition, ...]:
    """What the day has been shared out to."""
    return decide(pipeline.cluster, day, (day,), pipeline.clock.current())


def lengths(pipeline: Pipeline, day: Partition = DAY) -> dict[int | None, int]:
    """Entries by lane; None is the plain stream."""
    partitions = [each for each in pipeline.partitions() if each.day == day]
    return {each.lane: pipeline.cluster.call("XLEN", each.stream) for each in partitions}


def published(pipeline: Pipeline) -> list[tuple[int, int]]:
    """Hour and number of readings of each average."""
    return [(average.start_ms, average.count) for average in pipeline.averages()]


def count_all(pipeline: Pipeline) -> None:
    pipeline.count(*pipeline.partitions())


def test_one_lane_keeps_the_name_of_the_day(redis: RedisCluster, redis_url: str) -> None:
    with Pipeline(redis_url) as pipeline:
        pipeline.produce(*one_for_each_lane(at(0)))

        assert redis.zrange(KEYS.partitions, 0, -1) == [DAY.stream.encode()]
        assert lengths(pipeline) == {None: 3}


def test_each_lane_is_a_stream_on_a_shard_of_its_own(
    pipeline: Pipeline, redis: RedisCluster
) -> None:
    pipeline.produce(*one_for_each_lane(at(0)), *one_for_each_lane(at(1)))

    shards = {pipeline.cluster.shard_of(lane.stream) for lane in lanes(pipeline)}
    assert len(lanes(pipeline)) == len(shards) == LANES
    assert set(redis.zrange(KEYS.partitions, 0, -1)) == {x.stream.encode() for x in lanes(pipeline)}
    assert sorted(lengths(pipeline).values()) == [2, 2, 2]
    for number, lane in enumerate(lanes(pipeline)):
        entries = pipeline.cluster.call("XRANGE", lane.stream, "-", "+")
        assert {fields[b"device"].decode() for _, fields in entries} == {device_of(number)}


def test_the_hours_of_the_lanes_become_one_average(pipeline: Pipeline) -> None:
    pipeline.produce(
        reading(at(7), 40.0, device_of(0)),
        reading(at(7), 41.5, device_of(1)),
        reading(at(7), 70.001, device_of(1)),
        reading(at(7), -3.0, device_of(2)),
    )
    count_all(pipeline)
    pipeline.drive(at(8))

    pipeline.sealer("aggregator-1").step()

    (average,) = pipeline.averages()
    assert average.count == 4
    assert average.sum_milli_f == 148_501
    assert (average.min_milli_f, average.max_milli_f) == (-3_000, 70_001)
    assert (average.devices, average.late, average.sealed_by) == (3, 0, "aggregator-1")
    assert pipeline.audit().clean


def test_packed_readings_of_a_lane_add_to_the_others(pipeline: Pipeline) -> None:
    pods = [device_of(lane) for lane in range(LANES)]
    for number, pod in enumerate(pods):
        temperatures = np.array([50_000 + number, 60_000], np.int32)
        pipeline.pack(Tick(at(7), temperatures), Tick(at(7, 0, 1), temperatures), device=pod)
    pipeline.produce(*one_for_each_lane(at(7, 30)))
    assert sorted(lengths(pipeline).values()) == [2, 2, 2]
    for lane, pod in zip(lanes(pipeline), pods, strict=True):
        entries = pipeline.cluster.call("XRANGE", lane.stream, "-", "+")
        assert {fields[b"device"].decode() for _, fields in entries} == {pod}
    count_all(pipeline)
    pipeline.drive(at(8))

    pipeline.sealer("aggregator-1").step()

    assert published(pipeline) == [(at(7), 15)]
    assert pipeline.averages()[0].sum_milli_f == 2 * (3 * 110_000 + 3) + 3 * 50_000
    assert pipeline.audit().clean


def test_an_hour_is_not_published_before_every_lane_has_sealed_it(pipeline: Pipeline) -> None:
    pipeline.produce(*one_for_each_lane(at(0)), *one_for_each_lane(at(1)))
    pipeline.drive(at(2))
    first, second, third = lanes(pipeline)

    for counted in (first, second):
        pipeline.count(counted)
        pipeline.seal()
        assert pipeline.record(0, counted).sealed
        assert published(pipeline) == []

    pipeline.count(third)
    pipeline.seal()
    assert published(pipeline) == [(at(0), 3), (at(1), 3)]


def test_hours_overdue_are_those_that_any_lane_waits_for(pipeline: Pipeline) -> None:
    pipeline.produce(*one_for_each_lane(at(0)), *one_for_each_lane(at(1)))
    pipeline.drive(at(3))
    pipeline.count(lanes(pipeline)[0])

    pipeline.seal()
    assert pipeline.metric("hourglass_averages_overdue") == 3

    count_all(pipeline)
    pipeline.seal()
    assert pipeline.metric("hourglass_averages_overdue") == 0


def test_a_foreign_xadd_to_the_day_counts_beside_its_lanes(pipeline: Pipeline) -> None:
    pipeline.produce(*one_for_each_lane(at(0)))
    pipeline.xadd(ts=at(0), temp_f=73)
    pipeline.drive(at(1))

    for lane in lanes(pipeline):
        pipeline.count(lane)
    pipeline.seal()
    assert published(pipeline) == []

    pipeline.count(DAY)
    pipeline.seal()
    assert published(pipeline) == [(at(0), 4)]
    assert pipeline.audit().clean


@pytest.mark.parametrize("silent", [0, 1, 2, None])
def test_what_a_silent_lane_gets_for_a_published_hour_is_late(
    pipeline: Pipeline, silent: int | None
) -> None:
    speaking = [lane for lane in range(LANES) if lane != silent]
    pipeline.produce(*(reading(at(0), 50.0, device_of(lane)) for lane in speaking))
    count_all(pipeline)
    pipeline.drive(at(1))
    sealer = pipeline.sealer()
    sealer.step()
    assert published(pipeline) == [(at(0), len(speaking))]

    if silent is None:
        pipeline.xadd(ts=at(0), temp_f=60)
    else:
        pipeline.produce(reading(at(0), 60.0, device_of(silent)))
    count_all(pipeline)
    sealer.step()

    found = pipeline.audit()
    assert found.differences == []
    assert (found.counted, found.late) == (len(speaking), 1)
    assert pipeline.metric("hourglass_averages_revised_total") == 0


def test_a_day_that_has_not_begun_anywhere_gets_no_record(pipeline: Pipeline) -> None:
    pipeline.writer("porch:1", lanes=LANES).days.partitions(DAY)
    pipeline.drive(NEXT_DAY.end_ms)

    pipeline.seal()

    for partition in (DAY, *lanes(pipeline)):
        assert pipeline.cluster.call("EXISTS", partition.hours) == 0


def writers(pipeline: Pipeline, *lanes: int) -> list[Writer]:
    return [pipeline.writer(f"porch:{each}", lanes=each) for each in lanes]


@pytest.mark.parametrize(("first", "other"), [(3, 6), (6, 3), (1, 3), (3, 1)])
def test_within_a_day_everybody_follows_its_first_producer(
    pipeline: Pipeline, first: int, other: int, caplog: pytest.LogCaptureFixture
) -> None:
    ones, others = writers(pipeline, first, other)

    for each in (ones, others, others):
        each.produce(*(reading(at(0), 50.0, f"porch-{number}") for number in range(12)))

    assert len(lanes(pipeline)) == first
    assert sum(lengths(pipeline).values()) == 36
    assert set(lengths(pipeline)) <= {lane.lane for lane in lanes(pipeline)}
    told = f"{DAY.stream} has {first} lanes, not {other}"
    assert [record.message for record in caplog.records if told in record.message] != []
    assert sum("lanes, not" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 6), (6, 1)])
def test_another_number_from_the_next_day_on_needs_no_pause(
    pipeline: Pipeline, before: int, after: int
) -> None:
    old, new = writers(pipeline, before, after)

    def produce(writer: Writer, ts_ms: int) -> None:
        writer.produce(*(reading(ts_ms, 50.0, f"porch-{number}") for number in range(12)))

    produce(old, at(23))
    produce(new, at(23, 30))  # it is restarted with its new number before midnight
    produce(new, at(0, day=NEXT_DAY))
    produce(old, at(0, 30, day=NEXT_DAY))  # and another one after midnight
    count_all(pipeline)
    pipeline.drive(at(1, day=NEXT_DAY))
    pipeline.seal()

    assert (len(lanes(pipeline)), len(lanes(pipeline, NEXT_DAY))) == (before, after)
    assert published(pipeline) == [(at(23), 24), (at(0, day=NEXT_DAY), 24)]
    assert [average.devices for average in pipeline.averages()] == [12, 12]
    assert pipeline.audit().differences == []


def test_a_day_with_a_published_hour_gets_no_lanes_any_more(pipeline: Pipeline) -> None:
    pipeline.xadd(ts=at(0), temp_f=73)
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()

    pipeline.produce(*one_for_each_lane(at(0, 30)), *one_for_each_lane(at(1)))
    count_all(pipeline)
    pipeline.drive(at(2))
    pipeline.seal()

    assert lanes(pipeline) == (DAY,)
    assert published(pipeline) == [(at(0), 1), (at(1), 3)]
    found = pipeline.audit()
    assert (found.differences, found.late) == ([], 3)


def lose_the_index(pipeline: Pipeline) -> None:
    pipeline.cluster.call("DEL", KEYS.partitions)


def lose_the_days_record(pipeline: Pipeline) -> None:
    pipeline.cluster.call("DEL", DAY.lanes)


@pytest.mark.parametrize("lose", [lose_the_index, lose_the_days_record])
def test_either_of_index_and_record_is_enough_to_publish_all_lanes(
    pipeline: Pipeline, lose: Callable[[Pipeline], None]
) -> None:
    pipeline.produce(*one_for_each_lane(at(0)))
    pipeline.xadd(ts=at(0), temp_f=73)
    count_all(pipeline)
    pipeline.drive(at(1))

    lose(pipeline)
    pipeline.seal()

    assert published(pipeline) == [(at(0), 4)]


def test_lanes_that_nothing_mentions_any_more_are_entered_again_by_their_producer(
    pipeline: Pipeline,
) -> None:
    (writer,) = writers(pipeline, LANES)
    writer.produce(*one_for_each_lane(at(0)))
    count_all(pipeline)
    before = lanes(pipeline)
    pipeline.drive(at(1))
    lose_the_index(pipeline)
    lose_the_days_record(pipeline)

    writer.days.renew()
    pipeline.seal()

    assert published(pipeline) == [(at(0), 3)]
    assert lanes(pipeline) == before


def test_lanes_that_nothing_mentions_any_more_are_found_by_their_names(
    pipeline: Pipeline, redis_url: str
) -> None:
    pipeline.produce(*one_for_each_lane(at(0)))
    shared_out = lanes(pipeline)
    lose_the_index(pipeline)
    lose_the_days_record(pipeline)
    assert tuple(unlisted(pipeline.cluster, pipeline.clock.current()).found) == shared_out

    with services(redis_url) as running:
        running.aggregator()
        pipeline.drive(at(1))
        wait_until(lambda: published(pipeline), message="the hour is never published")

    assert published(pipeline) == [(at(0), 3)]
    assert unlisted(pipeline.cluster, pipeline.clock.current()) == ((), ())


@pytest.mark.parametrize(("first", "other"), [(3, 6), (6, 3), (1, 3), (3, 1)])
def test_two_numbers_in_a_day_after_a_loss_still_count_everything_once(
    pipeline: Pipeline, first: int, other: int
) -> None:
    old, new = writers(pipeline, first, other)
    readings = [reading(at(0), 50.0, f"porch-{number}") for number in range(12)]
    old.produce(*readings)
    lose_the_days_record(pipeline)

    new.produce(*readings)
    old.produce(*readings)
    old.days.renew()
    old.produce(*readings)
    lose_the_index(pipeline)
    count_all(pipeline)
    pipeline.drive(at(1))
    pipeline.seal()

    if first > 1:  # whoever writes to the plain stream alone tells nothing, and asks nothing
        assert old.days.partitions(DAY) == new.days.partitions(DAY)
    assert len(lanes(pipeline)) == other
    assert published(pipeline) == [(at(0), 48)]
    assert pipeline.audit().differences == []


def test_a_producer_proposes_again_the_lanes_that_it_has_used(pipeline: Pipeline) -> None:
    old, new = writers(pipeline, 3, 6)
    old.produce(*one_for_each_lane(at(0)))
    before = lanes(pipeline)
    lose_the_days_record(pipeline)
    lose_the_index(pipeline)

    old.days.renew()
    new.produce(*one_for_each_lane(at(0)))

    assert new.days.partitions(DAY) == before
    assert sum(lengths(pipeline).values()) == 6


def test_a_day_past_its_retention_is_not_shared_out(
    pipeline: Pipeline, redis: RedisCluster
) -> None:
    (writer,) = writers(pipeline, LANES)
    writer.days.partitions(DAY)
    pipeline.drive(at(0) + 4 * 86_400_000)
    pipeline.cluster.call("DEL", DAY.lanes)

    writer.days.renew()
    assert writer.days.partitions(DAY) == (DAY,)

    assert redis.exists(DAY.lanes) == 0


def test_averages_lost_are_published_again_from_all_lanes(pipeline: Pipeline) -> None:
    for hour in range(24):
        pipeline.produce(*one_for_each_lane(at(hour), hour))
    count_all(pipeline)
    pipeline.drive(NEXT_DAY.day_ms)
    sealer = pipeline.sealer()
    sealer.step()
    sealer.step()  # the day is settled: nobody would look at it for a while
    before = pipeline.averages()
    assert len(before) == 24

    for key in (KEYS.averages, KEYS.published_through, KEYS.published):
        pipeline.cluster.call("DEL", key)
    sealer.step()

    assert pipeline.averages() == before
    assert pipeline.metric("hourglass_averages_revised_total") == 0


def test_audit_names_the_lane_that_does_not_add_up(pipeline: Pipeline) -> None:
    pipeline.produce(*one_for_each_lane(at(0)))
    count_all(pipeline)
    lane = lanes(pipeline)[1]

    pipeline.cluster.call("HINCRBY", lane.hours, "00:count", 1)

    (difference,) = pipeline.audit().differences
    assert f"the raw readings of {lane.stream} give 1 readings" in difference.what


def test_audit_knows_the_lanes_of_a_day_that_has_expired(pipeline: Pipeline) -> None:
    pipeline.produce(*one_for_each_lane(at(0)))
    count_all(pipeline)
    pipeline.drive(at(1))
    pipeline.seal()

    for lane in lanes(pipeline):
        pipeline.cluster.call("DEL", lane.stream)
    lose_the_index(pipeline)
    pipeline.drive(at(0) + 10 * 86_400_000)

    found = pipeline.audit()
    assert (found.differences, found.hours, found.counted) == ([], 1, 3)


def test_a_reading_of_a_lane_goes_to_the_lanes_quarantine_and_back(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 999.0, device_of(1)))
    count_all(pipeline)
    lane = lanes(pipeline)[1]

    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    assert item.partition == lane
    wide, instant = Rules(max_milli_f=1_000_000), pipeline.clock.current()
    assert redrive(pipeline.cluster, item, wide, instant) == "redriven: 1 counted"

    assert lengths(pipeline) == {lane.lane: 1}
    assert list(quarantined(pipeline.cluster, pipeline.clock.current())) == []


def test_status_shows_every_lane(pipeline: Pipeline) -> None:
    pipeline.produce(*one_for_each_lane(at(0)))
    count_all(pipeline)
    lose_the_index(pipeline)

    seen = collect(pipeline.cluster, pipeline.clock.current())

    assert [view.state.stream for view in seen.partitions] == [
        lane.stream for lane in lanes(pipeline)
    ]
    assert [view.counted for view in seen.partitions] == [1, 1, 1]


def test_the_page_shows_the_hour_in_progress_of_all_lanes_as_one(pipeline: Pipeline) -> None:
    pipeline.produce(*one_for_each_lane(at(0)), *one_for_each_lane(at(0, 30)))
    pipeline.produce(reading(at(0), 999.0, device_of(1)))
    count_all(pipeline)
    pipeline.drive(at(0, 59))

    seen = collect(pipeline.cluster, pipeline.clock.refresh())
    (hour,) = open_hours(PageSnapshot(instant=pipeline.clock.current(), pipeline=seen), 1800.0)

    assert (hour.observations, hour.devices, hour.completeness) == (6, 3, 1.0)
    assert sum(seen.quarantined.values()) == 1


def test_the_hour_in_progress_is_that_of_all_lanes(pipeline: Pipeline) -> None:
    for hour in range(2):
        pipeline.produce(*one_for_each_lane(at(hour), 50.0))
        count_all(pipeline)
        pipeline.drive(at(hour, 59))
        pipeline.seal()

    seen = progress(pipeline.cluster, pipeline.clock.current(), settling_ms=0)
    assert (seen.count, seen.sum_milli_f) == (3, 150_000)
    assert (seen.devices, seen.devices_before) == (3, 3)


def test_reset_leaves_nothing_of_a_lane(pipeline: Pipeline, redis: RedisCluster) -> None:
    pipeline.produce(*one_for_each_lane(at(0)), *one_for_each_lane(at(1), 999.0))
    count_all(pipeline)
    pipeline.drive(at(1))
    pipeline.seal()

    reset(pipeline.cluster)

    assert keys_of(redis, KEYS) == set()


def test_a_replay_to_lanes_has_the_averages_of_a_replay_to_one_stream(pipeline: Pipeline) -> None:
    data = DataSet(days=2, devices=6, period_ms=600_000, seed=3)

    assert replay(pipeline.cluster, data, lanes=LANES) == 2 * 144 * 6
    count_all(pipeline)
    pipeline.seal()
    in_lanes = pipeline.averages()
    assert set(lengths(pipeline)) == {lane.lane for lane in lanes(pipeline)}
    for day in (DAY, NEXT_DAY):
        for partition in (day, *lanes(pipeline, day)):
            pipeline.cluster.call("UNLINK", partition.stream)
            for companion in partition.companions:
                pipeline.cluster.call("UNLINK", companion)
    for key in (KEYS.averages, KEYS.published_through, KEYS.published):
        pipeline.cluster.call("UNLINK", key)

    replay(pipeline.cluster, data)
    count_all(pipeline)
    pipeline.seal()

    assert pipeline.averages() == in_lanes
    assert len(in_lanes) == 48


def write_no_lanes(pipeline: Pipeline) -> None:
    pipeline.cluster.call("SET", DAY.lanes, "one,two", "EX", 60)


def write_a_list(pipeline: Pipeline) -> None:
    pipeline.cluster.call("RPUSH", DAY.lanes, "one")
    pipeline.cluster.call("EXPIRE", DAY.lanes, 60)


@pytest.mark.parametrize("damage", [write_no_lanes, write_a_list])
def test_a_damaged_record_of_lanes_is_named_and_waited_for(
    pipeline: Pipeline, damage: Callable[[Pipeline], None]
) -> None:
    pipeline.produce(*one_for_each_lane(at(0)))
    count_all(pipeline)
    pipeline.drive(at(1))
    (writer,) = writers(pipeline, LANES)
    lose_the_days_record(pipeline)
    damage(pipeline)

    with pytest.raises(CorruptKey, match=DAY.lanes):
        writer.produce(*one_for_each_lane(at(0)))
    with pytest.raises(CorruptKey, match=DAY.lanes):
        pipeline.seal()
    assert published(pipeline) == []

    lose_the_days_record(pipeline)
    pipeline.seal()
    assert published(pipeline) == [(at(0), 3)]


def test_a_lane_whose_number_is_part_of_anothers_is_listed_too(
    pipeline: Pipeline,
) -> None:
    decided, used = ([KEYS.partition(DAY.day_ms, n) for n in each] for each in ((10, 12), (1, 2)))
    instant = pipeline.clock.current()

    decide(pipeline.cluster, DAY, decided, instant)
    decide(pipeline.cluster, DAY, decided, instant, used=[*used, *decided])

    assert lanes_of(pipeline.cluster, [DAY]) == [*decided, *used]


def test_a_day_that_only_the_index_knows_may_have_foreign_readings_too(pipeline: Pipeline) -> None:
    pipeline.produce(*one_for_each_lane(at(0)))
    pipeline.xadd(ts=at(0), temp_f=73)
    count_all(pipeline)

    pipeline.drive(at(0) + 10 * 86_400_000)

    assert pipeline.partitions() == [DAY, *lanes(pipeline)]
