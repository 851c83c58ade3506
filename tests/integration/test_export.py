"""What the warehouse has leaves it as CSV, JSON lines or Parquet, row by row."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from pyarrow import parquet

from averages_consumer.warehouse import Warehouse
from averages_consumer.warehouse.table import HourRow
from hourglass.errors import ConfigurationError
from hourglass.model.keys import HOUR_MS
from hourglassctl.averages import Format, export_averages, write
from hourglassctl.config import ExportSettings
from tests.support.commands import run_bytes
from tests.support.snapshots import DAY, average, row

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NAMES = [each.name for each in fields(HourRow)]


@pytest.fixture
def rows(warehouse_url: str) -> list[HourRow]:
    """Two days of them, in the warehouse."""
    averages = [average(hour, sealed_by='a "b", c\nd') for hour in range(47)]
    with Warehouse(warehouse_url) as warehouse:
        warehouse.create()
        warehouse.upsert([*averages, average(47, traceparent=TRACE)], NOON)
        return list(warehouse.rows(DAY.day_ms, DAY.end_ms + 24 * HOUR_MS))


def command(
    url: str, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    environment = {"HOURGLASS_WAREHOUSE_URL": url}
    return run_bytes(
        "hourglassctl", "averages", "export", *arguments, environment=environment, cwd=cwd
    )


def exported(url: str, *arguments: str) -> bytes:
    ended = command(url, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == b""
    return ended.stdout


def as_text(row: HourRow) -> dict[str, Any]:
    return {
        name: f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value
        for name, value in asdict(row).items()
    }


def test_csv_has_every_row_and_column(rows: list[HourRow], warehouse_url: str) -> None:
    text = exported(warehouse_url).decode()

    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(found[0]) == NAMES
    assert found == [
        {name: "" if value is None else str(value) for name, value in as_text(row).items()}
        for row in rows
    ]


def test_json_is_an_object_a_line(rows: list[HourRow], warehouse_url: str) -> None:
    lines = exported(warehouse_url, "--format", "json").decode().splitlines()

    assert [json.loads(line) for line in lines] == [as_text(row) for row in rows]


def test_parquet_has_times_as_times_and_numbers_as_numbers(
    rows: list[HourRow], warehouse_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "averages.parquet"
    assert exported(warehouse_url, "--format", "parquet", "--output", str(file)) == b""

    table: Any = cast(Any, parquet).read_table(file)
    assert [HourRow(**each) for each in table.to_pylist()] == rows
    assert str(table.schema.field("hour").type) == "timestamp[ms, tz=UTC]"
    assert not table.schema.field("hour").nullable
    assert table.schema.field("trace_id").nullable


def test_parquet_goes_through_a_pipe_too(rows: list[HourRow], warehouse_url: str) -> None:
    found: Any = cast(Any, parquet).read_table(
        io.BytesIO(exported(warehouse_url, "--format", "parquet"))
    )

    assert found.num_rows == len(rows)


def test_from_is_included_and_to_is_not(rows: list[HourRow], warehouse_url: str) -> None:
    options = ("--from", "2025-01-01T03:00:00Z", "--to", "2025-01-01T06:00:00+01:00")

    found = exported(warehouse_url, "--format", "json", *options).decode().splitlines()

    assert [json.loads(line) for line in found] == [as_text(row) for row in rows[3:5]]


@pytest.mark.parametrize("form", list(Format))
def test_rows_are_written_while_more_are_read(form: Format) -> None:
    """However many there are, no more than a few thousand are taken before some are written."""
    taken = 0
    most_ahead = 0
    out = io.BytesIO()

    def endless() -> Iterator[HourRow]:
        nonlocal taken, most_ahead
        written_at, seen = 0, 0
        each = row(average(0))
        for number in range(30_000):
            if out.tell() > seen:
                written_at, seen = number, out.tell()
            most_ahead = max(most_ahead, number - written_at)
            taken += 1
            yield replace(each, observations=number)

    write(endless(), form, out)

    assert taken == 30_000
    assert most_ahead <= 5_000


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/warehouse.db"
    with Warehouse(url) as warehouse:
        warehouse.create()
        warehouse.upsert([average(hour) for hour in range(5_000)], NOON)
    program = f"'{sys.executable}' -m hourglassctl averages export"
    line = f"({program}; echo status $? >&2) | head -n 1"

    ended = subprocess.run(
        ["sh", "-c", line],
        env={"HOURGLASS_WAREHOUSE_URL": url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )

    assert ended.stdout.decode().startswith("hour,average_temp_f,")
    assert ended.stderr == b"status 141\n"


@pytest.fixture
def few(tmp_path: Path) -> str:
    """The URL of a warehouse with three hours, in a file of the test's own."""
    url = f"sqlite:///{tmp_path}/few.db"
    with Warehouse(url) as warehouse:
        warehouse.create()
        warehouse.upsert([average(hour) for hour in range(3)], NOON)
    return url


