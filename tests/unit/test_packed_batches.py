"""Packed batches: every reading of every tick, in its place, and what fits together together."""

from __future__ import annotations

import struct
from typing import Any, cast

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aggregator.window import aggregate_entries
from hourglass.model.devices import blocks_of, device_names
from hourglass.model.entries import unpack
from hourglass.model.keys import DAY_MS, HOUR_MS, Keyspace
from hourglass.model.packed_codec import MISSING
from hourglass.model.readings import Rules
from producer.batch import Batch
from producer.packed_batches import BATCH_DEVICES, Packer
from producer.simulator_array import Tick

undivided = Keyspace().undivided
FIRST_DAY_MS = 1_735_689_600_000  # 1 January 2025
FIRST_DAY = Keyspace().partition(FIRST_DAY_MS)


@st.composite
def tick_lists(draw: st.DrawFn) -> list[Tick]:
    devices = draw(st.integers(1, 7))
    value = st.integers(-150_000, 250_000) | st.just(int(MISSING))
    times_ms = st.integers(0, 20).map(lambda each: FIRST_DAY_MS + DAY_MS - 10 + each)
    return [
        Tick(draw(times_ms), np.array([draw(value) for _ in range(devices)], np.int32))
        for _ in range(draw(st.integers(0, 8)))
    ]


def entries(batch: Batch) -> list[list[bytes]]:
    """What the ingest script writes of `batch`."""
    plain, packed = cast(Any, msgpack).unpackb(batch.payload, raw=True)
    assert plain == []
    return packed


def unpacked(batch: Batch) -> list[tuple[bytes, int, int]]:
    found: list[tuple[bytes, int, int]] = []
    for fields in entries(batch):
        packed = unpack(batch.partition, b"0-0", fields, Rules())
        width, unit = packed.encoding
        found += [
            (
                packed.name(position % packed.devices),
                packed.ts_ms + position // packed.devices * packed.period_ms,
                number * unit,
            )
            for position, number in enumerate(np.frombuffer(packed.values, f"<i{width}").tolist())
            if number != -(1 << 8 * width - 1)
        ]
    return found


@given(
    ticks=tick_lists(),
    limit=st.integers(1, 20),
    entry_bytes=st.integers(4, 40),
    batch_devices=st.integers(2, 8),
)
def test_the_batches_hold_each_reading_once_at_its_time(
    ticks: list[Tick], limit: int, entry_bytes: int, batch_devices: int
) -> None:
    batches = list(
        Packer(
            "pod",
            limit=limit,
            entry_bytes={2: entry_bytes, 4: entry_bytes},
            batch_devices=batch_devices,
            partitions=undivided,
        ).cut(ticks)
    )
    sent = [
        (name.encode(), tick.ts_ms, milli_f)
        for tick in ticks
        for name, milli_f in zip(
            device_names("pod", len(tick.milli_f)), tick.milli_f.tolist(), strict=True
        )
        if milli_f != MISSING
    ]

    assert sorted(one for batch in batches for one in unpacked(batch)) == sorted(sent)
    for batch in batches:
        held = unpacked(batch)
        assert batch.count == len(held)
        assert all(len(fields[-1]) <= entry_bytes for fields in entries(batch))
        assert batch.latest_ms >= max((ts_ms for _, ts_ms, _ in held), default=0)
        assert {Keyspace().containing(ts_ms) for _, ts_ms, _ in held} <= {batch.partition}
    assert [batch.sequence for batch in batches] == list(range(1, len(batches) + 1))


@given(ticks=tick_lists(), limit=st.integers(7, 20))
def test_a_batch_holds_no_more_than_the_limit(ticks: list[Tick], limit: int) -> None:
    assert all(
        batch.count <= limit
        for batch in Packer("pod", limit=limit, partitions=undivided).cut(ticks)
    )


def evenly(count: int, *, devices: int = 3, from_ms: int = FIRST_DAY_MS) -> list[Tick]:
    return [Tick(from_ms + 1_000 * each, np.full(devices, each, np.int32)) for each in range(count)]


def test_ticks_at_an_even_pace_share_an_entry() -> None:
    (batch,) = Packer("pod", entry_bytes={4: 48}, partitions=undivided).cut(
        evenly(10)
    )  # thousandths take four bytes

    assert [len(fields[-1]) for fields in entries(batch)] == [48, 48, 24]
    assert entries(batch)[0][4:8] == [b"devices", b"3", b"period_ms", b"1000"]


def test_a_tick_alone_needs_no_more_than_its_time() -> None:
    (batch,) = Packer("pod", partitions=undivided).cut(
        [Tick(FIRST_DAY_MS, np.array([50_000, 50_500], np.int32))]
    )
    array = struct.pack("<2h", 5_000, 5_050)

    assert entries(batch) == [
        [b"device", b"pod", b"ts", b"%d" % FIRST_DAY_MS, b"encoding", b"i16/100", b"temps_f", array]
    ]


def test_a_tick_out_of_step_begins_a_batch() -> None:
    ticks = [*evenly(3), *evenly(3, from_ms=FIRST_DAY_MS + HOUR_MS), *evenly(2)]

    assert [batch.count for batch in Packer("pod", partitions=undivided).cut(ticks)] == [
        9,
        9,
        6,
    ]


def test_midnight_begins_a_batch() -> None:
    batches = list(
        Packer("pod", partitions=undivided).cut(evenly(4, from_ms=FIRST_DAY_MS + DAY_MS - 2_000))
    )

    assert [batch.partition.stream for batch in batches] == ["temps:20250101", "temps:20250102"]
    assert [batch.count for batch in batches] == [6, 6]


def test_a_tick_of_more_devices_than_fit_is_shared_out() -> None:
    (batch,) = Packer("pod", entry_bytes={2: 16}, partitions=undivided).cut(evenly(1, devices=9))
    folded = aggregate_entries(FIRST_DAY, [(b"1-0", fields) for fields in entries(batch)], Rules())

    assert [len(fields[-1]) for fields in entries(batch)] == [16, 2]
    names = [name.encode() for name in device_names("pod", 9)]
    assert folded.partials[0].blocks == blocks_of(names)


def test_a_tick_of_very_many_devices_is_sent_in_parts_and_the_last_moves_the_watermark() -> None:
    (tick,) = evenly(1, devices=2 * BATCH_DEVICES + 1)

    batches = list(Packer("pod", partitions=undivided).cut([tick], next_ms=FIRST_DAY_MS + 1_000))

    assert [batch.count for batch in batches] == [BATCH_DEVICES, BATCH_DEVICES, 1]
    assert [batch.watermark_ms for batch in batches] == [0, 0, 1_000]
    assert max(len(batch.payload) for batch in batches) < 1_100_000
    assert unpacked(batches[-1]) == [(b"pod-%d" % (2 * BATCH_DEVICES), FIRST_DAY_MS, 0)]


def test_the_watermark_is_the_time_of_the_tick_that_follows() -> None:
    packer = Packer("pod", limit=6, partitions=undivided)
    ticks = evenly(4)

    first, second = packer.cut(ticks, next_ms=FIRST_DAY_MS + HOUR_MS)
    assert (first.watermark_ms, second.watermark_ms) == (2_000, HOUR_MS)

    (alone,) = packer.cut([], next_ms=FIRST_DAY_MS + DAY_MS)
    assert (alone.count, alone.watermark_ms, entries(alone)) == (0, DAY_MS, [])
