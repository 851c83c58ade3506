"""An hour is sealed when it is due and all that had arrived by then is counted; then for good."""

from __future__ import annotations

import pytest

from hourglass.model.keys import GROUP
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading


def sealed(pipeline: Pipeline) -> list[int]:
    """The sealed hours of DAY."""
    return [hour for hour, record in pipeline.records().items() if record.sealed]


def test_an_hour_is_not_sealed_before_its_end(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()

    pipeline.drive(at(1) - 1)
    pipeline.seal()
    assert sealed(pipeline) == []

    pipeline.drive(at(1))
    pipeline.seal()
    assert sealed(pipeline) == [0]


def test_an_hour_waits_for_what_no_consumer_has_read(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.open()
    pipeline.drive(at(1))

    pipeline.seal()
    assert sealed(pipeline) == []

    pipeline.count()
    pipeline.seal()
    assert (sealed(pipeline), pipeline.record(0).count) == ([0], 1)


def test_an_hour_waits_for_what_a_consumer_has_not_committed(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)), reading(at(0, 1)))
    slow = pipeline.delivery()
    entries = slow.read(1, 1)
    pipeline.count()
    pipeline.drive(at(1))

    pipeline.seal()
    assert sealed(pipeline) == []

    pipeline.commit(slow, entries)
    pipeline.seal()
    assert (sealed(pipeline), pipeline.record(0).count) == ([0], 2)


def test_an_hour_does_not_wait_for_what_arrived_after_it_was_due(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.open()
    pipeline.drive(at(1))
    pipeline.seal()

    pipeline.produce(reading(at(1)))
    delivery = pipeline.delivery()
    pipeline.commit(delivery, delivery.read(1, 1))
    delivery.read(1, 1)
    pipeline.seal()

    assert (sealed(pipeline), pipeline.pending()) == ([0], 1)


def test_an_hour_waits_while_the_partition_has_no_group(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.drive(at(1))

    pipeline.seal()

    assert sealed(pipeline) == []


def test_an_hour_does_not_wait_for_what_was_deleted_unread(pipeline: Pipeline) -> None:
    pipeline.xadd(ts=at(0), temp_f=50)
    pipeline.count()
    unread = [pipeline.xadd(ts=at(0), temp_f=60) for _ in range(2)]
    pipeline.cluster.call("XDEL", DAY.stream, unread[0])
    pipeline.drive(at(1))
    pipeline.seal()
    assert sealed(pipeline) == []

    pipeline.cluster.call("XDEL", DAY.stream, unread[1])
    pipeline.seal()

    assert (sealed(pipeline), pipeline.record(0).count) == ([0], 1)


def test_a_day_whose_every_entry_was_deleted_holds_up_no_other(pipeline: Pipeline) -> None:
    only = pipeline.xadd(ts=at(0), temp_f=50)
    pipeline.cluster.call("XDEL", DAY.stream, only)
    pipeline.produce(reading(at(0, day=NEXT_DAY)))
    pipeline.count(DAY, NEXT_DAY)
    pipeline.drive(at(1, day=NEXT_DAY))

    pipeline.seal()

    assert [average.start_ms for average in pipeline.averages()] == [at(0, day=NEXT_DAY)]


def test_an_hour_does_not_wait_for_what_was_deleted_in_a_dead_consumers_hands(
    pipeline: Pipeline,
) -> None:
    pipeline.xadd(ts=at(0), temp_f=50)
    pipeline.count()
    pipeline.xadd(ts=at(0), temp_f=50)
    ((entry_id, _),) = pipeline.delivery().read(1, 1)
    pipeline.cluster.call("XDEL", DAY.stream, entry_id)
    pipeline.drive(at(1))
    pipeline.seal()
    assert sealed(pipeline) == []

    assert pipeline.claim(pipeline.delivery(), 0, limit=5) == ([], [])
    pipeline.seal()

    assert sealed(pipeline) == [0]


def test_after_an_outage_the_backlog_is_counted_first(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(hour, minute)) for hour in range(24) for minute in range(60)))
    pipeline.drive(NEXT_DAY.end_ms)
    delivery = pipeline.delivery()

    while entries := delivery.read(500, None):
        pipeline.seal()
        assert sealed(pipeline) == []
        pipeline.commit(delivery, entries)
    pipeline.seal()

    assert sealed(pipeline) == list(range(24))
    assert {record.count for record in pipeline.records().values()} == {60}


def test_an_hour_without_readings_is_never_sealed(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(5)))
    pipeline.count()
    pipeline.drive(at(8))

    pipeline.seal()

    assert sealed(pipeline) == [5]
    assert pipeline.record(5).count == 1


