"""Monitors, alerts and the dashboard: what is in them, and that it speaks of metrics there are."""

from __future__ import annotations

import re
from typing import Any

import pytest

import aggregator.instruments
import averages_consumer.instruments
import producer.instruments
from tests.charts.dashboard import DASHBOARD, panels
from tests.charts.helm import SERVICES, Helm, kinds, one, workload

INSTRUMENTS = {
    "producer": producer.instruments.INSTRUMENTS,
    "aggregator": aggregator.instruments.INSTRUMENTS,
    "averages-consumer": averages_consumer.instruments.INSTRUMENTS,
}
METRIC = re.compile(r"hourglass_\w+")


def exported(*charts: str) -> set[str]:
    """The names of the series that the services of these charts have."""
    names: set[str] = set()
    for chart in charts:
        for each in INSTRUMENTS[chart]:
            ends = ("_bucket", "_sum", "_count") if each.kind == "histogram" else ("",)
            names |= {each.name + end for end in ends}
    return names


def rules(helm: Helm, chart: str, **values: Any) -> list[dict[str, Any]]:
    settings = {"prometheusRule": {"enabled": True, **values}}
    made = one(helm.render(chart, settings, namespace="weather"), "PrometheusRule")
    (group,) = made["spec"]["groups"]
    return group["rules"]


@pytest.mark.parametrize("chart", SERVICES)
@pytest.mark.parametrize(("kind", "endpoints"), [
    ("PodMonitor", "podMetricsEndpoints"),
    ("ServiceMonitor", "endpoints"),
])  # fmt: skip
def test_a_monitor_finds_the_pods_and_their_port(
    helm: Helm, chart: str, kind: str, endpoints: str
) -> None:
    name = kind[0].lower() + kind[1:]
    values = {"enabled": True, "labels": {"release": "p"}, "interval": "5s"}
    manifests = helm.render(chart, {name: values})
    monitor = one(manifests, kind)
    found = workload(manifests) if kind == "PodMonitor" else one(manifests, "Service", chart)
    labels = found.get("spec", {}).get("template", found)["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["metadata"]["labels"]["release"] == "p"
    (endpoint,) = monitor["spec"][endpoints]
    assert endpoint == {"port": "http", "path": "/metrics", "interval": "5s"}
    assert {"PodMonitor", "ServiceMonitor"} & kinds(manifests) == {kind}


@pytest.mark.parametrize("chart", SERVICES)
def test_an_alert_asks_for_metrics_of_its_service_in_its_namespace(helm: Helm, chart: str) -> None:
    found = rules(helm, chart)
    assert len(found) >= 3
    for rule in found:
        names = METRIC.findall(rule["expr"])
        assert names, rule["alert"]
        assert set(names) <= exported(chart), rule["alert"]
        assert rule["expr"].count('namespace="weather"') == len(names)
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_what_must_be_noticed_has_an_alert(newest: Helm) -> None:
    names = {rule["alert"] for chart in SERVICES for rule in rules(newest, chart)}
    assert names >= {
        "HourglassHourOverdue",
        "HourglassLagGrowing",
        "HourglassLagUnknown",
        "HourglassQuarantineGrowing",
        "HourglassAggregatorsAbsent",
        "HourglassAveragesConsumersAbsent",
        "HourglassAveragesNotLoaded",
        "HourglassHoursMissing",
        "HourglassProducersSilent",
    }


def test_alerts_can_be_labelled_left_out_and_added(newest: Helm) -> None:
    found = rules(
        newest,
        "producer",
        alertLabels={"severity": "page", "team": "weather"},
        disabled=["HourglassReadingsWaiting"],
        extraRules=[{"record": "devices", "expr": "sum(hourglass_producer_devices)"}],
    )
    assert found[-1]["record"] == "devices"
    assert [rule["alert"] for rule in found[:-1]] == [
        "HourglassProducersSilent",
        "HourglassReadingsDropped",
    ]
    assert found[0]["labels"] == {"severity": "page", "team": "weather"}


def test_the_dashboard_arrives_as_it_is_where_grafana_looks_for_it(helm: Helm) -> None:
    values = {"enabled": True, "namespace": "grafana", "annotations": {"folder": "Weather"}}
    made = one(
        helm.render("aggregator", {"dashboard": values}), "ConfigMap", "aggregator-hourglass"
    )
    assert made["data"]["hourglass.json"] == DASHBOARD.read_text(encoding="utf-8")
    assert made["metadata"]["namespace"] == "grafana"
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made["metadata"]["annotations"] == {"folder": "Weather"}


def test_a_panel_asks_for_metrics_there_are() -> None:
    found = list(panels())
    assert len({panel["title"] for panel in found}) == len(found) >= 12
    known = exported(*SERVICES)
    for panel in found:
        assert panel["description"], panel["title"]
        for target in panel["targets"]:
            names = METRIC.findall(target["expr"])
            assert names, panel["title"]
            assert set(names) <= known, panel["title"]
            assert target["expr"].count('{namespace="$namespace"}') == len(names)


def test_the_dashboard_shows_the_whole_pipeline() -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    for metric in (
        "hourglass_stream_partitions",
        "hourglass_stream_length",
        "hourglass_stream_group_lag",
        "hourglass_aggregate_lag",
        "hourglass_last_average_temp_f",
        "hourglass_readings_counted_total",
    ):
        assert metric in text
    assert len(text) < 250_000, "a ConfigMap that client-side apply takes"
