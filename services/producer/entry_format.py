"""The entry format of a producer: one entry per reading, or packed entries of many devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from hourglass.model.devices import device_names
from producer.batch import Batch, Batcher, Shares
from producer.simulator import Sensors

#: From this number of devices on, a packed entry takes less time and memory than one entry per
#: reading.
PACKED_FROM = 8


class Packing(StrEnum):
    """Whether to pack readings; AUTO packs from PACKED_FROM devices on."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"

    def packs(self, devices: int) -> bool:
        return devices >= PACKED_FROM if self is Packing.AUTO else self is Packing.ON


class Source(Protocol):
    """Devices that are read together. One read yields one tick or one reading per device."""

    @property
    def device_count(self) -> int: ...
    @property
    def period_ms(self) -> int: ...
    def read(self, tick_ms: int, until_ms: int) -> Iterator[Any]: ...


class Encoder(Protocol):
    """Groups items into batches."""

    def cut(
        self, items: Iterable[Any], /, *, next_ms: int | None = None, to_all: bool = False
    ) -> Iterator[Batch]: ...


@dataclass(frozen=True, slots=True)
class EntryFormat:
    """The devices of a producer, and how their readings are grouped into batches.

    cutter: factory of the Cutter
    readings: readings in one item
    together: items to send in one batch
    """

    source: Source
    cutter: Callable[[Shares], Encoder]
    readings: int
    together: int

    @classmethod
    def plain(cls, names: Sequence[str], *, seed: int, period_ms: int, batch: int) -> EntryFormat:
        """One entry per reading; a batch has up to `batch` readings."""
        sensors = Sensors(names, seed=seed, period_ms=period_ms)
        return cls(sensors, lambda shares: Batcher(limit=batch, partitions=shares), 1, batch)

    @classmethod
    def packed(cls, name: str, devices: int, *, seed: int, period_ms: int) -> EntryFormat:
        """Packed entries of many devices, whose names begin with `name`."""
        from producer.packed_batches import BATCH_READINGS, Packer
        from producer.simulator_array import (
            SensorArray,  # imports numpy, which a plain producer does not use
        )

        bank = SensorArray(device_names(name, devices), seed=seed, period_ms=period_ms)
        together = max(1, BATCH_READINGS // devices)
        return cls(bank, lambda shares: Packer(name, partitions=shares), devices, together)
