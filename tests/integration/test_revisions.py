"""Late readings, where that is asked for, raise their hour's revision in the warehouse alone."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from averages_consumer.metrics import Metrics
from averages_consumer.revisions import Revisions
from averages_consumer.warehouse import Warehouse
from averages_consumer.warehouse.table import HourRow
from hourglass.model.keys import DAY_MS, GROUP
from tests.support.at_once import at_once
from tests.support.browsing import ask
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import services
from tests.support.waiting import wait_until

WORKER = 'hourglass_worker_failing{worker="revisions"}'
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def warehouse(warehouse_url: str) -> Generator[Warehouse]:
    with Warehouse(warehouse_url) as warehouse:
        warehouse.create()
        yield warehouse


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def revisions(pipeline: Pipeline, warehouse: Warehouse, told: list[str]) -> Revisions:
    return another(pipeline, warehouse, told)


def another(pipeline: Pipeline, warehouse: Warehouse, told: list[str]) -> Revisions:
    metrics = Metrics(CollectorRegistry())

    def tell(what: str, _hour_ms: int, _trace_id: str | None) -> None:
        told.append(what)

    return Revisions(pipeline.cluster, pipeline.clock, warehouse, metrics, tell)


@pytest.fixture(autouse=True)
def an_hour_is_published(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 40.0), reading(at(0, 30), 50.0))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()


def load(pipeline: Pipeline, warehouse: Warehouse) -> None:
    warehouse.upsert(pipeline.averages(), NOON)


def late(pipeline: Pipeline, *temps_f: float) -> None:
    pipeline.produce(*(reading(at(0, 1), temp_f) for temp_f in temps_f))
    pipeline.count()


def row(warehouse: Warehouse) -> HourRow:
    (row,) = warehouse.rows(DAY.day_ms, DAY.end_ms)
    return row


def result(row: HourRow) -> tuple[float, float, float, int, int, int]:
    return (
        row.average_temp_f, row.min_temp_f, row.max_temp_f, row.observations, row.late,
        row.revision,
    )  # fmt: skip


def test_late_readings_make_a_revision_of_the_row_and_leave_the_stream_alone(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions, told: list[str]
) -> None:
    load(pipeline, warehouse)
    published = pipeline.averages()
    late(pipeline, 99.0, 11.0, 80.0)

    revisions.step()
    revisions.step()

    assert result(row(warehouse)) == (56.0, 11.0, 99.0, 5, 3, 1)
    assert row(warehouse).loaded_at > NOON
    assert pipeline.averages() == published
    (line,) = told
    assert line.startswith("Average temperature for 2025/01/01 at 0 is 56F in the warehouse")
    assert line.endswith("revision 1, with 3 late (5 observations).")
    late(pipeline, 20.0)
    revisions.step()
    revisions.step()
    assert result(row(warehouse)) == (50.0, 11.0, 99.0, 6, 4, 2)


def test_nothing_late_makes_no_revision(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    load(pipeline, warehouse)
    before = row(warehouse)
    for _ in range(3):
        revisions.step()
    assert row(warehouse) == before


def test_a_row_that_is_not_there_yet_is_revised_when_it_is(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    late(pipeline, 60.0)
    revisions.step()
    revisions.step()
    assert list(warehouse.rows(DAY.day_ms, DAY.end_ms)) == []

    load(pipeline, warehouse)
    revisions.step()
    assert result(row(warehouse)) == (50.0, 40.0, 60.0, 3, 1, 1)


def test_a_redelivery_does_not_take_a_revision_back(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    load(pipeline, warehouse)
    late(pipeline, 60.0)
    revisions.step()
    revisions.step()
    before = row(warehouse)

    load(pipeline, warehouse)

    assert row(warehouse) == before


def test_an_hour_published_again_with_another_result_takes_the_row_over(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    load(pipeline, warehouse)
    late(pipeline, 60.0)
    revisions.step()
    revisions.step()
    (average,) = pipeline.averages()

    warehouse.upsert([replace(average, sum_milli_f=average.sum_milli_f + 2)], NOON)

    assert result(row(warehouse)) == (45.001, 40.0, 50.0, 2, 0, 0)
    for _ in range(2):  # the record is of what was published before
        revisions.step()
    assert row(warehouse).revision == 0


def test_processes_that_revise_at_once_make_one_revision(
    pipeline: Pipeline, warehouse: Warehouse, told: list[str]
) -> None:
    load(pipeline, warehouse)
    late(pipeline, 60.0)
    several = [another(pipeline, warehouse, told) for _ in range(4)]
    for each in several:
        each.step()

    at_once(*(each.step for each in several))

    assert result(row(warehouse)) == (50.0, 40.0, 60.0, 3, 1, 1)
    assert len(told) == 1


def test_a_partition_that_is_counted_again_makes_no_revision(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    """Its readings are delivered again, and are late only until they are known not to be."""
    load(pipeline, warehouse)
    before = row(warehouse)
    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)
    pipeline.open()
    for _ in range(2):
        revisions.step()
    pipeline.count()
    for _ in range(2):
        revisions.step()

    assert row(warehouse) == before


def test_a_count_that_is_still_on_its_way_makes_no_revision(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    load(pipeline, warehouse)
    late(pipeline, 60.0, 70.0)
    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)
    delivery = pipeline.delivery()
    for count in (3, 1):
        pipeline.commit(delivery, delivery.read(count, None))
        revisions.step()
    revisions.step()

    assert result(row(warehouse)) == (55.0, 40.0, 70.0, 4, 2, 1)


def test_what_came_late_is_taken_in_though_its_day_expired_before_anybody_looked(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    load(pipeline, warehouse)
    late(pipeline, 60.0)
    pipeline.cluster.call("DEL", DAY.stream)
    pipeline.cluster.call("DEL", KEYS.partitions)
    pipeline.drive(DAY.day_ms + 10 * DAY_MS)

    revisions.step()

    assert result(row(warehouse)) == (50.0, 40.0, 60.0, 3, 1, 1)


def test_days_that_expired_are_not_looked_at_over_and_over(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    load(pipeline, warehouse)
    late(pipeline, 60.0)
    pipeline.cluster.call("DEL", DAY.stream)
    pipeline.cluster.call("DEL", KEYS.partitions)
    pipeline.drive(DAY.day_ms + 10 * DAY_MS)
    revisions.step()
    before = row(warehouse)

    warehouse.upsert([replace(pipeline.averages()[0], sum_milli_f=1)], NOON)
    load(pipeline, warehouse)  # as it was published, without what came late
    revisions.step()
    assert row(warehouse).revision == 0
    assert before.revision == 1


def test_an_audit_takes_a_revision_for_no_difference(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions
) -> None:
    load(pipeline, warehouse)
    late(pipeline, 60.0)
    revisions.step()
    revisions.step()

    found = pipeline.audit(warehouse)

    assert found.differences == []
    assert found.revised == 1


def test_the_service_applies_revisions_where_configured_and_exports_it(
    redis_url: str, pipeline: Pipeline, tmp_path: Path
) -> None:
    late(pipeline, 60.0)
    url = f"sqlite:///{tmp_path}/warehouse.db"
    with services(redis_url) as running:
        running.start("asked", "averages_consumer", "--warehouse-url", url, "--revisions")
        page = running.page("asked")

        def shown() -> list[int]:
            return [each["revision"] for each in ask(page, "api/averages").json()["hours"]]

        wait_until(lambda: shown() == [1])
        assert "revision 1, with 1 late" in running.output("asked").read_text()
        assert running.metric("asked", "hourglass_warehouse_revisions_total") == 1

        running.start("not-asked", "averages_consumer", "--warehouse-url", url)
        running.await_ready("asked", "not-asked")
        assert running.metric("asked", WORKER) == 0
        assert running.metric("not-asked", WORKER) is None


def test_an_hour_too_late_to_be_published_gets_its_row_and_then_revisions(
    pipeline: Pipeline, warehouse: Warehouse, revisions: Revisions, told: list[str]
) -> None:
    pipeline.produce(reading(at(3), 40.0))
    pipeline.count()
    pipeline.drive(at(4))
    pipeline.seal()
    load(pipeline, warehouse)
    pipeline.produce(reading(at(2), 60.0))
    pipeline.count()
    pipeline.seal()

    for _ in range(3):
        revisions.step()

    (found,) = warehouse.rows(at(2), at(3))
    assert result(found) == (60.0, 60.0, 60.0, 1, 0, 0)
    assert pipeline.audit(warehouse).clean
    assert len(told) == 1

    pipeline.produce(reading(at(2), 70.0))
    pipeline.count()
    for _ in range(3):
        revisions.step()

    (found,) = warehouse.rows(at(2), at(3))
    assert result(found) == (65.0, 60.0, 70.0, 2, 1, 1)
    assert pipeline.audit(warehouse).clean
