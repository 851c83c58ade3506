"""Simulated sensors: whoever knows the seed knows every reading."""

from __future__ import annotations

from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.devices import device_names
from hourglass.model.readings import Reading
from producer.simulator import (
    HIGHEST_MILLI_F,
    LOWEST_MILLI_F,
    START_MILLI_F,
    STEP_MILLI_F,
    Sensors,
    first_tick_ms,
    walk,
)
from producer.simulator_array import SensorArray

seeds = st.integers()
names = st.text(min_size=1, max_size=20)
periods_ms = st.integers(1, 100_000)


def walked(seed: int, device: str, steps: int) -> list[int]:
    return list(islice(walk(seed, device), steps))


@given(seed=seeds, device=names)
def test_the_same_seed_and_device_give_the_same_walk(seed: int, device: str) -> None:
    assert walked(seed, device, 50) == walked(seed, device, 50)


def test_a_walk_is_the_same_in_every_process_and_on_every_machine() -> None:
    steps = [milli - START_MILLI_F for milli in walked(0, "d", 8)]

    assert steps == [-100, 0, -100, 0, -100, -200, -100, 0]


def test_seeds_and_devices_walk_apart() -> None:
    walks = {tuple(walked(seed, device, 100)) for seed in range(5) for device in "abcde"}

    assert len(walks) == 25


@given(seed=seeds)
def test_a_walk_moves_by_one_step_and_stays_within_its_bounds(seed: int) -> None:
    path = [START_MILLI_F, *walked(seed, "d", 500)]

    assert all(LOWEST_MILLI_F <= milli <= HIGHEST_MILLI_F for milli in path)
    assert all(abs(after - before) in {0, STEP_MILLI_F} for before, after in pairwise(path))


def test_a_walk_that_reaches_a_bound_comes_back() -> None:
    path = walked(0, "9295", 130_000)

    for bound in (LOWEST_MILLI_F, HIGHEST_MILLI_F):
        assert any(milli != bound for milli in path[path.index(bound) :])
    assert min(path) == LOWEST_MILLI_F
    assert max(path) == HIGHEST_MILLI_F


@given(from_ms=st.integers(0, 10**13), period_ms=periods_ms)
def test_the_first_tick_is_the_first_multiple_of_the_period(from_ms: int, period_ms: int) -> None:
    tick_ms = first_tick_ms(from_ms, period_ms)

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


@given(seed=seeds, devices=st.lists(names, min_size=1, max_size=4, unique=True))
def test_a_bank_of_sensors_reads_what_each_would_read_alone(seed: int, devices: list[str]) -> None:
    bank = SensorArray(devices, seed=seed, period_ms=10)
    ticks = [*bank.read(0, 800), *bank.read(800, 1_700)]

    assert [tick.ts_ms for tick in ticks] == list(range(0, 1_700, 10))
    for index, device in enumerate(devices):
        assert [int(tick.milli_f[index]) for tick in ticks] == walked(seed, device, 170)


def test_a_bank_turns_back_at_the_bounds_as_a_walk_does() -> None:
    bank = SensorArray(["9295"], seed=0, period_ms=1)
    path = [int(tick.milli_f[0]) for tick in bank.read(0, 130_000)]

    assert {LOWEST_MILLI_F, HIGHEST_MILLI_F} <= set(path)
    assert path == walked(0, "9295", 130_000)


def test_coins_fall_evenly_and_devices_apart() -> None:
    """Sums over 1,000 devices and 1,000 steps stay within five standard deviations."""
    bank = SensorArray(device_names("d", 1_000), seed=1, period_ms=1)
    ticks = [tick.milli_f for tick in bank.read(0, 400)]  # too few to reach a bound
    heads = (ticks[-1] - START_MILLI_F) / STEP_MILLI_F

    assert abs(heads.sum()) < 5 * (400 * 1_000) ** 0.5
    assert 0.8 * 400 < heads.var() < 1.2 * 400


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
