"""Redis falls silent or dies and comes back: the producer keeps its readings, and says so."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from hourglass.model.keys import HOUR_MS
from tests.support.cluster import EmbeddedCluster, Node
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading
from tests.support.services import Services, services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

#: Ten minutes a second: what is written in a test stays within DAY.
SPEED = 600.0
PORCH = "porch"
BUFFERED = "hourglass_readings_buffered"
TAKEN = "hourglass_readings_taken_total"
RETRIED = "hourglass_batches_retried_total"
FULL = 'hourglass_readings_dropped_total{reason="buffer_full"}'
SKIPPED = 'hourglass_readings_dropped_total{reason="skipped"}'
COUNTED = "hourglass_readings_counted_total"
UP = "hourglass_redis_up"
#: Whenever it begins, an hour ends in it.
OVER_HOURS_MS = 80 * 60_000


def shard_of_the_day(pipeline: Pipeline, embedded: EmbeddedCluster) -> Node:
    """Of its first partition that has readings."""
    return embedded.node_at(pipeline.master_of(pipeline.partitions()[0].stream))


def reaches(running: Services, name: str, sample: str, least: float) -> None:
    wait_until(
        lambda: (running.metric(name, sample) or 0.0) >= least,
        message=f"{sample} of {name} stays below {least}",
    )


def tally_at_the_end(running: Services, name: str) -> dict[str, int]:
    status = running.terminate(name)
    assert status == 0
    tally: dict[str, int] = json.loads(running.output(name).read_text())
    return tally


@contextmanager
def silent_shard(
    embedded: EmbeddedCluster, *options: str, until: tuple[str, float]
) -> Generator[tuple[Pipeline, Services, Node]]:
    """A producer whose shard is paused, once that sample of it is so large."""
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        pipeline.run_clock(at(0), SPEED)
        running.producer(PORCH, *options)
        reaches(running, PORCH, TAKEN, 1)
        shard = shard_of_the_day(pipeline, embedded)
        shard.pause()
        reaches(running, PORCH, *until)
        yield pipeline, running, shard


@pytest.mark.embedded(node_timeout_ms=15_000)
def test_a_producer_buffers_while_its_shard_is_silent_and_catches_up(
    embedded: EmbeddedCluster,
) -> None:
    with silent_shard(embedded, "--devices", "3", until=(BUFFERED, 3_000)) as (
        pipeline, running, shard,
    ):  # fmt: skip
        shard.resume()
        running.await_caught_up(PORCH)

        tally = tally_at_the_end(running, PORCH)
        entries = pipeline.stored()
        assert tally["produced"] == tally["taken"] == len(entries)
        assert tally["dropped"] == 0
        assert len(set(entries)) == len(entries)


@pytest.mark.embedded(node_timeout_ms=15_000)
def test_on_sigterm_a_producer_sends_its_buffer(embedded: EmbeddedCluster) -> None:
    options = ("--devices", "3", "--batch-readings", "100")
    with silent_shard(embedded, *options, until=(BUFFERED, 1_000)) as (pipeline, running, shard):
        running.signal(PORCH, signal.SIGTERM)
        wait_until(lambda: "SIGTERM: stopping" in running.said(PORCH))
        shard.resume()

        assert running.exit_status(PORCH) == 0
        tally: dict[str, int] = json.loads(running.output(PORCH).read_text())
        assert tally["produced"] == tally["taken"] == len(pipeline.stored())


@pytest.mark.embedded(node_timeout_ms=15_000)
def test_on_sigterm_with_an_unreachable_shard_a_producer_reports_what_it_gives_up(
    embedded: EmbeddedCluster,
) -> None:
    options = ("--batch-readings", "100")
    with silent_shard(embedded, *options, until=(BUFFERED, 500)) as (_, running, shard):
        status = running.terminate(PORCH)

        # Its publisher waits for an answer all the while: the exit does not wait for it in turn.
        assert status == 0
        assert "worker publisher did not finish in time" in running.said(PORCH)
        shard.resume()
        tally: dict[str, int] = json.loads(running.output(PORCH).read_text())
        assert tally["produced"] == tally["taken"] + tally["dropped"]
        said = f"stopped before Redis stored all readings: {tally['dropped']} readings dropped"
        assert said in running.said(PORCH)


@pytest.mark.embedded(node_timeout_ms=15_000)
def test_a_full_buffer_drops_the_oldest_and_counts_them(embedded: EmbeddedCluster) -> None:
    options = ("--buffer-readings", "3000", "--batch-readings", "100")
    with silent_shard(embedded, *options, until=(FULL, 500)) as (pipeline, running, shard):
        shard.resume()
        running.await_caught_up(PORCH)

        dropped = running.metric(PORCH, FULL)
        tally = tally_at_the_end(running, PORCH)
        times = [ts_ms for _, ts_ms in pipeline.stored()]
        steps = [later - earlier for earlier, later in pairwise(times)]
        assert tally["produced"] == tally["taken"] + tally["dropped"]
        assert tally["taken"] == len(times)
        assert tally["dropped"] == dropped
        # One gap, where the dropped ones were; what came before and after it is complete.
        assert sorted(steps)[-2:] == [1000, 1000 * (1 + tally["dropped"])]
        assert min(steps) == 1000


def test_a_producer_that_slept_tells_what_it_skipped(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        pipeline.run_clock(at(0), SPEED)
        name = running.producer("porch", "--buffer-readings", "1000")
        reaches(running, name, TAKEN, 1)

        running.pause(name)
        asleep_ms = pipeline.clock.refresh().now_ms
        wait_until(lambda: pipeline.clock.refresh().now_ms > asleep_ms + 2_000_000)
        running.resume(name)
        reaches(running, name, SKIPPED, 1)

        tally = tally_at_the_end(running, name)
        assert tally["dropped"] >= 900
        assert tally["produced"] == tally["taken"] + tally["dropped"]


@pytest.mark.embedded(persistence=True)
def test_both_services_outlast_a_shard_that_dies_and_comes_back(
    embedded: EmbeddedCluster, lanes: int
) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        pipeline.run_clock(at(0), SPEED)
        producer = running.producer("porch", "--devices=6", f"--lanes={lanes}")
        aggregator = running.aggregator()
        reaches(running, aggregator, COUNTED, 1)

        shard = shard_of_the_day(pipeline, embedded)
        shard.kill()
        reaches(running, producer, RETRIED, 1)
        reaches(running, producer, BUFFERED, 1_000)
        for name in (producer, aggregator):
            wait_until(lambda name=name: not running.ready(name), message=f"{name} is ready")
            assert running.get(name, "/livez")[0] == 200
        shard.restart()
        running.await_caught_up(producer)

        tally = tally_at_the_end(running, producer)
        assert (tally["taken"], tally["dropped"]) == (tally["produced"], 0)
        assert tally["taken"] == len(set(pipeline.stored()))
        wait_until(lambda: counted(pipeline) == tally["taken"], message="not everything is counted")
        running.await_ready(aggregator)
        assert pipeline.audit().differences == []


def counted(pipeline: Pipeline) -> int:
    return sum(record.count + record.late for record in pipeline.day_records())


#: A process that begins with this takes a worker for stuck sooner than usual: after longer than it
#: takes to notice that a master is silent.
IMPATIENT = "import hourglass.service.runtime; hourglass.service.runtime.STUCK_S = 20.0"


@pytest.mark.extended
@pytest.mark.embedded(replicas=1, node_timeout_ms=120_000)
def test_who_waits_for_a_silent_redis_is_alive(embedded: EmbeddedCluster, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        for day in (DAY, NEXT_DAY):
            pipeline.drive(at(1, day=day))
            pipeline.produce(reading(at(0, day=day)))
        running.aggregator("aggregator", PYTHONPATH=str(tmp_path))
        running.await_ready("aggregator")
        wait_until(lambda: running.metric("aggregator", UP) == 1.0, message="it never looks")

        for node in embedded.nodes:
            node.pause()
        until = time.monotonic() + 45.0
        while time.monotonic() < until:
            assert running.get("aggregator", "/livez")[0] == 200
            time.sleep(1.0)
        assert running.metric("aggregator", UP) == 0.0
        for node in embedded.nodes:
            node.resume()
        running.await_ready("aggregator")


@pytest.mark.embedded(persistence=True)
def test_an_outage_over_the_ends_of_hours_makes_no_reading_late(embedded: EmbeddedCluster) -> None:
    """One producer writes plain entries; the other packed ones, and goes on when all is back."""
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        pipeline.run_clock(at(0, 50), SPEED)
        early = running.producer("porch", "--devices", "3")
        behind = running.producer("attic", "--devices", "9")
        patient = running.aggregator("patient", "--lateness-s=0", "--producer-idle-s=3600")
        for name in (early, behind):
            reaches(running, name, TAKEN, 1)
        reaches(running, patient, COUNTED, 1)

        for node in embedded.nodes:
            node.kill()
        killed_ms = pipeline.clock.current().now_ms
        back_ms = killed_ms + OVER_HOURS_MS
        wait_until(lambda: pipeline.clock.current().now_ms >= back_ms, message="no time passes")
        running.pause(behind)
        embedded.restart()
        running.await_caught_up(early)
        reaches(running, patient, COUNTED, 3 * 70 * 60)
        early_ms = [each.start_ms for each in pipeline.averages()]
        assert all(start_ms + HOUR_MS <= killed_ms for start_ms in early_ms)

        running.resume(behind)
        running.await_caught_up(behind)
        tallies = [tally_at_the_end(running, name) for name in (early, behind)]
        assert [tally["dropped"] for tally in tallies] == [0, 0]
        running.terminate(patient)
        running.aggregator("eager", "--lateness-s=0")
        produced = sum(tally["produced"] for tally in tallies)
        wait_until(
            lambda: sum(each.count for each in pipeline.averages()) == produced,
            message="not every reading is in an average",
        )
        assert sum(record.late for record in pipeline.day_records()) == 0
        starts = [each.start_ms for each in pipeline.averages()]
        assert starts == [*range(starts[0], starts[-1] + 1, HOUR_MS)]
        assert pipeline.audit().differences == []
