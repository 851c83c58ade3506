"""Names of keys, and the calendar behind them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from hourglass.errors import ConfigurationError
from hourglass.model.keys import (
    DAY_MS,
    HOUR_MS,
    LANE_NUMBERS,
    RETENTION_MS,
    Keyspace,
    Partition,
    iso,
)

#: 1 January 1970 to the last millisecond of the year 9999.
times_ms = st.integers(0, 253_402_300_799_999)
KEYS = Keyspace()
days = st.builds(KEYS.containing, times_ms)
lanes = st.builds(
    KEYS.partition, days.map(lambda day: day.day_ms), st.integers(0, LANE_NUMBERS - 1)
)
partitions = st.one_of(days, lanes)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


@given(ts_ms=times_ms)
def test_a_partition_is_the_utc_day_of_its_times(ts_ms: int) -> None:
    partition = KEYS.containing(ts_ms)

    assert partition.day_ms <= ts_ms < partition.end_ms
    assert partition.end_ms - partition.day_ms == DAY_MS
    assert partition.stream == f"temps:{datetime.fromtimestamp(ts_ms // 1000, UTC):%Y%m%d}"


def test_a_stream_is_named_as_the_exercise_names_it() -> None:
    assert KEYS.containing(at("2025-01-01T23:59:59Z")).stream == "temps:20250101"


@given(partition=partitions)
def test_a_partition_is_found_again_by_its_name(partition: Partition) -> None:
    assert KEYS.named(partition.stream) == partition


def test_a_lane_is_named_after_its_day_and_number() -> None:
    assert KEYS.partition(at("2025-01-01T00:00:00Z"), 3).stream == "temps:20250101:3"


@given(lane=lanes)
def test_a_lane_belongs_to_the_day_whose_stream_has_its_name_without_the_number(
    lane: Partition,
) -> None:
    assert lane.day.stream == lane.stream.rpartition(":")[0]
    assert (lane.day.lane, lane.end_ms) == (None, lane.day.end_ms)


@given(of=st.lists(partitions, max_size=9))
def test_partitions_are_in_order_of_days_the_plain_one_first(of: list[Partition]) -> None:
    places = [(each.day_ms, -1 if each.lane is None else each.lane) for each in sorted(of)]

    assert places == sorted(places)


@given(
    name=st.one_of(
        st.text(),
        st.from_regex(r"\Atemps:[0-9]{6,10}\Z"),
        st.from_regex(r"\Atemps:20250101:\d{0,4}\Z"),
        st.from_regex(r"\Atemps:\d{8}\Z"),
        partitions.flatmap(lambda each: st.sampled_from(each.companions)),
    )
)
@example(name="temps:00010101")
@example(name="temps:20250230")
@example(name="temps:2025011")
@example(name="temps:2025010１")  # noqa: RUF001 - a digit, though not one of ours
@example(name="temps:averages")
@example(name="temps:20250101:")
@example(name="temps:20250101:00")
@example(name="temps:20250101:-1")
@example(name="temps:20250101:0:0")
@example(name="temps:20250101:512")
@example(name="temps:20250101\n")
@example(name="Temps:20250101")
def test_only_a_partitions_own_name_names_it(name: str) -> None:
    named = KEYS.named(name)

    assert named is None or named.stream == name


def test_a_lanes_number_has_a_limit() -> None:
    assert KEYS.named(f"temps:20250101:{LANE_NUMBERS - 1}") is not None
    assert KEYS.named(f"temps:20250101:{LANE_NUMBERS}") is None


@given(partition=partitions)
def test_a_partition_and_its_companions_share_a_slot(partition: Partition) -> None:
    slots = {key_slot(key.encode()) for key in (partition.stream, *partition.companions)}

    assert slots == {key_slot(partition.stream.encode())}


@given(partition=partitions)
def test_every_companion_is_listed_once(partition: Partition) -> None:
    named = {partition.hours, partition.producers, partition.watermarks}
    named |= {partition.identities, partition.lanes, partition.quarantine}
    named |= {partition.devices(hour) for hour in range(24)}

    assert len(named) == 30
    assert sorted(partition.companions) == sorted(named)


@given(ts_ms=times_ms)
def test_an_hour_starts_at_its_first_millisecond(ts_ms: int) -> None:
    hour = datetime.fromtimestamp(ts_ms // 1000, UTC).hour
    start_ms = KEYS.containing(ts_ms).hour_start_ms(hour)

    assert start_ms <= ts_ms < start_ms + HOUR_MS
    assert start_ms % HOUR_MS == 0


@given(now_ms=times_ms, age_ms=st.integers(0, RETENTION_MS))
def test_the_calendar_names_the_day_of_every_reading_that_may_live(
    now_ms: int, age_ms: int
) -> None:
    assert KEYS.containing(now_ms - age_ms) in KEYS.days_alive(now_ms)


@given(now_ms=times_ms, kept_ms=st.integers(0, 20 * DAY_MS))
def test_the_calendar_names_no_day_that_is_over(now_ms: int, kept_ms: int) -> None:
    alive = list(KEYS.days_alive(now_ms, kept_ms=kept_ms))

    assert alive[0].end_ms > now_ms - kept_ms
    assert alive[-1] == KEYS.containing(now_ms)


@given(now_ms=times_ms)
def test_the_calendars_days_come_oldest_first_without_a_gap(now_ms: int) -> None:
    days = [partition.day_ms for partition in KEYS.days_alive(now_ms)]

    assert days == list(range(days[0], days[-1] + 1, DAY_MS))


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00Z", "2024-02-29T23:59:59Z"])
def test_a_time_is_shown_in_utc_to_the_second(text: str) -> None:
    assert iso(at(text)) == text
    assert iso(at(text) + 999) == text


names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


@given(name=names)
def test_every_key_begins_with_the_pipelines_name(name: str) -> None:
    keys = Keyspace(name)
    day = keys.containing(at("2025-01-01T00:00:00Z"))
    named = [*keys.capped, keys.partitions, day.stream, *day.companions]

    assert all(key.lstrip("{").startswith(f"{name}:") for key in named)
    assert all(map(keys.owns, named))
    assert len({*named}) == len(named)


@given(one=names, other=names)
@example(one="temps", other="temps-2")
@example(one="temps", other="temp")
@example(one="a.b", other="axb")
def test_no_key_is_of_two_pipelines(one: str, other: str) -> None:
    assume(one != other)
    ours, theirs = Keyspace(one), Keyspace(other)
    day = ours.containing(at("2025-01-01T00:00:00Z"))
    keys = [*ours.capped, ours.partitions, day.stream, *day.companions]

    assert not any(map(theirs.owns, keys))
    assert theirs.named(day.stream) is None
    assert day != theirs.containing(day.day_ms)
    # As Redis matches: none of these characters is special in a pattern.
    assert not any(key.startswith(each.rstrip("*")) for key in keys for each in theirs.patterns)


@given(name=names)
def test_the_averages_share_a_slot_with_what_is_kept_of_publishing_them(name: str) -> None:
    keys = Keyspace(name)
    of_the_averages = (
        keys.averages, keys.published_through, keys.published, keys.revisions, keys.too_late
    )  # fmt: skip

    assert len({key_slot(key.encode()) for key in of_the_averages}) == 1


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "{a}", "a*", "a?", "[a]", "a\\b", "a\n", "é", "a" * 65]
)
def test_a_name_that_no_key_could_safely_begin_with_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(ConfigurationError, match="HOURGLASS_PIPELINE") as refusal:
        Keyspace(name)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "key",
    [
        "temps",
        "temps:notes",
        "temps:2025",
        "temps:20250230",
        "{temps:20250101}:notes",
        "{temps:20250101}:hours:",
        "{temps:x}:hours",
        "{temps:averages}:hours",
    ],
)
def test_what_only_begins_like_a_key_is_not_the_pipelines(key: str) -> None:
    assert not KEYS.owns(key)
