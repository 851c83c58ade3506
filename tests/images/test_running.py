"""The images at work: as any user, on a root file system that cannot be written."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from hourglassctl.local import bootstrap
from tests.images.engine import CONFINED, EngineError, container, docker, have
from tests.images.test_contents import PACKAGES, SERVICES
from tests.support.cluster import EmbeddedCluster
from tests.support.waiting import wait_until

#: The first test builds the images.
pytestmark = [pytest.mark.images, pytest.mark.timeout(900)]

#: On this machine's network, at a port that is free, with a volume where an image wants one.
AT_WORK = (
    "--network", "host", *CONFINED, "--tmpfs", "/data",
    "--env", "HOURGLASS_HTTP_HOST=127.0.0.1", "--env", "HOURGLASS_HTTP_PORT=0",
    "--env", "HOURGLASS_WEB_PORT=0",
)  # fmt: skip
READY_S = 30


@pytest.mark.parametrize("name", PACKAGES)
def test_help_needs_nothing(name: str, images: Callable[[str], str]) -> None:
    said = docker("run", "--rm", "--network", "none", *CONFINED, images(name), "--help")

    program = "hourglass" if name == "hourglassctl" else f"hourglass-{name}"
    assert said.startswith(f"Usage: {program} ")


@pytest.mark.parametrize("name", SERVICES)
def test_sigterm_ends_a_service_within_the_grace_period(
    name: str, images: Callable[[str], str], embedded: EmbeddedCluster
) -> None:
    with container(
        *AT_WORK, "--env", f"HOURGLASS_REDIS_URL={embedded.url}", images(name)
    ) as service:
        wait_until(service.ready, READY_S, f"{name} is not ready")

        status, took_s = service.stop(grace_s=10)

        said = service.said()
        assert "SIGTERM: stopping" in said
        assert (status, took_s < 5) == (0, True), said


def test_a_command_can_be_stopped(images: Callable[[str], str], embedded: EmbeddedCluster) -> None:
    with container(
        *AT_WORK, images("hourglassctl"),
        "replay", "--days", "1000", "--redis-url", embedded.url,
    ) as command:  # fmt: skip
        wait_until(lambda: keys(embedded) > 0, READY_S, "nothing is replayed")

        status, took_s = command.stop(grace_s=10)

        assert (status, took_s < 5) == (130, True), command.said()


def keys(cluster: EmbeddedCluster) -> int:
    total = 0
    for port in cluster.ports:
        with bootstrap.client(port) as client:
            total += int(cast(Any, client).dbsize())
    return total


@pytest.fixture
def postgres() -> Generator[str]:
    """The URL of an empty PostgreSQL database that takes connections."""
    image, password = "postgres:17", secrets.token_hex(8)
    try:
        have(image)
    except EngineError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    with container(
        "--env", f"POSTGRES_PASSWORD={password}", "--publish", "127.0.0.1::5432", image
    ) as server:
        url = f"postgresql://postgres:{password}@127.0.0.1:{server.port(5432)}/postgres"
        wait_until(lambda: answers(url), READY_S, "PostgreSQL does not answer")
        yield url


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def answers(url: str) -> bool:
    try:
        return bool(query(url, "SELECT 1"))
    except OperationalError:
        return False


def test_the_images_take_a_day_of_readings_into_postgresql(
    images: Callable[[str], str], embedded: EmbeddedCluster, postgres: str
) -> None:
    at_work = (
        *AT_WORK, "--env", f"HOURGLASS_REDIS_URL={embedded.url}",
        "--env", f"HOURGLASS_WAREHOUSE_URL={postgres}",
    )  # fmt: skip

    def hourglass(*arguments: str) -> str:
        return docker("run", "--rm", *at_work, images("hourglassctl"), *arguments)

    with (
        container(*at_work, images("aggregator")) as aggregator,
        container(*at_work, images("averages-consumer")) as consumer,
    ):
        for each in (aggregator, consumer):
            wait_until(each.ready, READY_S, f"not ready: {each.said()}")
        hourglass("replay", "--days", "1", "--period-s", "10")

        wait_until(
            lambda: query(postgres, "SELECT count(*) FROM hourly_averages") == [(24,)],
            READY_S,
            "24 hours are not in the warehouse",
        )

    assert json.loads(hourglass("audit", "--json"))
    assert query(postgres, "SELECT sum(observations) FROM hourly_averages") == [(8640,)]
