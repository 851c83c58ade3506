"""The services that a command starts are told what it tells them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from hourglassctl.local.processes import Processes, ProcessGroup
from tests.support.waiting import wait_until

SAYS = "import os; print(sorted(n for n in os.environ if n.startswith(('HOURGLASS_', 'OTEL_'))))"


def test_the_callers_own_settings_are_not_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "says_what_it_is_told.py").write_text(SAYS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HOURGLASS_WAREHOUSE_URL_FILE", "/secrets/the-real-one")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector")
    with ProcessGroup("hourglass-test-") as guard:
        processes = Processes(guard, {"HOURGLASS_WAREHOUSE_URL": "sqlite://"})
        processes.start("it", "says_what_it_is_told")
        wait_until(lambda: not processes.running("it"))
        said = processes.output("it").read_text()
    assert said == "['HOURGLASS_WAREHOUSE_URL', 'OTEL_EXPORTER_OTLP_ENDPOINT']\n"


def test_one_that_ended_by_itself_is_named_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ends_badly.py").write_text("import sys; sys.exit('begins\\nport 8081 is in use')")
    (tmp_path / "ends_well.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ProcessGroup("hourglass-test-") as guard:
        processes = Processes(guard, {})
        processes.start("well", "ends_well")
        wait_until(lambda: not processes.running("well"))
        assert processes.failure() == ""
        processes.start("badly", "ends_badly")
        wait_until(lambda: not processes.running("badly"))
        assert processes.failure() == "badly ended: port 8081 is in use"
