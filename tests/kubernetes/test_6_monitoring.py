"""What Prometheus knows of the pipeline: each metric there is, rules it can follow, and an answer
to each question of the dashboard."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeAlias

import pytest

from hourglass.metrics import MetricSpec
from hourglass.model.readings import Reason
from producer.metrics import MQTT_METRICS
from tests.charts.dashboard import DASHBOARDS, as_grafana_asks, board, queries
from tests.kubernetes.installation import SERVICES, START, Installation, await_on_cluster
from tests.kubernetes.prometheus import Prometheus, Series
from tools.reference import SERVICES as DECLARED

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

Known: TypeAlias = Mapping[str, Sequence[Series]]

INSTRUMENTS = {each.name: each for _, declared in DECLARED.values() for each in declared}
#: Labels that Prometheus adds for the source of a series, and the label of histogram buckets.
ADDED = {
    "app_kubernetes_io_instance",
    "container",
    "endpoint",
    "instance",
    "job",
    "le",
    "namespace",
    "pod",
    "service",
}
NOW_S, START_S, DAY_S = time.time(), datetime.fromisoformat(START).timestamp(), 86_400.0
#: Least and most of each gauge while one device gives readings and all is well.
GAUGES: Mapping[str, tuple[float, float]] = {
    "hourglass_aggregate_lag": (0, 100_000),
    "hourglass_aggregate_lag_readings": (0, 1_000_000),
    "hourglass_aggregate_lag_seconds": (0, DAY_S),
    "hourglass_build_info": (1, 1),
    "hourglass_current_hour_average_temp_f": (-150, 250),
    "hourglass_current_hour_completeness_ratio": (0, 1),
    "hourglass_current_hour_readings": (0, 10_000_000),
    # Of every day whose records are kept: today, 14 before it, and one that is about to expire.
    "hourglass_averages_due": (1, 16 * 24),
    "hourglass_averages_overdue": (0, 24),
    "hourglass_last_average_hour_timestamp_seconds": (START_S, START_S + 100 * DAY_S),
    "hourglass_last_average_temp_f": (-150, 250),
    "hourglass_partition_expiry_timestamp_seconds": (NOW_S, NOW_S + 3 * DAY_S),
    "hourglass_producer_devices": (1, 1),
    "hourglass_published_ahead_seconds": (0, 0),
    "hourglass_readings_buffered": (0, 10_000),
    # The autoscaling tests delete an entry before it is delivered.
    "hourglass_readings_lost": (0, 1),
    "hourglass_redis_clock_deviation_seconds": (-2, 2),
    "hourglass_redis_eviction_possible": (0, 0),
    "hourglass_redis_shard_up": (1, 1),
    "hourglass_redis_up": (1, 1),
    "hourglass_stray_streams": (0, 0),
    "hourglass_stream_group_consumers": (1, 100),
    "hourglass_stream_group_lag": (0, 100_000),
    "hourglass_stream_group_lag_known": (1, 1),
    "hourglass_stream_group_lag_readings": (0, 1_000_000),
    "hourglass_stream_group_messages_pending": (0, 100_000),
    "hourglass_stream_group_oldest_pending_timestamp_seconds": (START_S, NOW_S + DAY_S),
    "hourglass_stream_length": (1, 10_000_000),
    "hourglass_stream_memory_bytes": (1, 10_000_000_000),
    "hourglass_stream_partitions": (1, 10),
    "hourglass_stream_shard_info": (1, 1),
    "hourglass_worker_failing": (0, 0),
    "hourglass_uncounted_expiry_seconds": (0, 72 * 3600),
    "hourglass_warehouse_rows_missing": (0, 0),
}
#: Absent while nothing has happened that they count, or without a source that is MQTT.
FLEETING = {
    *(each.name for each in MQTT_METRICS),
    "hourglass_current_hour_average_temp_f",
    "hourglass_current_hour_completeness_ratio",
    "hourglass_stream_group_oldest_pending_timestamp_seconds",
    "hourglass_uncounted_expiry_seconds",
}
UNUSABLE, LATE = "hourglass_readings_quarantined_total", "hourglass_readings_late_total"


@pytest.fixture(scope="module", autouse=True)
def known(monitored: Installation, prometheus: Prometheus) -> Known:
    """Every series of the installation by name, once hours are published and loaded, and a foreign
    writer has given a reading that is none and one for an hour that is sealed."""
    monitored.await_averages(1)
    hour = monitored.averages()[-1]
    stream = "temps:" + hour["date"].replace("/", "")
    sealed_ms = round(datetime.fromisoformat(hour["hour_start"]).timestamp() * 1000)
    monitored.redis("XADD", stream, "*", "temp_f", "warm")
    monitored.redis("XADD", stream, "*", "temp_f", "73", "ts", str(sealed_ms))
    here = f'{{namespace="{monitored.namespace.name}"}}'
    seen = [
        f"sum({UNUSABLE}{here})",
        f"sum({LATE}{here})",
        f"sum(hourglass_publish_delay_seconds_count{here})",
        # More than one sample of the services that the above are not of.
        f"sum(rate(hourglass_readings_taken_total{here}[1m]))",
        f"sum(rate(hourglass_averages_loaded_total{here}[1m]))",
    ]
    everything = " and ".join(f"{each} > 0" for each in seen)
    await_on_cluster(lambda: prometheus.query(everything), "Prometheus does not see what was done")
    known: dict[str, list[Series]] = {}
    for series in prometheus.query(
        f'{{__name__=~"hourglass_.+", namespace="{monitored.namespace.name}"}}'
    ):
        known.setdefault(series.labels["__name__"], []).append(series)
    return known


def test_every_pod_is_scraped_once(monitored: Installation, prometheus: Prometheus) -> None:
    here = monitored.namespace
    pods = sorted(pod for app in SERVICES for pod in here.ready_pods(app))
    up = prometheus.query(f'up{{namespace="{here.name}"}} == 1')
    assert sorted(series.labels["pod"] for series in up) == pods


def test_monitors_of_both_kinds_are_taken(monitored: Installation, prometheus: Prometheus) -> None:
    pools = {
        each["scrapePool"] for each in prometheus.get("targets", state="active")["activeTargets"]
    }
    here = monitored.namespace.name
    assert {pool for pool in pools if f"/{here}/" in pool} == {
        f"podMonitor/{here}/producer/0",
        f"podMonitor/{here}/aggregator/0",
        f"serviceMonitor/{here}/averages-consumer/0",
    }


@pytest.mark.parametrize("name", sorted(INSTRUMENTS.keys() - FLEETING))
def test_a_metric_is_there_as_declared(name: str, known: Known, prometheus: Prometheus) -> None:
    declared = INSTRUMENTS[name]
    # As OpenMetrics has it, a counter's name ends before its _total.
    family = name.removesuffix("_total")
    (metadata, *_) = prometheus.get("metadata", metric=family)[family]
    assert (metadata["type"], metadata["help"]) == (declared.kind, declared.help)
    series = known[f"{name}_count" if declared.kind == "histogram" else name]
    assert {service(each) for each in series} == {
        service for service, (_, instruments) in DECLARED.items() if declared in instruments
    }
    for each in series:
        assert each.labels.keys() - ADDED - {"__name__"} == set(declared.labels)
        assert not declared.values or each.labels[declared.labels[0]] in declared.values
    SANE[declared.kind](declared, known)


def of_a_counter(counter: MetricSpec, known: Known) -> None:
    for series in known[counter.name]:
        assert series.value >= 0
        assert series.value.is_integer()


def of_a_gauge(gauge: MetricSpec, known: Known) -> None:
    least, most = GAUGES[gauge.name]
    for series in known[gauge.name]:
        assert least <= series.value <= most, series


def of_a_histogram(histogram: MetricSpec, known: Known) -> None:
    total = 0.0
    for count in known[f"{histogram.name}_count"]:
        (summed,) = of_pod(known[f"{histogram.name}_sum"], count)
        buckets = {
            float(each.labels["le"]): each.value
            for each in of_pod(known[f"{histogram.name}_bucket"], count)
        }
        assert sorted(buckets) == [*histogram.buckets, math.inf]
        values = [buckets[most] for most in sorted(buckets)]
        assert values == sorted(values)
        assert values[-1] == count.value
        assert summed.value >= 0
        total += count.value
    assert total > 0


SANE = {"counter": of_a_counter, "gauge": of_a_gauge, "histogram": of_a_histogram}


def of_pod(series: Sequence[Series], other: Series) -> list[Series]:
    return [each for each in series if each.labels["pod"] == other.labels["pod"]]


def service(series: Series) -> str:
    """The service whose pod it is: pods are named by it."""
    return next(each for each in SERVICES if series.labels["pod"].startswith(f"{each}-"))


def test_nothing_is_exported_that_is_not_declared(known: Known) -> None:
    plain = {re.sub("_(bucket|sum|count)$", "", name) for name in known}
    assert plain | FLEETING == INSTRUMENTS.keys()


def test_the_counts_agree_with_one_another(known: Known) -> None:
    def total(name: str, **labels: str) -> float:
        return sum(each.value for each in known[name] if labels.items() <= each.labels.items())

    assert total(UNUSABLE) == total(UNUSABLE, reason=str(Reason.NOT_A_NUMBER)) == 1
    assert total(LATE) == 1
    taken = total("hourglass_readings_taken_total")
    assert 0 < taken <= total("hourglass_readings_produced_total")
    assert total("hourglass_averages_loaded_total") > 0


def test_the_rules_are_loaded_and_can_be_evaluated(
    monitored: Installation, prometheus: Prometheus
) -> None:
    here = monitored.namespace
    shipped = {
        rule["alert"]
        for chart in SERVICES
        for group in here.get("prometheusrules.monitoring.coreos.com", chart)["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }

    def health() -> dict[str, str]:
        return {rule["name"]: rule["health"] for rule in prometheus.alerts(here.name)}

    healthy = dict.fromkeys(shipped, "ok")
    # The assertion shows which rule is not, once the time is over.
    with suppress(AssertionError):
        await_on_cluster(lambda: health() == healthy, "not all rules are ok")
    assert health() == healthy


def test_the_alert_fires_for_the_reading_that_is_none_and_no_other_does(
    monitored: Installation, prometheus: Prometheus
) -> None:
    # For the entry that the autoscaling tests delete before it is delivered.
    expected = {"HourglassReadingsLost"}

    def firing() -> list[dict[str, Any]]:
        rules = prometheus.alerts(monitored.namespace.name)
        found = [alert for rule in rules for alert in rule["alerts"] if alert["state"] == "firing"]
        return [each for each in found if each["labels"]["alertname"] not in expected]

    await_on_cluster(firing, "no alert fires")
    (alert,) = firing()
    assert alert["labels"]["alertname"] == "HourglassQuarantineGrowing"
    assert alert["annotations"]["summary"] == f"Readings go to quarantine ({Reason.NOT_A_NUMBER})."


@pytest.mark.parametrize(
    "expression", [query for _, _, query in queries()], ids=[title for _, title, _ in queries()]
)
def test_a_panel_shows_something(
    expression: str, monitored: Installation, prometheus: Prometheus
) -> None:
    query = as_grafana_asks(expression, namespace=monitored.namespace.name, rate_interval="1m")
    assert "$" not in query
    await_on_cluster(lambda: prometheus.query(query), f"nothing for {query}")


def test_the_dashboard_offers_the_namespace(
    monitored: Installation, prometheus: Prometheus
) -> None:
    (query,) = (
        each["query"]
        for each in board(DASHBOARDS[0])["templating"]["list"]
        if each["name"] == "namespace"
    )
    matched = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
    assert matched
    metric, label = matched.groups()
    offered = prometheus.get(f"label/{label}/values", match=metric)
    assert monitored.namespace.name in offered


def test_the_dashboard_is_where_grafana_looks_for_it(monitored: Installation) -> None:
    listed = monitored.namespace.kubectl(
        "get", "configmaps", "--selector", "grafana_dashboard=1", "--output", "json"
    )
    found = {
        name: text for each in json.loads(listed)["items"] for name, text in each["data"].items()
    }
    assert found.keys() == {file.name for file in DASHBOARDS}
    assert all(json.loads(found[file.name]) == board(file) for file in DASHBOARDS)
