"""Monitors, alerts and the dashboard: what is in them, and that it speaks of metrics there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

import aggregator.metrics
import averages_consumer.metrics
import producer.metrics
from hourglassctl.__main__ import application
from producer.metrics import MQTT_METRICS
from tests.charts.dashboard import DASHBOARDS, board, panels, queries
from tests.charts.helm import ROOT, SERVICES, Helm, kinds, one, workload
from tools.reference import exporters

METRICS = {
    "producer": producer.metrics.METRICS,
    "aggregator": aggregator.metrics.METRICS,
    "averages-consumer": averages_consumer.metrics.METRICS,
}
METRIC = re.compile(r"hourglass_\w+")
RUNBOOKS = ROOT / "docs" / "runbooks"
#: By pod each counts for itself.
SUMMED = {"Failing workers": "hourglass_worker_failing"}


def exported(*charts: str) -> set[str]:
    """The names of the series that the services of these charts have."""
    names: set[str] = set()
    for chart in charts:
        for each in METRICS[chart]:
            ends = ("_bucket", "_sum", "_count") if each.kind == "histogram" else ("",)
            names |= {each.name + end for end in ends}
    return names


def rules(helm: Helm, chart: str, **values: Any) -> list[dict[str, Any]]:
    settings = {"prometheusRule": {"enabled": True, **values}}
    made = one(helm.render(chart, settings, namespace="weather"), "PrometheusRule")
    (group,) = made["spec"]["groups"]
    return group["rules"]


def alerts(helm: Helm, chart: str, **values: Any) -> list[dict[str, Any]]:
    return [rule for rule in rules(helm, chart, **values) if "alert" in rule]


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
    """And may link those of the others."""
    found = alerts(helm, chart)
    of_any = exported(*SERVICES)
    assert len(found) >= 3
    for rule in found:
        names = METRIC.findall(rule["expr"])
        assert names, rule["alert"]
        assert exported(chart) & set(names), rule["alert"]
        assert set(names) <= of_any, rule["alert"]
        assert rule["expr"].count('namespace="weather"') == len(names)
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


@pytest.mark.parametrize("chart", SERVICES)
def test_facts_that_replicas_share_are_never_added_up(newest: Helm, chart: str) -> None:
    for rule in rules(newest, chart):
        for metric in exporters():
            if metric.across in ("max", "min"):
                for aggregation in aggregations(rule["expr"], metric.name):
                    assert aggregation in ("max", "min", "absent", "group"), rule


def aggregations(expression: str, metric: str) -> list[str]:
    """What each occurrence of `metric` is given to; empty where it stands by itself."""
    pattern = rf"(?:(\w+)\s*(?:by\s*\([^)]*\)\s*)?\(\s*(?:\d+,\s*)?)?\b{metric}\b"
    return re.findall(pattern, expression)


@pytest.mark.parametrize("file", ["aggregator", "averages-consumer", "producer"])
def test_an_alert_names_a_page_that_says_what_to_do(newest: Helm, file: str) -> None:
    for rule in alerts(newest, file):
        page = ROOT / rule["annotations"]["runbook_url"]
        assert page.name == f"{rule['alert']}.md"
        text = page.read_text(encoding="utf-8")
        for heading in ("## What it means", "## Look", "## Do"):
            assert heading in text, page
    elsewhere = alerts(newest, file, runbooks="https://example.org/runbooks/")
    assert elsewhere[0]["annotations"]["runbook_url"].startswith("https://example.org/runbooks/H")


def test_each_runbook_is_some_alerts(newest: Helm) -> None:
    names = {rule["alert"] for chart in SERVICES for rule in alerts(newest, chart)}
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == names
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}.md)" in index for name in names)


def test_runbooks_give_commands_that_there_are() -> None:
    known = commands(application())
    for page in RUNBOOKS.glob("*.md"):
        for command in re.findall(r"`(hourglass [a-z ]+)", page.read_text(encoding="utf-8")):
            assert any(command.strip().startswith(each) for each in known), (
                f"{page.name}: {command}"
            )


def commands(app: typer.Typer) -> set[str]:
    own = {f"hourglass {each.name}" for each in app.registered_commands}
    groups = {
        f"hourglass {group.name} {each.name}"
        for group in app.registered_groups
        if group.typer_instance
        for each in group.typer_instance.registered_commands
    }
    return own | groups


def test_what_must_be_noticed_has_an_alert(newest: Helm) -> None:
    names = {rule["alert"] for chart in SERVICES for rule in alerts(newest, chart)}
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
        "HourglassMqttDisconnected",
        "HourglassMqttUnreadable",
    ]
    labels = {"severity": "page", "team": "weather", "namespace": "weather"}
    assert found[0]["labels"] == labels


def test_the_dashboards_arrive_as_they_are_where_grafana_looks_for_them(helm: Helm) -> None:
    values = {"enabled": True, "namespace": "grafana", "annotations": {"folder": "Weather"}}
    manifests = helm.render("aggregator", {"dashboard": values})
    for file in DASHBOARDS:
        made = one(manifests, "ConfigMap", f"aggregator-{file.stem}")
        assert made["data"][file.name] == file.read_text(encoding="utf-8")
        assert made["metadata"]["namespace"] == "grafana"
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert made["metadata"]["annotations"] == {"folder": "Weather"}
    elsewhere = helm.render(
        "aggregator", {"dashboard": {"enabled": True, "runbooks": "https://example.org/r/"}}
    )
    made = one(elsewhere, "ConfigMap", "aggregator-hourglass")
    assert '"https://example.org/r"' in made["data"]["hourglass.json"]


def test_there_is_a_dashboard_for_the_whole_the_stream_and_each_service() -> None:
    uids = {board(file)["uid"] for file in DASHBOARDS}
    assert uids == {"hourglass", "hourglass-stream", *(f"hourglass-{each}" for each in SERVICES)}
    shown = {name for _, _, query in queries() for name in names_in(query)}
    # Panels about one process, or with a bare count, are optional.
    left_out = {each.name for each in exporters()} - {base_name(name) for name in shown}
    # So are those of a source of MQTT, which have alerts.
    assert left_out - {each.name for each in MQTT_METRICS} == {
        "hourglass_readings_repeated_total",
        "hourglass_readings_unidentified_total",
        "hourglass_seals_total",
        "hourglass_averages_too_late_total",
        "hourglass_partition_recounts_total",
        "hourglass_partitions_recreated_total",
        "hourglass_stream_group_consumers",
        "hourglass_stream_group_lag_known",
    }


def names_in(query: str) -> list[str]:
    return METRIC.findall(query)


def base_name(series: str) -> str:
    """The metric of a series of a histogram."""
    return re.sub("_(bucket|sum|count)$", "", series)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_what_grafana_takes(file: Path) -> None:
    """Grafana's own library is made from its schemas: what it reads and writes again is the same,
    so there is nothing in it that they do not have."""
    read = Dashboard.from_json(board(file))
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == board(file)
    assert len(file.read_text("utf-8")) < 250_000, "a ConfigMap that client-side apply takes"


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_panel_asks_for_metrics_there_are_and_says_what_it_shows(
    file: Path, newest: Helm
) -> None:
    found = list(panels(file))
    assert len({panel["title"] for panel in found}) == len(found) >= 6
    known = exported(*SERVICES)
    pages = {rule["alert"] for chart in SERVICES for rule in alerts(newest, chart)}
    for panel in found:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
        links: list[dict[str, str]] = panel.get("links") or []
        for link in links:
            page = re.fullmatch(r"\$\{runbooks\}/(\w+)\.md", link["url"])
            assert page, link
            assert page[1] in pages
        for target in panel["targets"]:
            names = names_in(target["expr"])
            assert names or "ALERTS{" in target["expr"], panel["title"]
            assert set(names) <= known, panel["title"]
            assert target["expr"].count('{namespace="$namespace"') >= len(names)


def test_dashboards_never_add_up_what_replicas_share() -> None:
    for _, title, query in queries():
        summed = re.sub(r"and on ?\(pod\) \w+\{[^}]*\}", "", query)  # it only picks pods
        for metric in exporters():
            if metric.across in ("max", "min"):
                for aggregation in aggregations(summed, metric.name):
                    assert aggregation in ("max", "min", "topk") or SUMMED.get(title) == (
                        metric.name
                    ), (title, query)


def test_one_can_choose_namespace_release_and_stream() -> None:
    for file in DASHBOARDS:
        names = [each["name"] for each in board(file)["templating"]["list"]]
        wanted = ["datasource", "namespace", "release"]
        assert names[:3] == wanted, file.name
        assert ("stream" in names) == (file.stem == "hourglass-stream")
