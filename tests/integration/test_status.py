"""`hourglass status` says in one screen, and by its exit status, whether the pipeline is well."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from hourglass.model.keys import AVERAGES_GROUP, GROUP, HOUR_MS
from hourglass.monitoring import problems
from hourglassctl import silent_devices
from hourglassctl.silent_devices import SilentDevices, silent
from hourglassctl.status import Consumer, gather, process_of, together
from tests.support.commands import run_hourglass
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading
from tests.support.services import services
from tests.support.waiting import PATIENCE_S, wait_until

COMMAND = [sys.executable, "-m", "hourglassctl", "status", "--redis-url"]


def status(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run_hourglass("status", "--redis-url", url, *options)


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
        screen = status(redis_url).stdout
        assert screen.rstrip().endswith("\nhealthy")
        assert re.search(
            rf"producers that have written to {KEYS.pipeline}:\d{{8}}: porch\n", screen
        )
        assert re.search(r"shards: #1 127\.0\.0\.1:\d+", screen), "no shard's address"
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
    assert f"No consumer reads {DAY.stream}" in done.stdout
    assert done.stdout.rstrip().endswith("NOT HEALTHY")
    found = document(redis_url)
    # The shared cluster may have no append-only file.
    assert {each["code"] for each in found["problems"]} - {"no-append-only-file"} == {"no-consumer"}


def test_what_is_over_does_not_make_it_ill(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.run_clock(at(5), 1)
    pipeline.xadd(temp_f="warm", ts=at(5))
    pipeline.count()
    pipeline.cluster.call("XGROUP", "CREATECONSUMER", DAY.stream, GROUP, "somebody-0a1b2c3d-1")
    found = document(redis_url)
    assert "quarantine" in [each["code"] for each in found["problems"]]
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
    told = [each["text"] for each in found["problems"] if each["code"] == "readings-lost"]
    assert [text.partition(": ")[0] for text in told] == [
        f"2 acknowledged readings of {DAY.stream} are missing"
    ]
    assert found["healthy"] is True


def codes(pipeline: Pipeline) -> list[str]:
    """Besides what is so of the shared cluster."""
    status = gather(pipeline.cluster, pipeline.clock, period_s=1)
    return [each.code for each in status.problems if each.code != "no-append-only-file"]


def test_an_aggregator_that_is_gone_reads_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its group knows it all the while."""
    monkeypatch.setattr(problems, "PATIENCE_MS", 2_000)
    pipeline.run_clock(at(5), 1)
    pipeline.produce(reading(at(5)), reading(at(5, 0, 1)))
    gone = pipeline.delivery()
    assert gone.read(1, 1)
    assert "no-consumer" not in codes(pipeline)
    wait_until(lambda: "no-consumer" in codes(pipeline), message="the dead reader is missed")

    other = pipeline.delivery()
    assert other.read(1, 1)
    assert "no-consumer" not in codes(pipeline)
    monkeypatch.setattr(problems, "STUCK_MS", 2_000)
    assert "pending-stuck" in codes(pipeline)


