"""The demo: every reading counted once, and nothing left behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.extended

MARK = "TEST_OF_HOURGLASS"


@dataclass(frozen=True, slots=True)
class Run:
    """A demo with a directory for temporary files of its own, and a mark that all its processes
    inherit."""

    process: subprocess.Popen[str]
    files: Path
    mark: str

    def left_behind(self) -> list[str]:
        """Files, and processes that carry the mark."""
        return [*(str(path) for path in self.files.iterdir()), *marked_processes(self.mark)]


def marked_processes(mark: str) -> list[str]:
    """One that ended meanwhile has no environment, and one of another user shows none."""
    processes = psutil.process_iter(["pid", "cmdline", "environ"])
    return [str(each.info) for each in processes if mark in (each.info["environ"] or {}).values()]


@pytest.fixture
def run(tmp_path: Path) -> Generator[Run]:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "hourglassctl", "demo", "--days", "1"],
        env={**os.environ, "TMPDIR": str(tmp_path), MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield Run(process, tmp_path, mark)
    process.kill()
    process.communicate()


def test_a_day_is_counted_exactly_and_leaves_nothing_behind(run: Run) -> None:
    said, _ = run.process.communicate(timeout=100)
    assert run.process.returncode == 0, said
    verdict = {line[:34].strip(): line[34:].strip() for line in said.splitlines()}
    assert verdict["hours due"] == verdict["hours published"] == "24"
    assert verdict["averages exact to the thousandth"] == "24"
    assert verdict["readings produced"] == verdict["readings counted"] == "259,200"
    assert verdict["lost"] == verdict["counted twice"] == "0"
    (pending,) = re.findall(r"aggregator-1 is killed with ([\d,]+) readings pending", said)
    assert pending != "0"
    assert f"aggregator-2 has reclaimed {pending} of them" in said
    assert run.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["times real time", "temps:20250101 appears"])
def test_an_interrupt_leaves_nothing_behind(run: Run, number: signal.Signals, moment: str) -> None:
    assert run.process.stdout is not None
    assert any(moment in line for line in run.process.stdout)
    run.process.send_signal(number)
    run.process.communicate(timeout=PATIENCE_S)
    assert run.process.returncode == 130
    wait_until(lambda: run.left_behind() == [], message="something was left behind")


def test_a_killed_demo_leaves_nothing_behind(run: Run) -> None:
    assert run.process.stdout is not None
    run.process.stdout.readline()
    wait_until(lambda: len(marked_processes(run.mark)) > 5, message="no services were started")
    run.process.kill()
    wait_until(lambda: run.left_behind() == [], message="something was left behind")
