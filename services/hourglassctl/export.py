"""Exports the warehouse's rows as CSV, JSON lines or Parquet. It streams them: at most a few
thousand rows are in memory."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from enum import StrEnum
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from averages_consumer.warehouse.table import HourRow
from hourglass.errors import ConfigurationError, Conflict

#: Rows per row group of Parquet.
_CHUNK = 5_000


class Format(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


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