def test_averages_that_nobody_loads_are_told(
    pipeline: Pipeline, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    assert codes(pipeline) == ["averages-not-loaded"]
    done = status(redis_url)
    assert done.returncode == 1
    assert "1 average waits to be loaded" in done.stdout

    monkeypatch.setattr(problems, "PATIENCE_MS", 2_000)
    call = pipeline.cluster.call
    call("XGROUP CREATE", KEYS.averages, AVERAGES_GROUP, "0")
    read = ("XREADGROUP", "GROUP", AVERAGES_GROUP, "loader-0a1b2c3d", "STREAMS", KEYS.averages, ">")
    assert call(*read)
    assert codes(pipeline) == []

    def held_by_one_that_lives() -> bool:
        call(*read)  # it asks for more, and cannot write what it has
        return codes(pipeline) == ["averages-not-loaded"]

    wait_until(held_by_one_that_lives, message="an average that is held is missed")
    call("XACK", KEYS.averages, AVERAGES_GROUP, f"{at(0)}-0")
    assert codes(pipeline) == []


def test_readings_that_expire_soon_uncounted_are_told(pipeline: Pipeline) -> None:
    pipeline.run_clock(at(5), 1)
    pipeline.produce(reading(at(5)))
    assert "readings-at-risk" not in codes(pipeline)
    pipeline.cluster.call("PEXPIRE", DAY.stream, HOUR_MS)
    assert "readings-at-risk" in codes(pipeline)
    pipeline.count()
    assert "readings-at-risk" not in codes(pipeline)


PORCHES = [f"porch-{number}" for number in range(8)]


def give(pipeline: Pipeline, ts_ms: int, *devices: str) -> None:
    """A reading of each, counted."""
    pipeline.produce(*(reading(ts_ms, device=each) for each in devices))
    pipeline.count(*pipeline.partitions())


def pass_to(pipeline: Pipeline, now_ms: int) -> None:
    """The hours before are sealed."""
    pipeline.drive(now_ms)
    pipeline.seal()


def told(pipeline: Pipeline, *, period_s: float = 1.0) -> SilentDevices:
    status = gather(pipeline.cluster, pipeline.clock, period_s=period_s)
    assert bool(status.silence.count) == ("devices-silent" in [t.code for t in status.problems])
    return status.silence


def test_who_has_fallen_silent_is_named_over_midnight_and_lanes(
    redis: RedisCluster,  # noqa: ARG001
    redis_url: str,
) -> None:
    with Pipeline(redis_url, lanes=3) as pipeline:
        give(pipeline, at(22), "gone-for-long")
        give(pipeline, at(23), *PORCHES)
        # The next day is shared out to others: each device that changes its lane is still the same.
        there = [reading(at(0, day=NEXT_DAY), device=each) for each in PORCHES if each[-1] != "4"]
        pipeline.writer("other", lanes=2).produce(*there)
        pipeline.count(*pipeline.partitions())
        assert len(pipeline.partitions()) == 3 + 2
        pass_to(pipeline, at(0, 2, day=NEXT_DAY))

        done = status(redis_url)
        assert done.returncode == 1
        assert re.search(
            r"warning +1 device of the previous hour sent no reading in this one yet: porch-4\.",
            done.stdout,
        )
        assert "devices of the previous hour that are silent in it: 1\n" in done.stdout
        assert document(redis_url)["hour_in_progress"]["silent_devices"] == {
            "count": 1,
            "first_names": ["porch-4"],
            "unknown": None,
        }
        give(pipeline, at(0, 1, day=NEXT_DAY), "porch-4")
        assert told(pipeline) == SilentDevices(count=0)


def test_who_was_silent_all_the_hour_before_is_not_told_again(pipeline: Pipeline) -> None:
    give(pipeline, at(0), *PORCHES)
    give(pipeline, at(1), *PORCHES[1:])
    pass_to(pipeline, at(1, 30))
    assert told(pipeline) == SilentDevices(count=1, names=("porch-0",))

    give(pipeline, at(2), *PORCHES[1:])
    pass_to(pipeline, at(2, 30))
    assert told(pipeline) == SilentDevices(count=0)


def test_of_many_only_the_first_are_named(pipeline: Pipeline) -> None:
    give(pipeline, at(0), "attic", *PORCHES, "\x1b[31mred")
    pass_to(pipeline, at(1, 30))
    found = told(pipeline)
    assert found == SilentDevices(count=10, names=("?[31mred", "attic", *PORCHES[:3]))
    (problem,) = silent(found)
    assert "10 devices" in problem.text
    assert "porch-2 and 5 more." in problem.text


@pytest.mark.parametrize(("now_ms", "period_s"), [(at(1, 1), 1.0), (at(1, 5), 300.0)])
def test_nobody_is_called_silent_before_everybody_has_had_a_turn(
    pipeline: Pipeline, now_ms: int, period_s: float
) -> None:
    give(pipeline, at(0), "porch")
    pass_to(pipeline, now_ms)
    assert told(pipeline, period_s=period_s) == SilentDevices(unknown="the hour has only begun")

    pass_to(pipeline, now_ms + 60_000)
    assert told(pipeline, period_s=period_s).names == ("porch",)


def test_who_is_silent_is_unknown_while_counting_is_behind(
    pipeline: Pipeline, redis_url: str
) -> None:
    behind = SilentDevices(unknown="counting is behind")
    give(pipeline, at(0), *PORCHES)
    pipeline.produce(*(reading(at(1), device=each) for each in PORCHES[1:]))
    pass_to(pipeline, at(1, 30))
    assert told(pipeline) == behind
    screen = status(redis_url).stdout
    assert "that are silent in it: unknown, counting is behind\n" in screen
    assert document(redis_url)["hour_in_progress"]["silent_devices"]["count"] is None

    slow = pipeline.delivery()
    held = slow.read(10, 1)
    assert told(pipeline) == behind

    pipeline.commit(slow, held)
    pass_to(pipeline, at(1, 31))
    # What is on its way now is of later than what could tell.
    pipeline.produce(reading(at(1, 31)))
    assert told(pipeline).names == ("porch-0",)


def test_who_is_silent_is_unknown_before_the_hour_before_is_sealed(pipeline: Pipeline) -> None:
    give(pipeline, at(0), "porch")
    pipeline.drive(at(1, 30))
    assert told(pipeline) == SilentDevices(unknown="counting is behind")


def test_who_is_silent_is_unknown_where_devices_have_no_period_in_common(
    pipeline: Pipeline,
) -> None:
    give(pipeline, at(0), "porch")
    pass_to(pipeline, at(1, 30))
    assert told(pipeline, period_s=0).unknown == "the devices have no common period"


@pytest.mark.parametrize("hour", [0, 1])
def test_who_is_silent_is_unknown_where_the_names_are_gone(pipeline: Pipeline, hour: int) -> None:
    give(pipeline, at(0), *PORCHES)
    give(pipeline, at(1), *PORCHES)
    pass_to(pipeline, at(1, 30))
    assert told(pipeline).count == 0

    pipeline.cluster.call("DEL", DAY.devices(hour))
    assert told(pipeline).unknown == "the sets of seen devices are incomplete"


def test_a_fleet_of_too_many_names_is_not_compared(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(pipeline, at(0), "attic", "porch")
    give(pipeline, at(1), "porch")
    pass_to(pipeline, at(1, 30))
    assert told(pipeline).names == ("attic",)

    monkeypatch.setattr(silent_devices, "MOST_BLOCKS", 2)
    assert told(pipeline).unknown == "there are too many names to compare"


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


def test_watch_through_a_pipe_is_a_screen_each_time(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.run_clock(at(5), 1)
    with subprocess.Popen(
        [*COMMAND, redis_url, "--watch"], stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout
        clocks = (line for line in watching.stdout if line.startswith("pipeline clock 2025-01-01"))
        assert next(clocks) != next(clocks)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE_S) == 130


def test_through_a_pipe_nothing_is_cropped(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.drive(at(5))
    pipeline.produce(reading(at(5)))

    (line,) = (
        line for line in status(redis_url).stdout.splitlines() if line.startswith(DAY.stream)
    )
    assert line.split()[:2] == [DAY.stream, "#1"]
    assert "…" not in line
    assert len(line) > 80


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
