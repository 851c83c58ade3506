"""A pipeline of real processes: one aggregator and one averages consumer, waiting for readings."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from averages_consumer.warehouse import HourRow, Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.connect import connect
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import HOUR_MS
from tests.support.keyspace import KEYS
from tests.support.services import Services, services
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Running:
    """The pipeline, seen from its two ends: writers of readings, readers of averages."""

    url: str
    cluster: Cluster
    services: Services
    warehouse: Warehouse

    def await_published(self, hour_ms: int) -> None:
        """Until that hour, and so every one before it, is published."""
        wait_until(
            lambda: int(self.cluster.call("GET", KEYS.published_through) or -1) >= hour_ms,
            message="the last hour was not published",
        )

    def averages(self) -> list[HourlyAverage]:
        entries = self.cluster.call("XRANGE", KEYS.averages, "-", "+")
        return [HourlyAverage.decode(entry_id, fields) for entry_id, fields in entries]

    def await_rows(self, count: int) -> list[HourRow]:
        """The warehouse's rows, once there are `count`."""
        wait_until(lambda: len(self.warehouse.hours()) >= count, message=f"no {count} rows")
        first, last = min(self.warehouse.hours()), max(self.warehouse.hours())
        return list(self.warehouse.rows(first, last + HOUR_MS))


@pytest.fixture
def running(redis: RedisCluster, redis_url: str, tmp_path: Path) -> Generator[Running]:  # noqa: ARG001
    warehouse_url = f"sqlite:///{tmp_path}/warehouse.db"
    with ExitStack() as resources:
        cluster = resources.enter_context(closing(connect(redis_url, keyspace=KEYS)))
        warehouse = resources.enter_context(Warehouse(warehouse_url))
        warehouse.create()
        processes = resources.enter_context(services(redis_url))
        processes.aggregator("aggregator")
        processes.start("averages-consumer", "averages_consumer", "--warehouse-url", warehouse_url)
        processes.await_ready("aggregator", "averages-consumer")
        yield Running(redis_url, cluster, processes, warehouse)
