"""Hours that the warehouse lacks come from the stream, or from their hour records."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from averages_consumer.warehouse import Warehouse
from averages_consumer.warehouse.table import HourRow, row_of
from hourglass.cluster.published import Result
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.keys import HOUR_MS, iso
from hourglassctl.backfill import backfill, believed
from tests.support.commands import run_hourglass
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.snapshots import record

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
EVER = range(4 * 10**12)
HOURS = 6


@pytest.fixture
def warehouse(tmp_path: Path) -> Generator[Warehouse]:
    with Warehouse(f"sqlite:///{tmp_path}/warehouse.db") as warehouse:
        warehouse.create()
        yield warehouse


@pytest.fixture
def published(pipeline: Pipeline) -> Sequence[HourlyAverage]:
    """Six hours."""
    pipeline.produce(*(reading(at(hour, 1), 50.0 + hour) for hour in range(HOURS)))
    pipeline.count()
    pipeline.drive(at(HOURS))
    pipeline.seal()
    averages = pipeline.averages()
    assert len(averages) == HOURS
    return averages


def rows(warehouse: Warehouse) -> list[HourRow]:
    return [replace(row, loaded_at=NOON) for row in warehouse.rows(DAY.day_ms, DAY.end_ms)]


def trim(pipeline: Pipeline, kept: int) -> None:
    pipeline.cluster.call("XTRIM", KEYS.averages, "MAXLEN", kept)


def run(pipeline: Pipeline, warehouse: Warehouse, hours: range = EVER) -> dict[str, Any]:
    found = backfill(pipeline.cluster, pipeline.clock.current(), warehouse, hours)
    return {
        "there": found.there,
        "from_stream": [(hour - DAY.day_ms) // HOUR_MS for hour in found.from_stream],
        "from_records": [(hour - DAY.day_ms) // HOUR_MS for hour in found.from_records],
        "missing": [(hour - DAY.day_ms) // HOUR_MS for hour in found.missing],
    }


def test_what_is_lacking_comes_from_the_stream_and_before_it_from_the_records(
    pipeline: Pipeline, published: Sequence[HourlyAverage], warehouse: Warehouse
) -> None:
    warehouse.upsert([published[0], published[4]], NOON)
    trim(pipeline, 3)

    assert run(pipeline, warehouse) == {
        "there": 2, "from_stream": [3, 5], "from_records": [1, 2], "missing": [],
    }  # fmt: skip
    assert rows(warehouse) == [HourRow(**row_of(average, NOON)) for average in published]
    assert run(pipeline, warehouse)["there"] == HOURS


@pytest.mark.usefixtures("published")
def test_only_the_hours_asked_for_are_loaded(pipeline: Pipeline, warehouse: Warehouse) -> None:
    trim(pipeline, 3)

    found = run(pipeline, warehouse, range(at(2), at(4)))

    assert (found["from_stream"], found["from_records"]) == ([3], [2])
    assert [row.start_ms for row in rows(warehouse)] == [at(2), at(3)]


@pytest.mark.usefixtures("published")
def test_a_deleted_or_different_record_fills_nothing(
    pipeline: Pipeline, warehouse: Warehouse
) -> None:
    trim(pipeline, 3)
    pipeline.cluster.call("HDEL", DAY.hours, "00:sealed", "00:count", "00:sum")
    pipeline.cluster.call("HINCRBY", DAY.hours, "01:sum", 1)

    found = run(pipeline, warehouse)

    assert (found["from_records"], found["missing"]) == ([2], [0, 1])


def test_the_lanes_of_a_day_are_loaded_as_one(
    redis: RedisCluster,  # noqa: ARG001
    redis_url: str,
    warehouse: Warehouse,
) -> None:
    with Pipeline(redis_url, lanes=3) as pipeline:
        devices = (f"porch-{number}" for number in range(12))
        pipeline.produce(*(reading(at(0), 40.0 + n, name) for n, name in enumerate(devices)))
        pipeline.count(*pipeline.partitions())
        pipeline.drive(at(1))
        pipeline.seal()
        (average,) = pipeline.averages()
        pipeline.cluster.call("XTRIM", KEYS.averages, "MAXLEN", 0)

        assert run(pipeline, warehouse)["from_records"] == [0]

    assert average.count == 12
    assert rows(warehouse) == [HourRow(**row_of(average, NOON))]


@pytest.mark.usefixtures("published")
def test_hours_from_before_what_is_remembered_are_taken_from_their_records(
    pipeline: Pipeline, warehouse: Warehouse
) -> None:
    trim(pipeline, 1)
    pipeline.cluster.call("ZREMRANGEBYSCORE", KEYS.published, 0, at(2))
    pipeline.cluster.call("ZADD", KEYS.revisions, at(1), f"{at(1)}:2:51000")

    assert run(pipeline, warehouse)["from_records"] == [0, 2, 3, 4]


@pytest.mark.parametrize("hour", [1, 4])
def test_an_hour_too_late_to_be_published_gets_its_row_and_audit_is_clean_then(
    pipeline: Pipeline, warehouse: Warehouse, redis_url: str, tmp_path: Path, hour: int
) -> None:
    pipeline.produce(reading(at(3)), reading(at(5)))
    pipeline.count()
    pipeline.drive(at(6))
    pipeline.seal()
    warehouse.upsert(pipeline.averages(), NOON)
    assert pipeline.audit(warehouse).clean
    pipeline.produce(reading(at(hour), 60.0), reading(at(hour, 1), 61.0))
    pipeline.count()
    pipeline.seal()
    (difference,) = pipeline.audit(warehouse).differences
    assert difference.hour == iso(at(hour))
    assert "hourglass averages backfill loads it" in difference.what
    assert "hours-too-late" in problems(redis_url, f"sqlite:///{tmp_path}/warehouse.db")

    assert run(pipeline, warehouse)["from_records"] == [hour]

    (row,) = warehouse.rows(at(hour), at(hour + 1))
    assert row.published == Result(2, 121_000)
    found = pipeline.audit(warehouse)
    assert (found.differences, found.too_late) == ([], 1)
    assert len(pipeline.averages()) == 2
    assert "hours-too-late" not in problems(redis_url, f"sqlite:///{tmp_path}/warehouse.db")
    assert "hours-too-late" in problems(redis_url, "")  # it does not know the warehouse


def problems(redis_url: str, warehouse_url: str) -> list[str]:
    """Those that `hourglass status` names."""
    options = ("--json", "--redis-url", redis_url, "--warehouse-url", warehouse_url)
    done = run_hourglass("status", *options)
    assert done.stdout, done.stderr
    return [each["code"] for each in json.loads(done.stdout)["problems"]]


def test_a_row_that_differs_from_the_record_of_an_hour_too_late_is_a_difference(
    pipeline: Pipeline, warehouse: Warehouse
) -> None:
    pipeline.produce(reading(at(3)), reading(at(5)))
    pipeline.count()
    pipeline.drive(at(6))
    pipeline.seal()
    pipeline.produce(reading(at(4), 60.0))
    pipeline.count()
    pipeline.seal()
    wrong = replace(HourlyAverage.of(pipeline.record(4)), sum_milli_f=1)
    warehouse.upsert([*pipeline.averages(), wrong], NOON)

    (difference,) = pipeline.audit(warehouse).differences

    assert "the warehouse has 1 readings, sum 0.001" in difference.what


def test_nothing_is_believed_of_an_hour_that_is_open_or_empty() -> None:
    records = [
        record(0),
        record(1, sealed=False),
        record(2, count=0, sum_milli_f=0),
        record(3),
        record(5),
    ]
    known = {records[4].start_ms: Result(1, 1)}

    assert believed(records, known, revised={records[3].start_ms}) == {
        records[0].start_ms: result(records[0]),
        records[4].start_ms: Result(1, 1),
    }


def result(record: HourRecord) -> Result:
    return Result(record.count, record.sum_milli_f)


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    error: str


@pytest.fixture
def command(redis_url: str, tmp_path: Path) -> Callable[..., Ended]:
    def run(*arguments: str) -> Ended:
        ended = run_hourglass(
            "averages",
            "backfill",
            *arguments,
            HOURGLASS_REDIS_URL=redis_url,
            HOURGLASS_WAREHOUSE_URL=f"sqlite:///{tmp_path}/warehouse.db",
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.mark.usefixtures("published")
def test_the_command_says_what_became_of_the_hours(
    pipeline: Pipeline, command: Callable[..., Ended]
) -> None:
    trim(pipeline, 3)
    pipeline.cluster.call("HDEL", DAY.hours, "00:sealed", "00:count", "00:sum")

    first, second = command(), command("--json")

    assert [line.split()[-1] for line in first.out.splitlines()] == ["0", "3", "2", "1", iso(at(0))]
    assert (first.status, second.status) == (1, 1)
    assert json.loads(second.out) == {
        "there": 5, "from_stream": [], "from_records": [], "missing": [iso(at(0))],
    }  # fmt: skip
    found = command("--from", iso(at(1)))
    assert (found.status, found.error) == (0, "")
