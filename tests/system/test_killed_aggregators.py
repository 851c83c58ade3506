"""Aggregators die at the worst moments, five times over, and every reading is counted once."""

from __future__ import annotations

import signal
import time
from random import Random
from threading import Event, Thread
from typing import Any, Self

import pytest
from redis.exceptions import ResponseError

from hourglass.keys import GROUP, HOUR_MS
from hourglass.partitions import candidates
from hourglass.publication import Result
from hourglassctl.verdict import expected_hours
from producer.sensor import Sensors
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline
from tests.support.services import Services, services
from tests.support.waiting import wait_until

AGGREGATORS = ("aggregator-1", "aggregator-2", "aggregator-3")
KILLS = 5
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
    frontier = pipeline.cluster.call("GET", KEYS.frontier)
    return DAY.day_ms if frontier is None else int(frontier) + HOUR_MS


def held_by(pipeline: Pipeline, name: str) -> int:
    """Entries that this aggregator's consumers have in their hands."""
    known = candidates(pipeline.cluster, pipeline.clock.look())
    replies = pipeline.cluster.pipeline([("XINFO CONSUMERS", each.stream, GROUP) for each in known])
    opened: list[list[dict[str, Any]]] = [r for r in replies if not isinstance(r, ResponseError)]
    return sum(
        info["pending"]
        for consumers in opened
        for info in consumers
        if info["name"].decode().startswith(f"{name}-")
    )


def kill_with_entries_in_its_hands(pipeline: Pipeline, running: Services, name: str) -> None:
    def caught() -> bool:
        running.signal(name, signal.SIGSTOP)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            if held_by(pipeline, name):
                return True
        running.signal(name, signal.SIGCONT)
        return False

    wait_until(caught, message=f"{name} never holds anything", every_s=0.1)
    running.kill(name)


@pytest.mark.system
@pytest.mark.usefixtures("redis")
def test_whoever_is_killed_every_reading_is_counted_once(redis_url: str, lanes: int) -> None:
    random = Random()
    with Pipeline(redis_url, lanes=lanes) as pipeline, services(redis_url) as running:
        for name in AGGREGATORS:
            running.aggregator(name)
        with Load(pipeline) as load:
            for kill in range(KILLS):
                victim = AGGREGATORS[kill % len(AGGREGATORS)]
                running.await_ready(victim)
                time.sleep(random.uniform(0, 0.3))
                kill_with_entries_in_its_hands(pipeline, running, victim)
                running.aggregator(victim)
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
