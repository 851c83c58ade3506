"""Sensors, simulated: pure, so that whoever knows the seed knows every reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from hourglass.readings import MILLI, Reading

#: The exercise's walk, in tenths of a degree instead of whole ones.
START_MILLI_F = 50 * MILLI
STEP_MILLI_F = 100
LOWEST_MILLI_F = 0
HIGHEST_MILLI_F = 100 * MILLI


class Walk:
    """A random walk that stays between 0 and 100 °F, one step a reading.

    The same seed and device give the same walk.
    """

    def __init__(self, seed: int, device: str) -> None:
        self._coin = Random(f"{seed}:{device}").random
        self._milli_f = START_MILLI_F

    def step(self) -> int:
        """The next temperature, in thousandths of a degree Fahrenheit."""
        moved = self._milli_f + (STEP_MILLI_F if self._coin() >= 0.5 else -STEP_MILLI_F)
        if LOWEST_MILLI_F <= moved <= HIGHEST_MILLI_F:
            self._milli_f = moved
        return self._milli_f


class Sensors:
    """The devices of one producer, read together every `period_ms`."""

    def __init__(self, devices: Sequence[str], *, seed: int, period_ms: int) -> None:
        self.period_ms = period_ms
        self._walks = [(device.encode(), Walk(seed, device).step) for device in devices]

    @property
    def device_count(self) -> int:
        return len(self._walks)

    def first_tick_ms(self, from_ms: int) -> int:
        """The first multiple of the period at or after `from_ms`."""
        return -(-from_ms // self.period_ms) * self.period_ms

    def read(self, tick_ms: int, until_ms: int) -> Iterator[Reading]:
        """Every device's reading at `tick_ms` and each period after it, before `until_ms`;
        in order of time."""
        walks = self._walks
        for ts_ms in range(tick_ms, until_ms, self.period_ms):
            for device, step in walks:
                yield Reading(device, ts_ms, step())


def device_names(producer: str, count: int) -> list[str]:
    """`count` names that no other producer has: the producer's own, numbered from 0 if several."""
    return [producer] if count == 1 else [f"{producer}-{number}" for number in range(count)]
