"""One collector asks for all: an average is shown as it is published, and no look is waited for."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import pytest

from averages_consumer.warehouse import Warehouse
from averages_consumer.web.collector import Collector
from averages_consumer.web.document_store import Documents, DocumentStore
from hourglass.model.keys import DAY_MS, iso
from hourglass.monitoring.pipeline_status import collect
from hourglassctl.backfill import backfill
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.snapshots import average
from tests.support.waiting import wait_until


class Bystander:
    """A service that does nothing else."""

    def __init__(self) -> None:
        self.stop = Event()

    def beat(self, worker: str, *, rest_s: float = 0.0) -> None: ...


@pytest.fixture
def board(pipeline: Pipeline) -> DocumentStore:
    return DocumentStore(
        pipeline.clock,
        begun=pipeline.clock.refresh(),
        name="me",
        period_s=1.0,
        not_ready=list,
        missing_hours=lambda: 0,
        server_findings=list,
    )


@pytest.fixture
def collector(pipeline: Pipeline, board: DocumentStore, tmp_path: Path) -> Generator[Collector]:
    with Warehouse(f"sqlite:///{tmp_path}/warehouse.db") as warehouse:
        warehouse.create()
        yield Collector(
            host=Bystander(),
            cluster=pipeline.cluster,
            warehouse=warehouse,
            clock=pipeline.clock,
            board=board,
        )


@contextmanager
def following(collector: Collector) -> Generator[None]:
    thread = Thread(target=collector.follow)
    thread.start()
    yield
    collector.host.stop.set()
    thread.join()


@contextmanager
def watching_the_warehouse(collector: Collector) -> Generator[None]:
    thread = Thread(target=collector.watch_warehouse)
    thread.start()
    yield
    collector.host.stop.set()
    thread.join()


def test_an_hour_too_late_to_be_published_is_a_problem_until_the_warehouse_has_it(
    collector: Collector, board: DocumentStore, pipeline: Pipeline
) -> None:
    for hour in (5, 4):  # the second one after the first was published
        pipeline.produce(reading(at(hour)))
        pipeline.count()
        pipeline.drive(at(6))
        pipeline.seal()

    def is_a_problem() -> bool:
        board.polled(collect(pipeline.cluster, pipeline.clock.refresh()))
        board.refresh()
        problems = json.loads(board.documents["status"].body)["problems"]
        return "hours-too-late" in [each["code"] for each in problems]

    with watching_the_warehouse(collector):
        assert is_a_problem()
        backfill(
            pipeline.cluster, pipeline.clock.current(), collector.warehouse, range(at(0), at(6))
        )
        wait_until(lambda: not is_a_problem(), message="it stays a problem")


def hours(documents: Documents) -> list[str]:
    return [each["hour"] for each in json.loads(documents["averages"].body)["hours"]]


def test_an_average_is_exported_without_a_scrape(
    collector: Collector, board: DocumentStore, pipeline: Pipeline
) -> None:
    """Nothing runs here but what follows the stream: no survey, and no clock that ticks."""
    told: list[Documents] = []
    board.listen(told.append)
    with following(collector):
        wait_until(lambda: told)
        for hour in range(3):
            pipeline.publish(average(hour))
            wait_until(lambda hour=hour: hours(told[-1])[-1:] == [iso(average(hour).start_ms)])

    assert len(told) == 4


def test_what_did_not_change_is_not_made_again(board: DocumentStore) -> None:
    before = board.documents
    board.refresh()

    assert board.documents["averages"] is before["averages"]
    assert board.documents["partitions"] is before["partitions"]


def commands(pipeline: Pipeline) -> int:
    """How many the cluster has processed."""
    client = cast(Any, pipeline.cluster)._client
    stats = (client.info("stats", target_nodes=node) for node in client.get_primaries())
    return sum(each["total_commands_processed"] for each in stats)


def cost_of_a_look(pipeline: Pipeline) -> int:
    asking = -(commands(pipeline) - commands(pipeline))
    before = commands(pipeline)
    collect(pipeline.cluster, pipeline.clock.refresh())
    return commands(pipeline) - before - asking


def test_a_look_costs_no_more_for_more_readings(pipeline: Pipeline) -> None:
    pipeline.drive(at(0, 30))
    pipeline.produce(reading(at(0)))
    pipeline.count()
    few = cost_of_a_look(pipeline)

    pipeline.produce(
        *(reading(at(0, minute, second)) for minute in range(30) for second in range(60))
    )
    pipeline.count()

    assert cost_of_a_look(pipeline) == few


def test_a_look_costs_no_more_for_hours_that_are_sealed(pipeline: Pipeline) -> None:
    pipeline.drive(at(0, 30))
    pipeline.produce(reading(at(0)))
    pipeline.count()
    few = cost_of_a_look(pipeline)

    pipeline.drive(DAY.day_ms + DAY_MS)
    pipeline.produce(*(reading(at(hour)) for hour in range(24)))
    pipeline.count()
    pipeline.seal()

    assert cost_of_a_look(pipeline) <= few + 5
