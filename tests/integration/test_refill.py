"""What the averages stream gave up before the warehouse had it is loaded from the hour records."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from averages_consumer.warehouse import Warehouse
from averages_consumer.warehouse.table import HourRow, row_of
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import AVERAGES_GROUP, AVERAGES_KEPT, HOUR_MS, HOURS, Partition
from hourglassctl.replay import DataSet, replay
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, day_after
from tests.support.services import Services, services
from tests.support.waiting import wait_until

NAMES = ("one", "other")
WHENEVER = datetime(2025, 2, 3, tzinfo=UTC)
#: Five fill the stream; the sixth pushes the first one out.
DAYS = [day_after(DAY, days) for days in range(6)]
TRIMMED = HOURS * len(DAYS) - AVERAGES_KEPT


@pytest.fixture
def running(redis_url: str) -> Generator[Services]:
    with services(redis_url) as running:
        yield running


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/warehouse.db"


@pytest.fixture
def entries(pipeline: Pipeline) -> list[HourlyAverage]:
    """Every entry of six days, those that are no longer on the stream among them."""
    replay(pipeline.cluster, DataSet(days=len(DAYS), devices=3, period_ms=HOUR_MS // 4))
    publish(pipeline, DAYS[:-1])
    first = pipeline.averages()[:TRIMMED]
    publish(pipeline, DAYS[-1:])
    assert pipeline.averages()[0].start_ms == first[-1].start_ms + HOUR_MS
    return first + pipeline.averages()


def publish(pipeline: Pipeline, days: list[Partition]) -> None:
    pipeline.count(*days)
    pipeline.drive(days[-1].end_ms)
    pipeline.seal()


def start(running: Services, url: str, *names: str) -> None:
    for name in names:
        running.start(name, "averages_consumer", "--warehouse-url", url)


def rows(url: str) -> list[HourRow]:
    with Warehouse(url) as warehouse:
        warehouse.create()
        found = warehouse.rows(0, DAYS[-1].end_ms)
        return [replace(row, loaded_at=WHENEVER) for row in found]


def test_the_rows_are_those_that_the_entries_would_have_given(
    pipeline: Pipeline, entries: list[HourlyAverage], running: Services, url: str
) -> None:
    start(running, url, *NAMES)

    wait_until(lambda: len(rows(url)) == len(entries), message="an hour stays missing")
    assert rows(url) == [HourRow(**row_of(entry, WHENEVER)) for entry in entries]
    said = "".join(running.said(name) for name in NAMES)
    assert "24 published hours were not in the warehouse: 2025-01-01T00:00:00Z" in said
    assert "loaded 0 from the stream and 24 from hour records" in said
    for name in NAMES:
        running.await_ready(name)
        missing = partial(running.metric, name, "hourglass_warehouse_rows_missing")
        wait_until(lambda missing=missing: missing() == 0)
    wait_until(lambda: pending(pipeline) == 0)
    with Warehouse(url) as warehouse:
        assert pipeline.audit(warehouse).differences == []


def pending(pipeline: Pipeline) -> int:
    return int(pipeline.cluster.call("XPENDING", KEYS.averages, AVERAGES_GROUP)["pending"])


def test_hours_whose_records_were_deleted_stay_missing_and_are_named(
    pipeline: Pipeline, entries: list[HourlyAverage], running: Services, url: str
) -> None:
    hours = [
        f"{hour:02d}:{name}"
        for hour in range(3)
        for name in ("sealed", "count", "sum", "min", "max")
    ]
    pipeline.cluster.call("HDEL", DAY.hours, *hours)

    start(running, url, NAMES[0])

    wait_until(lambda: running.metric(NAMES[0], "hourglass_warehouse_rows_missing") == 3)
    wait_until(lambda: len(rows(url)) == len(entries) - 3, message="the others are not loaded")
    assert "2025-01-01T00:00:00Z to 2025-01-01T02:00:00Z; neither the stream" in running.said(
        NAMES[0]
    )
    assert running.metric(NAMES[0], "hourglass_averages_refilled_total") == TRIMMED - 3
