"""The dashboard that the aggregator's chart ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.charts.helm import CHARTS

DASHBOARD = CHARTS / "aggregator" / "files" / "dashboards" / "hourglass.json"


def board() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels() -> Iterator[dict[str, Any]]:
    """Those in rows too, without the rows."""
    for panel in board()["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel
