"""The rules of Prometheus: recording rules made from the metrics as they are declared, and with the
charts' alerts one plain file, for a Prometheus without the operator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from hourglass.metrics import MetricSpec
from tools.reference import exporters

CHARTS = Path(__file__).resolve().parent.parent
#: As they stand in the charts' files, for the release's namespace.
_HERE = 'namespace="NAMESPACE"'
_RUNBOOKS = "RUNBOOKS"


def recording() -> str:
    """For each fact that several replicas export alike, the one number they agree on."""
    head = (
        "# Facts that every replica exports alike, as one series each.\n"
        "# Made by `make charts` from the metrics as they are declared.\n"
    )
    shared = sorted(
        (each for each in exporters() if each.across in ("max", "min")), key=lambda each: each.name
    )
    return head + _yaml([_recorded(each) for each in shared])


def _recorded(metric: MetricSpec) -> dict[str, str]:
    by = ", ".join(("namespace", *metric.labels))
    return {
        "record": f"namespace:{metric.name}:{metric.across}",
        "expr": f"{metric.across} by ({by}) ({metric.name}{{{_HERE}}})",
    }


def alert_names(chart: str) -> list[str]:
    """In the order in which the chart's file has them."""
    text = (CHARTS / chart / "files" / "alerts.yaml").read_text(encoding="utf-8")
    rules: list[dict[str, Any]] = yaml.safe_load(text)
    return [rule["alert"] for rule in rules]


def plain_rules(charts: Path) -> str:
    """What the charts ship, of whatever namespace, as one file with a group for each chart."""
    groups: list[dict[str, Any]] = [{"name": "hourglass", "rules": yaml.safe_load(recording())}]
    for file in sorted(charts.glob("*/files/alerts.yaml")):
        text = file.read_text(encoding="utf-8").replace(_RUNBOOKS, "docs/runbooks")
        rules: list[dict[str, Any]] = yaml.safe_load(text)
        groups.append({"name": f"hourglass-{file.parent.parent.name}", "rules": rules})
    for group in groups:
        for rule in group["rules"]:
            rule["expr"] = _anywhere(rule["expr"])
    head = (
        "# The charts' rules for a Prometheus without the operator.\n"
        "# Made by `make charts`; the alerts are declared in charts/*/files/alerts.yaml.\n"
    )
    return head + _yaml({"groups": groups})


def _anywhere(expression: str) -> str:
    """The expression without its namespace, which stands alone or before other labels."""
    return re.sub(rf"\{{{_HERE}\}}|{_HERE}, *", "", expression)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are read."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


def _yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
