"""The averages in the terminal: one line each, in the exercise's words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from queue import Empty, Queue
from threading import Thread

import pytest

from hourglass.errors import Unreachable
from hourglass.model.keys import iso
from tests.support.cluster import EmbeddedCluster
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline
from tests.support.snapshots import average
from tests.support.waiting import PATIENCE_S, wait_until


@contextmanager
def showing(url: str, *options: str) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hourglassctl", "averages", "show", *options],
        env={**os.environ, "HOURGLASS_REDIS_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Lines:
    """What a process prints, as it prints it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: Queue[str] = Queue()
        out = process.stdout
        assert out is not None
        Thread(target=lambda: [self._lines.put(each) for each in out], daemon=True).start()

    def next(self, count: int) -> list[str]:
        return [self._lines.get(timeout=PATIENCE_S).rstrip("\n") for _ in range(count)]

    def none_left(self) -> bool:
        try:
            self._lines.get_nowait()
        except Empty:
            return True
        return False


def test_each_average_is_one_line_in_the_exercises_words(pipeline: Pipeline) -> None:
    pipeline.publish(average(0), average(13))

    with showing(pipeline.url) as process:
        out, err = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == [
        "Average temperature for 2025/01/01 at 0 was 50F (7200 observations).",
        "Average temperature for 2025/01/01 at 13 was 50F (7200 observations).",
    ]


def test_without_averages_there_is_nothing_to_show(pipeline: Pipeline) -> None:
    with showing(pipeline.url) as process:
        assert process.communicate(timeout=PATIENCE_S) == ("", "")
        assert process.returncode == 0


def test_as_json_it_has_the_names_of_the_warehouse(pipeline: Pipeline) -> None:
    pipeline.publish(average(3))

    with showing(pipeline.url, "--json") as process:
        out, _ = process.communicate(timeout=PATIENCE_S)

    assert json.loads(out) == {
        "hour": iso(DAY.hour_start_ms(3)),
        "average_temp_f": 50.0,
        "min_temp_f": 40.0,
        "max_temp_f": 60.5,
        "observations": 7200,
        "devices": 2,
        "late": 0,
        "sealed_by": "aggregator-0",
    }


def test_followed_each_average_is_shown_as_it_comes_and_once(pipeline: Pipeline) -> None:
    pipeline.publish(average(0))
    with showing(pipeline.url, "--follow") as process:
        lines = Lines(process)
        assert lines.next(1) == [average(0).line]

        pipeline.publish(average(1))
        assert lines.next(1) == [average(1).line]

        pipeline.cluster.call("DEL", KEYS.averages)
        pipeline.publish(average(0), average(1), average(2))
        assert lines.next(1) == [average(2).line]
        assert lines.none_left()


@pytest.mark.embedded(node_timeout_ms=60_000, persistence=True)
def test_following_outlives_redis_going_and_coming_back(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline, showing(embedded.url, "--follow") as process:
        lines = Lines(process)
        pipeline.publish(average(0))
        assert lines.next(1) == [average(0).line]

        node = embedded.node_at(pipeline.master_of(KEYS.averages))
        node.kill()
        node.restart()
        wait_until(lambda: answers(pipeline), PATIENCE_S)
        pipeline.publish(average(1))

        assert lines.next(1) == [average(1).line]
        assert lines.none_left()


def answers(pipeline: Pipeline) -> bool:
    try:
        return bool(pipeline.cluster.call("XLEN", KEYS.averages))
    except Unreachable:
        return False
