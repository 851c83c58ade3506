"""Batches: the readings in their order, by day, under numbers without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, cast

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.devices import lane_index
from hourglass.model.keys import DAY_MS, HOUR_MS, Keyspace, Partition
from hourglass.model.readings import Reading, milli_f
from producer.batch import NO_MORE_MS, Batch, Batcher

undivided = Keyspace().undivided
FIRST_DAY_MS = 1_735_689_600_000  # 1 January 2025

reading_lists = st.lists(
    st.builds(
        Reading,
        device=st.binary(max_size=20),
        ts_ms=st.integers(FIRST_DAY_MS, FIRST_DAY_MS + 3 * DAY_MS),
        milli_f=st.integers(-150_000, 250_000),
    )
)
limits = st.integers(1, 10)


def unpacked(batch: Batch) -> list[Reading]:
    """What the ingest script finds in `batch`."""
    flat, packed = cast(Any, msgpack).unpackb(batch.payload, raw=True)
    assert packed == []
    return [
        Reading(device, batch.partition.day_ms + int(ts), milli_f(temp_f))
        for device, ts, temp_f in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]


def at(*times_ms: int) -> list[Reading]:
    return [Reading(b"d", ts_ms, 73_000) for ts_ms in times_ms]


@given(readings=reading_lists, limit=limits)
def test_the_batches_hold_the_readings_in_their_order(readings: list[Reading], limit: int) -> None:
    batches = list(Batcher(limit=limit, partitions=undivided).cut(readings))

    assert [reading for batch in batches for reading in unpacked(batch)] == readings


@given(readings=reading_lists, limit=limits)
def test_a_batch_never_mixes_days(readings: list[Reading], limit: int) -> None:
    for batch in Batcher(limit=limit, partitions=undivided).cut(readings):
        assert {Keyspace().containing(each.ts_ms) for each in unpacked(batch)} == {batch.partition}


@given(readings=reading_lists, limit=limits)
def test_a_batch_is_full_unless_its_day_ends(readings: list[Reading], limit: int) -> None:
    runs = [len([*run]) for _, run in groupby(readings, lambda each: each.ts_ms // DAY_MS)]
    expected = [min(limit, run - start) for run in runs for start in range(0, run, limit)]

    assert [
        batch.count for batch in Batcher(limit=limit, partitions=undivided).cut(readings)
    ] == expected


@given(readings=reading_lists, limit=limits)
def test_a_batch_knows_its_size_and_its_latest_time(readings: list[Reading], limit: int) -> None:
    for batch in Batcher(limit=limit, partitions=undivided).cut(readings):
        held = unpacked(batch)
        assert batch.count == len(held)
        assert batch.latest_ms == max(reading.ts_ms for reading in held)


@given(rounds=st.lists(reading_lists, max_size=4), limit=limits)
def test_batches_are_numbered_from_one_without_gaps(
    rounds: list[list[Reading]], limit: int
) -> None:
    batcher = Batcher(limit=limit, partitions=undivided)
    sequences = [batch.sequence for readings in rounds for batch in batcher.cut(readings)]

    assert sequences == list(range(1, len(sequences) + 1))


def test_no_readings_make_no_batch() -> None:
    assert list(Batcher(limit=10, partitions=undivided).cut([])) == []


def test_a_batch_ends_at_midnight() -> None:
    midnight_ms = FIRST_DAY_MS + DAY_MS
    batches = list(Batcher(limit=10, partitions=undivided).cut(at(midnight_ms - 1, midnight_ms)))

    assert [batch.partition.stream for batch in batches] == ["temps:20250101", "temps:20250102"]


def test_a_payload_is_text_the_way_a_foreign_writer_would_write_it() -> None:
    (batch,) = Batcher(limit=10, partitions=undivided).cut(
        [Reading(b"lab-1", FIRST_DAY_MS + 3_600_000, -40_500)]
    )

    assert cast(Any, msgpack).unpackb(batch.payload, raw=True) == [
        [b"lab-1", b"3600000", b"-40.5"],
        [],
    ]


def three_lanes(day_ms: int) -> Sequence[Partition]:
    """Of every second day; the others have none."""
    if day_ms // DAY_MS % 2:
        return undivided(day_ms)
    return [Keyspace().partition(day_ms, number) for number in (0, 2, 5)]


@given(readings=reading_lists, limit=limits)
def test_with_lanes_every_reading_is_in_one_batch_and_a_devices_in_their_order(
    readings: list[Reading], limit: int
) -> None:
    batches = list(Batcher(limit=limit, partitions=three_lanes).cut(readings))

    shared_out = [reading for batch in batches for reading in unpacked(batch)]
    assert sorted(shared_out) == sorted(readings)
    for device in {reading.device for reading in readings}:
        assert [each for each in shared_out if each.device == device] == [
            each for each in readings if each.device == device
        ]
    assert [batch.sequence for batch in batches] == list(range(1, len(batches) + 1))
    assert all(batch.count == len(unpacked(batch)) <= limit for batch in batches)


@given(readings=reading_lists, limit=limits)
def test_a_batch_is_of_the_lane_that_its_devices_belong_to(
    readings: list[Reading], limit: int
) -> None:
    for batch in Batcher(limit=limit, partitions=three_lanes).cut(readings):
        for reading in unpacked(batch):
            lanes = three_lanes(Keyspace().containing(reading.ts_ms).day_ms)
            assert batch.partition == lanes[lane_index(reading.device, len(lanes))]


@given(readings=reading_lists, limit=limits)
def test_a_lanes_batch_is_full_unless_it_is_its_days_last(
    readings: list[Reading], limit: int
) -> None:
    of_a_day = sorted(readings, key=lambda each: each.ts_ms)
    batches = list(Batcher(limit=limit, partitions=three_lanes).cut(of_a_day))

    for partition in {batch.partition for batch in batches}:
        *full, _last = [batch.count for batch in batches if batch.partition == partition]
        assert full == [limit] * len(full)


@given(
    rounds=st.lists(st.lists(st.integers(0, 40), max_size=8), min_size=1, max_size=6),
    limit=limits,
)
def test_no_reading_from_before_a_watermark_follows_it_to_its_partition(
    rounds: list[list[int]], limit: int
) -> None:
    """Devices that take turns, from two hours before midnight on, in rounds that may begin and end
    within a tick."""
    start_ms = FIRST_DAY_MS + 22 * HOUR_MS
    ticks = sorted(tick for times in rounds for tick in times)
    readings = [
        Reading(b"d%d" % (n % 5), start_ms + tick * HOUR_MS // 8, 1) for n, tick in enumerate(ticks)
    ]
    batcher = Batcher(limit=limit, partitions=three_lanes)
    batches: list[Batch] = []
    for times in rounds:
        taken, readings = readings[: len(times)], readings[len(times) :]
        next_ms = readings[0].ts_ms if readings else NO_MORE_MS
        batches += batcher.cut(taken, next_ms=next_ms)
        newest = {batch.partition: batch.watermark_ms for batch in batches}
        for partition, watermark_ms in newest.items():
            reached_ms = min(DAY_MS, max(0, next_ms - partition.day_ms))
            assert watermark_ms // HOUR_MS == reached_ms // HOUR_MS

    for number, batch in enumerate(batches):
        for later in batches[number + 1 :]:
            if later.partition == batch.partition:
                held = [each.ts_ms - batch.partition.day_ms for each in unpacked(later)]
                assert min(held, default=DAY_MS) >= batch.watermark_ms
    assert [batch.sequence for batch in batches] == list(range(1, len(batches) + 1))


def test_every_partition_is_sent_the_watermark_when_that_is_asked_for() -> None:
    batcher = Batcher(limit=10, partitions=undivided)
    assert len([*batcher.cut(at(FIRST_DAY_MS), next_ms=FIRST_DAY_MS + 1_000)]) == 1

    assert [*batcher.cut([], next_ms=FIRST_DAY_MS + 1_000)] == []
    (batch,) = batcher.cut([], next_ms=FIRST_DAY_MS + 1_000, to_all=True)
    assert (batch.count, batch.entries, batch.watermark_ms) == (0, 0, 1_000)
    assert unpacked(batch) == []


def test_a_partition_whose_day_is_done_is_sent_no_more() -> None:
    batcher = Batcher(limit=10, partitions=undivided)
    assert len([*batcher.cut(at(FIRST_DAY_MS), next_ms=NO_MORE_MS)]) == 1

    assert [*batcher.cut([], next_ms=NO_MORE_MS, to_all=True)] == []
