"""Which streams are stray, by name and day, and what is recorded of them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hourglass.errors import CorruptKey
from hourglass.model.clock import ClockSpec, Instant, Mode
from hourglass.model.keys import DAY_MS, LANE_NUMBERS, RETENTION_MS, Keyspace, Partition
from hourglass.model.strays import Reason, Strays, decode, encode, expires, line, reason_of, shown
from tests.unit.test_keys import at, names

NOW_MS = at("2025-06-15T13:00:00Z")
TODAY_MS = at("2025-06-15T00:00:00Z")
WALL = Instant(ClockSpec(), NOW_MS)
KEYS = Keyspace()
pipelines = st.one_of(st.just(KEYS), st.builds(Keyspace, names))
lanes = st.one_of(st.none(), st.integers(0, LANE_NUMBERS - 1))
#: Days from today: those that the aggregators read, and those that they will.
near = st.integers(-2, 2)


def reason(stream: str, keyspace: Keyspace = KEYS, *, now: Instant = WALL) -> Reason | None:
    return reason_of(keyspace, stream, now, ())


def on(days: int, lane: int | None = None, *, keyspace: Keyspace = KEYS) -> Partition:
    return keyspace.partition(TODAY_MS + days * DAY_MS, lane)


@given(keyspace=pipelines, days=near, lane=lanes)
def test_no_key_that_the_pipeline_makes_for_a_near_day_is_stray(
    keyspace: Keyspace, days: int, lane: int | None
) -> None:
    partition = on(days, lane, keyspace=keyspace)
    made = [*keyspace.capped, keyspace.partitions, keyspace.strays]

    for key in (*made, partition.stream, *partition.companions):
        assert reason(key, keyspace) is None


@given(keyspace=pipelines, days=st.integers(-7000, 7000), lane=lanes)
def test_a_companion_of_any_day_is_not_stray(
    keyspace: Keyspace, days: int, lane: int | None
) -> None:
    for key in on(days, lane, keyspace=keyspace).companions:
        assert reason(key, keyspace) is None


@given(
    name=st.one_of(
        st.text(),
        st.from_regex(r"\A[0-9]{6,10}\Z"),
        st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z"),
        st.from_regex(r"\A20250615:[0-9]{0,5}\Z"),
    ).filter(lambda name: KEYS.named(f"temps:{name}") is None)
)
@example(name="2025-01-01")
@example(name="20251301")
@example(name="20250615:512")
@example(name="20250615:00")
@example(name="x")
@example(name="")
@example(name="averages:old")
def test_a_malformed_name_is_stray(name: str) -> None:
    owned = name in {"averages", "partitions", "clock"}

    assert reason(f"temps:{name}") is (None if owned else Reason.NAME)


@given(days=st.integers(-7000, 7000), lane=lanes)
@example(days=-3, lane=None)
@example(days=3, lane=None)
def test_a_day_that_is_over_or_far_ahead_is_stray(days: int, lane: int | None) -> None:
    expected = Reason.OVER if days < -2 else Reason.AHEAD if days > 2 else None

    assert reason(on(days, lane).stream) is expected


@given(ms=st.integers(0, DAY_MS - 1))
def test_a_day_is_over_when_the_calendar_drops_it_and_not_before(ms: int) -> None:
    now = Instant(ClockSpec(), TODAY_MS + ms)
    alive = list(KEYS.days_alive(now.now_ms))
    before = KEYS.partition(alive[0].day_ms - DAY_MS)

    assert [reason(each.stream, now=now) for each in alive] == [None] * len(alive)
    assert before.end_ms + RETENTION_MS <= now.now_ms
    assert reason(before.stream, now=now) is Reason.OVER


@given(ms=st.integers(0, DAY_MS - 1), days=st.integers(0, 100))
def test_a_stray_stream_expires_before_its_day_begins(ms: int, days: int) -> None:
    now = Instant(ClockSpec(), TODAY_MS + ms)
    partition = on(days)

    if reason(partition.stream, now=now) is Reason.AHEAD:
        assert now.expiry(now.now_ms + RETENTION_MS) <= partition.day_ms


@pytest.mark.parametrize("days", [-100, 100])
def test_what_the_index_has_is_read_whatever_its_day(days: int) -> None:
    assert reason_of(KEYS, on(days).stream, WALL, [on(days)]) is None
    assert reason_of(KEYS, on(days, 3).stream, WALL, [on(days)]) is not None


def test_no_day_is_too_far_ahead_of_a_manual_clock() -> None:
    manual = Instant(ClockSpec(mode=Mode.MANUAL, origin_ms=NOW_MS), 0)

    assert reason(on(100).stream, now=manual) is None
    assert reason(on(-100).stream, now=manual) is Reason.OVER


@given(keyspace=pipelines, name=st.text(min_size=1))
@example(keyspace=KEYS, name="x")
@example(keyspace=KEYS, name="２025")  # noqa: RUF001 - a digit, though not one of ours
def test_only_what_begins_as_a_partition_does_is_given_a_ttl(keyspace: Keyspace, name: str) -> None:
    stream = f"{keyspace.pipeline}:{name}".encode(errors="replace")

    assert expires(keyspace, stream) == (name[0] in "0123456789")


def test_another_pipelines_stream_is_not_given_a_ttl() -> None:
    assert not expires(KEYS, b"temps-2:20250101")
    assert not expires(KEYS, b"temp:20250101")


@given(
    found=st.dictionaries(
        st.sampled_from(Reason),
        st.builds(
            Strays,
            st.integers(1, 10**9),
            st.binary().map(lambda name: shown(b"temps:" + name)),
        ),
    )
)
def test_what_is_recorded_is_found_again_and_each_is_one_line(
    found: dict[Reason, Strays],
) -> None:
    assert decode(encode(found).encode(), key="k") == found
    for why, strays in found.items():
        assert len(line(why, strays).splitlines()) == 1
        assert strays.first in line(why, strays)


def test_nothing_recorded_is_nothing_found() -> None:
    assert decode(None, key="k") == {}
    assert decode(b"", key="k") == {}


@pytest.mark.parametrize("text", [b"x", b"name x temps:x", b"other 1 temps:x", b"\xff 1 x"])
def test_what_no_aggregator_recorded_is_refused_with_the_key(text: bytes) -> None:
    with pytest.raises(CorruptKey, match="the-key holds no stray streams"):
        decode(text, key="the-key")
