"""What PostgreSQL refuses, and what stands in front of it: one line with the remedy, and an end
where waiting does not help."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from averages_consumer.warehouse import (
    LoginRefused,
    Warehouse,
    WarehouseUnreachable,
    WarehouseUnusable,
)
from hourglass.errors import ConfigurationError
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import HOUR_MS
from hourglassctl.local.bootstrap import free_ports
from hourglassctl.local.processes import ProcessGroup
from tests.support.postgres import Postgres, unprivileged
from tests.support.waiting import wait_until

pytestmark = pytest.mark.extended

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def average(hour: int) -> HourlyAverage:
    return HourlyAverage(
        start_ms=hour * HOUR_MS, count=1, sum_milli_f=1000, min_milli_f=1000, max_milli_f=1000,
        devices=1, late=0, sealed_by="aggregator-0",
    )  # fmt: skip


@pytest.fixture
def database(postgres: Postgres) -> str:
    name = sa.make_url(postgres.new_database()).database
    assert name
    return name


@pytest.fixture
def role(postgres: Postgres) -> str:
    """May log in, and nothing else. Its password is `sesame`."""
    name = f"role_{secrets.token_hex(4)}"
    postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame'")
    return name


def refusal(url: str) -> str:
    with Warehouse(url) as warehouse, pytest.raises(ConfigurationError) as refused:
        warehouse.create()
    assert "\n" not in str(refused.value)
    assert "does not answer" not in str(refused.value)
    return str(refused.value)


def test_a_role_that_may_not_create_is_refused_with_what_to_grant(
    postgres: Postgres, database: str, role: str
) -> None:
    message = refusal(postgres.url(database, f"{role}:sesame"))

    assert "GRANT CREATE ON SCHEMA public" in message


def test_what_the_message_says_to_grant_is_enough(
    postgres: Postgres, database: str, role: str
) -> None:
    postgres.execute(f"GRANT CREATE ON SCHEMA public TO {role}", url=postgres.url(database))

    with Warehouse(postgres.url(database, f"{role}:sesame")) as warehouse:
        warehouse.create()


def test_a_role_without_a_schema_is_refused(postgres: Postgres, database: str, role: str) -> None:
    postgres.execute(f"ALTER ROLE {role} SET search_path = nowhere")

    assert "search_path" in refusal(postgres.url(database, f"{role}:sesame"))


def test_a_role_that_only_reads_is_refused(postgres: Postgres, database: str, role: str) -> None:
    postgres.execute(
        f"GRANT CREATE ON SCHEMA public TO {role}",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
        url=postgres.url(database),
    )

    assert "a role that may write" in refusal(postgres.url(database, f"{role}:sesame"))


def test_a_database_that_there_is_not_is_refused(postgres: Postgres) -> None:
    assert "create the database" in refusal(postgres.url("no_such_database"))


def test_a_user_who_may_not_log_in_is_refused(postgres: Postgres, database: str, role: str) -> None:
    assert "user and password in" in refusal(postgres.url(database, f"{role}:wrong"))
    assert "user and password in" in refusal(postgres.url(database, "stranger:wrong"))
    postgres.execute(f"ALTER ROLE {role} NOLOGIN")
    assert "user and password in" in refusal(postgres.url(database, f"{role}:sesame"))


def test_a_value_that_libpq_does_not_know_is_refused(postgres: Postgres) -> None:
    assert "sslmode" in refusal(f"{postgres.url()}&sslmode=nonsense")


def test_what_is_refused_after_the_start_is_waited_for_but_not_another_password(
    postgres: Postgres, database: str, role: str
) -> None:
    postgres.execute(f"GRANT CREATE ON SCHEMA public TO {role}", url=postgres.url(database))
    with Warehouse(postgres.url(database, f"{role}:sesame")) as warehouse:
        warehouse.create()
        postgres.execute(
            "ALTER TABLE hourly_averages OWNER TO postgres", url=postgres.url(database)
        )
        with pytest.raises(WarehouseUnusable, match="GRANT") as refused:
            warehouse.upsert([average(0)], NOON)
        assert not isinstance(refused.value, LoginRefused)

    with Warehouse(postgres.url(database, f"{role}:sesame")) as warehouse:
        postgres.execute(f"ALTER ROLE {role} PASSWORD 'another'")
        with pytest.raises(LoginRefused, match="check user and password"):
            warehouse.upsert([average(0)], NOON)


def test_a_server_that_is_starting_is_waited_for(postgres: Postgres) -> None:
    with Warehouse(postgres.new_database()) as warehouse:
        postgres.stop()
        try:
            with pytest.raises(WarehouseUnreachable, match="does not answer"):
                warehouse.create()
        finally:
            postgres.start()
        warehouse.create()


@contextmanager
def pooler(postgres: Postgres, database: str) -> Generator[str]:
    """The URL of a PgBouncer in transaction mode before the database, with one connection to it."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("no PgBouncer: install pgbouncer")
    port, _ = free_ports(1)[0]
    with ProcessGroup("hourglass-pgbouncer-") as guard:
        guard.directory.chmod(0o755)
        configuration = guard.directory / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n"
            f"{database} = host={postgres.socket_folder} user=postgres "
            f"password='{postgres.password}'\n"
            f"[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = 1\n"
        )
        server = subprocess.Popen(
            [program, configuration],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=guard.group,
            **unprivileged(),
        )
        try:
            yield f"postgresql://anybody:{quote('any')}@127.0.0.1:{port}/{database}"
        finally:
            server.kill()
            server.wait()


def test_a_pooler_in_transaction_mode_needs_no_option(postgres: Postgres, database: str) -> None:
    with pooler(postgres, database) as url, Warehouse(url) as one, Warehouse(url) as other:
        wait_until(lambda: created(one), message="PgBouncer does not answer")
        for hour in range(20):  # of a statement that comes often, a driver makes a prepared one
            one.upsert([average(2 * hour)], NOON)
            other.upsert([average(2 * hour + 1)], NOON)

        assert len(one.hours()) == 40


def created(warehouse: Warehouse) -> bool:
    try:
        warehouse.create()
    except WarehouseUnreachable:
        return False
    return True


def test_a_threshold_for_prepared_statements_is_taken_from_the_url(
    postgres: Postgres, database: str
) -> None:
    with Warehouse(f"{postgres.url(database)}&prepare_threshold=0") as warehouse:
        warehouse.create()
        warehouse.upsert([average(0)], NOON)

        assert len(warehouse.hours()) == 1
