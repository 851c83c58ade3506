"""`hourglass clock`: what it is told to show can be shown, and what stands there can be mended."""

from __future__ import annotations

import pytest

from hourglass.model.keys import HOUR_MS
from hourglass.service.cli import invoke
from hourglassctl.__main__ import application
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, reading


def run(*arguments: str) -> int:
    """The exit status of `hourglass` with these arguments."""
    with pytest.raises(SystemExit) as ended:
        invoke(application(), "hourglass", arguments)
    return int(ended.value.code or 0)


@pytest.mark.parametrize("time", ["1960-01-01", "9999-01-01"])
def test_a_time_that_no_clock_can_begin_at_is_refused_and_nothing_is_changed(
    pipeline: Pipeline, redis_url: str, capsys: pytest.CaptureFixture[str], time: str
) -> None:
    before = pipeline.cluster.call("HGETALL", KEYS.clock)

    assert run("clock", "run", "--from", time, "--redis-url", redis_url) == 2

    assert "give a time" in capsys.readouterr().err
    assert pipeline.cluster.call("HGETALL", KEYS.clock) == before


def test_a_replay_of_such_a_time_deletes_nothing(
    pipeline: Pipeline, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.produce(reading(DAY.day_ms))

    assert run("replay", "--start", "1960-01-01", "--reset", "--redis-url", redis_url) == 2

    assert "give a time" in capsys.readouterr().err
    assert pipeline.cluster.call("XLEN", DAY.stream) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("clock", "wall"),
        ("clock", "run", "--from", "2025-01-01T00:00:00Z", "--speed", "60"),
        ("reset", "--yes"),
    ],
)
def test_what_is_no_clock_is_mended_by_setting_one(
    pipeline: Pipeline, redis_url: str, command: tuple[str, ...]
) -> None:
    pipeline.cluster.call("HSET", KEYS.clock, "mode", "backwards")
    assert run("clock", "show", "--redis-url", redis_url) == 1

    assert run(*command, "--redis-url", redis_url) == 0

    assert run("clock", "show", "--redis-url", redis_url) == 0


def test_a_clock_that_was_set_ahead_is_set_right_with_what_it_had_published(
    pipeline: Pipeline, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms
    hour_ms = now_ms - now_ms % HOUR_MS + 3 * HOUR_MS
    pipeline.drive(hour_ms)
    pipeline.produce(reading(hour_ms))
    pipeline.count(KEYS.containing(hour_ms))
    pipeline.drive(hour_ms + HOUR_MS)
    pipeline.seal()
    assert len(pipeline.averages()) == 1

    assert run("clock", "wall", "--redis-url", redis_url) == 1
    assert "--rewind" in capsys.readouterr().err
    assert len(pipeline.averages()) == 1

    assert run("clock", "wall", "--rewind", "--redis-url", redis_url) == 0
    assert "1 averages unpublished" in capsys.readouterr().out
    assert pipeline.averages() == []
    assert pipeline.cluster.call("EXISTS", KEYS.published_through) == 0
