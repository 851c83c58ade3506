"""Rows that the warehouse lost after they were acknowledged are found, and loaded again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from averages_consumer.gaps import Gaps
from averages_consumer.metrics import Metrics
from averages_consumer.revisions import Revisions
from averages_consumer.warehouse import Warehouse
from averages_consumer.warehouse.table import HourRow, row_of
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import AVERAGES_GROUP
from tests.support.at_once import at_once
from tests.support.keyspace import KEYS
from tests.support.losing_rows import lose_rows
from tests.support.pipeline import DAY, Pipeline, at, reading

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOURS = 6


@pytest.fixture
def warehouse(warehouse_url: str) -> Generator[Warehouse]:
    with Warehouse(warehouse_url) as warehouse:
        warehouse.create()
        yield warehouse


@pytest.fixture
def published(pipeline: Pipeline) -> Sequence[HourlyAverage]:
    pipeline.produce(*(reading(at(hour, 1), 50.0 + hour) for hour in range(HOURS)))
    pipeline.count()
    pipeline.drive(at(HOURS))
    pipeline.seal()
    pipeline.cluster.call("XGROUP", "CREATE", KEYS.averages, AVERAGES_GROUP, "0")
    return pipeline.averages()


def deliver(pipeline: Pipeline, count: int, *, acknowledge: bool = True) -> None:
    """To a consumer, as the group's next `count` entries."""
    ((_, entries),) = pipeline.cluster.call(
        "XREADGROUP",
        "GROUP",
        AVERAGES_GROUP,
        "other",
        "COUNT",
        count,
        "STREAMS",
        KEYS.averages,
        ">",
    )
    assert len(entries) == count
    if acknowledge:
        ids = [entry_id for entry_id, _ in entries]
        pipeline.cluster.call("XACK", KEYS.averages, AVERAGES_GROUP, *ids)


def gaps(pipeline: Pipeline, warehouse: Warehouse) -> Gaps:
    return Gaps(pipeline.cluster, warehouse, Metrics(CollectorRegistry()))


def rows(warehouse: Warehouse) -> list[HourRow]:
    return [replace(row, loaded_at=NOON) for row in warehouse.rows(DAY.day_ms, DAY.end_ms)]


def expected(averages: Sequence[HourlyAverage]) -> list[HourRow]:
    return [HourRow(**row_of(average, NOON)) for average in averages]


def test_they_come_from_the_stream_and_before_it_from_the_hour_records(
    pipeline: Pipeline,
    published: Sequence[HourlyAverage],
    warehouse: Warehouse,
    caplog: pytest.LogCaptureFixture,
) -> None:
    deliver(pipeline, HOURS)
    warehouse.upsert(published[:1], NOON)
    pipeline.cluster.call("XTRIM", KEYS.averages, "MAXLEN", 3)

    found = gaps(pipeline, warehouse).check()

    assert found == published[1:]
    assert rows(warehouse) == expected(published)
    (message,) = caplog.messages
    assert message == (
        "5 published hours were not in the warehouse: 2025-01-01T01:00:00Z to "
        "2025-01-01T05:00:00Z; loaded 3 from the stream and 2 from hour records"
    )
    assert gaps(pipeline, warehouse).check() == []


def test_hours_that_another_consumer_holds_or_that_wait_are_left_to_the_group(
    pipeline: Pipeline, published: Sequence[HourlyAverage], warehouse: Warehouse
) -> None:
    deliver(pipeline, 2)
    deliver(pipeline, 2, acknowledge=False)

    assert gaps(pipeline, warehouse).check() == published[:2]
    assert rows(warehouse) == expected(published[:2])


def test_an_hour_is_found_on_the_stream_though_it_is_not_remembered_as_published(
    pipeline: Pipeline, published: Sequence[HourlyAverage], warehouse: Warehouse
) -> None:
    deliver(pipeline, HOURS)
    pipeline.cluster.call("DEL", KEYS.published)

    assert gaps(pipeline, warehouse).check() == published


def test_consumers_that_find_them_at_once_load_each_once(
    pipeline: Pipeline, published: Sequence[HourlyAverage], warehouse: Warehouse
) -> None:
    deliver(pipeline, HOURS)

    at_once(*(gaps(pipeline, warehouse).check for _ in range(4)))

    assert rows(warehouse) == expected(published)


def test_what_was_revised_stays_and_a_lost_revision_is_made_again(
    pipeline: Pipeline,
    published: Sequence[HourlyAverage],
    warehouse: Warehouse,
    warehouse_url: str,
) -> None:
    warehouse.upsert(published, NOON)
    deliver(pipeline, HOURS)
    pipeline.produce(reading(at(0, 2), 60.0), reading(at(1, 2), 60.0))
    pipeline.count()
    revise(pipeline, warehouse)
    before = rows(warehouse)
    assert [row.revision for row in before] == [1, 1, 0, 0, 0, 0]
    lose_rows(warehouse_url, [at(0)])

    assert [average.start_ms for average in gaps(pipeline, warehouse).check()] == [at(0)]

    assert [row.revision for row in rows(warehouse)] == [0, 1, 0, 0, 0, 0]
    assert rows(warehouse)[1:] == before[1:]
    revise(pipeline, warehouse)
    assert rows(warehouse) == before


def revise(pipeline: Pipeline, warehouse: Warehouse) -> None:
    def tell(_what: str, _hour_ms: int, _trace_id: str | None) -> None: ...

    metrics = Metrics(CollectorRegistry())
    revisions = Revisions(pipeline.cluster, pipeline.clock, warehouse, metrics, tell)
    revisions.step()
    revisions.step()
