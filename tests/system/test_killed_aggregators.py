"""Aggregators die at the worst moments, five times over, and every reading is counted once."""

from __future__ import annotations

import signal
from threading import Event, Thread
from typing import Self

import pytest

from hourglass.cluster.published import Result
from hourglass.model.keys import HOUR_MS
from hourglassctl.demo.run import expected_hours
from producer.simulator import Sensors
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline
from tests.support.services import services
from tests.support.waiting import wait_until

#: At which of its commits each process of that name is killed, with a batch in flight.
DEATHS = {"aggregator-1": (2, 5), "aggregator-2": (3, 7), "aggregator-3": (4,)}
#: The load waits for the aggregators when they are so far behind.
HOURS_AHEAD = 6


def sensors() -> Sensors:
    """One for each of three lanes."""
    return Sensors(["porch", "porch-6", "porch-7"], seed=7, period_ms=1000)


class Load:
    """Writes hour after hour and drives the clock, until it is stopped at the end of an hour."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._stop = Event()
        self._thread = Thread(target=self._write)
        self.end_ms = DAY.day_ms

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        devices = sensors()
        while not self._stop.is_set():
            next_hour_ms = self.end_ms + HOUR_MS
            self._pipeline.produce(*devices.read(self.end_ms, next_hour_ms))
            self._pipeline.drive(next_hour_ms)
            self.end_ms = next_hour_ms
            while self.end_ms - published_until(self._pipeline) > HOURS_AHEAD * HOUR_MS:
                if self._stop.wait(0.01):
                    return


def published_until(pipeline: Pipeline) -> int:
    """The end of the last published hour."""
    published_through = pipeline.cluster.call("GET", KEYS.published_through)
    return DAY.day_ms if published_through is None else int(published_through) + HOUR_MS


@pytest.mark.system
@pytest.mark.usefixtures("redis")
def test_every_reading_is_counted_once_whichever_aggregator_is_killed(
    redis_url: str, lanes: int
) -> None:
    with Pipeline(redis_url, lanes=lanes) as pipeline, services(redis_url) as running:
        deaths = {
            name: [f"commit.before:kill@{each}" for each in at] for name, at in DEATHS.items()
        }

        def start(name: str) -> None:
            running.aggregator(name, faults=deaths[name].pop(0) if deaths[name] else "")

        for name in DEATHS:
            start(name)
        with Load(pipeline) as load:
            for name, passages in DEATHS.items():
                for _ in passages:
                    assert running.exit_status(name) == -signal.SIGKILL
                    start(name)
        wait_until(
            lambda: published_until(pipeline) == load.end_ms,
            message="the last hour is never published",
        )
        assert running.failed() == []
        check(pipeline, load.end_ms)


def check(pipeline: Pipeline, end_ms: int) -> None:
    expected = expected_hours([sensors()], DAY.day_ms, end_ms)
    records = pipeline.day_records()
    counted = {
        record.start_ms: Result(record.count, record.sum_milli_f)
        for record in records
        if record.count
    }
    assert counted == expected
    assert sum(record.late for record in records) == 0

    averages = pipeline.averages()
    hours = [start_ms for start_ms in expected if start_ms >= averages[0].start_ms]
    assert [average.start_ms for average in averages] == hours
    assert {each.start_ms: Result(each.count, each.sum_milli_f) for each in averages} == {
        start_ms: expected[start_ms] for start_ms in hours
    }
    assert pipeline.cluster.call("XINFO STREAM", KEYS.averages)["entries-added"] == len(expected)

    found = pipeline.audit()
    assert found.differences == []
    assert (found.lost, found.twice) == (0, 0)
