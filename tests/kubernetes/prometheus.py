"""The Prometheus of the Prometheus Operator, queried through the API server."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.kubernetes.cluster import has_kind, kubectl

#: The Service that the operator makes beside every Prometheus.
SERVICE = "prometheus-operated"
PORT = 9090
#: What a Prometheus selects each kind by, and the value of our charts that makes one.
_SELECTORS = {
    "podMonitor": "podMonitorSelector",
    "serviceMonitor": "serviceMonitorSelector",
    "prometheusRule": "ruleSelector",
}


class NoPrometheus(Exception):
    """What the cluster lacks."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series' value at the time of the query."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """`labels`: what it selects PodMonitors, ServiceMonitors and PrometheusRules by, as values of
    our charts."""

    namespace: str
    labels: Mapping[str, Mapping[str, str]]

    @classmethod
    def find(cls) -> Prometheus:
        """The first that runs. Raises NoPrometheus."""
        if not has_kind("prometheuses.monitoring.coreos.com"):
            raise NoPrometheus("the cluster has no Prometheus Operator")
        found = kubectl("get", "prometheuses.monitoring.coreos.com", "-A", "--output", "json")
        for each in json.loads(found)["items"]:
            if each.get("status", {}).get("availableReplicas"):
                labels: dict[str, Mapping[str, str]] = {
                    value: (each["spec"].get(selector) or {}).get("matchLabels", {})
                    for value, selector in _SELECTORS.items()
                }
                return cls(each["metadata"]["namespace"], labels)
        raise NoPrometheus("no Prometheus of the Prometheus Operator runs on the cluster")

    @property
    def address(self) -> str:
        """For pods."""
        return f"http://{SERVICE}.{self.namespace}.svc:{PORT}"

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of /api/v1. Raises ClusterError, for a wrong query too."""
        service = f"/api/v1/namespaces/{self.namespace}/services/{SERVICE}:{PORT}/proxy"
        query = urlencode({name.replace("match", "match[]"): v for name, v in parameters.items()})
        return json.loads(kubectl("get", "--raw", f"{service}/api/v1/{path}?{query}"))["data"]

    def query(self, expression: str) -> Sequence[Series]:
        """What an expression gives now; NaN is no value."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            data["result"] = [{"metric": {}, "value": data["result"]}]
        series = [Series(each["metric"], float(each["value"][1])) for each in data["result"]]
        return [each for each in series if not math.isnan(each.value)]

    def alerts(self, namespace: str) -> Iterator[dict[str, Any]]:
        """The alerting rules for a namespace."""
        for group in self.get("rules", type="alert")["groups"]:
            for rule in group["rules"]:
                if f'namespace="{namespace}"' in rule["query"]:
                    yield rule
