"""How a producer's readings travel: an entry each, or packed, many devices to an entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from hourglass.devices import device_names
from producer.batch import Batch, Batcher, Shares
from producer.sensor import Sensors

#: From so many devices on a packed entry costs less than an entry for each of their readings, in
#: time and in memory.
PACKED_FROM = 8


class Packing(StrEnum):
    """Whether to pack; AUTO packs from PACKED_FROM devices on."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"

    def packs(self, devices: int) -> bool:
        return devices >= PACKED_FROM if self is Packing.AUTO else self is Packing.ON


class Source(Protocol):
    """Devices that are read together: what they give at a time is one item or one for each."""

    @property
    def device_count(self) -> int: ...
    @property
    def period_ms(self) -> int: ...
    def read(self, tick_ms: int, until_ms: int) -> Iterator[Any]: ...


class Cutter(Protocol):
    """What makes batches of these items."""

    def cut(
        self, items: Iterable[Any], /, *, next_ms: int | None = None, to_all: bool = False
    ) -> Iterator[Batch]: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """Devices, and the batches for what they give.

    cutter: makes what makes the batches
    readings: readings in each item
    together: items that are best sent together
    """

    source: Source
    cutter: Callable[[Shares], Cutter]
    readings: int
    together: int

    @classmethod
    def plain(cls, names: Sequence[str], *, seed: int, period_ms: int, batch: int) -> Layout:
        """An entry for each reading; `batch` is how many go together."""
        sensors = Sensors(names, seed=seed, period_ms=period_ms)
        return cls(sensors, lambda shares: Batcher(limit=batch, partitions=shares), 1, batch)

    @classmethod
    def packed(cls, name: str, devices: int, *, seed: int, period_ms: int) -> Layout:
        """Entries of many devices, which are called after `name`."""
        from producer.bank import SensorBank  # numpy, of which a plain producer has no need
        from producer.packer import BATCH_READINGS, Packer

        bank = SensorBank(device_names(name, devices), seed=seed, period_ms=period_ms)
        together = max(1, BATCH_READINGS // devices)
        return cls(bank, lambda shares: Packer(name, partitions=shares), devices, together)
