"""`hourglass status` says in one screen, and by its exit status, whether the pipeline is well."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hourglass.keys import AVERAGES_GROUP, GROUP
from hourglassctl.status import Consumer, process_of, together
from tests.pipeline import DAY, Pipeline, at, reading
from tests.services import services
from tests.waiting import PATIENCE_S, wait_until

COMMAND = [sys.executable, "-m", "hourglassctl", "status", "--redis-url"]


def status(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, url, *options], capture_output=True, text=True, check=False)


def document(url: str) -> dict[str, Any]:
    return json.loads(status(url, "--json").stdout)


def test_a_pipeline_that_is_well(pipeline: Pipeline, redis_url: str, tmp_path: Path) -> None:
    pipeline.use_wall_clock()
    with services(redis_url, HOURGLASS_WAREHOUSE_URL=f"sqlite:///{tmp_path}/w.db") as running:
        running.producer("porch", "--devices", "2")
        running.aggregator("counter")
        running.start("loader", "averages_consumer")
        running.await_ready("porch", "counter", "loader")
        counted = "hourglass_readings_counted_total"
        wait_until(
            lambda: (running.metric("counter", counted) or 0) > 5, message="nothing is counted"
        )
        wait_until(lambda: status(redis_url).returncode == 0, message="it does not become healthy")
        assert status(redis_url).stdout.rstrip().endswith("\nhealthy")
        found = document(redis_url)
        assert found["healthy"] is True
        at_work = {(each["group"], each["process"]) for each in found["consumers"]}
        # Redis before 7.2 knows of nobody whom it has given nothing yet.
        assert at_work - {(AVERAGES_GROUP, "loader")} == {(GROUP, "counter")}
        assert found["producers"] == ["porch"]
        assert found["hour_in_progress"]["devices"] == 2


def test_what_is_wrong_is_said_and_the_exit_status_with_it(
    pipeline: Pipeline, redis_url: str
) -> None:
    pipeline.run_clock(at(5), 1)
    pipeline.produce(reading(at(5)))
    done = status(redis_url)
    assert done.returncode == 1
    assert f"Nobody reads {DAY.stream}" in done.stdout
    assert done.stdout.rstrip().endswith("NOT HEALTHY")
    found = document(redis_url)
    assert [each["code"] for each in found["troubles"]] == ["nobody-reads"]


def test_what_is_over_does_not_make_it_ill(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.run_clock(at(5), 1)
    pipeline.xadd(temp_f="warm", ts=at(5))
    pipeline.count()
    pipeline.cluster.call("XGROUP", "CREATECONSUMER", DAY.stream, GROUP, "somebody-0a1b2c3d-1")
    found = document(redis_url)
    assert "quarantine" in [each["code"] for each in found["troubles"]]
    assert found["healthy"] is True


def test_readings_that_redis_lost_are_told_and_are_of_the_past(
    pipeline: Pipeline, redis_url: str
) -> None:
    pipeline.run_clock(at(5), 1)
    pipeline.produce(reading(at(5)), reading(at(5, 0, 1)))
    pipeline.cluster.call("DEL", DAY.stream, *DAY.companions)
    pipeline.produce(reading(at(5, 0, 2)))
    pipeline.count()
    pipeline.cluster.call("XGROUP", "CREATECONSUMER", DAY.stream, GROUP, "somebody-0a1b2c3d-1")
    found = document(redis_url)
    told = [each["text"] for each in found["troubles"] if each["code"] == "readings-gone"]
    assert [text.partition(" that ")[0] for text in told] == [f"2 readings of {DAY.stream}"]
    assert found["healthy"] is True


def test_the_last_averages_are_shown(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.produce(*(reading(at(hour), 50.0 + hour) for hour in range(7)))
    pipeline.count()
    pipeline.drive(at(7))
    pipeline.seal()
    averages = document(redis_url)["last_averages"]
    assert [each["hour"] for each in averages] == ["6", "5", "4", "3", "2"]
    screen = status(redis_url).stdout
    assert "2025-01-01T06:00:00Z" in screen
    assert "56 °F" in screen


def test_watch_goes_on_until_it_is_told_to_stop(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.run_clock(at(5), 1)
    command = [*COMMAND, redis_url, "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        assert json.loads(watching.stdout.readline())["partitions"] == []
        pipeline.produce(reading(at(5)))
        for line in watching.stdout:
            if json.loads(line)["partitions"]:
                break
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE_S) == 130


@pytest.mark.parametrize(
    ("consumer", "process"),
    [
        ("aggregator-0-5e6f7a8b-1", "aggregator-0"),
        ("aggregator-7d9c-5e6f7a8b-2", "aggregator-7d9c"),
        ("averages-consumer-5e6f7a8b", "averages-consumer"),
        ("a-5e6f7a8b-1-claims", "a"),
        ("somebody", ""),
    ],
)
def test_a_consumer_belongs_to_a_process(consumer: str, process: str) -> None:
    assert process_of(consumer) == (process or consumer)


def test_a_process_holds_what_all_its_consumers_hold() -> None:
    rows = [(GROUP, "a", 3, 900), (GROUP, "a", 4, 20), (GROUP, "b", 0, 5)]
    assert together(rows) == [
        Consumer(group=GROUP, name="a", pending=7, idle_ms=20),
        Consumer(group=GROUP, name="b", pending=0, idle_ms=5),
    ]
