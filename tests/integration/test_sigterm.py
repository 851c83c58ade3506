"""On SIGTERM a service finishes what it holds, and exits with status 0."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hourglass.model.keys import GROUP
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, day_after, reading
from tests.support.services import services
from tests.support.waiting import PATIENCE_S, wait_until

DAYS = (DAY, NEXT_DAY, day_after(NEXT_DAY))


def test_a_producer_sends_what_it_has_buffered(
    pipeline: Pipeline, redis_url: str, tmp_path: Path
) -> None:
    pipeline.run_clock(at(0), speed=3600.0)
    tally_file = tmp_path / "tally"
    told = ["--devices", "5", "--linger-ms", "200", "--tally-file", str(tally_file)]
    with services(redis_url) as running:
        running.producer("porch", *told)
        running.await_ready("porch")
        wait_until(lambda: stored(pipeline) > 10_000, message="nothing is produced")

        assert running.terminate("porch") == 0
        tally = json.loads(running.output("porch").read_text())
    assert tally["dropped"] == 0
    assert tally["produced"] == tally["taken"] == stored(pipeline)
    assert json.loads(tally_file.read_text()) == tally


def stored(pipeline: Pipeline) -> int:
    return sum(pipeline.cluster.call("XLEN", day.stream) for day in DAYS)


def test_an_aggregator_commits_what_it_has_read(pipeline: Pipeline, redis_url: str) -> None:
    for day in DAYS:
        pipeline.produce(*(reading(day.day_ms + each * 2000, each % 100) for each in range(43_000)))
        pipeline.open(day)
    pipeline.drive(DAYS[-1].end_ms)
    with services(redis_url) as running:
        running.aggregator("aggregator", "--batch-entries", "200")
        wait_until(lambda: counted(pipeline) > 0, message="nothing is counted")

        assert running.terminate("aggregator") == 0
        assert "did not finish in time" not in running.said("aggregator")
    assert [pipeline.pending(day) for day in DAYS] == [0, 0, 0]
    assert 0 < counted(pipeline) < len(DAYS) * 43_000, "it was not stopped under load"
    assert pipeline.audit().clean


def test_an_aggregator_commits_what_it_has_taken_over(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.produce(*(reading(DAY.day_ms + each * 600, each % 100) for each in range(130_000)))
    gone = pipeline.delivery()
    for _ in range(130):
        gone.read(1000, 1)
    pipeline.drive(DAY.end_ms)
    with services(redis_url) as running:
        running.aggregator("aggregator", "--claim-idle-ms", "100")
        wait_until(lambda: counted(pipeline) > 0, message="nothing is counted")

        assert running.terminate("aggregator") == 0
    left = pipeline.cluster.call(
        "XPENDING", DAY.stream, GROUP, "-", "+", 130_000, parse_detail=True
    )
    assert left, "it was not stopped while it took over"
    assert {entry["times_delivered"] for entry in left} == {1}


def counted(pipeline: Pipeline) -> int:
    return sum(each.count for day in DAYS for each in pipeline.records(day).values())


def test_an_unreachable_collector_holds_up_nothing(
    pipeline: Pipeline, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    # The exporter tries for so long, and would hold up the exit until the test is given up.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
    pipeline.run_clock(at(0), speed=3600.0)
    with services(redis_url) as running:
        running.producer("porch")
        running.aggregator("aggregator")
        wait_until(lambda: "/v1/traces" in running.said("aggregator"), message="it exports nothing")

        assert running.terminate("aggregator") == 0


#: Stands in the way of an import that every service needs.
SLOW_IMPORT = """
import time
print("importing", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("service", ["producer", "aggregator", "averages_consumer"])
def test_process_1_of_a_container_ends_while_it_is_still_importing(
    tmp_path: Path, service: str
) -> None:
    (tmp_path / "prometheus_client.py").write_text(SLOW_IMPORT)
    own_pids = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*own_pids, "true"], check=False).returncode
    ):
        pytest.skip("no process may have a PID namespace of its own here")
    with subprocess.Popen(
        [*own_pids, sys.executable, "-m", service],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
    ) as container:
        assert container.stdout
        assert container.stdout.readline() == b"importing\n"
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)

        try:
            assert container.wait(PATIENCE_S) == 0
        finally:
            container.kill()
