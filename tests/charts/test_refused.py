"""Values that are wrong are refused, with a message that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.charts.helm import SERVICES, Helm, Refused

WRONG: list[tuple[str, Mapping[str, Any], str]] = [
    # Misspelt, at every depth.
    ("producer", {"replicas": 3}, "replicas"),
    ("producer", {"config": {"device": 3}}, "device"),
    ("producer", {"config": {"linger_ms": 3}}, "linger_ms"),
    ("producer", {"redis": {"url": "redis:6379"}}, "url"),
    ("producer", {"redis": {"tls": {"secret": "s"}}}, "secret"),
    ("producer", {"image": {"name": "x"}}, "name"),
    ("producer", {"image": {"tags": "x"}}, "tags"),
    ("producer", {"autoscaling": {"enabled": True}}, "autoscaling"),
    ("aggregator", {"keda": {"threshold": 1}}, "threshold"),
    ("aggregator", {"autoscaling": {"minReplica": 1}}, "minReplica"),
    ("aggregator", {"podmonitor": {"enabled": True}}, "podmonitor"),
    ("aggregator", {"prometheusRule": {"enable": True}}, "enable"),
    ("aggregator", {"probes": {"liveness": {"path": "/"}}}, "path"),
    ("aggregator", {"resources": {"limit": {}}}, "limit"),
    ("averages-consumer", {"warehouse": {"url": "postgresql://u:p@h/d"}}, "url"),
    ("averages-consumer", {"persistence": {"enabled": True}}, "persistence"),
    ("redis-cluster-dev", {"replicas": 1}, "replicas"),
    ("redis-cluster-dev", {"auth": {"password": "x"}}, "password"),
    ("redis-cluster-dev", {"persistence": {"ephemeral": True}}, "ephemeral"),
    # Of another type, or out of bounds.
    ("producer", {"replicaCount": "three"}, "replicaCount"),
    ("producer", {"replicaCount": -1}, "replicaCount"),
    ("producer", {"kind": "DaemonSet"}, "kind"),
    ("producer", {"config": {"devices": 0}}, "devices"),
    ("producer", {"config": {"devices": "0"}}, "devices"),
    ("producer", {"config": {"devices": "many"}}, "devices"),
    ("producer", {"config": {"periodS": "0,5"}}, "periodS"),
    ("producer", {"config": {"lingerMs": "010"}}, "lingerMs"),
    ("producer", {"podDisruptionBudget": {"maxUnavailable": "few"}}, "maxUnavailable"),
    ("producer", {"image": {"tag": 1.5}}, "tag"),
    ("producer", {"image": {"pullSecrets": [{"secretName": "s"}]}}, "pullSecrets"),
    ("producer", {"config": {"batchReadings": 9999}}, "batchReadings"),
    ("producer", {"config": {"logFormat": "xml"}}, "logFormat"),
    ("producer", {"config": {"pipeline": "a:b"}}, "pipeline"),
    ("aggregator", {"config": {"pipeline": "a*"}}, "pipeline"),
    ("averages-consumer", {"config": {"pipeline": "a" * 65}}, "pipeline"),
    ("producer", {"config": {"httpPort": 65536}}, "httpPort"),
    ("producer", {"config": {"httpPort": 0}}, "httpPort"),
    ("averages-consumer", {"config": {"webPort": 0}}, "webPort"),
    ("producer", {"redis": {"urls": []}}, "urls"),
    ("producer", {"redis": {"urls": ["redis://u:p@h:1"]}}, "urls"),
    ("producer", {"redis": {"urls": ["no-port"]}}, "urls"),
    ("producer", {"image": {"digest": "abc"}}, "digest"),
    ("producer", {"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ("producer", {"tracing": {"endpoint": "collector:4318"}}, "endpoint"),
    ("producer", {"terminationGracePeriodSeconds": 1}, "terminationGracePeriodSeconds"),
    ("aggregator", {"config": {"deliveryLimit": 1}}, "deliveryLimit"),
    ("aggregator", {"keda": {"minReplicas": 0}}, "minReplicas"),
    ("aggregator", {"podMonitor": {"interval": "often"}}, "interval"),
    ("averages-consumer", {"warehouse": {"port": 0}}, "port"),
    ("redis-cluster-dev", {"shards": 0}, "shards"),
    ("redis-cluster-dev", {"persistence": {"whenDeleted": "Burn"}}, "whenDeleted"),
    # Contradicting one another.
    (
        "aggregator",
        {
            "autoscaling": {"enabled": True},
            "keda": {"enabled": True, "prometheus": {"serverAddress": "p"}},
        },
        "keda.enabled",
    ),
    ("aggregator", {"keda": {"enabled": True}}, "keda.prometheus.serverAddress"),
    ("aggregator", {"autoscaling": {"enabled": True, "minReplicas": 9}}, "autoscaling.minReplicas"),
    (
        "aggregator",
        {"prometheusRule": {"disabled": ["HourglassHourOverdu"]}},
        "disabled",
    ),
    (
        "producer",
        {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}},
        "serviceMonitor.enabled",
    ),
    ("producer", {"redis": {"tls": {"existingSecret": "s"}}}, "redis.tls.enabled"),
    (
        "producer",
        {"redis": {"tls": {"enabled": True, "existingSecret": "s", "certKey": "c"}}},
        "redis.tls.keyKey",
    ),
    (
        "producer",
        {"redis": {"tls": {"enabled": True, "certKey": "c", "keyKey": "k"}}},
        "redis.tls.existingSecret",
    ),
    ("averages-consumer", {"replicaCount": 2}, "replicaCount"),
    (
        "averages-consumer",
        {"ingress": {"enabled": True}, "config": {"web": False}},
        "ingress.enabled",
    ),
    ("averages-consumer", {"ingress": {"hosts": ["h"]}}, "hosts"),
    ("averages-consumer", {"config": {"webPort": 8080}}, "config.webPort"),
]


@pytest.mark.parametrize(("chart", "values", "key"), WRONG, ids=[str(w[1]) for w in WRONG])
def test_wrong_values_are_refused_by_name(
    helm: Helm, chart: str, values: Mapping[str, Any], key: str
) -> None:
    with pytest.raises(Refused) as refusal:
        helm.render(chart, values)
    message = str(refusal.value).partition("Error:")[2]
    assert key in message


@pytest.mark.parametrize("chart", SERVICES)
def test_a_service_is_not_installed_without_redis(helm: Helm, chart: str) -> None:
    with pytest.raises(Refused, match="urls"):
        helm.render(chart, required=False)


def test_a_parent_chart_may_bring_its_own_globals_and_condition(helm: Helm) -> None:
    values = {"global": {"storageClass": "fast"}, "enabled": True}
    assert helm.render("producer", values) == helm.render("producer")
