"""Raw readings live two days after their event time, on the pipeline clock, and no key for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hourglass.cluster.partitions import enter
from hourglass.model.clock import ClockSpec, Instant, Mode
from hourglass.model.keys import RETENTION_MS
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, day_after, reading
from tests.support.waiting import wait_until

TWO_DAYS_S = 2 * 86_400
CLOCKS: dict[str, Callable[[Pipeline], Instant]] = {
    "wall": lambda pipeline: pipeline.use_wall_clock(),
    "running": lambda pipeline: pipeline.run_clock(at(12), 14_400.0),
    "manual": lambda pipeline: pipeline.drive(at(12)),
}
LIVES_S = {"wall": TWO_DAYS_S, "running": TWO_DAYS_S / 14_400, "manual": TWO_DAYS_S}
every_clock = pytest.mark.parametrize("clock", CLOCKS)


def expires_ms(pipeline: Pipeline, key: str) -> int:
    """Real time at which `key` expires; -1 if it never does, -2 if it is not there."""
    return int(pipeline.cluster.call("PEXPIRETIME", key))


def around(instant: Instant) -> tuple[int, int]:
    """Two event times of one day, as close to now as the day allows."""
    day_ms = KEYS.containing(instant.now_ms).day_ms
    earlier = max(day_ms, instant.now_ms - 60_000)
    return earlier, max(earlier + 1, instant.now_ms)


@every_clock
def test_a_write_extends_the_expiry_to_two_days_after_its_event_time(
    pipeline: Pipeline, clock: str
) -> None:
    instant = CLOCKS[clock](pipeline)
    earlier, later = around(instant)
    stream = KEYS.containing(later).stream
    pipeline.produce(reading(earlier))
    before = expires_ms(pipeline, stream)

    pipeline.produce(reading(later))

    after = expires_ms(pipeline, stream)
    assert after > before
    assert after - instant.real_ms == pytest.approx(LIVES_S[clock] * 1000, abs=1000)


@every_clock
def test_an_older_reading_never_shortens_it(pipeline: Pipeline, clock: str) -> None:
    earlier, later = around(CLOCKS[clock](pipeline))
    stream = KEYS.containing(later).stream
    pipeline.produce(reading(later))
    before = expires_ms(pipeline, stream)

    pipeline.produce(reading(earlier))

    assert expires_ms(pipeline, stream) >= before


@every_clock
def test_counting_leaves_it_as_the_write_had_set_it(pipeline: Pipeline, clock: str) -> None:
    instant = CLOCKS[clock](pipeline)
    _, later = around(instant)
    partition = KEYS.containing(later)
    pipeline.produce(reading(later))
    before = expires_ms(pipeline, partition.stream)

    pipeline.count(partition)

    # A manual clock stands still while real time, which a key expires by, goes on.
    passed_ms = pipeline.clock.refresh().real_ms - instant.real_ms
    assert before <= expires_ms(pipeline, partition.stream) <= before + passed_ms


def test_counting_a_foreign_reading_extends_it_as_a_write_would(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.xadd(ts=at(6), temp_f=73)

    pipeline.count()

    life_ms = expires_ms(pipeline, DAY.stream) - pipeline.clock.current().real_ms
    assert life_ms == pytest.approx((TWO_DAYS_S + 6 * 3600) * 1000, abs=1000)


@every_clock
def test_the_companions_outlive_their_stream(pipeline: Pipeline, clock: str) -> None:
    _, now_ms = around(CLOCKS[clock](pipeline))
    partition = KEYS.containing(now_ms)
    pipeline.produce(reading(now_ms), reading(now_ms, temp_f=999.0))
    pipeline.count(partition)

    lives = {key: expires_ms(pipeline, key) for key in partition.companions}

    devices = partition.devices((now_ms - partition.day_ms) // 3_600_000)
    there = {partition.hours, partition.producers, partition.watermarks}
    there |= {partition.lanes, partition.quarantine, devices}
    assert {key for key, life in lives.items() if life != -2} == there
    assert min(lives[key] for key in there) > expires_ms(pipeline, partition.stream)


def test_the_index_lives_as_long_as_the_last_of_its_partitions_can(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)), reading(at(0, day=NEXT_DAY)))
    pipeline.produce(reading(at(1)))

    stream = expires_ms(pipeline, NEXT_DAY.stream)
    assert stream <= expires_ms(pipeline, KEYS.partitions) <= stream + 86_400_000


def test_the_index_forgets_partitions_that_have_expired(pipeline: Pipeline) -> None:
    instant = pipeline.clock.refresh()
    over_in_a_moment = ClockSpec(mode=Mode.MANUAL, origin_ms=DAY.end_ms + RETENTION_MS - 100)
    enter(pipeline.cluster, [DAY], Instant(over_in_a_moment, instant.real_ms))
    enter(pipeline.cluster, [NEXT_DAY], instant)
    assert listed(pipeline) == {DAY.stream, NEXT_DAY.stream}

    def forgotten() -> bool:
        enter(pipeline.cluster, [NEXT_DAY], instant)
        return listed(pipeline) == {NEXT_DAY.stream}

    wait_until(forgotten, message="the index still lists a partition that has expired")


def listed(pipeline: Pipeline) -> set[str]:
    return {name.decode() for name in pipeline.cluster.call("ZRANGE", KEYS.partitions, 0, -1)}


def test_records_created_again_by_counting_have_a_ttl(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()
    pipeline.cluster.call("DEL", DAY.hours)

    pipeline.count()

    assert expires_ms(pipeline, DAY.hours) > expires_ms(pipeline, DAY.stream)


def test_records_created_again_by_sealing_have_a_ttl(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()
    pipeline.cluster.call("DEL", DAY.hours)
    pipeline.drive(at(1))

    pipeline.seal()

    assert expires_ms(pipeline, DAY.hours) > expires_ms(pipeline, DAY.stream)


def test_a_foreign_stream_without_ttl_gets_one_when_it_is_opened(pipeline: Pipeline) -> None:
    pipeline.xadd(temp_f=73)
    assert expires_ms(pipeline, DAY.stream) == -1

    pipeline.open()

    life_ms = expires_ms(pipeline, DAY.stream) - pipeline.clock.current().real_ms
    assert life_ms == pytest.approx((86_400 + TWO_DAYS_S) * 1000, abs=1000)


def test_opening_does_not_lengthen_what_a_producer_has_set(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    before = expires_ms(pipeline, DAY.stream)

    pipeline.open()

    assert expires_ms(pipeline, DAY.stream) == before


def test_setting_the_clock_far_ahead_deletes_nothing(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)), reading(at(0), temp_f=999.0))
    pipeline.open()

    pipeline.drive(day_after(DAY, 365).day_ms)
    pipeline.count()
    pipeline.seal()

    # By the clock's leap they should be gone, and nobody could have looked at them.
    assert pipeline.cluster.call("XLEN", DAY.stream) == 2
    assert pipeline.cluster.call("XLEN", DAY.quarantine) == 1
    assert pipeline.record(0).count == 1
    assert expires_ms(pipeline, DAY.hours) > pipeline.clock.current().real_ms


def test_a_foreign_stream_opened_after_the_clock_leapt_is_counted(pipeline: Pipeline) -> None:
    pipeline.xadd(entry_id=f"{at(0)}-0", temp_f=73)
    pipeline.drive(day_after(DAY, 365).day_ms)

    pipeline.count()

    assert pipeline.record(0).count == 1


def test_when_the_clock_slows_down_what_lives_keeps_its_two_days(pipeline: Pipeline) -> None:
    """As in `make demo KEEP=1`: from 14,400 times its speed to 60 times, where the days ended."""
    pipeline.run_clock(NEXT_DAY.day_ms - 60_000, 14_400.0)
    pipeline.produce(reading(DAY.end_ms - 1000), reading(DAY.end_ms - 1000, temp_f=999.0))
    pipeline.count()
    keys = [
        DAY.stream,
        KEYS.partitions,
        *(key for key in DAY.companions if pipeline.cluster.call("EXISTS", key)),
    ]
    lived = {key: expires_ms(pipeline, key) for key in keys}

    instant = pipeline.run_clock(NEXT_DAY.day_ms, 60.0)

    two_days_ms = TWO_DAYS_S * 1000 / 60
    assert expires_ms(pipeline, DAY.stream) - instant.real_ms == pytest.approx(
        two_days_ms, abs=1000
    )
    for key in keys[2:]:
        assert expires_ms(pipeline, key) > expires_ms(pipeline, DAY.stream), key
    (dropped_ms,) = pipeline.cluster.call("ZRANGE", KEYS.partitions, 0, -1, "WITHSCORES")[1::2]
    assert float(dropped_ms) >= expires_ms(pipeline, DAY.stream)
    assert expires_ms(pipeline, KEYS.partitions) >= float(dropped_ms)
    assert all(expires_ms(pipeline, key) > lived[key] for key in keys)


@pytest.mark.parametrize("speed", [14_400.0, 0.5])
def test_no_change_of_the_clock_shortens_what_lives(pipeline: Pipeline, speed: float) -> None:
    pipeline.run_clock(at(12), 60.0)
    pipeline.produce(reading(at(12)))
    before = expires_ms(pipeline, DAY.stream)

    for change in (
        lambda: pipeline.run_clock(at(13), speed),
        pipeline.use_wall_clock,
        lambda: pipeline.drive(at(14)),
    ):
        change()
        assert expires_ms(pipeline, DAY.stream) >= before
        before = expires_ms(pipeline, DAY.stream)


def test_a_clock_that_goes_back_keeps_nothing_for_years(pipeline: Pipeline) -> None:
    instant = pipeline.use_wall_clock()
    today = KEYS.containing(instant.now_ms)
    pipeline.produce(reading(instant.now_ms))

    back = pipeline.run_clock(DAY.day_ms, 1.0)

    left_ms = expires_ms(pipeline, today.stream) - back.real_ms
    assert left_ms <= (TWO_DAYS_S + 86_400) * 1000
