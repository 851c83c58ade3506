"""One row per hour, whatever is loaded how often by whom, in SQLite as in PostgreSQL."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from averages_consumer.warehouse import Warehouse, WarehouseUnreachable
from averages_consumer.warehouse.table import HourRow
from averages_consumer.warehouse.warehouse import PATIENCE_MS
from hourglass.errors import ConfigurationError
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import HOUR_MS
from hourglass.service.runtime import DRAIN_S, STUCK_S
from tests.support.at_once import at_once
from tests.support.postgres import Postgres
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

START = datetime(2025, 1, 1, tzinfo=UTC)
START_MS = int(START.timestamp()) * 1000
NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


def average(hour: int, *, sum_milli_f: int = 180_180_000, count: int = 3600) -> HourlyAverage:
    return HourlyAverage(
        start_ms=START_MS + hour * HOUR_MS,
        count=count,
        sum_milli_f=sum_milli_f,
        min_milli_f=-1_500,
        max_milli_f=99_900,
        devices=2,
        late=1,
        sealed_by="aggregator-0",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


@pytest.fixture
def warehouse(warehouse_url: str) -> Generator[Warehouse]:
    with Warehouse(warehouse_url) as warehouse:
        warehouse.create()
        yield warehouse


def all_rows(warehouse: Warehouse) -> list[HourRow]:
    return list(warehouse.rows(0, START_MS + 10_000 * HOUR_MS))


def test_a_row_holds_the_fields_of_the_average(warehouse: Warehouse) -> None:
    warehouse.upsert([average(5)], NOON)

    assert all_rows(warehouse) == [
        HourRow(
            hour=START + timedelta(hours=5),
            average_temp_f=50.05,
            sum_milli_f=180_180_000,
            min_temp_f=-1.5,
            max_temp_f=99.9,
            observations=3600,
            devices=2,
            late=1,
            sealed_by="aggregator-0",
            trace_id="0af7651916cd43dd8448eb211c80319c",
            entry_id=f"{START_MS + 5 * HOUR_MS}-0",
            loaded_at=NOON,
        )
    ]


def test_times_come_back_in_utc_whatever_the_time_zone_they_went_in_with(
    warehouse: Warehouse,
) -> None:
    warehouse.upsert([average(0)], NOON.astimezone(timezone(timedelta(hours=-8))))

    (row,) = all_rows(warehouse)
    assert (row.hour.tzinfo, row.loaded_at.tzinfo) == (UTC, UTC)
    assert row.loaded_at == NOON


def test_the_load_time_has_whole_seconds_and_a_zone(
    warehouse: Warehouse,
) -> None:
    warehouse.upsert([average(0)], NOON + timedelta(milliseconds=999))
    assert [row.loaded_at for row in all_rows(warehouse)] == [NOON]

    with pytest.raises(ValueError, match="no time zone"):
        warehouse.upsert([average(1)], NOON.replace(tzinfo=None))


def test_loading_an_hour_again_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.upsert([average(0), average(1)], NOON)
    before = all_rows(warehouse)

    warehouse.upsert([average(1), average(0)], NOON + timedelta(days=1))

    assert all_rows(warehouse) == before


def test_an_hour_published_again_with_another_result_replaces_its_row(
    warehouse: Warehouse,
) -> None:
    warehouse.upsert([average(0), average(1)], NOON)

    warehouse.upsert([average(1, sum_milli_f=3_600_000)], NOON + timedelta(days=1))

    untouched, replaced = all_rows(warehouse)
    assert (untouched.average_temp_f, untouched.loaded_at) == (50.05, NOON)
    assert (replaced.average_temp_f, replaced.loaded_at) == (1.0, NOON + timedelta(days=1))


def test_a_sum_beyond_what_a_float_holds_stays_exact(warehouse: Warehouse) -> None:
    warehouse.upsert([average(0, sum_milli_f=2**63 - 1, count=2**40)], NOON)

    assert all_rows(warehouse)[0].sum_milli_f == 2**63 - 1


def test_a_batch_is_loaded_as_a_whole_or_not_at_all(warehouse: Warehouse) -> None:
    with pytest.raises((WarehouseUnreachable, OverflowError)):
        warehouse.upsert([average(0), average(1, sum_milli_f=2**63)], NOON)

    assert warehouse.hours() == set()


def test_no_averages_are_nothing_to_do(warehouse: Warehouse) -> None:
    warehouse.upsert([], NOON)

    assert warehouse.hours() == set()
    assert warehouse.last_hour() is None


def test_rows_come_in_order_from_the_first_hour_up_to_the_second(warehouse: Warehouse) -> None:
    warehouse.upsert([average(hour) for hour in (30, 2, 29, 1, 3)], NOON)

    rows = warehouse.rows(START_MS + 2 * HOUR_MS, START_MS + 30 * HOUR_MS)

    assert [(row.start_ms - START_MS) // HOUR_MS for row in rows] == [2, 3, 29]
    assert warehouse.hours(START_MS + 29 * HOUR_MS) == {
        START_MS + 29 * HOUR_MS,
        START_MS + 30 * HOUR_MS,
    }
    assert warehouse.last_hour() == START_MS + 30 * HOUR_MS


def test_replicas_that_start_at_once_make_the_table_once(warehouse_url: str) -> None:
    def create() -> None:
        with Warehouse(warehouse_url) as replica:
            replica.create()
            replica.create()

    at_once(*[create] * 8)

    with Warehouse(warehouse_url) as warehouse:
        assert warehouse.hours() == set()


def test_replicas_that_load_the_same_hours_in_any_order_do_not_fight(
    warehouse: Warehouse, warehouse_url: str
) -> None:
    hours = range(200)

    def load(order: Sequence[int]) -> None:
        with Warehouse(warehouse_url) as replica:
            for _ in range(5):
                replica.upsert([average(hour) for hour in order], NOON)

    at_once(lambda: load(hours), lambda: load(hours[::-1]), lambda: load(hours))

    assert len(all_rows(warehouse)) == 200


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "postgresql://somebody:sesame@host:port/database",
        "mysql://somebody:sesame@host/database",
        "postgresql+pg8000://somebody:sesame@host/database",
        "postgresql+psycopg_async://somebody:sesame@host/database",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_that_cannot_work_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="HOURGLASS_WAREHOUSE_URL") as refused:
        Warehouse(url)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@ses/a#me@host/db",
        "postgresql://u:p?a@sesame@host/db",
        "postgresql://u/x:sesame@host/db",
        "postgresql://u:p@host/db?options=sesame@x",
    ],
)
def test_a_password_that_is_not_escaped_is_refused_and_nothing_of_it_is_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"escape the password \(%40 is @") as refused:
        Warehouse(url)
    for part in ("ses", "a#me", "host", "db"):
        assert part not in str(refused.value).replace("HOURGLASS", "").replace("warehouse", "")


def test_an_at_sign_in_the_path_of_a_file_is_no_credential(tmp_path: Path) -> None:
    folder = tmp_path / "me@home"
    folder.mkdir()
    with Warehouse(f"sqlite:///{folder}/warehouse.db") as warehouse:
        warehouse.create()


@pytest.mark.parametrize(
    "query", ["prepare_threshold=often", "port=x", "row_factory=tuple", "autocommit=1"]
)
def test_an_option_that_cannot_be_is_one_line(query: str) -> None:
    with pytest.raises(ConfigurationError, match="the warehouse's URL"):
        Warehouse(f"postgresql://me@host/database?{query}")


@pytest.mark.parametrize("query", ["no_such_option=1", "timeout=soon"])
def test_an_option_that_cannot_be_of_a_file_is_one_line(tmp_path: Path, query: str) -> None:
    with pytest.raises(ConfigurationError, match="the warehouse's URL"):
        Warehouse(f"sqlite:///{tmp_path}/warehouse.db?{query}")


def test_a_missing_driver_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'psycopg\[binary\]'"):
        Warehouse("postgresql://somebody:sesame@host/database")


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.db"
    with Warehouse(f"sqlite:///{file}") as warehouse:
        warehouse.create()
        warehouse.upsert([average(0)], NOON)
        modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    assert modes == dict.fromkeys(modes, 0o600)
    assert "warehouse.db" in modes


def test_a_file_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.db"
    file.touch()
    file.chmod(0o640)
    with Warehouse(f"sqlite:///{file}") as warehouse:
        warehouse.create()
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_file_in_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with (
        Warehouse(f"sqlite:///{tmp_path}/nowhere/warehouse.db") as warehouse,
        pytest.raises(ConfigurationError, match="its folder must exist and be writable"),
    ):
        warehouse.create()


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Grandmother,\n" * 100)
    with (
        Warehouse(f"sqlite:///{letter}") as warehouse,
        pytest.raises(ConfigurationError, match="file is not a database"),
    ):
        warehouse.create()
    assert letter.read_text().startswith("Dear Grandmother,")


def test_a_file_that_may_only_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.db"
    with Warehouse(f"sqlite:///{file}") as warehouse:
        warehouse.create()
    # Not by permissions, which do not bind root.
    with (
        Warehouse(f"sqlite:///file:{file}?mode=ro&uri=true") as warehouse,
        pytest.raises(ConfigurationError, match="attempt to write a readonly database"),
    ):
        warehouse.create()


def test_a_file_locked_by_another_program_is_unreachable_within_the_grace_period(
    tmp_path: Path,
) -> None:
    file = tmp_path / "warehouse.db"
    with Warehouse(f"sqlite:///{file}") as warehouse:
        warehouse.create()
        with closing(sqlite3.connect(file)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(WarehouseUnreachable, match="database is locked"):
                warehouse.upsert([average(0)], NOON)
        assert setting_of(warehouse, "PRAGMA busy_timeout") < 1000 * DRAIN_S
        warehouse.upsert([average(0)], NOON)
        assert len(all_rows(warehouse)) == 1


def test_readers_of_the_file_are_not_kept_waiting_by_a_writer(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.db"
    with Warehouse(f"sqlite:///{file}") as warehouse:
        warehouse.create()
        with closing(sqlite3.connect(file)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert warehouse.hours() == set()


def test_a_file_that_another_program_reads_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "warehouse.db"
    with closing(sqlite3.connect(file)) as other, Warehouse(f"sqlite:///{file}") as warehouse:
        other.execute("CREATE TABLE theirs (it)")
        other.execute("BEGIN")
        other.execute("SELECT * FROM theirs").fetchone()
        pauses: list[float] = []

        def end_the_read(pause_s: float) -> None:
            pauses.append(pause_s)
            other.rollback()

        monkeypatch.setattr("averages_consumer.warehouse.schema.time.sleep", end_the_read)
        warehouse.create()
    assert len(pauses) == 1


def test_the_file_can_be_asked_for_days_with_sqlite_s_own_functions(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.db"
    with Warehouse(f"sqlite:///{file}") as warehouse:
        warehouse.create()
        warehouse.upsert([average(23), average(24), average(25)], NOON)
    with closing(sqlite3.connect(file)) as reader:
        days = reader.execute("SELECT date(hour), count(*) FROM hourly_averages GROUP BY 1")
        assert list(days) == [("2025-01-01", 1), ("2025-01-02", 2)]


def test_postgresql_keeps_hours_as_timestamptz(postgres: Postgres) -> None:
    url = postgres.new_database()
    with Warehouse(url) as warehouse:
        warehouse.create()
        warehouse.upsert([average(7)], NOON)
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        types = connection.exec_driver_sql(
            "SELECT pg_typeof(hour)::text, pg_typeof(average_temp_f)::text, "
            "pg_typeof(sum_milli_f)::text, hour AT TIME ZONE 'UTC' FROM hourly_averages"
        ).one()
    engine.dispose()
    assert types == (
        "timestamp with time zone",
        "double precision",
        "bigint",
        datetime(2025, 1, 1, 7),  # noqa: DTZ001
    )


def test_postgresql_keeps_the_rows_until_they_are_fetched(postgres: Postgres) -> None:
    """A few at a time: else memory would grow with their number, however an export is written."""
    url = postgres.new_database()
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with Warehouse(url) as warehouse:
        warehouse.create()
        warehouse.upsert([average(hour) for hour in range(3000)], NOON)
        rows = iter(warehouse.rows(0, START_MS + 10_000 * HOUR_MS))
        next(rows)
        with engine.connect() as connection:
            last = connection.exec_driver_sql(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'hourglass-averages-consumer' AND state <> 'idle'"
            ).scalars()
            assert [query.split()[0] for query in last] == ["FETCH"]
        assert sum(1 for _ in rows) == 2999
    engine.dispose()


def test_an_hour_that_comes_twice_in_a_batch_has_the_last_of_them(warehouse: Warehouse) -> None:
    warehouse.upsert([average(5), average(5, count=7200)], NOON)

    assert [row.observations for row in all_rows(warehouse)] == [7200]


def test_a_role_that_may_not_make_tables_can_use_the_one_that_is_there(postgres: Postgres) -> None:
    url = postgres.new_database()
    with Warehouse(url) as owner:
        owner.create()
    role = f"loader_{sa.make_url(url).database}"
    postgres.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'loads'",
        f"GRANT SELECT, INSERT, UPDATE ON hourly_averages TO {role}",
        f"GRANT SELECT ON hourglass_schema_version TO {role}",
        url=url,
    )
    database = sa.make_url(url).database
    assert database
    with Warehouse(postgres.url(database, f"{role}:loads")) as warehouse:
        warehouse.create()
        warehouse.upsert([average(0)], NOON)
        assert len(all_rows(warehouse)) == 1


def test_a_refused_password_is_not_shown(postgres: Postgres) -> None:
    with (
        Warehouse(postgres.url(credentials="postgres:friend")) as warehouse,
        pytest.raises(ConfigurationError, match="password authentication failed") as refused,
    ):
        warehouse.create()
    assert "friend" not in str(refused.value)


@pytest.mark.parametrize("option", ["password", "sslpassword"])
def test_a_password_among_the_url_s_options_is_not_shown(option: str) -> None:
    url = f"postgresql://me@localhost:1/database?{option}=open%20sesame&{option}=please"
    with Warehouse(url) as warehouse, pytest.raises(WarehouseUnreachable) as refused:
        warehouse.create()
    for word in ("sesame", "please"):
        assert word not in warehouse.shown
        assert word not in str(refused.value)
    assert "me@localhost:1/database" in warehouse.shown


def test_a_locked_table_is_unreachable_before_the_worker_counts_as_stuck(
    postgres: Postgres,
) -> None:
    url = postgres.new_database()
    with Warehouse(url) as warehouse, Warehouse(url, patience_ms=600) as hasty:
        warehouse.create()
        with locked_table(url):
            for work in (lambda: hasty.upsert([average(0)], NOON), hasty.last_hour, hasty.create):
                with pytest.raises(WarehouseUnreachable, match="lock timeout"):
                    work()
        hasty.upsert([average(0)], NOON)
        assert len(all_rows(warehouse)) == 1
    assert PATIENCE_MS < STUCK_S * 1000 / 2


def test_a_limit_that_the_url_gives_stands(postgres: Postgres) -> None:
    url = postgres.new_database()
    with Warehouse(f"{url}&options=-c%20lock_timeout%3D200ms") as warehouse:
        warehouse.create()
        with locked_table(url), pytest.raises(WarehouseUnreachable, match="lock timeout"):
            warehouse.upsert([average(0)], NOON)
        assert setting_of(warehouse, "SHOW lock_timeout") == "200ms"


def setting_of(warehouse: Warehouse, statement: str) -> Any:
    """What a connection of the warehouse's has for a limit."""
    with cast(Any, warehouse)._engine.connect() as connection:
        return connection.scalar(sa.text(statement))


