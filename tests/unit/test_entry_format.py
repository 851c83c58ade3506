"""When a producer packs, and that it gives the same readings whether it does or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.devices import device_names
from hourglass.model.readings import Reading
from producer.entry_format import PACKED_FROM, EntryFormat, Packing
from producer.packed_batches import BATCH_READINGS
from producer.simulator_array import Tick

HOUR_MS = 3_600_000


def layout(devices: int, packing: Packing, batch: int = 1_000) -> EntryFormat:
    if packing.packs(devices):
        return EntryFormat.packed("pod", devices, seed=5, period_ms=1_000)
    names = device_names("pod", devices)
    return EntryFormat.plain(names, seed=5, period_ms=1_000, batch=batch)


@pytest.mark.parametrize(
    ("packing", "devices", "packs"),
    [
        (Packing.AUTO, PACKED_FROM - 1, False),
        (Packing.AUTO, PACKED_FROM, True),
        (Packing.ON, 1, True),
        (Packing.OFF, 100_000, False),
    ],
)
def test_whether_it_packs(packing: Packing, devices: int, *, packs: bool) -> None:
    assert packing.packs(devices) == packs
    assert (layout(min(devices, 100), packing).readings > 1) == (packs and devices > 1)


@given(devices=st.integers(1, 30), ticks=st.integers(0, 100))
def test_packed_or_not_the_devices_give_the_same_readings(devices: int, ticks: int) -> None:
    plain = layout(devices, Packing.OFF).source.read(0, ticks * 1_000)
    packed = layout(devices, Packing.ON).source.read(0, ticks * 1_000)

    assert all(isinstance(each, Reading) for each in plain)
    expected = list(layout(devices, Packing.OFF).source.read(0, ticks * 1_000))
    found = [each for each in packed if isinstance(each, Tick)]
    assert [(tick.ts_ms, int(milli_f)) for tick in found for milli_f in tick.milli_f] == [
        (reading.ts_ms, reading.milli_f) for reading in expected
    ]


@pytest.mark.parametrize("devices", [1, 3, 10_000, 10_001])
def test_what_is_sent_together_is_a_batchs_worth_and_at_least_a_tick(devices: int) -> None:
    packed = layout(devices, Packing.ON)

    assert packed.together == max(1, BATCH_READINGS // devices)
    assert packed.readings == devices


def test_plain_readings_are_sent_together_as_the_option_says() -> None:
    assert layout(3, Packing.OFF, batch=7).together == 7
