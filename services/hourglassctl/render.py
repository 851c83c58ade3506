"""Renders the pipeline status as a screen (rich) or as plain data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from aggregator.collectors import Progress
from hourglass.model.averages import HourRecord
from hourglass.model.clock import Instant
from hourglass.model.keys import HOUR_MS, HOURS, iso
from hourglass.model.readings import MILLI, degrees
from hourglass.monitoring.pipeline_status import PartitionView, PipelineStatus
from hourglass.monitoring.stream_stats import (
    hours_left,
    hours_left_line,
)
from hourglassctl.silent_devices import silence_line
from hourglassctl.status import Status

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


def screen(pipeline: PipelineStatus, *, title: str) -> Group:
    """A screen with the clock, the partitions and the averages."""
    shards = sorted({view.state.shard for view in pipeline.partitions})
    legend = ", ".join(f"#{number} {shard}" for number, shard in enumerate(shards, start=1))
    rows = [
        (
            view.state.stream,
            f"#{shards.index(view.state.shard) + 1}",
            f"{view.state.length:,}",
            "unknown" if view.state.lag is None else f"{view.state.lag:,}",
            f"{view.state.pending:,}",
            "unknown" if view.state.lag_readings is None else f"{view.state.lag_readings:,}",
            time_to_live(view.state.expires_ms, pipeline.instant),
            hour_marks(view),
        )
        for view in pipeline.partitions
    ]
    table = Fitted(
        title,
        ("partition", "shard", ">entries", ">lag", ">pending", ">readings behind", ">ttl",
         _HOURS),
        rows or [("none",)],
        spare=_HOURS,
    )  # fmt: skip
    return Group(
        Text(clock_line(pipeline.instant)),
        table,
        *([Text(f"shards: {legend}")] if legend else []),
        Text(averages_line(pipeline)),
        Text(hours_left_line(_hours_left(pipeline))),
    )


def _hours_left(pipeline: PipelineStatus) -> float | None:
    return hours_left(pipeline.instant, [view.state for view in pipeline.partitions])


def clock_line(instant: Instant) -> str:
    spec = instant.spec
    speed = f", {spec.speed:,.0f} times as fast" if spec.speed != 1 else ""
    return f"pipeline clock {iso(instant.now_ms)} ({spec.mode}{speed})"


def averages_line(pipeline: PipelineStatus) -> str:
    if pipeline.last is None:
        return "no average is published"
    last = pipeline.last
    stream = pipeline.averages
    waiting = None if stream is None or stream.lag is None else stream.lag + stream.pending
    behind = f"; {waiting} to load" if waiting else ""
    return (
        f"last average {iso(last.start_ms)}: {degrees(last.mean_milli_f)} °F of {last.count:,} "
        f"readings from {last.devices} devices{behind}"
    )


def published_until(pipeline: PipelineStatus) -> str:
    """The end of the last published hour."""
    published_through_ms = pipeline.published_through_ms
    return "never" if published_through_ms is None else iso(published_through_ms + HOUR_MS)


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


def as_data(pipeline: PipelineStatus) -> dict[str, Any]:
    """The status as data; times are in ISO 8601, an unknown value is null."""
    instant = pipeline.instant
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
            for view in pipeline.partitions
        ],
        "uncounted_expire_in_h": _hours_left(pipeline),
        "published_until": None
        if pipeline.published_through_ms is None
        else published_until(pipeline),
        "last_average": pipeline.last.fields() if pipeline.last else None,
    }


def as_screen(status: Status, period_s: float) -> Group:
    """One screen: the worst first where something is wrong."""
    parts: list[RenderableType] = [screen(status.pipeline, title="live partitions")]
    parts += [
        Text(hour_line(status.progress, period_s)),
        Text(silence_line(status.silence)),
        Text(producers_line(status)),
    ]
    parts += [_people(status), _last(status)]
    if status.problems:
        lines = [
            Text.assemble(
                (f"{each.severity:8}", {"error": "bold red", "warning": "yellow"}.get(
                    each.severity, "dim"
                )),
                each.text,
            )
            for each in status.problems
        ]  # fmt: skip
        parts += [Text("\nwhat is wrong, and what to do", style="bold"), *lines]
    parts.append(Text("\nhealthy" if status.healthy else "\nNOT HEALTHY"))
    return Group(*parts)


def hour_line(progress: Progress, period_s: float) -> str:
    share = progress.completeness(period_s * 1000)
    complete = "" if share is None else f", {share:.1%} of those due"
    return (
        f"hour in progress: {progress.count:,} readings from {progress.devices} devices "
        f"counted{complete}"
    )


def _people(status: Status) -> Fitted:
    rows = [
        (each.group, each.name, f"{each.pending:,}", f"{each.idle_ms / 1000:.1f} s ago")
        for each in status.consumers
    ]
    return Fitted(
        "\nat work", ("group", "process", "holds", "last sign of life"), rows or [("none",)]
    )


def producers_line(status: Status) -> str:
    partitions = status.pipeline.partitions
    day = partitions[-1].partition.day.stream if partitions else "any day"
    return f"producers that have written to {day}: {', '.join(status.producers) or 'none'}"


def _last(status: Status) -> Fitted:
    rows = [
        (
            iso(each.start_ms),
            f"{degrees(each.mean_milli_f)} °F",
            f"{each.count:,}",
            str(each.devices),
            str(each.late),
        )
        for each in status.averages
    ]
    return Fitted("\nlast averages", ("hour", "average", "readings", "devices", "late"), rows)


def as_document(status: Status, period_s: float) -> dict[str, Any]:
    """The same for programs; unknown is null."""
    progress = status.progress
    return {
        **as_data(status.pipeline),
        "healthy": status.healthy,
        "problems": [
            {"code": each.code, "severity": each.severity, "text": each.text}
            for each in status.problems
        ],
        "hour_in_progress": {
            "readings": progress.count,
            "devices": progress.devices,
            "average_temp_f": progress.sum_milli_f / progress.count / MILLI
            if progress.count
            else None,
            "completeness": progress.completeness(period_s * 1000),
            "silent_devices": {
                "count": status.silence.count,
                "first_names": list(status.silence.names),
                "unknown": status.silence.unknown or None,
            },
        },
        "consumers": [
            {
                "group": each.group,
                "process": each.name,
                "pending": each.pending,
                "idle_s": each.idle_ms / 1000,
            }
            for each in status.consumers
        ],
        "producers": list(status.producers),
        "last_averages": [each.fields() for each in status.averages],
    }
