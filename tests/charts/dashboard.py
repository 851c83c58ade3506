"""The dashboards that the aggregator's chart ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.charts.helm import CHARTS

DASHBOARDS = sorted((CHARTS / "aggregator" / "files" / "dashboards").glob("*.json"))


def board(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def panels(file: Path) -> Iterator[dict[str, Any]]:
    """Those in rows too, without the rows."""
    for panel in board(file)["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def queries() -> list[tuple[str, str, str]]:
    """Dashboard, panel and expression of every query."""
    return [
        (file.stem, panel["title"], target["expr"])
        for file in DASHBOARDS
        for panel in panels(file)
        for target in panel["targets"]
    ]


def as_grafana_asks(expression: str, *, namespace: str, rate_interval: str) -> str:
    """With the variables as they are chosen when a dashboard opens."""
    for name, value in {
        "$namespace": namespace,
        "$release": ".*",
        "$stream": ".*",
        "$__rate_interval": rate_interval,
    }.items():
        expression = expression.replace(name, value)
    return expression
