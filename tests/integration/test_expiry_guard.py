"""How many hours remain until readings expire that nobody has counted: metric, /readyz, status."""

from __future__ import annotations

import json
import re
from collections.abc import Generator

import pytest

from tests.support.commands import run_hourglass
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading
from tests.support.services import Services, services
from tests.support.waiting import wait_until

LEFT = "hourglass_uncounted_expiry_seconds"
SAID = re.compile(r"^readings that are not counted yet expire in ([0-9.]+) hours$", re.MULTILINE)
ALL_COUNTED = "every reading is counted"
#: What somebody else holds stays with them.
HELD = ("--claim-idle-ms", "600000")


@pytest.fixture
def running(pipeline: Pipeline) -> Generator[Services]:
    with services(pipeline.url) as running:
        yield running


def status(pipeline: Pipeline, *options: str) -> str:
    return run_hourglass("status", "--redis-url", pipeline.url, *options).stdout


def in_hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def close_to(hours: float | None, wanted: float) -> bool:
    """The clock stands while the keys' time runs on."""
    return hours is not None and wanted - 0.5 < hours <= wanted


def test_uncounted_readings_are_reported_with_the_hours_until_they_expire(
    pipeline: Pipeline, running: Services
) -> None:
    pipeline.produce(reading(at(10)), reading(at(1, day=NEXT_DAY)))
    # The last reading of the day decides: two days after it the day expires.
    pipeline.drive(at(20, day=NEXT_DAY))
    somebody = pipeline.delivery()
    held = somebody.read(10, 1)
    waiting_h = (pipeline.cluster.call("PEXPIRETIME", DAY.stream) - real_ms(pipeline)) / 3_600_000

    name = running.aggregator("aggregator", *HELD)
    wait_until(lambda: running.metric(name, LEFT) is not None, message="it is not shown")
    wait_until(lambda: pipeline.record(1, NEXT_DAY).count == 1, message="the rest is not counted")
    wait_until(lambda: SAID.search(running.get(name, "/readyz")[1]), message="it is not said")

    assert close_to(in_hours(running.metric(name, LEFT)), waiting_h)
    ready, said = running.get(name, "/readyz")
    assert ready == 200
    assert close_to(float(SAID.findall(said)[0]), round(waiting_h, 1))
    assert close_to(float(SAID.findall(status(pipeline))[0]), round(waiting_h, 1))
    assert close_to(json.loads(status(pipeline, "--json"))["uncounted_expire_in_h"], waiting_h)

    pipeline.commit(somebody, held)
    wait_until(lambda: running.metric(name, LEFT) is None, message="it is still shown")
    wait_until(lambda: ALL_COUNTED in running.get(name, "/readyz")[1], message="it is not said")
    assert ALL_COUNTED in status(pipeline)
    assert json.loads(status(pipeline, "--json"))["uncounted_expire_in_h"] is None


def real_ms(pipeline: Pipeline) -> int:
    return pipeline.clock.refresh().real_ms
