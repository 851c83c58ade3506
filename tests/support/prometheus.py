"""A real Prometheus that scrapes processes on this machine; Debian: prometheus."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from hourglassctl.local import bootstrap
from hourglassctl.local.processes import ProcessGroup

#: host:port of a process, and its labels.
Target = tuple[str, Mapping[str, str]]

_START_S = 100.0


class Prometheus:
    """Seen through its HTTP interface; tests set what it scrapes."""

    def __init__(self, address: str, targets: Path) -> None:
        self._address = address
        self._targets = targets

    def scrape(self, targets: Sequence[Target]) -> None:
        """These from now on; series of others end."""
        text = json.dumps([{"targets": [address], "labels": labels} for address, labels in targets])
        if not self._targets.exists() or self._targets.read_text("utf-8") != text:
            written = self._targets.with_suffix(".new")
            written.write_text(text, encoding="utf-8")
            written.replace(self._targets)

    def ask(self, path: str, **parameters: str) -> Any:
        query = urlencode({name.replace("match", "match[]"): v for name, v in parameters.items()})
        with urlopen(f"{self._address}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> Sequence[tuple[Mapping[str, str], float]]:
        """Labels and value of each series now; NaN is no value."""
        data = self.ask("query", query=expression)
        if data["resultType"] == "scalar":
            data["result"] = [{"metric": {}, "value": data["result"]}]
        found = [(each["metric"], float(each["value"][1])) for each in data["result"]]
        return [(labels, value) for labels, value in found if not math.isnan(value)]

    def firsts(
        self, expression: str, since: float, *, step_s: float
    ) -> Sequence[tuple[Mapping[str, str], float]]:
        """Labels of each series there was since that time (Unix), and when it was there first."""
        span = {"start": str(since), "end": str(max(since, time.time())), "step": str(step_s)}
        data = self.ask("query_range", query=expression, **span)
        return [(each["metric"], float(each["values"][0][0])) for each in data["result"]]

    def ready(self) -> bool:
        try:
            with urlopen(f"{self._address}/-/ready", timeout=5):
                return True
        except (URLError, OSError):
            return False


def binary() -> str | None:
    return shutil.which("prometheus")


@contextmanager
def prometheus(rules: Path, *features: str, interval_s: int = 1) -> Generator[Prometheus]:
    """One that scrapes, and evaluates the rules of that file, as often as that. It scrapes nothing
    before its targets are set."""
    with ProcessGroup("hourglass-prometheus-") as guard:
        directory = guard.directory
        every = f"{interval_s}s"
        config = {
            "global": {"scrape_interval": every, "evaluation_interval": every},
            "rule_files": [str(rules.resolve())],
            "scrape_configs": [
                {
                    "job_name": "hourglass",
                    "file_sd_configs": [
                        {"files": [f"{directory}/targets.json"], "refresh_interval": every}
                    ],
                }
            ],
        }
        # Which is YAML, too.
        (directory / "prometheus.yaml").write_text(json.dumps(config), encoding="utf-8")
        ((port, _),) = bootstrap.free_ports(1)
        command = [
            binary() or "prometheus",
            f"--config.file={directory}/prometheus.yaml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            *(f"--enable-feature={feature}" for feature in features),
        ]
        with (directory / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, process_group=guard.group)
        found = Prometheus(f"http://127.0.0.1:{port}", directory / "targets.json")
        try:
            bootstrap.poll(
                found.ready, until=time.monotonic() + _START_S, message="Prometheus is not ready"
            )
            yield found
        finally:
            process.terminate()
            process.wait(30)