@contextmanager
def locked_table(url: str) -> Generator[None]:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as other:
        other.exec_driver_sql("LOCK TABLE hourly_averages")
        yield
    engine.dispose()


@pytest.mark.parametrize(
    ("request_lost", "there"), [(b"INSERT INTO hourly_averages", 0), (b"COMMIT", 2)]
)
def test_a_connection_that_is_cut_in_a_transaction_leaves_all_of_it_or_nothing(
    postgres: Postgres, tmp_path: Path, request_lost: bytes, there: int
) -> None:
    url = postgres.new_database()
    server = Path(str(sa.make_url(url).query["host"]))
    with (
        Warehouse(url) as warehouse,
        Proxy(server / ".s.PGSQL.5432", at=tmp_path / ".s.PGSQL.5432") as proxy,
        Warehouse(url.replace(str(server), str(tmp_path))) as cut,
    ):
        cut.create()
        proxy.lose_reply(request_lost)

        with pytest.raises(WarehouseUnreachable, match="does not answer"):
            cut.upsert([average(0), average(1)], NOON)

        assert proxy.losses == 1
        wait_until(lambda: len(warehouse.hours()) == there)
        cut.upsert([average(0), average(1)], NOON)
        assert len(all_rows(warehouse)) == 2


def test_a_full_disk_is_unreachable_until_there_is_room_again(tmp_path: Path) -> None:
    pages = {"most": 1 << 30}

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages['most']}")

    url = f"sqlite:///{tmp_path}/warehouse.db"
    with Warehouse(url) as warehouse:
        warehouse.create()
        warehouse.upsert([average(0)], NOON)
    pages["most"] = 1  # no more than there are
    event.listen(sa.Pool, "connect", limit)
    try:
        with Warehouse(url) as warehouse, pytest.raises(WarehouseUnreachable, match="is full"):
            warehouse.upsert([average(hour) for hour in range(1, 500)], NOON)
        pages["most"] = 1 << 30
        with Warehouse(url) as warehouse:
            assert len(all_rows(warehouse)) == 1
            warehouse.upsert([average(hour) for hour in range(1, 500)], NOON)
            assert len(all_rows(warehouse)) == 500
    finally:
        event.remove(sa.Pool, "connect", limit)


def test_an_unknown_connection_option_is_refused(postgres: Postgres) -> None:
    with pytest.raises(ConfigurationError, match="no_such_option"):
        Warehouse(f"{postgres.url()}&no_such_option=1")


def test_a_warehouse_that_comes_back_is_used_again(postgres: Postgres) -> None:
    with Warehouse(postgres.new_database()) as warehouse:
        warehouse.create()
        warehouse.upsert([average(0)], NOON)
        postgres.stop()
        try:
            with pytest.raises(WarehouseUnreachable, match="does not answer"):
                warehouse.upsert([average(1)], NOON)
        finally:
            postgres.start()
        warehouse.upsert([average(1)], NOON)
        assert len(all_rows(warehouse)) == 2


def test_a_connection_that_died_between_two_hours_is_not_noticed(postgres: Postgres) -> None:
    with Warehouse(postgres.new_database()) as warehouse:
        warehouse.create()
        warehouse.upsert([average(0)], NOON)
        postgres.stop()
        postgres.start()

        warehouse.upsert([average(1)], NOON)

        assert len(all_rows(warehouse)) == 2
