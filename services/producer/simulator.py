"""Simulated sensors. Pure: the seed determines every reading.

A device's temperature is a random walk with one random bit per step. The bits come from splitmix64
(Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), whose state starts from
a hash of seed and device name. Each device therefore has its own sequence, and
producer.simulator_array computes the same values for many devices as arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from hourglass.model.readings import MILLI, Reading

#: The exercise's walk, in tenths of a degree instead of whole ones.
START_MILLI_F = 50 * MILLI
STEP_MILLI_F = 100
LOWEST_MILLI_F = 0
HIGHEST_MILLI_F = 100 * MILLI

#: Random bits in one number of the generator, used from the lowest bit on.
COINS = 64
_MASK = (1 << 64) - 1
#: The increment of splitmix64 and its two multipliers.
INCREMENT = 0x9E3779B97F4A7C15
FIRST_FACTOR = 0xBF58476D1CE4E5B9
SECOND_FACTOR = 0x94D049BB133111EB


def walk(seed: int, device: str) -> Iterator[int]:
    """A random walk between 0 and 100 °F: yields one temperature per step, in thousandths of a
    degree. The same seed and device yield the same walk."""
    milli_f = START_MILLI_F
    state = coin_key(seed, device)
    while True:
        state = (state + INCREMENT) & _MASK
        coins = (state ^ (state >> 30)) * FIRST_FACTOR & _MASK
        coins = (coins ^ (coins >> 27)) * SECOND_FACTOR & _MASK
        coins ^= coins >> 31
        for _ in range(COINS):
            moved = milli_f + (STEP_MILLI_F if coins & 1 else -STEP_MILLI_F)
            if LOWEST_MILLI_F <= moved <= HIGHEST_MILLI_F:
                milli_f = moved
            coins >>= 1
            yield milli_f


def coin_key(seed: int, device: str) -> int:
    """The initial 64-bit state of a device's generator."""
    digest = blake2b(f"{seed}:{device}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class Sensors:
    """The devices of one producer, which are read together every `period_ms`."""

    def __init__(self, devices: Sequence[str], *, seed: int, period_ms: int) -> None:
        self.period_ms = period_ms
        self._walks = [(device.encode(), walk(seed, device).__next__) for device in devices]

    @property
    def device_count(self) -> int:
        return len(self._walks)

    def read(self, tick_ms: int, until_ms: int) -> Iterator[Reading]:
        """The readings of all devices at `tick_ms` and every period after it, before `until_ms`,
        ordered by time."""
        walks = self._walks
        for ts_ms in range(tick_ms, until_ms, self.period_ms):
            for device, step in walks:
                yield Reading(device, ts_ms, step())


def first_tick_ms(from_ms: int, period_ms: int) -> int:
    """The first multiple of the period at or after `from_ms`."""
    return -(-from_ms // period_ms) * period_ms
