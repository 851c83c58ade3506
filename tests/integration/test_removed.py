"""Entries that another program removed from a partition: lost, or counted before they went."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aggregator.collectors import read_lost_readings
from aggregator.opening import Found
from hourglass.model.keys import GROUP, Partition
from hourglass.monitoring.stream_stats import Removals, read_streams, removals
from hourglassctl.status import gather
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, reading, tick


def removed(pipeline: Pipeline, partition: Partition = DAY) -> Removals | None:
    (found,) = removals(pipeline.cluster, [partition])
    return found


def give(pipeline: Pipeline, readings: int, *, hour: int = 0) -> None:
    pipeline.produce(*(reading(at(hour) + each * 1000) for each in range(readings)))


def trim(pipeline: Pipeline, left: int) -> None:
    pipeline.cluster.call("XTRIM", DAY.stream, "MAXLEN", "=", left)


def delete(pipeline: Pipeline, *ids: bytes) -> None:
    assert pipeline.cluster.call("XDEL", DAY.stream, *ids) == len(ids)


def ids(pipeline: Pipeline) -> list[bytes]:
    return [each for each, _ in pipeline.cluster.call("XRANGE", DAY.stream, "-", "+")]


def xdel_uncounted(pipeline: Pipeline) -> None:
    delete(pipeline, *ids(pipeline)[:250])


def xtrim_uncounted(pipeline: Pipeline) -> None:
    trim(pipeline, 50)


def xadd_maxlen_uncounted(pipeline: Pipeline) -> None:
    pipeline.cluster.call("XADD", DAY.stream, "MAXLEN", "=", 51, "*", "ts", at(0), "temp_f", 50)


@pytest.mark.parametrize(
    "remove",
    [xdel_uncounted, xtrim_uncounted, xadd_maxlen_uncounted],
    ids=lambda each: each.__name__,
)
def test_entries_removed_before_they_were_counted_are_lost(
    pipeline: Pipeline, remove: Callable[[Pipeline], None]
) -> None:
    pipeline.open()
    give(pipeline, 300)
    remove(pipeline)
    pipeline.count()

    found = pipeline.audit()
    (difference,) = found.differences
    assert "removed (XDEL, XTRIM, MAXLEN) 250 entries that had not been counted" in difference.what
    assert (found.gone, found.removed, found.twice, found.lost) == (250, 0, 0, 0)
    assert read_lost_readings(pipeline.cluster, pipeline.clock.refresh()).gone() == {
        DAY.stream: 250
    }


@pytest.mark.parametrize(
    ("remove", "left"),
    [(xtrim_uncounted, 50), (xadd_maxlen_uncounted, 51)],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_the_lag_in_readings_leaves_out_entries_that_were_removed(
    pipeline: Pipeline, remove: Callable[[Pipeline], None], left: int
) -> None:
    give(pipeline, 200)
    pipeline.count()
    give(pipeline, 300, hour=1)
    remove(pipeline)

    (state,) = read_streams(pipeline.cluster, [DAY.stream], GROUP)
    assert (state.lag, state.lag_readings) == (left, left)


def test_a_trim_and_a_recount_leave_no_negative_number_of_late_readings(pipeline: Pipeline) -> None:
    give(pipeline, 100)
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    trim(pipeline, 30)
    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)
    pipeline.count()

    assert pipeline.audit().late == 0


def test_entries_removed_after_they_were_counted_are_in_their_hours(pipeline: Pipeline) -> None:
    give(pipeline, 200)
    give(pipeline, 100, hour=1)
    pipeline.count()
    trim(pipeline, 50)

    found = pipeline.audit()

    assert found.differences == []
    (note,) = found.notes
    assert f"{DAY.stream}: another program removed 250 entries after they had been counted" in note
    assert (found.gone, found.removed, found.twice, found.counted) == (0, 250, 0, 300)
    assert read_lost_readings(pipeline.cluster, pipeline.clock.refresh()).gone() == {DAY.stream: 0}


def test_both_are_told_apart(pipeline: Pipeline) -> None:
    give(pipeline, 100)
    pipeline.count()
    give(pipeline, 40)
    trim(pipeline, 10)
    give(pipeline, 5)
    pipeline.count()

    assert removed(pipeline) == Removals(entries=130, uncounted=30, counted=100)
    found = pipeline.audit()
    assert (found.gone, found.removed, found.twice, found.counted) == (30, 100, 0, 115)
    assert len(found.differences) == 1


def test_an_hour_counted_twice_is_found_beside_removed_entries(pipeline: Pipeline) -> None:
    give(pipeline, 10)
    pipeline.count()
    trim(pipeline, 7)
    pipeline.cluster.call("HINCRBY", DAY.hours, "00:count", 2)

    found = pipeline.audit()

    assert (found.twice, found.removed) == (2, 3)
    assert len(found.differences) == 1


def test_an_entry_removed_while_a_consumer_has_it_is_counted(pipeline: Pipeline) -> None:
    give(pipeline, 10)
    delivery = pipeline.delivery()
    entries = delivery.read(10, 1)
    trim(pipeline, 0)
    assert removed(pipeline) == Removals(entries=10)  # nothing is known of them yet

    pipeline.commit(delivery, entries)

    assert removed(pipeline) == Removals(entries=10, counted=10)
    assert pipeline.audit().differences == []


@pytest.mark.parametrize("left", [0, 4])
def test_an_entry_removed_while_a_dead_consumer_has_it_is_lost_once(
    pipeline: Pipeline, left: int
) -> None:
    give(pipeline, 10)
    pipeline.delivery(name="dead").read(10, 1)
    trim(pipeline, left)

    heir = pipeline.delivery()
    while claimed := heir.reclaimer.take(0, limit=5):
        pipeline.commit(heir, claimed.entries)

    assert pipeline.pending() == 0
    assert removed(pipeline) == Removals(entries=10 - left, uncounted=10 - left)
    found = pipeline.audit()
    assert (found.gone, found.counted) == (10 - left, left)


def test_an_entry_in_quarantine_was_worked_off(pipeline: Pipeline) -> None:
    for _ in range(3):
        pipeline.xadd(temp_f="warm")
    pipeline.count()
    trim(pipeline, 0)

    assert removed(pipeline) == Removals(entries=3, counted=3)
    assert pipeline.audit().differences == []


def test_how_many_readings_a_removed_packed_entry_held_is_not_known(pipeline: Pipeline) -> None:
    def pack(minute: int) -> None:
        for second in range(6):
            pipeline.pack(tick(at(0, minute, second), *[50.0] * 20))

    pack(0)
    pipeline.count()
    trim(pipeline, 1)
    found = pipeline.audit()
    assert (found.differences, found.twice, found.removed) == ([], 0, 5)

    pack(1)
    trim(pipeline, 2)
    pipeline.count()
    found = pipeline.audit()
    assert (found.twice, found.gone, found.removed, found.counted) == (0, 4, 6, 160)
    assert len(found.differences) == 1


def test_each_lane_is_looked_at_by_itself(pipeline: Pipeline) -> None:
    lane = KEYS.partition(DAY.day_ms, 0)
    give(pipeline, 5)
    for _ in range(4):
        pipeline.xadd(to=lane, ts=at(0), temp_f=50)
    pipeline.count(DAY, lane)
    pipeline.cluster.call("XTRIM", lane.stream, "MAXLEN", "=", 1)

    assert removed(pipeline) == Removals()
    assert removed(pipeline, lane) == Removals(entries=3, counted=3)


def test_what_is_not_there_has_nothing_removed(pipeline: Pipeline) -> None:
    assert removed(pipeline) is None
    pipeline.cluster.call("SET", DAY.stream, "no stream", "EX", 60)
    assert removed(pipeline) is None


def test_a_partition_of_an_earlier_release_is_not_guessed_at(pipeline: Pipeline) -> None:
    give(pipeline, 10)
    pipeline.count()
    pipeline.cluster.call("HDEL", DAY.hours, "acknowledged_entries")
    give(pipeline, 10)
    pipeline.count()
    assert removed(pipeline) == Removals()

    trim(pipeline, 15)

    assert removed(pipeline) == Removals(entries=5, uncounted=None)
    found = pipeline.audit()
    (difference,) = found.differences
    assert "do not know how many of them had been counted" in difference.what
    assert (found.gone, found.twice) == (0, 0)


def destroy_group(pipeline: Pipeline) -> None:
    assert pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP) == 1


def test_what_a_recount_cannot_count_again_is_lost(pipeline: Pipeline) -> None:
    give(pipeline, 10)
    pipeline.count()
    trim(pipeline, 4)
    destroy_group(pipeline)
    assert pipeline.open() is Found.RECOUNT
    pipeline.count()

    assert removed(pipeline) == Removals(entries=6, uncounted=6)
    found = pipeline.audit()
    assert (found.gone, found.counted, found.twice) == (6, 4, 0)


def test_what_a_sealed_hour_keeps_is_not_lost_when_the_rest_is_counted_again(
    pipeline: Pipeline,
) -> None:
    give(pipeline, 10)
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    give(pipeline, 5, hour=1)
    pipeline.count()
    trim(pipeline, 3)
    destroy_group(pipeline)
    pipeline.count()

    assert pipeline.record(0).count == 10
    assert removed(pipeline) == Removals(entries=12, uncounted=2, counted=10)


def test_a_stream_made_anew_has_lost_nothing(pipeline: Pipeline) -> None:
    give(pipeline, 10)
    pipeline.count()
    pipeline.cluster.call("DEL", DAY.stream)
    give(pipeline, 5)
    pipeline.count()
    assert removed(pipeline) == Removals()
    trim(pipeline, 3)
    assert removed(pipeline) == Removals(entries=2, counted=2)


@pytest.mark.parametrize(
    ("entries", "size", "known"), [(1_500, 1, 2), (3_000, 1, 0), (12, 100_000, 2), (12, 300_000, 0)]
)
def test_what_waits_is_looked_through_as_far_as_a_limit_and_nothing_is_called_lost_behind_it(
    pipeline: Pipeline, entries: int, size: int, known: int
) -> None:
    for number in range(entries):
        pipeline.xadd(ts=at(0) + number, temp_f=50, note="n" * size)
    delivery = pipeline.delivery()
    pipeline.commit(delivery, delivery.read(3, 1))
    delete(pipeline, *ids(pipeline)[6:8])

    assert removed(pipeline) == Removals(entries=2, uncounted=known)

    pipeline.count()
    assert removed(pipeline) == Removals(entries=2, uncounted=2)


def test_status_tells_what_was_removed(pipeline: Pipeline) -> None:
    give(pipeline, 10)
    pipeline.count()
    trim(pipeline, 4)
    status = gather(pipeline.cluster, pipeline.clock, period_s=0)
    texts = {each.code: each.text for each in status.problems}
    assert "removed 6 entries after they had been counted" in texts["entries-removed"]
    assert "readings-lost" not in texts

    give(pipeline, 5)
    trim(pipeline, 2)
    pipeline.count()
    status = gather(pipeline.cluster, pipeline.clock, period_s=0)
    texts = {each.code: each.text for each in status.problems}
    assert "3 entries that had not been counted" in texts["readings-lost"]
    assert "removed 10 entries after" in texts["entries-removed"]
