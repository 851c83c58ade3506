"""Reset deletes every key of the pipeline, nothing else, and only when it is meant."""

from __future__ import annotations

import io

import pytest
from redis.cluster import RedisCluster

from hourglass.service.cli import invoke
from hourglassctl.__main__ import application
from tests.support.keyspace import KEYS
from tests.support.leftovers import keys_of
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading

NAME = KEYS.pipeline
OTHERS = (
    NAME,
    f"{NAME}:notes",
    f"{NAME}:2025",
    f"{{{DAY.stream}}}:notes",
    f"{{{NAME}:x}}:hours",
    "other",
)


def everything_there(pipeline: Pipeline) -> None:
    """Every kind of key that the pipeline makes, and some that it does not."""
    for day in (DAY, NEXT_DAY):
        pipeline.produce(reading(at(0, day=day)), reading(at(1, day=day)))
        pipeline.xadd(to=day, temp_f="warm")
    pipeline.count(NEXT_DAY)
    pipeline.drive(at(1, day=NEXT_DAY))
    pipeline.seal()
    pipeline.count(DAY)
    for sealer in (pipeline.sealer(), pipeline.sealer()):
        sealer.step()
    pipeline.produce(reading(at(2, day=NEXT_DAY)))
    for key in OTHERS:
        pipeline.cluster.call("SET", key, "somebody's", "EX", 60)


def keys(redis: RedisCluster) -> set[str]:
    return keys_of(redis, KEYS) | {key for key in OTHERS if redis.exists(key)}


def reset(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        invoke(application(), "hourglass", ["reset", *arguments])
    return int(ended.value.code or 0)


def test_it_deletes_every_key_of_the_pipeline_and_no_other(
    pipeline: Pipeline, redis: RedisCluster, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    everything_there(pipeline)
    ours = len(keys(redis)) - len(OTHERS)

    assert reset("--yes", "--redis-url", redis_url) == 0

    assert keys(redis) == set(OTHERS)
    assert capsys.readouterr().out == f"deleted {ours} keys\n"


def test_without_yes_and_without_a_terminal_it_refuses(
    pipeline: Pipeline,
    redis: RedisCluster,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    everything_there(pipeline)
    before = keys(redis)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))

    assert reset("--redis-url", redis_url) == 1

    assert "give --yes to confirm" in capsys.readouterr().err
    assert keys(redis) == before


def test_the_pipeline_starts_again_after_a_reset(pipeline: Pipeline, redis_url: str) -> None:
    everything_there(pipeline)
    sealer = pipeline.sealer()
    sealer.step()
    reset("--yes", "--redis-url", redis_url)

    pipeline.drive(DAY.day_ms)
    fresh = pipeline.publisher("porch:1")
    pipeline.xadd(ts=at(0), temp_f=50)
    pipeline.count()
    pipeline.drive(at(1))
    sealer.step()
    fresh.close()

    assert [average.start_ms for average in pipeline.averages()] == [at(0)]
    assert pipeline.audit().clean
