"""Every measurement of `make bench` takes its steps; its numbers mean nothing here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.lab.bench.suite import WORKS
from tests.support.processes import ROOT

#: What other programs than those of this project are compared with, and the processes' own costs,
#: which are waited for in real seconds.
_ELSEWHERE = {"peers", "idle"}


# Every kind of work, one after the other, in a process of its own.
@pytest.mark.extended
@pytest.mark.timeout(600)
@pytest.mark.skipif(not shutil.which("redis-benchmark"), reason="needs redis-benchmark")
def test_everything_is_measured_and_nothing_goes_amiss():
    works = [name for name in WORKS if name not in _ELSEWHERE]
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", "bench", "--quick", "--json",
         "--only", ",".join(works)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)["findings"]
    missing = [each["work"] for each in findings if each["kind"] == "not measured"]
    assert missing in ([], ["packed beside RedisTimeSeries"])
    figures = {each["work"]: each["median"] for each in findings if each["kind"] == "figure"}
    assert figures.pop("back-pressure: lost") == 0
    assert [work for work, median in figures.items() if median <= 0] == []
    (scaling,) = [each for each in findings if each["kind"] == "table" and "shards" in each["head"]]
    assert len(scaling["rows"]) == 24
