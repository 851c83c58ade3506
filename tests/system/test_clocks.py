"""Whoever's clock is wrong, the pipeline goes by one: Redis' own, through the pipeline clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hourglass.model.readings import Reason
from hourglassctl.quarantine import quarantined
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import Services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

SPEED = 600.0
EAGER = ("aggregator", "--lateness-s=0")
#: A process that begins with this has a wall clock that leaps two hours to and fro, however it asks
#: for the time.
RESTLESS = """
import datetime, itertools, time

wall, wall_ns = time.time, time.time_ns
leaps = itertools.cycle([0, 7200, -7200])

class Restless(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(wall() + next(leaps), tz)

time.time = lambda: wall() + next(leaps)
time.time_ns = lambda: wall_ns() + next(leaps) * 10**9
datetime.datetime = Restless
"""


def counted(pipeline: Pipeline) -> tuple[int, int]:
    records = pipeline.records().values()
    return sum(each.count for each in records), sum(each.late for each in records)


def test_a_writer_two_hours_ahead_is_quarantined_and_one_two_hours_behind_is_late(
    pipeline: Pipeline, running: Services
) -> None:
    pipeline.run_clock(at(12), 1.0)
    pipeline.produce(*(reading(at(hour)) for hour in (10, 11, 12)))
    running.aggregator(*EAGER)
    wait_until(lambda: len(pipeline.averages()) == 2, message="hour 11 is not published")

    pipeline.xadd(ts=at(14), temp_f=73, device="ahead")
    pipeline.xadd(ts=at(10), temp_f=73, device="behind")

    wait_until(lambda: counted(pipeline) == (3, 1), message="the one behind is not late")
    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    assert item.reason == Reason.FAR_FUTURE
    assert pipeline.record(10).late == 1
    assert [average.start_ms for average in pipeline.averages()] == [at(10), at(11)]
    assert pipeline.audit().differences == []


@pytest.mark.extended
def test_a_pod_whose_clock_leaps_does_its_work_like_any_other(
    pipeline: Pipeline, running: Services, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(RESTLESS)
    pipeline.run_clock(at(0), SPEED)
    running.producer("porch", "--devices=3", PYTHONPATH=str(tmp_path))
    running.aggregator(*EAGER, PYTHONPATH=str(tmp_path))

    wait_until(lambda: len(pipeline.averages()) >= 3, message="nothing is published")

    running.await_ready("porch", "aggregator")
    check_nothing_amiss(pipeline, running)


def test_the_pipeline_clock_leaps_ahead_and_nothing_is_lost(
    pipeline: Pipeline, running: Services
) -> None:
    pipeline.run_clock(at(0), SPEED)
    running.producer("porch", "--devices=3")
    running.aggregator("aggregator", "--lateness-s=2")
    wait_until(lambda: counted(pipeline)[0] > 1_000, message="too little is counted")

    pipeline.run_clock(at(9), SPEED)

    wait_until(lambda: pipeline.record(10).count > 0, message="it does not go on at the new time")
    for name in ("porch", "aggregator"):
        assert running.said(name).count("the pipeline clock was changed: simulated") == 1
    check_nothing_amiss(pipeline, running)
    assert pipeline.record(4).count == 0


def test_readings_that_arrive_before_a_leap_is_noticed_are_counted(
    pipeline: Pipeline, running: Services
) -> None:
    pipeline.run_clock(at(0), 1.0)
    pipeline.produce(reading(at(0)))
    running.aggregator("aggregator", "--seal-every-ms=60000")  # and looks at the clock as seldom
    wait_until(lambda: counted(pipeline) == (1, 0), message="it is not counted")

    pipeline.run_clock(at(9), 1.0)
    pipeline.produce(reading(at(9)))
    pipeline.xadd(ts=at(12), temp_f=73, device="ahead")

    wait_until(lambda: pipeline.record(9).count == 1, message="it is not counted")
    wait_until(lambda: len(list(quarantined(pipeline.cluster, pipeline.clock.current()))) == 1)


def check_nothing_amiss(pipeline: Pipeline, running: Services) -> None:
    assert running.terminate("porch") == 0
    tally = json.loads(running.output("porch").read_text())
    assert tally["dropped"] == 0
    assert tally["produced"] == tally["taken"] == pipeline.cluster.call("XLEN", DAY.stream)
    wait_until(
        lambda: sum(counted(pipeline)) == tally["taken"], message="not everything is counted"
    )
    assert pipeline.cluster.call("EXISTS", DAY.quarantine) == 0
    starts = [average.start_ms for average in pipeline.averages()]
    assert starts == sorted(set(starts))
    assert pipeline.audit().differences == []
