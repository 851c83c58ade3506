"""Two pipelines on one Redis Cluster: neither sees, counts, publishes or deletes what is the
other's, though their keys share slots and one name begins as the other does."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from averages_consumer.warehouse import Warehouse
from hourglass.model.keys import HOURS
from hourglass.service.cli import invoke
from hourglassctl.__main__ import application
from hourglassctl.backfill import backfill
from hourglassctl.replay import DataSet, replay, reset
from tests.support.keyspace import KEYS, beside
from tests.support.leftovers import delete_keys, keys_of
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import Services, services
from tests.support.waiting import wait_until

OTHER = beside(f"{KEYS.pipeline}-")
THEIR_DAY = OTHER.partition(DAY.day_ms)
ALWAYS = range(10**15)
#: The pipeline of a series' stream.
STREAM = re.compile(r'stream="([^":]*):')


@pytest.fixture
def other(redis: RedisCluster, redis_url: str) -> Generator[Pipeline]:
    with Pipeline(redis_url, keyspace=OTHER) as other:
        yield other
    assert delete_keys(redis, OTHER) == []


def both_have_an_hour(pipeline: Pipeline, other: Pipeline) -> None:
    """By turns, step for step; the other one's is warmer."""
    for minute in range(3):
        pipeline.produce(reading(at(0, minute), 50.0))
        other.produce(reading(at(0, minute), 70.0), reading(at(0, minute), 80.0, "attic"))
    pipeline.xadd(temp_f="cold")
    other.xadd(to=THEIR_DAY, temp_f="warm")
    pipeline.count(DAY)
    other.count(THEIR_DAY)
    for each in (pipeline, other):
        each.drive(at(1))
        each.seal()


def command(
    capsys: pytest.CaptureFixture[str], *arguments: str, of: Pipeline
) -> tuple[object, str]:
    """Exit code and output of the operator's command for that pipeline."""
    options = ["--redis-url", of.url, "--pipeline", of.keyspace.pipeline]
    with pytest.raises(SystemExit) as ended:
        invoke(application(), "hourglass", [*arguments, *options])
    return ended.value.code, capsys.readouterr().out


def test_each_publishes_the_averages_of_its_own_readings(
    pipeline: Pipeline, other: Pipeline
) -> None:
    both_have_an_hour(pipeline, other)

    assert [(each.count, each.mean_milli_f) for each in pipeline.averages()] == [(3, 50_000)]
    assert [(each.count, each.mean_milli_f) for each in other.averages()] == [(6, 75_000)]
    for each, counted in ((pipeline, 3), (other, 6)):
        found = each.audit()
        assert (found.clean, found.counted, found.quarantined) == (True, counted, 1)


def test_what_one_waits_for_holds_up_its_own_hour_only(pipeline: Pipeline, other: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    other.produce(reading(at(0)))
    other.count(THEIR_DAY)
    for each in (pipeline, other):
        each.drive(at(1))
        each.seal()

    assert (len(pipeline.averages()), len(other.averages())) == (0, 1)


def test_each_has_a_clock_of_its_own(pipeline: Pipeline, other: Pipeline) -> None:
    pipeline.drive(at(5))
    other.drive(at(9))

    assert pipeline.clock.refresh().now_ms == at(5)
    assert other.clock.refresh().now_ms == at(9)


def test_resetting_one_leaves_the_other_as_it_was(
    pipeline: Pipeline, other: Pipeline, redis: RedisCluster
) -> None:
    both_have_an_hour(pipeline, other)
    left = keys_of(redis, OTHER)

    deleted = reset(pipeline.cluster)

    assert deleted
    assert all(map(KEYS.owns, deleted))
    assert keys_of(redis, KEYS) == set()
    assert keys_of(redis, OTHER) == left
    assert other.audit().clean
    assert len(other.averages()) == 1


def test_the_command_shows_the_pipeline_it_is_asked_for(
    pipeline: Pipeline, other: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    both_have_an_hour(pipeline, other)

    for each, counted, word in ((pipeline, 3, "cold"), (other, 6, "warm")):
        name = each.keyspace.pipeline
        _, shown = command(capsys, "status", "--json", of=each)
        partitions = json.loads(shown)["partitions"]
        assert [partition["stream"] for partition in partitions] == [f"{name}:20250101"]
        _, shown = command(capsys, "quarantine", "list", of=each)
        (line,) = shown.splitlines()
        assert line.startswith(f"{name}:20250101 ")
        assert line.endswith(f"temp_f={word}")
        code, shown = command(capsys, "audit", "--json", of=each)
        assert (code, json.loads(shown)["counted"]) == (0, counted)


def test_a_warehouse_that_has_the_other_ones_hours_is_found_by_the_audit(
    pipeline: Pipeline, other: Pipeline, tmp_path: Path
) -> None:
    both_have_an_hour(pipeline, other)
    with (
        Warehouse(f"sqlite:///{tmp_path}/ours.db") as ours,
        Warehouse(f"sqlite:///{tmp_path}/theirs.db") as theirs,
    ):
        for each, warehouse in ((pipeline, ours), (other, theirs)):
            warehouse.create()
            backfill(each.cluster, each.clock.current(), warehouse, ALWAYS)

        assert pipeline.audit(ours).clean
        assert other.audit(theirs).clean
        assert not pipeline.audit(theirs).clean
        assert not other.audit(ours).clean


@pytest.mark.system
def with_streams(running: Services, aggregator: str) -> str:
    """Its metrics, once they have series of streams: they have none of an old poll."""
    metrics = running.get(aggregator, "/metrics")[1]
    return metrics if STREAM.search(metrics) else ""


def test_their_services_work_side_by_side(
    pipeline: Pipeline, other: Pipeline, redis_url: str, tmp_path: Path
) -> None:
    with services(redis_url) as running:
        for each in (pipeline, other):
            name = each.keyspace.pipeline
            warehouse = f"sqlite:///{tmp_path}/{name}.db"
            running.aggregator(f"{name}-aggregator", HOURGLASS_PIPELINE=name)
            running.start(
                f"{name}-consumer", "averages_consumer", "--warehouse-url", warehouse,
                HOURGLASS_PIPELINE=name,
            )  # fmt: skip
        for each, devices in ((pipeline, 2), (other, 3)):
            data = DataSet(days=1, devices=devices, period_ms=600_000)
            assert replay(each.cluster, data) == devices * 6 * HOURS
        for each, devices in ((pipeline, 2), (other, 3)):
            name = each.keyspace.pipeline
            loaded = f"{name}-consumer", "hourglass_averages_loaded_total"
            wait_until(lambda loaded=loaded: running.metric(*loaded) == HOURS, message="not loaded")
            found = [(average.devices, average.count) for average in each.averages()]
            assert found == [(devices, 6 * devices)] * HOURS
            metrics = wait_until(lambda name=name: with_streams(running, f"{name}-aggregator"))
            assert f'hourglass_build_info{{component="aggregator",pipeline="{name}"' in metrics
            assert set(STREAM.findall(metrics)) == {name}
            with Warehouse(f"sqlite:///{tmp_path}/{name}.db") as warehouse:
                assert each.audit(warehouse).clean
