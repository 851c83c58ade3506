"""The warehouse's schema is made and brought up to date by whoever comes first, as a whole."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql, sqlite

from averages_consumer.warehouse import Warehouse, WarehouseUnreachable
from averages_consumer.warehouse.schema import VERSION_TABLE
from averages_consumer.warehouse.table import hourly_averages, metadata, row_of
from hourglass.errors import ConfigurationError
from hourglass.model.keys import HOURS
from tests.support.at_once import at_once
from tests.support.snapshots import DAY, average

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
FIRST_VERSION = """
CREATE TABLE hourly_averages (
  hour {time} NOT NULL PRIMARY KEY, average_temp_f {double} NOT NULL, sum_milli_f BIGINT NOT NULL,
  min_temp_f {double} NOT NULL, max_temp_f {double} NOT NULL, observations BIGINT NOT NULL,
  devices BIGINT NOT NULL, late BIGINT NOT NULL, sealed_by TEXT NOT NULL, trace_id TEXT,
  entry_id TEXT NOT NULL, loaded_at {time} NOT NULL
)
"""
#: What the second version added.
SECOND = {"revision", "late_sum_milli_f"}
A_ROW = """
INSERT INTO hourly_averages VALUES
  ('2025-01-01T00:00:00Z', 50.0, 360000000, 40.0, 60.5, 7200, 2, 0, 'a', NULL, '1735689600000-0',
   '2025-01-01T01:00:05Z')
"""


@pytest.fixture
def connection(warehouse_url: str) -> Generator[sa.Connection]:
    """To the warehouse, past the program."""
    url = sa.make_url(warehouse_url)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def before_versions(connection: sa.Connection) -> None:
    """A warehouse of the time before its schema had versions."""
    types = {"time": "TEXT", "double": "DOUBLE"}
    if connection.dialect.name == "postgresql":
        types = {"time": "TIMESTAMPTZ", "double": "DOUBLE PRECISION"}
    connection.exec_driver_sql(FIRST_VERSION.format(**types))
    connection.exec_driver_sql(A_ROW)


def start(url: str) -> None:
    with Warehouse(url) as warehouse:
        warehouse.create()


def columns(connection: sa.Connection) -> set[str]:
    return {each["name"] for each in sa.inspect(connection).get_columns("hourly_averages")}


def version(connection: sa.Connection) -> str:
    return connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one()


def test_the_versions_lead_to_what_the_program_works_with(
    warehouse_url: str, connection: sa.Connection
) -> None:
    start(warehouse_url)

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    assert compare_metadata(context, metadata) == []


@pytest.mark.usefixtures("before_versions")
def test_a_warehouse_from_before_versions_is_taken_over_by_replicas_that_start_at_once(
    warehouse_url: str, connection: sa.Connection
) -> None:
    at_once(*[lambda: start(warehouse_url)] * 6)

    with Warehouse(warehouse_url) as warehouse:
        warehouse.upsert([average(1)], NOON)
        old, new = warehouse.rows(DAY.day_ms, DAY.end_ms)
    assert (old.observations, old.sum_milli_f, old.revision) == (7200, 360_000_000, 0)
    assert (new.observations, new.revision) == (7200, 0)
    assert columns(connection) == {each.name for each in metadata.tables["hourly_averages"].columns}


@pytest.mark.usefixtures("before_versions")
def test_a_change_of_the_schema_is_made_as_a_whole_or_not_at_all(
    warehouse_url: str, connection: sa.Connection
) -> None:
    before = columns(connection)
    connection.exec_driver_sql("CREATE TABLE daily_averages (somebody_elses INTEGER)")

    with pytest.raises(WarehouseUnreachable, match="daily_averages"):
        start(warehouse_url)
    assert columns(connection) == before
    assert not sa.inspect(connection).has_table(VERSION_TABLE)

    connection.exec_driver_sql("DROP TABLE daily_averages")
    start(warehouse_url)
    assert columns(connection) > before


@pytest.mark.usefixtures("before_versions")
def test_a_consumer_of_the_version_before_goes_on_writing(
    warehouse_url: str, connection: sa.Connection
) -> None:
    start(warehouse_url)

    for average_temp_f in (50.0, 51.0):  # inserted, and then put in its place
        row = {**row_of(average(1), NOON), "average_temp_f": average_temp_f}
        connection.execute(as_in_the_first_version(connection.dialect.name, row))

    with Warehouse(warehouse_url) as warehouse:
        _, written = warehouse.rows(DAY.day_ms, DAY.end_ms)
        assert (written.average_temp_f, written.revision, written.late_sum_milli_f) == (51.0, 0, 0)
        warehouse.upsert([average(1)], NOON)
        assert [row.average_temp_f for row in warehouse.rows(DAY.day_ms, DAY.end_ms)] == [50, 50]


def as_in_the_first_version(dialect: str, row: dict[str, Any]) -> sa.Insert:
    """The upsert of a program that knows the columns of that version alone."""
    columns = (sa.Column(c.name, c.type) for c in hourly_averages.columns if c.name not in SECOND)
    table = sa.Table("hourly_averages", sa.MetaData(), *columns)
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    return insert.values({c.name: row[c.name] for c in table.columns}).on_conflict_do_update(
        index_elements=[table.c.hour],
        set_={column.name: insert.excluded[column.name] for column in table.columns},
    )


def test_the_schema_of_a_newer_program_is_left_alone(
    warehouse_url: str, connection: sa.Connection
) -> None:
    start(warehouse_url)
    connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '99'")

    with pytest.raises(ConfigurationError, match="schema version 99 of a newer Hourglass"):
        start(warehouse_url)
    assert version(connection) == "99"


def test_another_application_s_versions_are_not_taken_for_ours(
    warehouse_url: str, connection: sa.Connection
) -> None:
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")

    start(warehouse_url)
    start(warehouse_url)

    theirs = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars()
    assert list(theirs) == ["theirs"]


def test_days_are_there_to_be_asked_for(warehouse_url: str, connection: sa.Connection) -> None:
    """In UTC, whatever the server's time zone, each reading with the same weight."""
    start(warehouse_url)
    with Warehouse(warehouse_url) as warehouse:
        few = average(HOURS - 1, count=1, sum_milli_f=20_000, min_milli_f=20_000)
        most = average(0, count=3, sum_milli_f=3 * 60_000, max_milli_f=99_000)
        warehouse.upsert([most, few, average(HOURS)], NOON)

    first, second = connection.exec_driver_sql("SELECT * FROM daily_averages ORDER BY day").all()

    assert str(first.day) == str(date(2025, 1, 1))
    assert str(second.day) == str(date(2025, 1, 2))
    assert first[1:] == (50.0, 20.0, 99.0, 4, 2, 0)
    assert second[1:] == (50.0, 40.0, 60.5, 7200, 1, 0)
