"""Simulated sensors: whoever knows the seed knows every reading."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hourglass.readings import Reading
from producer.sensor import (
    HIGHEST_MILLI_F,
    LOWEST_MILLI_F,
    START_MILLI_F,
    STEP_MILLI_F,
    Sensors,
    Walk,
    device_names,
)

seeds = st.integers()
names = st.text(min_size=1, max_size=20)
periods_ms = st.integers(1, 100_000)


def walked(seed: int, device: str, steps: int) -> list[int]:
    walk = Walk(seed, device)
    return [walk.step() for _ in range(steps)]


@given(seed=seeds, device=names)
def test_the_same_seed_and_device_give_the_same_walk(seed: int, device: str) -> None:
    assert walked(seed, device, 50) == walked(seed, device, 50)


def test_a_walk_is_the_same_in_every_process_and_on_every_machine() -> None:
    steps = [milli - START_MILLI_F for milli in walked(0, "d", 8)]

    assert steps == [-100, 0, 100, 200, 100, 200, 300, 200]


def test_seeds_and_devices_walk_apart() -> None:
    walks = {tuple(walked(seed, device, 100)) for seed in range(5) for device in "abcde"}

    assert len(walks) == 25


@given(seed=seeds)
def test_a_walk_moves_by_one_step_and_stays_within_its_bounds(seed: int) -> None:
    walk = [START_MILLI_F, *walked(seed, "d", 500)]

    assert all(LOWEST_MILLI_F <= milli <= HIGHEST_MILLI_F for milli in walk)
    assert all(abs(after - before) in {0, STEP_MILLI_F} for before, after in pairwise(walk))


def test_a_walk_that_reaches_a_bound_comes_back() -> None:
    walk = walked(2, "d", 700_000)

    for bound in (LOWEST_MILLI_F, HIGHEST_MILLI_F):
        assert any(milli != bound for milli in walk[walk.index(bound) :])
    assert min(walk) == LOWEST_MILLI_F
    assert max(walk) == HIGHEST_MILLI_F


@given(from_ms=st.integers(0, 10**13), period_ms=periods_ms)
def test_the_first_tick_is_the_first_multiple_of_the_period(from_ms: int, period_ms: int) -> None:
    tick_ms = Sensors(["d"], seed=0, period_ms=period_ms).first_tick_ms(from_ms)

    assert tick_ms % period_ms == 0
    assert from_ms <= tick_ms < from_ms + period_ms


@given(
    devices=st.lists(names, min_size=1, max_size=4, unique=True),
    tick_ms=st.integers(0, 10**13),
    period_ms=periods_ms,
    ticks=st.integers(0, 20),
)
def test_every_device_is_read_at_every_tick_in_order_of_time(
    devices: list[str], tick_ms: int, period_ms: int, ticks: int
) -> None:
    sensors = Sensors(devices, seed=7, period_ms=period_ms)
    read = list(sensors.read(tick_ms, tick_ms + ticks * period_ms))

    assert [(reading.ts_ms, reading.device.decode()) for reading in read] == [
        (tick_ms + tick * period_ms, device) for tick in range(ticks) for device in devices
    ]
    for device in devices:
        assert [each.milli_f for each in read if each.device.decode() == device] == (
            walked(7, device, ticks)
        )


def test_nothing_is_read_at_or_after_until() -> None:
    sensors = Sensors(["d"], seed=0, period_ms=10)

    assert [reading.ts_ms for reading in sensors.read(0, 20)] == [0, 10]
    assert [reading.ts_ms for reading in sensors.read(20, 20)] == []
    assert [reading.ts_ms for reading in sensors.read(20, 21)] == [20]


@given(cuts=st.lists(st.integers(0, 30)).map(sorted))
def test_reading_in_pieces_gives_the_same_readings(cuts: list[int]) -> None:
    whole = list(Sensors(["a", "b"], seed=3, period_ms=1).read(0, 30))
    sensors = Sensors(["a", "b"], seed=3, period_ms=1)

    pieces: list[Reading] = []
    for start, end in pairwise([0, *cuts, 30]):
        pieces += sensors.read(start, end)

    assert pieces == whole


@given(
    producers=st.lists(st.from_regex(r"\A[a-z0-9-]{1,12}\Z"), unique=True, max_size=10),
    count=st.integers(1, 12),
)
def test_replicas_never_share_a_devices_name(producers: list[str], count: int) -> None:
    every = [name for producer in producers for name in device_names(producer, count)]

    assert len(every) == len(set(every)) == len(producers) * count


def test_a_single_device_has_its_producers_name() -> None:
    assert device_names("producer-7", 1) == ["producer-7"]
    assert device_names("producer-7", 2) == ["producer-7-0", "producer-7-1"]
