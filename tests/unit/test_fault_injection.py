"""What a fault is, and that a wrong request is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

import hourglass
from hourglass.errors import ConfigurationError
from tests.support.commands import run
from tests.support.fault_injection import MODULE, SCRIPTS, VARIABLE, Fault, bind, parse

SERVICES = Path(hourglass.__file__).parent.parent


def test_a_fault_is_a_point_an_action_and_a_passage() -> None:
    assert parse("commit.after:kill@3,seal.before:stop, commit.after:lose-reply") == {
        "commit.after": [Fault("kill", 3), Fault("lose-reply", 1)],
        "seal.before": [Fault("stop", 1)],
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("comit.after:kill", "commit.after"),
        ("commit.after", "kill, stop, fail, lose-reply"),
        ("commit.after:explode", "kill, stop, fail, lose-reply"),
        ("commit.before:lose-reply", "the point after"),
        ("load.after-commit:lose-reply", "the point after"),
        ("commit.after:kill@0", "give 1"),
        ("commit.after:kill@-1", "give 1"),
        ("commit.after:kill@x", "give 1"),
    ],
)
def test_a_wrong_one_is_refused_with_the_remedy(text: str, names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        bind(text)


def test_it_happens_once_at_the_passage_that_was_named() -> None:
    reach = bind("commit.after:lose-reply@2")
    happened: list[int] = []

    for passage in range(1, 6):
        reach("ingest.after")
        try:
            reach("commit.after")
        except redis.TimeoutError:
            happened.append(passage)

    assert happened == [2]


def test_each_script_of_the_services_has_its_points() -> None:
    packages = ("hourglass", "producer", "aggregator", "averages_consumer")
    scripts = {path.stem for each in packages for path in SERVICES.glob(f"{each}/scripts/*.lua")}

    no_steps = {
        "prelude",
        "partials",
        "calls",
        "first",
        "removed",
        "rewind",
    }  # parts of others, what only reads, and what only an operator calls
    assert {*SCRIPTS, *no_steps} == scripts


def test_a_service_with_a_wrong_request_does_not_start() -> None:
    answer = run(MODULE, "aggregator", **{VARIABLE: "everything:kill"})

    assert answer.returncode == 2
    assert answer.stderr.startswith("HOURGLASS_FAULT: no fault point 'everything'; there are ")
    assert answer.stderr.count("\n") == 1
