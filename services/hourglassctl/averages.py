"""Shows the averages on the stream, and exports those of the warehouse."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, fields
from datetime import datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from averages_consumer.warehouse import Warehouse
from averages_consumer.warehouse.table import HourRow
from hourglass.cluster.client import Cluster
from hourglass.cluster.published import Tail
from hourglass.errors import ConfigurationError, Conflict, Unreachable
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import AVERAGES_KEPT, iso
from hourglass.model.readings import MILLI
from hourglass.service.signals import interruptible
from hourglassctl.config import (
    ExportSettings,
    Format,
    ShowAveragesSettings,
    reached,
)

#: Time that one read blocks for the next average; Ctrl-C is handled between reads.
_BLOCK_MS = 500
_RETRY_S = 0.2


def shown(
    cluster: Cluster, check: Callable[[], None], *, follow: bool, as_json: bool
) -> Iterator[str]:
    """Yield a line for each average on the stream; with `follow` also for each new one, until
    `check` raises.

    Raises Unreachable. With `follow` it retries once it has read the stream, and shows no average
    twice.
    """
    for average in _averages(cluster, check, follow=follow):
        yield as_line_of_json(average) if as_json else average.line


def as_line_of_json(average: HourlyAverage) -> str:
    """The average as JSON, with the field names of the warehouse and the API."""
    return json.dumps(
        {
            "hour": iso(average.start_ms),
            "average_temp_f": average.mean_milli_f / MILLI,
            "min_temp_f": average.min_milli_f / MILLI,
            "max_temp_f": average.max_milli_f / MILLI,
            "observations": average.count,
            "devices": average.devices,
            "late": average.late,
            "sealed_by": average.sealed_by,
        }
    )


def _averages(
    cluster: Cluster, check: Callable[[], None], *, follow: bool
) -> Iterator[HourlyAverage]:
    stream = cluster.keyspace.averages
    known: Sequence[HourlyAverage] | None = None
    while True:
        try:
            with closing(cluster.link(stream)) as link:
                feed = Tail(link, stream)
                while known is None or follow:
                    check()
                    update = feed.next(_BLOCK_MS)
                    before = known or ()
                    known = update.added_to(before, AVERAGES_KEPT)
                    yield from (each for each in update.averages if each not in before)
                return
        except Unreachable:
            if known is None or not follow:
                raise
            time.sleep(_RETRY_S)
            with suppress(Unreachable):
                cluster.refresh_topology()


#: Rows per row group of Parquet.
_CHUNK = 5_000


def write(rows: Iterable[HourRow], form: Format, out: BinaryIO) -> None:
    """Write the rows with the columns of the warehouse, in their order; times are UTC.

    csv: with a header (RFC 4180); null is empty; a text that a spreadsheet would evaluate as a
        formula gets the prefix '
    json: one object per line
    parquet: times as timestamps, in milliseconds

    Raises ConfigurationError if pyarrow, which Parquet requires, is not installed.
    """
    match form:
        case Format.CSV:
            _write_csv(rows, out)
        case Format.JSON:
            _write_json(rows, out)
        case Format.PARQUET:
            _write_parquet(rows, out)


@contextmanager
def opened(path: str, form: Format) -> Generator[BinaryIO]:
    """Open the output: standard output for an empty path or -, an existing device or pipe, or a
    file. A file is written under another name and renamed when it is complete; it keeps the
    permissions of the file it replaces. Raises ConfigurationError, Conflict."""
    if path in ("", "-"):
        if form is Format.PARQUET and sys.stdout.isatty():
            raise Conflict(
                "Parquet is binary and cannot be shown in a terminal: give --output FILE"
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    given = Path(path)
    try:
        if given.exists() and not given.is_file():
            with given.open("wb") as out:
                yield out
        else:  # replace the target of a symbolic link, not the link
            yield from _replaced(Path(os.path.realpath(given)))
    except OSError as error:
        raise ConfigurationError(f"--output {path} cannot be written: {error.strerror}") from None


def _replaced(target: Path) -> Generator[BinaryIO]:
    """A new file that replaces `target` on success. Raises OSError."""
    part = target.with_name(f"{target.name}.part")
    mode = target.stat().st_mode & 0o7777 if target.exists() else None
    part.unlink(missing_ok=True)
    try:
        # Never more readable than the file it replaces.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or 0o666)
        with os.fdopen(descriptor, "wb") as out:
            yield out
        if mode is not None:
            part.chmod(mode)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _as_text(row: HourRow) -> Mapping[str, Any]:
    return {
        name: f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value
        for name, value in asdict(row).items()
    }


def _write_csv(rows: Iterable[HourRow], out: BinaryIO) -> None:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.DictWriter(text, [each.name for each in fields(HourRow)])
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _no_formula(value) for name, value in _as_text(row).items()})
    text.detach()


def _no_formula(value: Any) -> Any:
    """Prefix a text that a spreadsheet would evaluate as a formula."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value


def _write_json(rows: Iterable[HourRow], out: BinaryIO) -> None:
    out.writelines(json.dumps(_as_text(row)).encode() + b"\n" for row in rows)


def _write_parquet(rows: Iterable[HourRow], out: BinaryIO) -> None:
    try:
        pa, parquet = (cast(Any, import_module(name)) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError:
        raise ConfigurationError("Parquet requires pyarrow: pip install pyarrow") from None
    kinds: Mapping[str, Any] = {
        "datetime": pa.timestamp("ms", tz="UTC"),
        "float": pa.float64(),
        "int": pa.int64(),
        "str": pa.string(),
        "str | None": pa.string(),
    }
    schema = pa.schema(
        [
            pa.field(each.name, kinds[str(each.type)], nullable="None" in str(each.type))
            for each in fields(HourRow)
        ]
    )
    left = iter(rows)
    with parquet.ParquetWriter(out, schema) as writer:
        while chunk := list(islice(left, _CHUNK)):
            writer.write_table(pa.Table.from_pylist([asdict(row) for row in chunk], schema))


def show_averages(settings: ShowAveragesSettings) -> None:
    """Show the averages of the last five days, one per line."""
    with reached(settings) as (cluster, _), interruptible() as check:
        for line in shown(cluster, check, follow=settings.follow, as_json=settings.json):
            print(line, flush=True)


def export_averages(settings: ExportSettings) -> None:
    """Export the hourly averages of the warehouse as CSV, JSON lines or Parquet."""
    hours = settings.hours
    with (
        Warehouse(settings.url) as warehouse,
        opened(settings.output, settings.format) as file,
    ):
        warehouse.expect()
        write(warehouse.rows(hours.start, hours.stop), settings.format, file)
