"""Days as they really are: gaps, silence, a start in mid-hour, disorder, and a last hour.

Each test is a defect of the exercise's own code, found by running it.
"""

from __future__ import annotations

from collections.abc import Iterable

from hourglass.model.clock import ClockSpec, Mode, PipelineClock
from hourglass.model.keys import DAY_MS, HOUR_MS
from hourglass.model.readings import Reading
from hourglassctl.replay import EXERCISE_START_MS as START_MS
from producer.batch import Batcher
from producer.writer import BatchWriter, Outcome
from tests.story.conftest import Running
from tests.support.keyspace import KEYS


class Writer:
    """A replayer: writes readings, then moves the pipeline clock."""

    def __init__(self, running: Running) -> None:
        self._clock = PipelineClock(running.cluster)
        self.move_clock(START_MS)
        self._publisher = BatchWriter(running.cluster, self._clock, incarnation="writer")
        self._batcher = Batcher(limit=1000, partitions=KEYS.undivided)

    def move_clock(self, at_ms: int) -> None:
        self._clock.set(ClockSpec(mode=Mode.MANUAL, origin_ms=at_ms))

    def write(self, times: Iterable[int], temp_f: int) -> None:
        readings = [Reading(b"porch", ts_ms, temp_f * 1000) for ts_ms in times]
        for batch in self._batcher.cut(readings):
            self._publisher.put(batch)
        assert all(outcome is Outcome.TAKEN for _, outcome in self._publisher.settle())


def hour(number: int) -> int:
    """The start of an hour, counted from the first day's first."""
    return START_MS + number * HOUR_MS


def minutes(number: int, first: int = 0, last: int = 59) -> range:
    """The minutes of an hour, as times."""
    return range(hour(number) + first * 60_000, hour(number) + last * 60_000 + 1, 60_000)


def published(running: Running) -> list[tuple[int, int, float]]:
    """Hour, readings, and average of each row."""
    return [
        ((average.start_ms - START_MS) // HOUR_MS, average.count, average.mean_milli_f / 1000)
        for average in running.averages()
    ]


def test_a_silence_of_24_hours_does_not_merge_two_days(running: Running) -> None:
    writer = Writer(running)
    writer.write(minutes(3), 40)
    writer.move_clock(hour(27))
    writer.write(minutes(27), 60)
    writer.move_clock(hour(28))
    running.await_published(hour(27))
    assert published(running) == [(3, 60, 40.0), (27, 60, 60.0)]


def test_the_first_reading_may_come_in_the_middle_of_any_hour(running: Running) -> None:
    writer = Writer(running)
    writer.write(minutes(13, first=30), 70)
    writer.move_clock(hour(14))
    running.await_published(hour(13))
    assert published(running) == [(13, 30, 70.0)]


def test_the_last_hour_closes_without_newer_readings(running: Running) -> None:
    writer = Writer(running)
    writer.write(minutes(0, last=9), 50)
    writer.move_clock(hour(1))
    running.await_published(hour(0))
    assert published(running) == [(0, 10, 50.0)]


def test_a_silent_day_stalls_nothing(running: Running) -> None:
    writer = Writer(running)
    writer.write(minutes(23), 50)
    writer.move_clock(hour(49))
    writer.write(minutes(49), 51)
    writer.move_clock(hour(50))
    running.await_published(hour(49))
    assert published(running) == [(23, 60, 50.0), (49, 60, 51.0)]


def test_readings_out_of_order_are_averaged_as_long_as_the_hour_is_open(running: Running) -> None:
    writer = Writer(running)
    writer.write(reversed(minutes(0)), 10)
    writer.write(minutes(1), 20)
    writer.write(minutes(0), 30)
    writer.move_clock(hour(2))
    running.await_published(hour(1))
    assert published(running) == [(0, 120, 20.0), (1, 60, 20.0)]


def test_yesterdays_readings_are_still_taken_after_today_began(running: Running) -> None:
    writer = Writer(running)
    writer.write(minutes(24), 50)
    writer.write(minutes(22), 40)
    writer.write(minutes(23), 41)
    writer.move_clock(START_MS + DAY_MS + HOUR_MS)
    running.await_published(hour(24))
    assert published(running) == [(22, 60, 40.0), (23, 60, 41.0), (24, 60, 50.0)]


def test_an_average_is_a_decimal_number_under_the_id_of_its_hour(running: Running) -> None:
    writer = Writer(running)
    writer.write(minutes(5, last=1), 50)
    writer.write(minutes(5, last=0), 51)
    writer.move_clock(hour(6))
    running.await_published(hour(5))
    (entry,) = running.cluster.call("XRANGE", KEYS.averages, "-", "+")
    entry_id, fields = entry
    assert entry_id == f"{hour(5)}-0".encode()
    assert fields[b"average_temp_f"] == b"50.333"
    assert fields[b"date"] == b"2025/01/01"
    assert fields[b"hour"] == b"5"
