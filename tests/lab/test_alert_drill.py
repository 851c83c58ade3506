"""A real Prometheus tells which alert a fault of the drill fires first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.prometheus import binary

#: Alerts fire after minutes of real time.
pytestmark = [pytest.mark.extended, pytest.mark.timeout(900)]


@pytest.fixture
def _prometheus() -> None:
    if binary() is None:
        pytest.skip("no prometheus on PATH (Debian: prometheus)")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.lab", "alert-drill", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.usefixtures("_prometheus")
def test_the_first_alert_of_a_fault_is_written_with_its_time(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("<!-- alerts:begin -->\n<!-- alerts:end -->\n")
    ended = run("wrong-times", "--write", document)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    # Whichever is evaluated first: the readings of two hours ahead, or those of two hours ago.
    assert re.search(r"\| \[Hourglass(HourTooLate|QuarantineGrowing)\]\(", ended.stdout)
    assert ended.stdout in document.read_text()


@pytest.mark.usefixtures("_prometheus")
def test_a_document_without_a_place_is_refused_before_anything_runs(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("nothing\n")
    ended = run("--write", document)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "alerts:begin" in line
    assert document.read_text() == "nothing\n"
