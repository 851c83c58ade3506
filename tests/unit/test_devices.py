"""Which readings are due: each tick once, whenever the clock is looked at."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.clock import ClockSpec, Mode
from hourglass.model.readings import Reading
from producer.batch import NO_MORE_MS
from producer.devices import Devices
from producer.simulator import Sensors

WALL = ClockSpec()
NO_LIMIT = 10**9

periods_ms = st.integers(1, 50)
looks_ms = st.lists(st.integers(0, 500), min_size=1)


def devices(
    *,
    names: Sequence[str] = ("d",),
    period_ms: int,
    most_readings: int = NO_LIMIT,
    until_ms: int | None = None,
) -> Devices:
    sensors = Sensors(names, seed=0, period_ms=period_ms)
    return Devices(sensors, most_readings=most_readings, until_ms=until_ms)


def ticks(readings: Sequence[Reading]) -> list[int]:
    return [reading.ts_ms for reading in readings]


def multiples(period_ms: int, first_ms: int, last_ms: int) -> list[int]:
    return [ms for ms in range(first_ms, last_ms + 1) if ms % period_ms == 0]


@given(looks=looks_ms, period_ms=periods_ms)
def test_every_tick_since_the_first_look_is_given_once(looks: list[int], period_ms: int) -> None:
    followed = devices(period_ms=period_ms)
    given_ticks = [tick for now in looks for tick in ticks(followed.due(WALL, now).items)]

    assert given_ticks == multiples(period_ms, looks[0], max(looks))


@given(looks=looks_ms, period_ms=periods_ms)
def test_no_reading_is_given_before_its_time(looks: list[int], period_ms: int) -> None:
    followed = devices(period_ms=period_ms)

    for now in looks:
        assert all(tick <= now for tick in ticks(followed.due(WALL, now).items))


@given(looks=looks_ms, period_ms=periods_ms, until_ms=st.integers(0, 500))
def test_nothing_at_or_after_until_is_given(
    looks: list[int], period_ms: int, until_ms: int
) -> None:
    followed = devices(period_ms=period_ms, until_ms=until_ms)
    given_ticks = [tick for now in looks for tick in ticks(followed.due(WALL, now).items)]

    expected = multiples(period_ms, looks[0], max(looks))
    assert given_ticks == [tick for tick in expected if tick < until_ms]


@given(looks=looks_ms, period_ms=periods_ms, until_ms=st.integers(1, 500))
def test_they_are_finished_when_no_tick_before_until_is_left(
    looks: list[int], period_ms: int, until_ms: int
) -> None:
    followed = devices(period_ms=period_ms, until_ms=until_ms)
    assert not followed.finished
    for now in looks:
        followed.due(WALL, now)

    left = [tick for tick in multiples(period_ms, looks[0], until_ms - 1) if tick > max(looks)]
    assert followed.finished == (not left)
    assert (followed.next_ms == NO_MORE_MS) == followed.finished


def test_without_until_they_never_finish() -> None:
    followed = devices(period_ms=1)
    followed.due(WALL, 10**6)

    assert not followed.finished


@given(
    looks=looks_ms,
    period_ms=periods_ms,
    names=st.sampled_from([("a",), ("a", "b"), ("a", "b", "c")]),
    most_readings=st.integers(1, 10),
)
def test_what_is_skipped_is_the_oldest_and_is_counted(
    looks: list[int], period_ms: int, names: Sequence[str], most_readings: int
) -> None:
    followed = devices(names=names, period_ms=period_ms, most_readings=most_readings)
    next_ms = looks[0]

    for now in looks:
        due = followed.due(WALL, now)
        passed = [tick for tick in multiples(period_ms, next_ms, now) for _ in names]
        next_ms = max(next_ms, now + 1)

        assert due.skipped + len(due.items) == len(passed)
        assert ticks(due.items) == passed[due.skipped :]
        assert len(due.items) <= max(most_readings, len(names))
        if due.skipped:
            assert len(due.items) > most_readings - len(names)


@given(before=st.integers(0, 10**6), after=st.integers(0, 10**6), later=st.integers(0, 1000))
def test_when_the_clock_is_set_they_go_on_from_the_new_time(
    before: int, after: int, later: int
) -> None:
    running = ClockSpec(mode=Mode.SIMULATED, origin_ms=after)
    followed = devices(period_ms=10)
    followed.due(WALL, before)

    first = followed.due(running, after)
    assert ticks(first.items) == multiples(10, after, after)
    assert first.skipped == 0
    assert ticks(followed.due(running, after + later).items) == (
        multiples(10, after + 1, after + later)
    )


@given(moves=st.lists(st.integers(0, 500), min_size=1).map(sorted))
def test_a_manual_clock_moved_forward_leaves_no_gap(moves: list[int]) -> None:
    followed = devices(period_ms=10)
    given_ticks: list[int] = []
    for now in moves:
        spec = ClockSpec(mode=Mode.MANUAL, origin_ms=now)
        given_ticks += ticks(followed.due(spec, now).items)

    assert given_ticks == multiples(10, moves[0], moves[-1])


def test_a_manual_clock_set_back_repeats_its_ticks() -> None:
    followed = devices(period_ms=10)
    followed.due(ClockSpec(mode=Mode.MANUAL, origin_ms=1_000), 1_000)

    assert ticks(followed.due(ClockSpec(mode=Mode.MANUAL, origin_ms=20), 20).items) == [20]


@given(back_ms=st.integers(2_011, 10**6), speed=st.sampled_from([1.0, 60.0]))
def test_when_the_clock_goes_back_they_go_on_from_the_new_time(back_ms: int, speed: float) -> None:
    spec = ClockSpec(mode=Mode.SIMULATED, speed=speed)
    followed = devices(period_ms=10)
    at_ms = 10**9
    back_ms = round(back_ms * speed)
    followed.due(spec, at_ms)

    back = followed.due(spec, at_ms - back_ms)

    assert back.back_ms == back_ms
    assert followed.due(spec, at_ms - back_ms + 100).items
    assert followed.next_ms <= at_ms - back_ms + 110


@given(jitter_ms=st.integers(0, 2_000))
def test_a_clock_that_is_corrected_a_little_gives_no_tick_twice(jitter_ms: int) -> None:
    followed = devices(period_ms=10)
    first = followed.due(WALL, 10**9)

    back = followed.due(WALL, 10**9 - jitter_ms)

    assert first.items
    assert (list(back.items), back.back_ms) == ([], 0)