def export(url: str, output: Path | str) -> None:
    """In this process."""
    export_averages(ExportSettings(warehouse_url=url, output=str(output)))


def test_a_minus_is_standard_output(few: str, tmp_path: Path) -> None:
    ended = command(few, "--output", "-", cwd=tmp_path)

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(ended.stdout.splitlines()) == 4
    assert not (tmp_path / "-").exists()


def test_a_pipe_is_written_through(few: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as readers:
        read = readers.submit(pipe.read_bytes)
        export(few, pipe)
        assert len(read.result(timeout=60).splitlines()) == 4
    assert pipe.is_fifo()


def test_a_device_is_written_through(few: str) -> None:
    export(few, "/dev/null")

    assert Path("/dev/null").is_char_device()


def test_a_full_device_is_one_line(few: str) -> None:
    with pytest.raises(
        ConfigurationError, match="/dev/full cannot be written: No space left on device"
    ):
        export(few, "/dev/full")


def test_a_link_stays_and_where_it_leads_is_replaced(few: str, tmp_path: Path) -> None:
    file, link = tmp_path / "averages.csv", tmp_path / "latest.csv"
    file.write_text("yesterday's")
    link.symlink_to(file.name)

    export(few, link)

    assert link.is_symlink()
    assert len(file.read_text().splitlines()) == 4


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_permissions(few: str, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "averages.csv"
    file.touch()
    file.chmod(mode)

    export(few, file)

    assert len(file.read_text().splitlines()) == 4
    assert file.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_text_that_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    out = io.BytesIO()
    write([replace(row(average(0)), sealed_by=text, min_temp_f=-1.5)], Format.CSV, out)

    (found,) = csv.DictReader(io.StringIO(out.getvalue().decode(), newline=""))
    assert found["sealed_by"] == f"'{text}"
    assert found["min_temp_f"] == "-1.5"


def test_a_file_is_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/warehouse.db"
    file = tmp_path / "averages.csv"
    file.write_text("yesterday's")
    with Warehouse(url) as warehouse:
        warehouse.create()
        warehouse.upsert([average(hour) for hour in range(3000)], NOON)
    engine = sa.create_engine(url)
    with engine.begin() as connection:  # far behind what is read first
        connection.exec_driver_sql(
            "UPDATE hourly_averages SET loaded_at = 'never' WHERE hour LIKE '2025-04-2%'"
        )
    engine.dispose()

    ended = command(url, "--output", str(file))

    assert ended.returncode != 0
    assert file.read_text() == "yesterday's"
    assert sorted(path.name for path in tmp_path.glob("averages*")) == ["averages.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "tomorrow"), "--from is 'tomorrow': give a time such as"),
        (("--from", "2025-01-02", "--to", "2025-01-01"), "--from is later than --to"),
        (("--format", "xml"), "'xml' is not one of"),
        (("--output", "/nowhere/averages.csv"), "/nowhere/averages.csv cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/warehouse.db"
    with Warehouse(url) as warehouse:
        warehouse.create()

    ended = command(url, *arguments)

    assert ended.returncode == 2
    (line,) = ended.stderr.decode().splitlines()
    assert said in line


def test_a_warehouse_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    ended = command(f"sqlite:///{tmp_path}/nothing.db")

    assert ended.returncode == 2
    assert b"no warehouse exists at" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_warehouse_of_another_schema_is_refused(warehouse_url: str) -> None:
    with Warehouse(warehouse_url) as warehouse:
        warehouse.create()
        with warehouse._transaction() as connection:  # pyright: ignore[reportPrivateUsage]
            connection.exec_driver_sql("UPDATE hourglass_schema_version SET version_num = '1'")

    ended = command(warehouse_url)

    assert ended.returncode == 2
    assert b"schema version 1, not 2" in ended.stderr
