"""The drill: some of its faults, and what it says when a reading is lost or counted twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from hourglass.model.keys import DAY_MS, GROUP
from tests.lab.drill.fault import Fault
from tests.lab.drill.report import Happened
from tests.lab.drill.run import perform
from tests.lab.drill.stage import AGGREGATORS, PRODUCERS, Stage, wait
from tests.support.processes import ROOT

#: The least that a stage can do; the machine of the tests has other things to do besides.
RATE = 1000

#: A drill takes real time; the longest test runs three.
pytestmark = [pytest.mark.extended, pytest.mark.timeout(600)]


def test_a_short_drill_keeps_every_promise() -> None:
    names = ["kill-aggregator", "kill-master-wait", "warehouse-locked"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.lab", "drill", *names, "--rate", str(RATE), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    outcomes = json.loads(ended.stdout)
    assert [each["fault"] for each in outcomes] == names
    for each in outcomes:
        assert (each["lost"], each["twice"], each["broken"]) == (0, 0, [])
        assert each["again_s"] > 0
        assert each["readings"] > 0


def planted(act: Callable[[Stage], Happened]) -> Fault:
    return Fault(name="planted", what="", act=act, rests_on="", proof="")


def test_it_finds_readings_that_another_program_deleted() -> None:
    def delete_three(stage: Stage) -> Happened:
        """Three that no aggregator has read: none runs, so none has asked for them either."""
        for name in AGGREGATORS:
            stage.services.signal(name, signal.SIGTERM)
        for name in AGGREGATORS:
            wait(lambda name=name: not stage.services.running(name), f"{name} ends")
        stream = stage.today().stream

        def unread() -> list[bytes]:
            groups = stage.redis.call("XINFO GROUPS", stream)
            (after,) = (
                each["last-delivered-id"] for each in groups if each["name"] == GROUP.encode()
            )
            entries = stage.redis.call("XRANGE", stream, b"(" + after, "+", "COUNT", 3)
            return [entry_id for entry_id, _ in entries] if len(entries) == 3 else []

        stage.redis.call("XDEL", stream, *wait(unread, "three are unread"))
        for name in AGGREGATORS:
            stage.start(name)
        return Happened(text="three readings were deleted")

    outcome = perform(planted(delete_three), rate=RATE, seed=1)

    assert (outcome.lost, outcome.twice) == (3, 0)
    assert "3 readings were lost" in outcome.broken
    assert not outcome.kept


def test_it_finds_readings_that_were_written_twice() -> None:
    def write_again(stage: Stage) -> Happened:
        stream = stage.today().stream
        for _, fields in stage.redis.call("XREVRANGE", stream, "+", "-", "COUNT", 5):
            flat = [part for pair in fields.items() for part in pair]
            stage.redis.call("XADD", stream, "*", *flat)
        return Happened(text="five readings were written again")

    outcome = perform(planted(write_again), rate=RATE, seed=1)

    assert (outcome.lost, outcome.twice) == (0, 5)
    assert not outcome.kept


def test_it_does_not_judge_by_readings_that_have_expired() -> None:
    def let_three_days_pass(stage: Stage) -> Happened:
        stage.set_clock(stage.now_ms() + 3 * DAY_MS, real_ms=stage.redis.clock()[1])
        stage.unpredictable.update(PRODUCERS)
        return Happened(text="three days passed")

    outcome = perform(planted(let_three_days_pass), rate=RATE, seed=1)

    (broken,) = outcome.broken
    assert "the first day's readings had expired" in broken
    assert not outcome.kept


def test_an_unknown_fault_is_refused_in_one_line_with_the_known_ones() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.lab", "drill", "earthquake"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "earthquake" in line
    assert "kill-master" in line


def test_the_faults_are_listed_with_what_they_do() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.lab", "drill", "--list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "kill-master          SIGKILL of today's shard" in ended.stdout
