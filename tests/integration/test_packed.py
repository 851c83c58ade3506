"""Whatever holds for a reading holds for each reading in a packed entry."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from hourglass.model.devices import BLOCK, device_names
from hourglass.model.entries import MOST_PACKED
from hourglass.model.keys import GROUP, HOUR_MS, Partition
from hourglass.model.readings import MILLI, Reason, Rules
from hourglass.monitoring.pipeline_status import collect
from hourglass.monitoring.stream_stats import read_streams
from hourglassctl.quarantine import quarantined, redrive
from producer.packed_batches import Packer
from producer.simulator_array import Tick
from producer.writer import Outcome
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, publish, reading, tick

WIDE = Rules(max_milli_f=1_000 * MILLI)


def amount(pipeline: Pipeline, hour: int, partition: Partition = DAY) -> tuple[int, float, int]:
    """Readings counted, their sum in degrees, devices."""
    record = pipeline.record(hour, partition)
    return record.count, record.sum_milli_f / MILLI, record.devices


def in_quarantine(pipeline: Pipeline) -> list[tuple[str, int]]:
    items = quarantined(pipeline.cluster, pipeline.clock.current())
    return [(item.reason, item.readings) for item in items]


def shown_in_quarantine(pipeline: Pipeline) -> int:
    """As the page has it."""
    return collect(pipeline.cluster, pipeline.clock.refresh()).quarantined[DAY.stream]


def redrive_all(pipeline: Pipeline, rules: Rules = WIDE) -> list[str]:
    items = list(quarantined(pipeline.cluster, pipeline.clock.current()))
    return [redrive(pipeline.cluster, item, rules, pipeline.clock.current()) for item in items]


def test_a_tick_counts_each_of_its_readings(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(3), 50, 51.5, 49.125))

    pipeline.count()

    assert pipeline.cluster.call("XLEN", DAY.stream) == 1
    assert amount(pipeline, 3) == (3, 150.625, 3)
    record = pipeline.record(3)
    assert (record.min_milli_f, record.max_milli_f) == (49_125, 51_500)


def test_a_batch_tried_again_adds_nothing(pipeline: Pipeline) -> None:
    publisher = pipeline.publisher("pod:1")
    (batch,) = Packer("pod", partitions=KEYS.undivided).cut(
        [tick(at(0), 50, 60), tick(at(0, 1), 50, 60)]
    )

    outcomes = [publish(publisher, batch) for _ in range(3)]
    pipeline.count()

    assert outcomes == [Outcome.TAKEN, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert amount(pipeline, 0) == (4, 220, 2)


def test_an_entry_over_the_end_of_an_hour_counts_in_both(pipeline: Pipeline) -> None:
    pipeline.pack(*(tick(at(4, 59, 58 + second), 10 + second, 20) for second in range(4)))

    pipeline.count()

    assert pipeline.cluster.call("XLEN", DAY.stream) == 1
    assert amount(pipeline, 4) == (4, 61, 2)
    assert amount(pipeline, 5) == (4, 65, 2)


def test_ticks_past_midnight_go_to_quarantine_and_the_others_count(pipeline: Pipeline) -> None:
    array = struct.pack("<6h", 500, 510, 520, 530, 540, 550)
    pipeline.xadd(ts=at(23, 59, 59), devices=2, period_ms=1_000, encoding="i16/10", temps_f=array)

    pipeline.count()

    assert amount(pipeline, 23) == (2, 101, 2)
    assert in_quarantine(pipeline) == [(Reason.WRONG_DAY, 4)]
    assert pipeline.audit().differences == []


def test_a_missing_reading_is_no_reading(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(0), 50, None, 52), tick(at(0, 1), None, None, 54))

    pipeline.count()

    assert amount(pipeline, 0) == (3, 156, 2)
    assert in_quarantine(pipeline) == []


def test_a_bad_reading_is_quarantined_alone(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(0), 50, 451, 52))

    pipeline.count()

    assert amount(pipeline, 0) == (2, 102, 2)
    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    alone = f"device=pod-1 ts={at(0)} temp_f=451"
    assert (item.reason, item.readings, list(item.shown)) == (Reason.IMPLAUSIBLE, 1, [alone])
    assert pipeline.metric("hourglass_readings_counted_total") == 2
    assert (
        pipeline.metric("hourglass_readings_quarantined_total", reason=str(Reason.IMPLAUSIBLE)) == 1
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"encoding": "i16/10", "temps_f": b"odd"},
        {"encoding": "f64", "temps_f": bytes(8)},
        {"temps_f": bytes(8)},
        {"encoding": "i16/10", "temps_f": bytes(6), "devices": 2},
        {"encoding": "i16/10", "temps_f": bytes(2 * MOST_PACKED + 2)},
        {"encoding": "i16/10", "temps_f": bytes(8), "temp_f": 73},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_what_cannot_be_unpacked_is_quarantined_whole(
    pipeline: Pipeline, fields: dict[str, Any]
) -> None:
    pipeline.xadd(entry_id=f"{at(1)}-0", **fields)
    pipeline.pack(tick(at(1), 50, 60))

    pipeline.count()

    assert amount(pipeline, 1) == (2, 110, 2)
    assert in_quarantine(pipeline) == [(Reason.BAD_ARRAY, 1)]
    assert redrive_all(pipeline) == [f"stays: {Reason.BAD_ARRAY}"]
    assert pipeline.audit().differences == []


def test_late_readings_are_counted_one_by_one(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(0), 50, 60), tick(at(1), 50, 60))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()

    pipeline.pack(*(tick(at(0, 59, 58 + second), 10, None, 30) for second in range(3)))
    pipeline.count()

    sealed = pipeline.record(0)
    assert (sealed.count, sealed.late, sealed.late_sum_milli_f) == (2, 4, 80_000)
    assert amount(pipeline, 1) == (4, 150, 3)
    assert pipeline.metric("hourglass_readings_late_total") == 4
    assert pipeline.metric("hourglass_readings_counted_total") == 6
    assert pipeline.audit().differences == []


def test_a_device_is_counted_once_an_hour_however_it_writes(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(2), device="pod-1"), reading(at(2), device="pod-7"))
    pipeline.pack(tick(at(2, 1), 50, 50, None, 50), tick(at(2, 2), None, 50, None, 50))
    pipeline.xadd(ts=at(2), temp_f=50, device="pod")
    pipeline.xadd(ts=at(2), first=3, device="pod", encoding="i16/10", temps_f=bytes(4))
    pipeline.xadd(ts=at(2), device="pod", encoding="i16/10", temps_f=bytes(2))
    first, second = pipeline.delivery(), pipeline.delivery()
    for delivery in (first, second, first, second):
        pipeline.commit(delivery, delivery.read(2, 1))
    pipeline.drive(at(3))
    pipeline.seal()

    # 0, 1, 3 and 4 of those in packed entries, 7, and the one without a number
    assert amount(pipeline, 2) == (11, 400, 6)
    (average,) = pipeline.averages()
    assert average.devices == 6


def test_a_hundred_thousand_devices_are_counted_exactly(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(0), *[50.0] * 99_999, None), device="pod-3")
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()

    assert amount(pipeline, 0) == (99_999, 4_999_950, 99_999)
    assert pipeline.cluster.call("HLEN", DAY.devices(0)) == -(-99_999 // BLOCK)
    pipeline.produce(reading(at(1)))
    pipeline.count()
    pipeline.drive(at(2))
    pipeline.seal()
    assert pipeline.cluster.call("EXISTS", DAY.devices(0)) == 0


def test_a_redriven_reading_counts_once_and_its_neighbours_no_more(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(0), 50, 451, 452), tick(at(1), 50, 2_000, 453))
    pipeline.count()
    assert in_quarantine(pipeline) == [(Reason.IMPLAUSIBLE, 4)]
    assert shown_in_quarantine(pipeline) == 4

    assert redrive_all(pipeline) == [f"redriven: 3 counted, 1 stay: {Reason.IMPLAUSIBLE}"]
    assert shown_in_quarantine(pipeline) == 1
    assert redrive_all(pipeline) == [f"stays: {Reason.IMPLAUSIBLE}"]
    pipeline.count()

    assert amount(pipeline, 0) == (3, 953, 3)
    assert amount(pipeline, 1) == (2, 503, 2)
    found = pipeline.audit()
    assert (found.differences, found.counted, found.quarantined) == ([], 5, 1)


def test_an_entry_all_of_which_was_unusable_can_be_redriven(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(0), 451, 452, None))
    pipeline.count()

    assert redrive_all(pipeline) == ["redriven: 2 counted"]

    assert amount(pipeline, 0) == (2, 903, 2)
    assert pipeline.audit().differences == []


def test_one_given_up_undecoded_can_be_redriven(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(0), 50, 60), tick(at(1), 50, 60))
    delivery = pipeline.delivery()
    entries = delivery.read(1, 1)
    pipeline.commit(delivery, [], given_up=[entries[0][0]])
    assert in_quarantine(pipeline) == [(Reason.UNDELIVERABLE, 1)]

    assert redrive_all(pipeline) == ["redriven: 4 counted"]

    assert (amount(pipeline, 0), amount(pipeline, 1)) == ((2, 110, 2), (2, 110, 2))
    assert pipeline.cluster.call("HGET", DAY.hours, "acknowledged") == b"4"
    assert pipeline.audit().differences == []


def test_when_the_group_is_lost_everything_is_counted_again(pipeline: Pipeline) -> None:
    pipeline.pack(tick(at(0), 50, 451, 52), tick(at(1), 50, 60, 70))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()

    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)
    pipeline.delivery()
    (state,) = read_streams(pipeline.cluster, [DAY.stream], GROUP)
    assert state.lag_readings == 6
    pipeline.count()

    assert (amount(pipeline, 0), amount(pipeline, 1)) == ((2, 102, 2), (3, 180, 3))
    assert pipeline.record(0).late == 0
    assert in_quarantine(pipeline) == [(Reason.IMPLAUSIBLE, 1)]
    assert shown_in_quarantine(pipeline) == 1
    assert pipeline.audit().differences == []


def test_the_lag_is_known_in_readings_too(pipeline: Pipeline) -> None:
    def lag() -> tuple[int | None, int | None]:
        (state,) = read_streams(pipeline.cluster, [DAY.stream], GROUP)
        return state.lag, state.lag_readings

    pipeline.pack(*(tick(at(0, minute), *[50.0] * 640) for minute in range(4)))
    pipeline.produce(reading(at(0)), reading(at(1)))
    pipeline.xadd(temp_f=73, ts=at(0))
    assert lag() == (7, 4 * 640 + 3)

    delivery = pipeline.delivery()
    assert lag() == (7, 4 * 640 + 3)
    entries = delivery.read(2, 1)
    assert lag() == (5, 4 * 640 + 3)
    pipeline.commit(delivery, entries)
    assert lag() == (5, 2 * 640 + 3)
    pipeline.count()
    assert lag() == (0, 0)


@dataclass
class Mix:
    """Writes entries of every kind, and knows what they amount to."""

    pipeline: Pipeline
    random: Random
    count: Counter[int] = field(default_factory=Counter[int])
    sum_milli_f: Counter[int] = field(default_factory=Counter[int])
    devices: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    unusable: int = 0

    def write(self, ts_ms: int) -> None:
        kind = self.random.choice([self.plain, self.foreign, self.bad, self.packed])
        kind(ts_ms)

    def plain(self, ts_ms: int) -> None:
        device, milli_f = f"pod-{self.random.randrange(20)}", self.random.randint(-9_999, 99_999)
        self.pipeline.produce(reading(ts_ms, milli_f / MILLI, device))
        self._sent(ts_ms, device, milli_f)

    def foreign(self, ts_ms: int) -> None:
        self.pipeline.xadd(ts=ts_ms, temp_f=73.5)
        self._sent(ts_ms, "unknown", 73_500)

    def bad(self, ts_ms: int) -> None:
        self.pipeline.xadd(ts=ts_ms, humidity=40)
        self.unusable += 1

    def packed(self, ts_ms: int) -> None:
        names = device_names("pod", self.random.randint(2, 15))
        ticks: list[Tick] = []
        for at_ms in range(ts_ms, ts_ms + self.random.randint(1, 3) * 60_000, 60_000):
            temps_f = [self.random.choice([None, 50.5, -20.25, 99.125, 999.0]) for _ in names]
            ticks.append(tick(at_ms, *temps_f))
            for name, temp_f in zip(names, temps_f, strict=True):
                if temp_f == 999.0:
                    self.unusable += 1
                elif temp_f is not None:
                    self._sent(at_ms, name, round(temp_f * MILLI))
        self.pipeline.pack(*ticks)

    def _sent(self, ts_ms: int, device: str, milli_f: int) -> None:
        hour = (ts_ms - DAY.day_ms) // HOUR_MS
        self.count[hour] += 1
        self.sum_milli_f[hour] += milli_f
        self.devices.setdefault(hour, set()).add(device)


@pytest.mark.parametrize("seed", range(3))
def test_any_mix_by_several_consumers_adds_up(pipeline: Pipeline, seed: int) -> None:
    """Read in pieces, by consumers of which some are lost with all they hold."""
    random = Random(seed)
    mix = Mix(pipeline, random)
    for round_ in range(100):
        mix.write(at(0) + round_ * 173_000)

    while unread(pipeline):
        delivery = pipeline.delivery()
        entries = delivery.read(random.randint(1, 12), 1)
        if random.random() < 0.7:
            pipeline.commit(delivery, entries)
            pipeline.commit(delivery, pipeline.claim(delivery, 0, limit=1_000)[0])

    records = pipeline.records()
    assert {hour: record.count for hour, record in records.items()} == mix.count
    assert {hour: record.sum_milli_f for hour, record in records.items()} == mix.sum_milli_f
    assert {hour: record.devices for hour, record in records.items()} == {
        hour: len(devices) for hour, devices in mix.devices.items()
    }
    found = pipeline.audit()
    assert (found.differences, found.quarantined) == ([], mix.unusable)


def unread(pipeline: Pipeline) -> int | None:
    (state,) = read_streams(pipeline.cluster, [DAY.stream], GROUP)
    return state.lag_readings