def test_an_hour_that_gets_readings_after_all_waits_for_what_has_arrived_by_then(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()
    pipeline.drive(at(2))
    pipeline.seal()

    pipeline.produce(reading(at(1), 40.0), reading(at(1), 60.0))
    delivery = pipeline.delivery()
    pipeline.commit(delivery, delivery.read(1, 1))
    pipeline.seal()
    assert sealed(pipeline) == [0]

    pipeline.count()
    pipeline.seal()
    assert (sealed(pipeline), pipeline.record(1).count) == ([0, 1], 2)


def test_a_partition_that_is_counted_again_has_no_empty_hours_until_then(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()
    pipeline.drive(at(2))
    pipeline.seal()
    pipeline.produce(reading(at(1)), reading(at(2)))
    pipeline.count()
    pipeline.drive(at(3))

    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)
    delivery = pipeline.delivery()
    pipeline.commit(delivery, delivery.read(1, 1))
    pipeline.seal()
    assert sealed(pipeline) == [0]

    pipeline.count()
    pipeline.seal()
    assert [average.start_ms for average in pipeline.averages()] == [at(0), at(1), at(2)]


def test_a_day_without_any_reading_gets_no_record(pipeline: Pipeline) -> None:
    pipeline.drive(NEXT_DAY.end_ms)

    pipeline.seal()

    assert pipeline.cluster.call("EXISTS", DAY.hours) == 0


def test_a_partition_whose_stream_was_deleted_seals_what_it_counted(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)), reading(at(0, 1)))
    delivery = pipeline.delivery()
    pipeline.commit(delivery, delivery.read(1, 1))
    pipeline.cluster.call("DEL", DAY.stream)
    pipeline.drive(at(1))

    pipeline.seal()

    assert (sealed(pipeline), pipeline.record(0).count) == ([0], 1)


def test_a_sealed_record_never_changes(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 40.0), reading(at(0), 60.0, device="attic"))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.sealer("first").step()
    before = pipeline.record(0)

    pipeline.produce(reading(at(0), -100.0, device="late"), reading(at(1)))
    pipeline.count()
    pipeline.drive(at(2))
    pipeline.sealer("second").step()

    after = pipeline.record(0)
    assert (before.count, before.sum_milli_f, before.devices) == (2, 100_000, 2)
    for name in ("count", "sum_milli_f", "min_milli_f", "max_milli_f", "devices", "sealed_by"):
        assert getattr(after, name) == getattr(before, name), name


def known(pipeline: Pipeline) -> list[int]:
    """The hours of DAY whose devices are known by name."""
    exist = pipeline.cluster.pipeline([("EXISTS", DAY.devices(hour)) for hour in range(24)])
    return [hour for hour, exists in enumerate(exist) if exists]


def test_the_devices_of_an_hour_are_known_until_the_next_one_is_sealed(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(hour)) for hour in range(4)))
    pipeline.count()

    pipeline.drive(at(1))
    pipeline.seal()
    assert known(pipeline) == [0, 1, 2, 3]

    pipeline.drive(at(3))
    pipeline.seal()
    assert known(pipeline) == [2, 3]


def test_hours_without_readings_do_not_keep_the_devices_before_them(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)), reading(at(3)))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    pipeline.drive(at(4))

    pipeline.seal()

    assert known(pipeline) == [3]


@pytest.mark.parametrize(("hour", "now_ms"), [(3, at(4, 20)), (23, at(0, 20, day=NEXT_DAY))])
def test_they_are_known_no_longer_than_the_hour_after_takes(
    pipeline: Pipeline, hour: int, now_ms: int
) -> None:
    pipeline.produce(reading(at(hour)))
    pipeline.count()
    instant = pipeline.drive(now_ms)

    pipeline.seal()

    life_ms = pipeline.cluster.call("PEXPIRETIME", DAY.devices(hour)) - instant.real_ms
    # A manual clock stands while the sealer's real time goes on.
    assert life_ms == pytest.approx(40 * 60_000, abs=5_000)


def test_a_late_reading_is_of_no_device_of_its_hour(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    key = DAY.devices(0)
    before = pipeline.cluster.pipeline([("HGETALL", key), ("PEXPIRETIME", key)])

    pipeline.produce(reading(at(0), device="late"))
    pipeline.count()

    assert pipeline.cluster.pipeline([("HGETALL", key), ("PEXPIRETIME", key)]) == before
    assert pipeline.record(0).devices == 1


def test_a_stream_emptied_by_another_program_holds_up_no_other(pipeline: Pipeline) -> None:
    pipeline.cluster.call("XGROUP CREATE", DAY.stream, "somebody", "$", "MKSTREAM")
    pipeline.cluster.call("EXPIRE", DAY.stream, 60)
    pipeline.produce(reading(at(0, day=NEXT_DAY)))
    pipeline.drive(at(1, day=NEXT_DAY))

    pipeline.seal()
    pipeline.count(DAY, NEXT_DAY)
    pipeline.seal()

    assert [average.start_ms for average in pipeline.averages()] == [at(0, day=NEXT_DAY)]
