"""The real scripts on a real cluster do what the model says, and planted bugs do not get by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha1
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.cluster import RedisCluster

from hourglass.cluster.scripts import Script
from hourglass.errors import HourglassError
from tests.protocol.machine import DAYS, FATES, FaultPoints, Machine
from tests.support.fault_injection import install

#: Hundreds of scripts on a real cluster, one after the other.
pytestmark = pytest.mark.timeout(300)

#: Without Phase.shrink, which takes minutes: add it to read the shortest way to a failure.
RUN = settings(
    max_examples=40,
    stateful_step_count=40,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
SCRIPTS = ("divide", "register", "ingest", "open", "commit", "seal", "publish", "reap")
HUNT = settings(RUN, max_examples=400, report_multiple_bugs=False)


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> FaultPoints:
    points = FaultPoints()
    install(points, monkeypatch.setattr)
    return points


def run(how: settings, redis: RedisCluster, redis_url: str, points: FaultPoints) -> None:
    machine: Any = partial(Machine, redis, redis_url, points)
    run_state_machine_as_test(machine, settings=how)


def test_the_scripts_do_what_the_model_says(
    redis: RedisCluster, redis_url: str, points: FaultPoints
) -> None:
    run(RUN, redis, redis_url, points)


def take_the_way(machine: Machine, script: str, fate: str) -> None:
    try:
        machine.begin()
        for step in machine.steps_with(script, fate):
            step()
            machine.everything_is_as_the_model_has_it()
    finally:
        machine.teardown()


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_call_that_fails_loses_nothing_and_doubles_nothing(
    redis: RedisCluster, redis_url: str, points: FaultPoints, script: str, fate: str
) -> None:
    """Each script, at each of its calls on the way from readings to averages."""
    machine = Machine(redis, redis_url, points)

    take_the_way(machine, script, fate)

    assert (script, fate) in points.tried
    assert len(machine.model.published) == len(DAYS)


@dataclass(frozen=True)
class Bug:
    """`right` is in the script that stands as `attribute` in `module`, once; `wrong` takes its
    place.

    shown_by: the script and its fate on the way from readings to averages; None if it takes a hunt
    """

    module: str
    attribute: str
    right: str
    wrong: str
    shown_by: tuple[str, str] | None = None


BUGS = {
    "a batch that was taken is taken again": Bug(
        "producer.writer",
        "_INGEST",
        "if before and sequence <= tonumber(last)",
        "if false",
        shown_by=("ingest", "lose reply"),
    ),
    "what another consumer has counted is counted again": Bug(
        "aggregator.commit",
        "_COMMIT",
        "if gone > 0 then",
        "if false then",
        shown_by=("commit", "lose request"),
    ),
    "what comes late is added to the sealed hour": Bug(
        "aggregator.commit", "_COMMIT", "if sealed then", "if false then"
    ),
    "an hour is sealed over pending entries": Bug(
        "aggregator.sealer",
        "_SEAL",
        "and #redis.call('XPENDING', stream, group, '-', cut_off, 1) == 0",
        "",
    ),
    "an hour waits for whatever came after it was over": Bug(
        "aggregator.sealer", "_SEAL", "if alive and not empty and not cut_off and", "if alive and"
    ),
    "what is published is not remembered": Bug(
        "aggregator.publisher",
        "_PUBLISH",
        "redis.call('SET', published_through, hour)",
        "",
        shown_by=("publish", "lose reply"),
    ),
}


#: Found only after hundreds of scripts.
HIDDEN = ("an hour is sealed over pending entries",)


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=name, marks=pytest.mark.extended if name in HIDDEN else ())
        for name, bug in BUGS.items()
    ],
)
def test_a_planted_bug_is_found(
    redis: RedisCluster,
    redis_url: str,
    points: FaultPoints,
    monkeypatch: pytest.MonkeyPatch,
    bug: Bug,
) -> None:
    script: Script = getattr(import_module(bug.module), bug.attribute)
    assert script.source.count(bug.right) == 1
    source = script.source.replace(bug.right, bug.wrong)
    sha = sha1(source.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(f"{bug.module}.{bug.attribute}", replace(script, source=source, sha=sha))

    with pytest.raises((AssertionError, HourglassError)):
        look_for(bug, redis, redis_url, points)


def look_for(bug: Bug, redis: RedisCluster, redis_url: str, points: FaultPoints) -> None:
    if bug.shown_by:
        take_the_way(Machine(redis, redis_url, points), *bug.shown_by)
    else:
        run(HUNT, redis, redis_url, points)
