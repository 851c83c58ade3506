"""The line of an average, and the published hours that the warehouse lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from averages_consumer.gaps import describe_missing, missing_hours, refilled
from hourglass.cluster.published import Result
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.keys import HOUR_MS

NEW_YEAR_MS = 1_735_689_600_000

hours = st.sets(st.integers(0, 20), max_size=20)


def average(start_ms: int, *, sum_milli_f: int, count: int) -> HourlyAverage:
    return HourlyAverage(
        start_ms=start_ms,
        count=count,
        sum_milli_f=sum_milli_f,
        min_milli_f=0,
        max_milli_f=0,
        devices=1,
        late=0,
        sealed_by="aggregator-0",
    )


@pytest.mark.parametrize(
    ("hour", "sum_milli_f", "count", "said"),
    [
        (0, 181_080_000, 3600, "2025/01/01 at 0 was 50.3F (3600 observations)."),
        (23, 50_000, 1, "2025/01/01 at 23 was 50F (1 observations)."),
        (24, -500, 2, "2025/01/02 at 0 was -0.25F (2 observations)."),
    ],
)
def test_the_line_is_worded_as_in_the_exercise(
    hour: int, sum_milli_f: int, count: int, said: str
) -> None:
    hourly = average(NEW_YEAR_MS + hour * HOUR_MS, sum_milli_f=sum_milli_f, count=count)

    assert hourly.line == f"Average temperature for {said}"


def test_a_missing_hour_is_made_good_from_a_record_with_the_published_result() -> None:
    sealed = HourRecord(
        start_ms=NEW_YEAR_MS, count=3, sum_milli_f=150_000, devices=2, sealed=True, sealed_by="a"
    )
    published = {NEW_YEAR_MS: Result(3, 150_000)}

    assert refilled([sealed], [NEW_YEAR_MS], published) == [HourlyAverage.of(sealed)]
    assert refilled([sealed], [], published) == []
    assert refilled([replace(sealed, sealed=False)], [NEW_YEAR_MS], published) == []
    for other in (Result(2, 150_000), Result(3, 150_001)):
        assert refilled([sealed], [NEW_YEAR_MS], {NEW_YEAR_MS: other}) == []


def test_hours_before_the_first_waiting_entry_that_were_not_loaded_are_missing() -> None:
    missing = missing_hours([1, 2, 3, 4, 5], waiting_ms=4, held=set(), loaded={2})

    assert missing == [1, 3]


def test_an_entry_that_a_consumer_holds_is_on_its_way_though_it_was_trimmed() -> None:
    assert missing_hours([1, 2, 3], waiting_ms=3, held={1}, loaded=set()) == [2]


def test_an_hour_without_readings_is_not_missing() -> None:
    assert missing_hours([1, 5], waiting_ms=None, held=set(), loaded={1, 5}) == []


def test_a_stream_without_a_waiting_entry_holds_nothing_that_could_still_come() -> None:
    assert missing_hours([1, 2], waiting_ms=None, held=set(), loaded={1}) == [2]


@given(published=hours, first=st.none() | st.integers(0, 20), held=hours, loaded=hours)
def test_each_published_hour_is_loaded_held_waiting_or_missing(
    published: set[int], first: int | None, held: set[int], loaded: set[int]
) -> None:
    missing = missing_hours(published, waiting_ms=first, held=held, loaded=loaded)

    waiting = {hour for hour in published if first is not None and hour >= first}
    assert missing == sorted(missing)
    assert not set(missing) & (held | loaded | waiting)
    assert published <= set(missing) | held | loaded | waiting


def test_neighbouring_hours_are_reported_together() -> None:
    missing = [NEW_YEAR_MS + hour * HOUR_MS for hour in (0, 1, 2, 5, 30)]

    assert describe_missing(missing) == (
        "5 published hours were not in the warehouse: "
        "2025-01-01T00:00:00Z to 2025-01-01T02:00:00Z, 2025-01-01T05:00:00Z, 2025-01-02T06:00:00Z"
    )
    assert describe_missing(missing[:1]) == (
        "1 published hour was not in the warehouse: 2025-01-01T00:00:00Z"
    )
