"""Writes the readings of a file and advances the pipeline clock with them.

Readings are written up to AHEAD_DAYS ahead of the clock. The clock moves a day at a time, as far as
aggregators publish and consumers load: hours that are not published and averages that are not
loaded never exceed what the averages' stream keeps. A day expires once the clock is two days ahead
of it.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import Days
from hourglass.errors import ConfigurationError, Conflict
from hourglass.model.clock import LAST_ORIGIN_MS, Mode, PipelineClock
from hourglass.model.keys import (
    AVERAGES_GROUP,
    AVERAGES_KEPT,
    DAY_MS,
    HOUR_MS,
    RECORDS_KEPT_MS,
    RETENTION_MS,
    Partition,
    iso,
    parse_time,
)
from hourglassctl.config import ReplaySettings, reached
from hourglassctl.history import Day, days, rows, summary
from hourglassctl.history_values import BadRow, Form
from hourglassctl.replay import (
    DataSet,
    drive,
    patiently,
    refuse_what_is_there,
    replay,
    reset,
)
from producer.batch import Batcher
from producer.identities import TICK_MS
from producer.writer import BatchWriter, Outcome

#: Days written ahead of the clock, and readings after which there is only one.
AHEAD_DAYS = 32
_AHEAD_READINGS = 50_000
#: Bad rows that are put into quarantine.
MOST_BAD = 100
_BATCH = 1000
_POLL_S = 0.01
#: Without progress for so long, the replay stops. It can be started again.
_PATIENCE_S = 60.0


class FileReplay:
    """One replay, and what it has done so far."""

    def __init__(self, cluster: Cluster, *, lanes: int = 1) -> None:
        self._cluster = cluster
        self._clock = PipelineClock(cluster)
        instant = self._clock.refresh()
        self._now_ms = -1
        if instant.spec.mode is Mode.MANUAL:
            self._now_ms = instant.now_ms
        else:
            refuse_what_is_there(cluster)
        #: What was passed before this replay began is there already.
        self._passed_ms = self._now_ms
        self._days = Days(cluster, self._clock, lanes=lanes)
        self._writer = BatchWriter(
            cluster, self._clock, days=self._days, incarnation=f"replay:{uuid.uuid4().hex[:12]}"
        )
        self._batcher = Batcher(
            limit=_BATCH,
            partitions=lambda day_ms: patiently(lambda: self._days.shares(day_ms)),
            deduplicate_ms=TICK_MS,
        )
        self._ahead: deque[Day] = deque()
        #: Hours with readings that the clock has passed, and that may not be published.
        self._passed: deque[int] = deque()
        self._alive: deque[Partition] = deque()
        self._recorded: deque[Partition] = deque()
        self.taken = self.repeated = self.too_old = 0
        self.bad: dict[str, list[int]] = {}
        self._bad_rows = 0

    @property
    def now_ms(self) -> int:
        return self._now_ms

    def write(self, day: Day) -> None:
        """Write a day, and move the clock if enough is written ahead of it."""
        if self._now_ms < 0:
            self._drive(day.start_ms)
        self._note(day.bad)
        if day.start_ms + DAY_MS + RETENTION_MS <= self._now_ms:
            self.too_old += len(day.readings)
            return
        next_ms = day.start_ms + DAY_MS
        for batch in self._batcher.cut(day.readings, next_ms=next_ms):
            self._writer.put(batch)
            patiently(lambda: self._settle(leave=1))
        patiently(lambda: self._settle(leave=0))
        self._quarantine(day)
        self._ahead.append(day)
        while self._ahead and (
            len(self._ahead) > AHEAD_DAYS or self._readings_ahead > _AHEAD_READINGS
        ):
            self._pass(self._ahead.popleft())

    def finish(self) -> None:
        """Move the clock past the last day, and wait until its averages are loaded."""
        while self._ahead:
            self._pass(self._ahead.popleft())
        self._await(room=AVERAGES_KEPT)
        self._writer.close()

    @property
    def _readings_ahead(self) -> int:
        return sum(len(day.readings) for day in self._ahead)

    def _settle(self, *, leave: int) -> None:
        for batch, outcome in self._writer.settle(leave=leave):
            self.repeated += batch.repeated
            if outcome is Outcome.EXPIRED:
                self.too_old += batch.count
            else:
                self.taken += batch.count

    def _pass(self, day: Day) -> None:
        hours = sorted({reading.ts_ms - reading.ts_ms % HOUR_MS for reading in day.readings})
        self._await(room=len(hours))
        self._passed.extend(hours)
        self._drive(day.start_ms + DAY_MS)
        self._alive.extend(self._days.shares(day.start_ms))
        self._expire()

    def _drive(self, at_ms: int) -> None:
        """A replay never moves the clock back: hours before it may be published."""
        if at_ms > self._now_ms:
            drive(self._clock, at_ms)
            self._now_ms = at_ms

    def _expire(self) -> None:
        """Let expire what the clock has left behind: readings after two days, which are counted,
        because their hours are published; and records after fourteen."""
        published_ms = self._passed[0] if self._passed else self._now_ms
        call = self._cluster.call
        while self._alive and self._alive[0].end_ms + RETENTION_MS <= self._now_ms:
            if self._alive[0].end_ms > published_ms:
                break
            partition = self._alive.popleft()
            for key in (partition.stream, partition.identities):
                call("UNLINK", key)
            # The index drops it when the next day is entered.
            call("ZADD", self._cluster.keyspace.partitions, "XX", 1, partition.stream)
            self._recorded.append(partition)
        while self._recorded and self._recorded[0].end_ms + RECORDS_KEPT_MS <= self._now_ms:
            partition = self._recorded.popleft()
            self._cluster.pipeline([("UNLINK", key) for key in partition.companions])

    def _await(self, *, room: int) -> None:
        """Wait until `room` more averages can be published without exceeding their stream. Raises
        Conflict if there is no progress."""
        before, give_up = -1, time.monotonic() + _PATIENCE_S
        while (outstanding := patiently(self._outstanding)) > AVERAGES_KEPT - room:
            if outstanding != before:
                before, give_up = outstanding, time.monotonic() + _PATIENCE_S
            elif time.monotonic() > give_up:
                raise Conflict(
                    f"{len(self._passed)} hours are not published and {outstanding} not loaded, "
                    f"for {_PATIENCE_S:.0f} s: run an aggregator and an averages consumer, then "
                    "replay the file again"
                )
            time.sleep(_POLL_S)

    def _outstanding(self) -> int:
        """Hours that are not published, and averages that are not loaded."""
        keys = self._cluster.keyspace
        published_ms = int(self._cluster.call("GET", keys.published_through) or -1)
        while self._passed and self._passed[0] <= published_ms:
            self._passed.popleft()
        return len(self._passed) + self._unloaded()

    def _unloaded(self) -> int:
        """Averages on the stream that the averages consumers have not acknowledged."""
        averages = self._cluster.keyspace.averages
        if not self._cluster.call("EXISTS", averages):  # nothing is published yet
            return 0
        for group in self._cluster.call("XINFO GROUPS", averages):
            if group["name"] == AVERAGES_GROUP.encode():
                last = group["last-delivered-id"]
                rest = self._cluster.call("XRANGE", averages, b"(" + last, "+")
                return int(group["pending"]) + len(rest)
        return int(self._cluster.call("XLEN", averages))

    def _note(self, bad: Sequence[BadRow]) -> None:
        for row in bad:
            self._bad_rows += 1
            lines = self.bad.setdefault(row.reason, [])
            lines.append(row.line)

    def _quarantine(self, day: Day) -> None:
        """Add a sample of the bad rows to the day's stream, as entries that no aggregator can use:
        it puts them into quarantine."""
        if day.start_ms < self._passed_ms:
            return  # an earlier replay did
        partition = self._days.shares(day.start_ms)[0]
        for row in day.bad[: max(0, MOST_BAD - self._bad_rows + len(day.bad))]:
            fields = {"device": row.device[:128], "temp_f": row.temperature[:32] or "none"}
            fields |= {"ts": f"{row.time[:64]} in line {row.line}", "file": row.reason}
            flat = [part for pair in fields.items() for part in pair]
            self._cluster.call("XADD", partition.stream, "*", *flat)


def replay_file(cluster: Cluster, path: str, form: Form, *, lanes: int = 1) -> None:
    """Replay a file, with a progress bar on a terminal, and print what became of its rows."""
    started = time.perf_counter()
    written = FileReplay(cluster, lanes=lanes)
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=None)
        for day in days(rows(Path(path), form), DAY_MS):
            written.write(day)
            shown = f"{iso(day.start_ms)}: {written.taken:,} readings"
            progress.update(task, description=shown)
        written.finish()
    elapsed = time.perf_counter() - started
    print(f"{written.taken:,} readings written, {written.taken / elapsed:,.0f} per second")
    if written.repeated:
        print(f"{written.repeated:,} readings left out: Redis already has them")
    if written.too_old:
        print(
            f"{written.too_old:,} readings left out: their day expired by the pipeline clock, as "
            "after an earlier replay"
        )
    if written.bad:
        print(f"bad rows:\n{summary(written.bad)}")
    if written.now_ms >= 0:
        print(
            f"the pipeline clock is manual and stays at {iso(written.now_ms)}: set it to real time "
            "with hourglass clock wall"
        )


def run_replay(settings: ReplaySettings) -> None:
    """Write the readings of FILE, or without one the exercise's data set, at full speed, and
    advance the pipeline clock with them."""
    if settings.file:
        with reached(settings) as (cluster, _):
            if settings.reset:
                reset(cluster)
            replay_file(cluster, settings.file, settings.form, lanes=settings.lanes)
        return
    data = DataSet(
        start_ms=parse_time(settings.start, option="--start"),
        days=settings.days,
        devices=settings.devices,
        period_ms=round(settings.period_s * 1000),
        seed=settings.seed,
        packing=settings.packed,
    )
    if data.start_ms % 86_400_000:
        raise ConfigurationError(f"--start is {settings.start!r}: give the start of a UTC day")
    if data.end_ms > LAST_ORIGIN_MS:
        raise ConfigurationError(f"the days end after {iso(LAST_ORIGIN_MS)}: give fewer --days")
    with reached(settings) as (cluster, _):
        if settings.reset:
            reset(cluster)
        refuse_what_is_there(cluster)
        started = time.perf_counter()
        taken = replay(cluster, data, lanes=settings.lanes)
        elapsed = time.perf_counter() - started
    print(
        f"{taken:,} readings written, {taken / elapsed:,.0f} per second; the pipeline clock is "
        f"manual and stays at {iso(data.end_ms)}: set it to real time with hourglass clock wall"
    )
