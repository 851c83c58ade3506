"""Renders the pipeline status as a screen (rich) or as plain data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from hourglass.model.averages import HourRecord
from hourglass.model.clock import Instant
from hourglass.model.keys import HOUR_MS, HOURS, iso
from hourglass.model.readings import degrees
from hourglass.monitoring.pipeline_status import PartitionView, PipelineStatus
from hourglass.monitoring.stream_stats import hours_left, hours_left_line
from hourglassctl.audit.compare import Audit
from hourglassctl.backfill import Backfilled

#: One character per hour: sealed with readings, sealed without, in progress, no readings yet.
_SEALED, _EMPTY, _OPEN, _NONE = "█", "·", "▒", " "
_HOURS = "hours 0 to 23"
_UNLIMITED = 10_000


def console() -> Console:
    """A console for standard output, without line wrapping for a pipe or a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNLIMITED)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A table that never truncates: if it is too wide it omits the column `spare`, and if that is
    not enough it wraps cells.

    columns: the headings; a prefix > aligns the column to the right
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    spare: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = self._table(self.columns, no_wrap=True)
        if _fits(console, options, whole):
            yield whole
            return
        columns = [each for each in self.columns if each != self.spare]
        fewer = self._table(columns, no_wrap=True)
        yield fewer if _fits(console, options, fewer) else self._table(columns, no_wrap=False)

    def _table(self, columns: Sequence[str], *, no_wrap: bool) -> Table:
        table = Table(title=self.title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        for name in columns:
            justify = "right" if name.startswith(">") else "left"
            table.add_column(
                name.removeprefix(">"), justify=justify, no_wrap=no_wrap, overflow="fold"
            )
        shown = [self.columns.index(name) for name in columns]
        for row in self.rows:
            table.add_row(*(Text(row[index]) for index in shown if index < len(row)))
        return table


def _fits(console: Console, options: ConsoleOptions, table: Table) -> bool:
    unlimited = options.update(max_width=_UNLIMITED)
    return Measurement.get(console, unlimited, table).maximum <= options.max_width


def screen(overview: PipelineStatus, *, title: str) -> Group:
    """A screen with the clock, the partitions and the averages."""
    shards = sorted({view.state.shard for view in overview.partitions})
    legend = ", ".join(f"#{number} {shard}" for number, shard in enumerate(shards, start=1))
    rows = [
        (
            view.state.stream,
            f"#{shards.index(view.state.shard) + 1}",
            f"{view.state.length:,}",
            "unknown" if view.state.lag is None else f"{view.state.lag:,}",
            f"{view.state.pending:,}",
            "unknown" if view.state.lag_readings is None else f"{view.state.lag_readings:,}",
            time_to_live(view.state.expires_ms, overview.instant),
            hour_marks(view),
        )
        for view in overview.partitions
    ]
    table = Fitted(
        title,
        ("partition", "shard", ">entries", ">lag", ">pending", ">readings behind", ">ttl",
         _HOURS),
        rows or [("none",)],
        spare=_HOURS,
    )  # fmt: skip
    return Group(
        Text(clock_line(overview.instant)),
        table,
        *([Text(f"shards: {legend}")] if legend else []),
        Text(averages_line(overview)),
        Text(hours_left_line(_hours_left(overview))),
    )


def _hours_left(overview: PipelineStatus) -> float | None:
    return hours_left(overview.instant, [view.state for view in overview.partitions])


def clock_line(instant: Instant) -> str:
    spec = instant.spec
    speed = f", {spec.speed:,.0f} times as fast" if spec.speed != 1 else ""
    return f"pipeline clock {iso(instant.now_ms)} ({spec.mode}{speed})"


def averages_line(overview: PipelineStatus) -> str:
    if overview.last is None:
        return "no average is published"
    last = overview.last
    stream = overview.averages
    waiting = None if stream is None or stream.lag is None else stream.lag + stream.pending
    behind = f"; {waiting} to load" if waiting else ""
    return (
        f"last average {iso(last.start_ms)}: {degrees(last.mean_milli_f)} °F of {last.count:,} "
        f"readings from {last.devices} devices{behind}"
    )


def published_until(overview: PipelineStatus) -> str:
    """The end of the last published hour."""
    frontier_ms = overview.frontier_ms
    return "never" if frontier_ms is None else iso(frontier_ms + HOUR_MS)


def time_to_live(expires_ms: int | None, instant: Instant) -> str:
    """Pipeline time left, as hours:minutes."""
    if expires_ms is None:
        return "never"
    minutes = max(0, int((expires_ms - instant.real_ms) * instant.spec.speed) // 60_000)
    return f"{minutes // 60}:{minutes % 60:02d}"


def hour_marks(view: PartitionView) -> str:
    records = {record.start_ms: record for record in view.hours}
    return "".join(_mark(records.get(view.partition.hour_start_ms(hour))) for hour in range(HOURS))


def _mark(record: HourRecord | None) -> str:
    if record is None:
        return _NONE
    if record.sealed:
        return _SEALED if record.count else _EMPTY
    return _OPEN if record.count else _NONE


def as_data(overview: PipelineStatus) -> dict[str, Any]:
    """The status as data; times are in ISO 8601, an unknown value is null."""
    instant = overview.instant
    return {
        "clock": {
            "mode": str(instant.spec.mode),
            "now": iso(instant.now_ms),
            "speed": instant.spec.speed,
        },
        "partitions": [
            {
                "stream": view.state.stream,
                "shard": view.state.shard,
                "length": view.state.length,
                "lag": view.state.lag,
                "lag_readings": view.state.lag_readings,
                "pending": view.state.pending,
                "consumers": view.state.consumers,
                "expires_in_s": None
                if view.state.expires_ms is None
                else (view.state.expires_ms - instant.real_ms) / 1000,
                "hours": [
                    {
                        "start": iso(record.start_ms),
                        "count": record.count,
                        "late": record.late,
                        "sealed": record.sealed,
                    }
                    for record in view.hours
                ],
            }
            for view in overview.partitions
        ],
        "uncounted_expire_in_h": _hours_left(overview),
        "published_until": None if overview.frontier_ms is None else published_until(overview),
        "last_average": overview.last.fields() if overview.last else None,
    }


def audit_lines(audit: Audit) -> list[str]:
    """The findings of an audit, one per line; the last line is the result."""
    warehouse = "not compared" if audit.in_warehouse is None else f"{audit.in_warehouse:,}"
    lines = [
        f"hours with records       {audit.hours:>12,}",
        f"hours counted from raw   {audit.recounted_hours:>12,}",
        f"hours published          {audit.published:>12,}",
        f"hours in the warehouse   {warehouse:>12}",
        f"readings counted         {audit.counted:>12,}",
        f"readings late            {audit.late:>12,}",
        f"readings in quarantine   {audit.quarantined:>12,}",
        f"taken, and gone since    {audit.gone:>12,}",
        f"lost                     {audit.lost:>12,}",
        f"counted twice            {audit.twice:>12,}",
    ]
    if audit.waiting:
        lines.append(f"sealed, not published yet {audit.waiting:>11,}")
    if audit.loading:
        lines.append(f"published, not loaded yet {audit.loading:>11,}")
    if audit.revised:
        lines.append(f"hours revised by late ones {audit.revised:>10,}")
    if audit.too_late:
        lines.append(f"hours too late to publish {audit.too_late:>11,}")
    if audit.removed:
        lines.append(f"entries counted, removed {audit.removed:>12,}")
    lines += [f"NOTE {each}" for each in audit.notes]
    lines += [f"DIFFERENCE {each.hour} {each.what}" for each in audit.differences]
    lines.append("no difference" if audit.clean else f"{len(audit.differences)} differences")
    return lines


def backfill_lines(found: Backfilled) -> list[str]:
    """The result of a backfill, one number per line, and the hours that are still missing."""
    lines = [
        f"in the warehouse before  {found.there:>12,}",
        f"loaded from the stream   {len(found.from_stream):>12,}",
        f"loaded from hour records {len(found.from_records):>12,}",
        f"missing for good         {len(found.missing):>12,}",
    ]
    return lines + [f"MISSING {iso(hour)}" for hour in found.missing]


def backfill_as_data(found: Backfilled) -> dict[str, Any]:
    """The result of a backfill as data."""
    return {
        "there": found.there,
        "from_stream": [iso(hour) for hour in found.from_stream],
        "from_records": [iso(hour) for hour in found.from_records],
        "missing": [iso(hour) for hour in found.missing],
    }
