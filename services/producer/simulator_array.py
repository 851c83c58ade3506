"""Vectorised sensors: one array holds the temperatures of all devices at one tick. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from producer.simulator import (
    COINS,
    FIRST_FACTOR,
    HIGHEST_MILLI_F,
    INCREMENT,
    LOWEST_MILLI_F,
    SECOND_FACTOR,
    START_MILLI_F,
    STEP_MILLI_F,
    coin_key,
)


class Tick(NamedTuple):
    """The temperatures of all devices of a producer at one time.

    milli_f: thousandths of a degree, shape (devices,)
    """

    ts_ms: int
    milli_f: NDArray[np.int32]


class SensorArray:
    """Generates the same random walks as Sensors, one array per tick."""

    def __init__(self, devices: Sequence[str], *, seed: int, period_ms: int) -> None:
        self.period_ms = period_ms
        self._states = np.array([coin_key(seed, device) for device in devices], np.uint64)
        self._milli_f = np.full(len(devices), START_MILLI_F, np.int32)
        self._steps = self._steps_for_ever()

    @property
    def device_count(self) -> int:
        return len(self._milli_f)

    def read(self, tick_ms: int, until_ms: int) -> Iterator[Tick]:
        """The ticks at `tick_ms` and every period after it, before `until_ms`."""
        for ts_ms in range(tick_ms, until_ms, self.period_ms):
            # Clipping undoes a step past a bound: the device keeps its temperature for that tick.
            moved = self._milli_f + next(self._steps)
            self._milli_f = np.clip(moved, LOWEST_MILLI_F, HIGHEST_MILLI_F)
            yield Tick(ts_ms, self._milli_f)

    def _steps_for_ever(self) -> Iterator[NDArray[np.int32]]:
        """The step of each device, one array of shape (devices,) per tick, without end."""
        while True:
            self._states += np.uint64(INCREMENT)
            coins = (self._states ^ (self._states >> np.uint64(30))) * np.uint64(FIRST_FACTOR)
            coins = (coins ^ (coins >> np.uint64(27))) * np.uint64(SECOND_FACTOR)
            coins ^= coins >> np.uint64(31)
            octets = coins.astype("<u8").view(np.uint8).reshape(-1, 8)
            tosses = np.unpackbits(octets, axis=1, bitorder="little", count=COINS).T
            yield from tosses.astype(np.int32, order="C") * (2 * STEP_MILLI_F) - STEP_MILLI_F
