"""Ways to install each chart: each is rendered, validated and held to what must hold for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.charts.helm import SERVICES

TLS: Mapping[str, Any] = {
    "redis": {
        "existingSecret": "user",
        "tls": {
            "enabled": True,
            "existingSecret": "certificates",
            "certKey": "tls.crt",
            "keyKey": "tls.key",
        },
    }
}
EXTRAS: Mapping[str, Any] = {
    "extraEnv": [{"name": "GREETING", "value": "{{ .Release.Name }}"}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "podLabels": {"team": "weather"},
    "podAnnotations": {"note": "{{ .Chart.Name }}"},
    "extraManifests": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: as-text}\n",
    ],
    "image": {"registry": "registry.example", "pullSecrets": ["pull"]},
    "priorityClassName": "high",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    "tracing": {"endpoint": "http://collector:4318"},
}
MONITORED: Mapping[str, Any] = {
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "alertLabels": {"team": "weather"}},
}
_OWN: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "producer": {"as a Deployment": {"kind": "Deployment"}},
    "aggregator": {
        "by CPU": {"autoscaling": {"enabled": True}},
        "by lag": {"keda": {"enabled": True, "prometheus": {"serverAddress": "http://p:9090"}}},
        "with a dashboard": {"dashboard": {"enabled": True}},
    },
    "averages-consumer": {
        "with PostgreSQL": {"warehouse": {"existingSecret": "warehouse"}, "replicaCount": 2},
        "with an Ingress": {
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "host": "hourglass.example",
                "annotations": {"a": "b"},
                "tlsSecret": "certificate",
            }
        },
        "without a page": {"config": {"web": False}},
        "without a claim": {"warehouse": {"sqlite": {"persistence": {"enabled": False}}}},
    },
}
_COMMON: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "with TLS": TLS,
    "with extras": EXTRAS,
    "monitored": MONITORED,
    "scraped by a ServiceMonitor": {"serviceMonitor": {"enabled": True}},
    "left to kubectl scale": {"replicaCount": None},
    "at none": {"replicaCount": 0},
}
SCENARIOS: list[tuple[str, str, Mapping[str, Any]]] = [
    *(
        (chart, name, values)
        for chart in SERVICES
        for name, values in {**_COMMON, **_OWN[chart]}.items()
    ),
    ("redis-cluster-dev", "plain", {}),
    ("redis-cluster-dev", "ephemeral", {"persistence": {"enabled": False}, "shards": 1}),
    ("redis-cluster-dev", "with replicas", {"replicasPerShard": 2}),
    ("redis-cluster-dev", "with TLS", {"tls": {"enabled": True}}),
    ("redis-cluster-dev", "without users", {"auth": {"enabled": False}}),
]
IDS = [f"{chart} {name}" for chart, name, _ in SCENARIOS]
