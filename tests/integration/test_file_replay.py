"""A file of temperatures goes through the pipeline into the warehouse, once."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Generator
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from averages_consumer.warehouse import Warehouse
from hourglass.cluster.connect import connect
from hourglass.errors import Conflict
from hourglass.model.averages import LAST_MS
from hourglass.model.keys import AVERAGES_KEPT, DAY_MS, HOUR_MS, RETENTION_MS
from hourglass.model.readings import Reading
from hourglassctl import file_replay
from hourglassctl.file_replay import FileReplay, replay_file
from hourglassctl.history import Day
from hourglassctl.history_values import BadRow, Form, Unit
from hourglassctl.quarantine import quarantined
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline
from tests.support.services import Services, services
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Replayed:
    """A pipeline of one aggregator and one averages consumer."""

    url: str
    warehouse_url: str
    running: Services

    def replay(self, path: Path, **form: Any) -> str:
        """What the command prints."""
        output = StringIO()
        with closing(connect(self.url, keyspace=KEYS)) as cluster, redirect_stdout(output):
            replay_file(cluster, str(path), Form(**form))
        return output.getvalue()

    def rows(self) -> dict[int, tuple[int, int]]:
        """By the start of the hour: sum in thousandths, and number of readings."""
        with Warehouse(self.warehouse_url) as warehouse:
            return {
                row.start_ms: (row.sum_milli_f, row.observations)
                for row in warehouse.rows(0, LAST_MS)
            }


@pytest.fixture
def replayed(redis_url: str, pipeline: Pipeline, tmp_path: Path) -> Generator[Replayed]:
    pipeline.cluster.call("DEL", KEYS.clock)
    warehouse_url = f"sqlite:///{tmp_path}/warehouse.db"
    with services(redis_url) as running:
        running.start("aggregator", "aggregator", "--seal-every-ms", "50")
        running.start("consumer", "averages_consumer", "--warehouse-url", warehouse_url)
        running.await_ready("aggregator", "consumer")
        yield Replayed(redis_url, warehouse_url, running)


def by_hour(readings: list[Reading]) -> dict[int, tuple[int, int]]:
    sums: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for each in readings:
        total, count = sums[each.ts_ms - each.ts_ms % HOUR_MS]
        sums[each.ts_ms - each.ts_ms % HOUR_MS] = total + each.milli_f, count + 1
    return dict(sums)


def seattle() -> Path:
    """A year of hourly temperatures, in degrees Fahrenheit."""
    spec = find_spec("vega_datasets")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "_data" / "seattle-temps.csv"


@pytest.mark.timeout(600)
def test_a_year_of_seattle_is_in_the_warehouse_and_again_adds_nothing(
    replayed: Replayed, pipeline: Pipeline
) -> None:
    """The averages are computed here from the file itself."""
    expected: dict[int, tuple[int, int]] = {}
    with seattle().open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            start = datetime.strptime(row["date"], "%Y/%m/%d %H:%M").replace(tzinfo=UTC)
            start_ms = round(start.timestamp()) * 1000
            expected.setdefault(start_ms, (round(float(row["temp"]) * 1000), 1))
    assert len(expected) > 8_000

    replayed.replay(seattle(), unit=Unit.F)

    assert replayed.rows() == expected
    keys = pipeline.cluster.keys("*")
    streams = [key for key in keys if KEYS.named(key.decode())]
    assert len(streams) <= 5, "days that the clock has left behind are still there"
    assert len(keys) < 150
    printed = replayed.replay(seattle(), unit=Unit.F)
    assert printed.startswith("0 readings written")
    assert replayed.rows() == expected


def test_days_in_several_devices_and_with_bad_rows(
    replayed: Replayed, pipeline: Pipeline, tmp_path: Path
) -> None:
    path = tmp_path / "history.csv"
    lines = ["device,time,temp_f"]
    for hour in range(30):
        for device in ("attic", "porch"):
            day, rest = divmod(hour, 24)
            lines.append(f"{device},2024-03-0{1 + day}T{rest:02d}:10:00Z,{50 + hour}")
    lines[5:5] = ["porch,yesterday,50"] * 3 + ["porch,2024-03-01T00:20:00Z,warm"] * 3
    path.write_text("\n".join([*lines[:1], *reversed(lines[1:])]), encoding="utf-8")

    printed = replayed.replay(path)

    assert "60 readings written" in printed
    assert "3 rows: the temperature is no number (line " in printed
    first_ms = KEYS.containing(1709251200000).day_ms
    assert replayed.rows() == {
        first_ms + hour * HOUR_MS: (2 * (50 + hour) * 1000, 2) for hour in range(30)
    }
    wait_until(
        lambda: len(list(quarantined(pipeline.cluster, pipeline.clock.refresh()))) == 6,
        message="the bad rows are not in quarantine",
    )


def day_of(start_ms: int, *, bad: int = 0) -> Day:
    readings = [Reading(b"porch", start_ms + hour * HOUR_MS, 50_000) for hour in range(24)]
    rows = [BadRow(2 + number, "reason", "never", "warm", "porch") for number in range(bad)]
    return Day(start_ms, readings, rows)


def test_the_clock_goes_no_further_than_the_averages_stream_keeps(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an aggregator nothing is published."""
    monkeypatch.setattr(file_replay, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(file_replay, "AHEAD_DAYS", 0)
    replay = FileReplay(pipeline.cluster)

    days = [day_of(DAY.day_ms + number * DAY_MS) for number in range(6)]
    for day in days[:5]:
        replay.write(day)

    with pytest.raises(Conflict, match="run an aggregator and an averages consumer"):
        replay.write(days[5])

    assert replay.now_ms == DAY.day_ms + AVERAGES_KEPT * HOUR_MS


def test_a_replay_that_was_stopped_goes_on_where_it_was(
    pipeline: Pipeline, replayed: Replayed
) -> None:
    days = [day_of(DAY.day_ms + number * DAY_MS) for number in range(4)]
    stopped = FileReplay(pipeline.cluster)
    for day in days[:3]:
        stopped.write(day)
    assert stopped.taken == 72

    replay = FileReplay(pipeline.cluster)
    for day in days:
        replay.write(day)
    replay.finish()

    assert (replay.taken, replay.repeated) == (24, 72)
    assert replayed.rows() == by_hour([one for day in days for one in day.readings])


def test_the_sample_of_bad_rows_is_bounded(pipeline: Pipeline) -> None:
    replay = FileReplay(pipeline.cluster)

    for number in range(2):
        replay.write(day_of(DAY.day_ms + number * DAY_MS, bad=70))

    assert sum(map(len, replay.bad.values())) == 140
    streams = [
        pipeline.cluster.call("XLEN", KEYS.partition(DAY.day_ms + n * DAY_MS).stream)
        for n in range(2)
    ]
    assert streams == [24 + 70, 24 + file_replay.MOST_BAD - 70]


def test_a_pipeline_in_use_on_another_clock_is_refused(pipeline: Pipeline) -> None:
    pipeline.drive(DAY.day_ms)
    pipeline.produce(Reading(b"porch", DAY.day_ms, 50_000))
    pipeline.use_wall_clock()

    with pytest.raises(Conflict, match="already holds readings or averages"):
        FileReplay(pipeline.cluster)


def test_a_file_of_days_that_have_expired_is_left_out(pipeline: Pipeline) -> None:
    pipeline.drive(DAY.end_ms + RETENTION_MS)
    replay = FileReplay(pipeline.cluster)

    replay.write(day_of(DAY.day_ms))

    assert (replay.taken, replay.too_old) == (0, 24)
    assert replay.now_ms == DAY.end_ms + RETENTION_MS
