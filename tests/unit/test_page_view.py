"""What the page shows, as a function of what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from averages_consumer.warehouse.table import moment
from averages_consumer.web import view
from averages_consumer.web.schemas import Averages, Partitions, Status
from hourglass.model.averages import HourRecord
from hourglass.model.clock import Mode
from hourglass.model.keys import DAY_MS, HOUR_MS, Keyspace
from hourglass.monitoring.pipeline_status import REDIS_STALE_MS, WAREHOUSE_STALE_MS
from hourglass.monitoring.stream_stats import Removals
from tests.support.snapshots import (
    DAY,
    NOW_MS,
    PERIOD_S,
    average,
    instant,
    polled,
    record,
    row,
    snapshot,
    state,
)

times = st.integers(0, 4_000_000_000_000)
counts = st.integers(0, 10**12)


@given(times, st.none() | times)
def test_the_window_is_five_days_and_an_hour_and_has_the_last_average_in_it(
    now_ms: int, last_ms: int | None
) -> None:
    start, end = view.window(now_ms, last_ms)

    assert end - start == 121 * HOUR_MS
    if last_ms is None:
        assert end - HOUR_MS <= now_ms < end
    else:
        assert start <= last_ms < end or end == last_ms + HOUR_MS


@given(st.integers(0, 120))
def test_the_window_ends_with_the_hour_in_progress_as_long_as_an_average_is_in_it(
    hours_ago: int,
) -> None:
    now_hour = NOW_MS - NOW_MS % HOUR_MS

    assert view.window(NOW_MS, now_hour - hours_ago * HOUR_MS)[1] == now_hour + HOUR_MS


@pytest.mark.parametrize("days", [-300, -6, 6, 300])
def test_a_clock_set_to_another_time_does_not_empty_the_page(days: int) -> None:
    seen = snapshot(instant=instant(NOW_MS + days * DAY_MS))

    assert len(view.averages(seen, PERIOD_S).hours) == 9


@given(counts, st.integers(1, 10**12))
def test_only_what_is_whole_is_complete(observations: int, expected: int) -> None:
    share = view.completeness(observations, expected)

    assert share is not None
    assert 0 <= share <= 1
    assert (share == 1) == (observations >= expected)


@pytest.mark.parametrize(
    ("devices", "period_s", "expected"),
    [(2, 1.0, 7200), (3, 60.0, 180), (1, 0.5, 7200), (0, 1.0, None), (2, 0.0, None)],
)
def test_devices_give_a_reading_a_period(
    devices: int, period_s: float, expected: int | None
) -> None:
    assert view.expected_readings(devices, period_s) == expected
    if expected is None:
        assert view.completeness(10, expected) is None


@given(st.lists(st.none() | counts))
def test_a_sum_with_something_unknown_in_it_is_unknown(numbers: list[int | None]) -> None:
    known = [number for number in numbers if number is not None]

    assert view.sum_known(numbers) == (None if None in numbers else sum(known))


def test_an_hour_is_shown_as_it_was_published() -> None:
    (*_, last) = view.averages(snapshot(), PERIOD_S).hours

    assert last.hour == moment(DAY.hour_start_ms(8))
    assert (last.average_temp_f, last.min_temp_f, last.max_temp_f) == (50.0, 40.0, 60.5)
    assert (last.observations, last.devices, last.completeness) == (7200, 2, 1.0)
    assert last.in_warehouse


@pytest.mark.parametrize("only_in_warehouse", [False, True])
def test_an_hour_leads_to_its_trace(*, only_in_warehouse: bool) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    traced = average(8, traceparent=f"00-{trace_id}-b7ad6b7169203331-01")
    seen = snapshot(averages=[] if only_in_warehouse else [traced], rows=[row(traced)])

    assert [each.trace_id for each in view.averages(seen, PERIOD_S).hours] == [trace_id]
    assert view.averages(snapshot(), PERIOD_S).hours[0].trace_id is None


def test_an_hour_with_readings_missing_is_incomplete() -> None:
    seen = snapshot(averages=[average(0, count=1800, sum_milli_f=0)])

    assert view.averages(seen, PERIOD_S).hours[0].completeness == 0.25


@given(st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)))
def test_hours_come_from_stream_and_warehouse_in_order_each_once(
    on_stream: set[int], loaded: set[int]
) -> None:
    seen = snapshot(
        averages=[average(hour) for hour in sorted(on_stream)],
        rows=[row(average(hour)) for hour in sorted(loaded)],
    )

    hours = view.averages(seen, PERIOD_S).hours

    assert [each.hour for each in hours] == [
        moment(DAY.hour_start_ms(hour)) for hour in sorted(on_stream | loaded)
    ]
    assert [each.in_warehouse for each in hours] == [
        hour in loaded for hour in sorted(on_stream | loaded)
    ]


def test_a_row_with_another_sum_is_not_the_average_that_was_published() -> None:
    seen = snapshot(averages=[average(0, sum_milli_f=7200 * 51_000)], rows=[row(average(0))])

    (hour,) = view.averages(seen, PERIOD_S).hours

    assert hour.average_temp_f == 51.0
    assert not hour.in_warehouse


def test_readings_that_came_late_since_are_shown_with_their_hour() -> None:
    seen = snapshot(pipeline=polled(records=[record(3, late=17)]))

    assert [each.late for each in view.averages(seen, PERIOD_S).hours] == [0, 0, 0, 17, *[0] * 5]


def test_the_hour_in_progress_fills_up() -> None:
    (hour,) = view.open_hours(snapshot(), PERIOD_S)

    assert hour.hour == moment(DAY.hour_start_ms(9))
    assert (hour.over, hour.elapsed) == (False, 0.5)
    assert (hour.observations, hour.expected, hour.completeness) == (3600, 7200, 0.5)
    assert (hour.average_temp_f, hour.min_temp_f, hour.max_temp_f) == (100.0, 40.0, 60.5)


def test_the_lanes_of_a_day_are_shown_as_one_hour_and_as_partitions_of_their_own() -> None:
    whole = polled(records=[record(9, sealed=False, count=1000)])
    (one,) = whole.partitions
    other = replace(
        one, partition=Keyspace().partition(DAY.day_ms, 3), state=state(f"{DAY.stream}:3")
    )
    shown = snapshot(pipeline=replace(whole, partitions=[one, other]))

    (hour,) = view.open_hours(shown, PERIOD_S)
    assert hour.observations == 2000
    assert [each.stream for each in view.partitions(shown).partitions] == [
        "temps:20250101",
        "temps:20250101:3",
    ]


def test_an_hour_without_readings_is_in_progress_all_the_same() -> None:
    (hour,) = view.open_hours(snapshot(pipeline=polled(records=[])), PERIOD_S)

    assert hour.hour == moment(DAY.hour_start_ms(9))
    assert (hour.observations, hour.expected, hour.average_temp_f) == (0, None, None)


def test_an_hour_that_is_over_waits_to_be_sealed_beside_the_one_in_progress() -> None:
    records = [record(8, sealed=False), record(9, sealed=False)]

    hours = view.open_hours(snapshot(pipeline=polled(records=records)), PERIOD_S)

    assert [(each.over, each.elapsed) for each in hours] == [(True, 1.0), (False, 0.5)]


def test_an_hour_that_was_sealed_before_its_end_by_the_clock_is_not_open() -> None:
    """After the clock was set back."""
    records = [record(9), HourRecord(start_ms=DAY.hour_start_ms(10), count=0, sum_milli_f=0)]

    assert view.open_hours(snapshot(pipeline=polled(records=records)), PERIOD_S) == []


def test_an_unknown_lag_is_not_zero() -> None:
    seen = snapshot(pipeline=polled(partition=state(lag=None, lag_readings=None, pending=3)))

    for shown in (view.partitions(seen).partitions[0], view.status(seen, PERIOD_S, "me")):
        assert (shown.lag, shown.lag_readings) == (None, None)
    well = view.status(snapshot(), PERIOD_S, "me")
    assert (well.lag, well.lag_readings) == (0, 0)


def test_the_lag_is_shown_in_entries_and_in_readings() -> None:
    seen = snapshot(pipeline=polled(partition=state(lag=2, pending=1, lag_readings=3000)))

    for shown in (view.partitions(seen).partitions[0], view.status(seen, PERIOD_S, "me")):
        assert (shown.lag, shown.pending, shown.lag_readings) == (2, 1, 3000)


def test_a_partition_is_shown_with_what_became_of_its_readings() -> None:
    records = [record(0, late=5), record(1), record(2, sealed=False, late=0)]
    quarantined = {DAY.stream: 4, "temps:20241231": 2}
    seen = snapshot(pipeline=polled(records=records, quarantined=quarantined))

    (partition,) = view.partitions(seen).partitions

    assert (partition.stream, str(partition.day)) == ("temps:20250101", "2025-01-01")
    assert (partition.counted, partition.late, partition.quarantined) == (3 * 7200 + 5, 5, 4)
    assert partition.expires == moment(DAY.end_ms + DAY_MS)
    assert view.status(seen, PERIOD_S, "me").quarantined == 6


@pytest.mark.parametrize(("age_ms", "answers"), [(0, True), (REDIS_STALE_MS + 1, False)])
def test_what_redis_said_grows_old(age_ms: int, *, answers: bool) -> None:
    old = instant(NOW_MS - age_ms)

    for seen in (
        snapshot(pipeline=polled(at=old)),
        snapshot(averages_at_ms=NOW_MS - age_ms),
    ):
        source = view.status(seen, PERIOD_S, "me").redis
        assert (source.answers, source.as_of) == (answers, moment(NOW_MS - age_ms))


@pytest.mark.parametrize(("age_ms", "answers"), [(0, True), (REDIS_STALE_MS + 1, False)])
def test_redis_is_away_if_no_look_at_it_ever_succeeds(age_ms: int, *, answers: bool) -> None:
    source = view.status(snapshot(pipeline=None, begun_ms=NOW_MS - age_ms), PERIOD_S, "me").redis

    assert (source.answers, source.as_of) == (answers, moment(NOW_MS - age_ms))


@pytest.mark.parametrize(("age_ms", "answers"), [(0, True), (REDIS_STALE_MS + 1, False)])
def test_redis_answers_as_long_as_it_says_what_cannot_be_read(
    age_ms: int, *, answers: bool
) -> None:
    as_of_ms = NOW_MS - REDIS_STALE_MS - 60_000
    seen = snapshot(
        pipeline=polled(at=instant(as_of_ms)),
        unreadable={"pipeline": "10:count is 'many'"},
        unreadable_at_ms=NOW_MS - age_ms,
    )

    source = view.status(seen, PERIOD_S, "me").redis

    assert (source.answers, source.readable) == (answers, False)
    assert source.as_of == moment(as_of_ms)


@pytest.mark.parametrize(("age_ms", "answers"), [(0, True), (WAREHOUSE_STALE_MS + 1, False)])
def test_what_the_warehouse_said_grows_old(age_ms: int, *, answers: bool) -> None:
    source = view.status(snapshot(rows_at_ms=NOW_MS - age_ms), PERIOD_S, "me").warehouse

    assert (source.answers, source.as_of) == (answers, moment(NOW_MS - age_ms))


def test_nothing_is_known_before_redis_has_been_looked_at() -> None:
    seen = snapshot(pipeline=None, averages=[], rows=[], begun_ms=NOW_MS)

    status = view.status(seen, PERIOD_S, "me")

    assert (status.lag, status.to_load, status.published_until) == (None, None, None)
    assert (status.pending, status.late, status.quarantined) == (None, None, None)
    assert status.open_hours == []
    assert (status.redis.answers, status.redis.readable) == (True, None)
    assert view.partitions(seen).partitions == []
    assert view.averages(seen, PERIOD_S).hours == []


@pytest.mark.parametrize("mode", Mode)
def test_documents_are_what_the_api_says_they_are(mode: Mode) -> None:
    seen = replace(snapshot(), instant=instant(mode=mode))

    for document, kind in (
        (view.averages(seen, PERIOD_S), Averages),
        (view.partitions(seen), Partitions),
        (view.status(seen, PERIOD_S, "me"), Status),
    ):
        assert msgspec.json.decode(msgspec.json.encode(document), type=kind) == document


@pytest.mark.parametrize(
    ("removals", "shown"),
    [({DAY.stream: Removals(entries=3)}, 3), ({}, None), (None, None)],
    ids=["known", "damaged", "not permitted"],
)
def test_removed_entries_that_are_unknown_are_not_zero(
    removals: Mapping[str, Removals] | None, shown: int | None
) -> None:
    (partition,) = view.partitions(snapshot(pipeline=polled(removals=removals))).partitions

    assert partition.removed == shown
