"""A Prometheus of the test's own, which scrapes processes on this machine; Debian: prometheus."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from hourglassctl.formation import free_ports
from tests.waiting import wait_until


class Prometheus:
    """Seen through its HTTP interface."""

    def __init__(self, address: str) -> None:
        self._address = address

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

    def ready(self) -> bool:
        try:
            with urlopen(f"{self._address}/-/ready", timeout=5):
                return True
        except (URLError, OSError):
            return False


def binary() -> str | None:
    return shutil.which("prometheus")


@contextmanager
def prometheus(
    directory: Path,
    targets: Sequence[tuple[str, Mapping[str, str]]],
    rules: Sequence[Mapping[str, Any]] = (),
    *features: str,
) -> Generator[Prometheus]:
    """`targets`: host:port and labels of each; scraped, and `rules` evaluated, every second."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {
                "job_name": "hourglass",
                "static_configs": [
                    {"targets": [target], "labels": dict(labels)} for target, labels in targets
                ],
            }
        ],
    }
    groups = {"groups": [{"name": "hourglass", "rules": list(rules)}] if rules else []}
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (directory / "rules.yaml").write_text(yaml.safe_dump(groups), encoding="utf-8")
    ((port, _),) = free_ports(1)
    command = [
        binary() or "prometheus",
        f"--config.file={directory}/prometheus.yaml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        *(f"--enable-feature={feature}" for feature in features),
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(found.ready, message="Prometheus is not ready")
        yield found
    finally:
        process.terminate()
        process.wait(30)
