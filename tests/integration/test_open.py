"""Opening a partition gives it a group and nothing else; a group that is lost is made good."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from aggregator.opening import Found
from hourglass.model.keys import GROUP
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import services
from tests.support.waiting import wait_until


def destroy_group(pipeline: Pipeline) -> None:
    assert pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP) == 1


def test_a_partition_that_is_not_there_is_not_made(pipeline: Pipeline) -> None:
    assert pipeline.open() is Found.ABSENT

    keys = (DAY.stream, *DAY.companions)
    assert [key for key in keys if pipeline.cluster.call("EXISTS", key)] == []


def test_the_group_begins_with_the_first_entry(pipeline: Pipeline) -> None:
    first = pipeline.xadd(temp_f=73)

    assert pipeline.open() is Found.OPENED
    assert pipeline.open() is Found.OPEN

    ((entry_id, _),) = pipeline.delivery().read(10, 1)
    assert entry_id == first


def test_devices_are_counted_anew_with_records_that_are_lost_with_their_group(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(reading(at(0)), reading(at(0), device="attic"), reading(at(1)))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()

    pipeline.cluster.call("DEL", DAY.hours)
    destroy_group(pipeline)
    pipeline.count()

    assert [pipeline.record(hour).devices for hour in (0, 1)] == [2, 1]


def test_a_destroyed_group_makes_open_hours_count_from_zero(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 40.0), reading(at(0), 60.0, device="attic"))
    pipeline.xadd(temp_f="warm")
    pipeline.count()
    before = pipeline.record(0)

    destroy_group(pipeline)
    assert pipeline.open() is Found.RECOUNT
    assert pipeline.record(0).count == 0
    pipeline.produce(reading(at(0), 80.0))
    pipeline.count()

    after = pipeline.record(0)
    assert (before.count, before.sum_milli_f) == (2, 100_000)
    assert (after.count, after.sum_milli_f) == (3, 180_000)
    assert (after.min_milli_f, after.max_milli_f) == (40_000, 80_000)
    assert pipeline.cluster.call("XLEN", DAY.quarantine) == 1
    pipeline.drive(at(1))
    pipeline.seal()
    assert pipeline.record(0).devices == 2
    assert pipeline.audit().clean


def test_a_recount_leaves_no_trace_of_a_reading_that_was_removed(pipeline: Pipeline) -> None:
    pipeline.xadd(ts=at(0), temp_f=50)
    hot = pipeline.xadd(ts=at(0), temp_f=99, device="stove")
    cold = pipeline.xadd(ts=at(0), temp_f=-99, device="freezer")
    pipeline.count()
    pipeline.cluster.call("XDEL", DAY.stream, hot, cold)

    destroy_group(pipeline)
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()

    record = pipeline.record(0)
    assert (record.count, record.sum_milli_f, record.devices) == (1, 50_000, 1)
    assert (record.min_milli_f, record.max_milli_f) == (50_000, 50_000)


def test_a_destroyed_group_leaves_sealed_hours_as_they_are(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), -40.0), reading(at(1), 60.0))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    pipeline.produce(reading(at(0), 30.0))
    pipeline.count()
    before = pipeline.record(0)

    destroy_group(pipeline)
    pipeline.count()

    # Every reading came once more, and the late one alone is late.
    assert pipeline.record(0) == replace(before, late_min_milli_f=-40_000)
    assert (before.count, before.sum_milli_f) == (1, -40_000)
    assert (before.late, before.late_sum_milli_f) == (1, 30_000)
    assert pipeline.record(1).count == 1
    assert pipeline.audit().clean


def test_a_destroyed_group_leaves_sealed_hours_without_readings_too(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(2), 0.0), reading(at(3), 60.0))
    pipeline.count()
    pipeline.drive(at(3))
    pipeline.seal()

    destroy_group(pipeline)
    assert pipeline.open() is Found.RECOUNT
    pipeline.count()

    assert [pipeline.record(hour).count for hour in range(4)] == [0, 0, 1, 1]
    assert [pipeline.record(hour).late for hour in range(4)] == [0, 0, 0, 0]
    assert pipeline.audit().clean


def test_an_hour_due_while_the_group_was_away_waits_for_the_recount(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)), reading(at(0, 30)))
    pipeline.count()
    destroy_group(pipeline)
    pipeline.drive(at(1))

    pipeline.seal()
    assert not pipeline.record(0).sealed
    pipeline.open()
    pipeline.seal()
    assert not pipeline.record(0).sealed
    pipeline.count()
    pipeline.seal()

    assert (pipeline.record(0).sealed, pipeline.record(0).count) == (True, 2)


def test_a_deleted_first_entry_does_not_make_the_stream_look_new(pipeline: Pipeline) -> None:
    first = pipeline.xadd(ts=at(0), temp_f=50)
    for _ in range(2):
        pipeline.xadd(ts=at(0), temp_f=60)
    pipeline.count()
    pipeline.cluster.call("XDEL", DAY.stream, first)

    destroy_group(pipeline)
    assert pipeline.open() is Found.RECOUNT
    pipeline.count()

    assert (pipeline.record(0).count, pipeline.record(0).sum_milli_f) == (2, 120_000)


@pytest.mark.parametrize("kept", [1, 0])
def test_trimmed_first_entries_do_not_make_the_stream_look_new(
    pipeline: Pipeline, kept: int
) -> None:
    pipeline.produce(*(reading(at(0, 0, second)) for second in range(10)))
    pipeline.count()
    pipeline.cluster.call("XTRIM", DAY.stream, "MAXLEN", "=", kept)
    pipeline.produce(reading(at(0, 1)))

    destroy_group(pipeline)
    assert pipeline.open() is Found.RECOUNT
    pipeline.count()

    assert pipeline.record(0).count == kept + 1
    found = pipeline.audit()
    assert (found.gone, found.lost, found.twice) == (10 - kept, 0, 0)


@pytest.mark.parametrize("batches", [1, 2])
def test_a_stream_that_was_empty_when_it_was_opened_is_counted_from_zero_again(
    pipeline: Pipeline, batches: int
) -> None:
    pipeline.cluster.call("XGROUP CREATE", DAY.stream, "mine", "$", "MKSTREAM")
    assert pipeline.open() is Found.OPENED
    for minute in range(batches):
        pipeline.produce(reading(at(0, minute), 40.0))
        pipeline.count()

    destroy_group(pipeline)
    assert pipeline.open() is Found.RECOUNT
    assert pipeline.record(0).count == 0
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()

    assert (pipeline.record(0).count, pipeline.record(0).devices) == (batches, 1)
    assert [each.count for each in pipeline.averages()] == [batches]
    assert pipeline.audit().differences == []


def test_an_empty_stream_made_anew_adds_to_what_was_counted(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 40.0))
    pipeline.count()
    pipeline.cluster.call("DEL", DAY.stream)
    pipeline.cluster.call("XGROUP CREATE", DAY.stream, "mine", "$", "MKSTREAM")
    assert pipeline.open() is Found.REMADE

    destroy_group(pipeline)
    pipeline.open()
    pipeline.produce(reading(at(0), 60.0))
    pipeline.count()

    assert (pipeline.record(0).count, pipeline.record(0).sum_milli_f) == (2, 100_000)


def test_a_stream_made_anew_adds_to_what_was_counted(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 40.0))
    pipeline.count()
    pipeline.cluster.call("DEL", DAY.stream)

    pipeline.produce(reading(at(0), 60.0))
    assert pipeline.open() is Found.REMADE
    pipeline.count()

    record = pipeline.record(0)
    assert (record.count, record.sum_milli_f) == (2, 100_000)


def test_an_hour_due_before_its_stream_was_made_anew_does_not_wait_for_old_entries(
    pipeline: Pipeline,
) -> None:
    pipeline.xadd(entry_id=f"{at(0, 59)}-0", temp_f=40)
    pipeline.open()
    pipeline.drive(at(1))
    pipeline.seal()
    pipeline.cluster.call("DEL", DAY.stream)

    pipeline.xadd(entry_id=f"{at(0, 30)}-0", temp_f=60)
    pipeline.count()
    pipeline.seal()

    assert (pipeline.record(0).sealed, pipeline.record(0).count) == (True, 1)


def test_records_that_somebody_deleted_are_counted_again(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 40.0), reading(at(1), 60.0))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    before = pipeline.record(0)
    pipeline.cluster.call("DEL", DAY.hours)
    pipeline.drive(at(2))

    pipeline.seal()
    assert [record for record in pipeline.records().values() if record.sealed] == []
    assert pipeline.open() is Found.RECOUNT
    pipeline.count()
    pipeline.seal()

    assert pipeline.record(0) == before
    assert [average.start_ms for average in pipeline.averages()] == [at(0), at(1)]
    assert pipeline.audit().differences == []


def test_nothing_is_counted_beside_records_that_are_gone(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 40.0), reading(at(0), 60.0))
    delivery = pipeline.delivery()
    pipeline.commit(delivery, delivery.read(1, 1))
    entries = delivery.read(1, 1)
    pipeline.cluster.call("DEL", DAY.hours)

    with pytest.raises(ResponseError, match="NOGROUP"):
        pipeline.commit(delivery, entries)

    assert pipeline.cluster.call("EXISTS", DAY.hours) == 0
    pipeline.count()
    assert pipeline.record(0).count == 2


def test_a_group_made_by_somebody_else_is_made_anew_from_the_first_entry(
    pipeline: Pipeline,
) -> None:
    pipeline.xadd(ts=at(0), temp_f=40)
    pipeline.cluster.call("XGROUP CREATE", DAY.stream, GROUP, "$")

    pipeline.count()

    assert pipeline.record(0).count == 1


def test_whoever_read_before_a_recount_counts_its_devices_again(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0), device=device) for device in ("a", "b", "c")))
    old = pipeline.delivery()
    pipeline.commit(old, old.read(10, 1))
    destroy_group(pipeline)
    assert pipeline.open() is Found.RECOUNT

    # It never learnt that the group was gone: it reads on under the old name.
    with pytest.raises(ResponseError, match="NOGROUP"):
        pipeline.commit(old, old.read(10, 1))
    heir = pipeline.delivery()
    pipeline.commit(heir, pipeline.claim(heir, 0, limit=5)[0])
    pipeline.drive(at(1))
    pipeline.seal()

    assert (pipeline.record(0).count, pipeline.record(0).devices) == (3, 3)


def test_a_running_aggregator_recounts_records_that_somebody_deleted(
    pipeline: Pipeline, redis_url: str
) -> None:
    with services(redis_url) as running:
        pipeline.produce(*(reading(at(0, 0, second)) for second in range(60)))
        running.aggregator()
        wait_until(lambda: pipeline.record(0).count == 60)

        pipeline.cluster.call("DEL", DAY.hours)
        pipeline.produce(reading(at(0, 1)))

        wait_until(lambda: pipeline.record(0).count == 61)
        assert running.metric("aggregator", "hourglass_partition_recounts_total") == 1
        assert running.running("aggregator")


def test_a_running_aggregator_says_that_a_partition_was_deleted_and_goes_on(
    pipeline: Pipeline, redis_url: str
) -> None:
    with services(redis_url) as running:
        pipeline.produce(reading(at(0), 40.0))
        running.aggregator()
        wait_until(lambda: pipeline.record(0).count == 1)

        pipeline.cluster.call("DEL", DAY.stream)
        wait_until(
            lambda: "was deleted before any of its readings expired" in running.said("aggregator")
        )
        pipeline.produce(reading(at(0), 60.0))

        wait_until(lambda: pipeline.record(0).count == 2)
        assert running.said("aggregator").count("was deleted and created again") == 1
        assert running.metric("aggregator", "hourglass_partitions_recreated_total") == 1
        pipeline.drive(at(1))
        wait_until(lambda: len(pipeline.averages()) == 1)
        assert pipeline.averages()[0].sum_milli_f == 100_000


def test_a_running_aggregator_recounts_when_its_group_is_destroyed(
    pipeline: Pipeline, redis_url: str
) -> None:
    with services(redis_url) as running:
        pipeline.produce(*(reading(at(0, 0, second)) for second in range(60)))
        running.aggregator()
        wait_until(lambda: pipeline.record(0).count == 60)

        destroy_group(pipeline)
        pipeline.produce(reading(at(0, 1)))

        wait_until(lambda: pipeline.record(0).count == 61)
        assert running.metric("aggregator", "hourglass_partition_recounts_total") == 1
        assert "was destroyed: counting again" in running.said("aggregator")
        assert running.running("aggregator")
