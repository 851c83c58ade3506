"""What the charts make of their values."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.charts.helm import ALL, ROOT, SERVICES, Helm, containers, kinds, one, workload, workloads
from tests.charts.scenarios import EXTRAS, TLS

KEDA: Mapping[str, Any] = {"keda": {"enabled": True, "prometheus": {"serverAddress": "http://p"}}}


def network(helm: Helm, chart: str, values: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    spec = one(helm.render(chart, values), "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    return spec["ingress"], spec["egress"]


def ports(rules: list[Any]) -> list[Any]:
    return [port["port"] for rule in rules for port in rule["ports"]]


@pytest.mark.parametrize(("replicas", "rendered"), [(0, 0), (1, 1), (7, 7)])
def test_the_number_of_replicas_is_taken_as_it_is(
    newest: Helm, replicas: int, rendered: int
) -> None:
    for chart in ("producer", "aggregator"):
        made = workload(newest.render(chart, {"replicaCount": replicas}))
        assert made["spec"]["replicas"] == rendered


@pytest.mark.parametrize(
    ("chart", "values"),
    [
        ("producer", {"replicaCount": None}),
        ("averages-consumer", {"replicaCount": None}),
        ("aggregator", {"replicaCount": None}),
        ("aggregator", {"replicaCount": 3, "autoscaling": {"enabled": True}}),
        ("aggregator", {"replicaCount": 3, **KEDA}),
    ],
)
def test_replicas_that_an_autoscaler_or_kubectl_sets_are_omitted(
    helm: Helm, chart: str, values: Mapping[str, Any]
) -> None:
    assert "replicas" not in workload(helm.render(chart, values))["spec"]


def test_a_producer_is_a_stateful_set_or_a_deployment(helm: Helm) -> None:
    made = workload(helm.render("producer"))
    assert made["kind"] == "StatefulSet"
    assert made["spec"]["podManagementPolicy"] == "Parallel"
    assert made["spec"]["serviceName"] == "producer"
    assert workload(helm.render("producer", {"kind": "Deployment"}))["kind"] == "Deployment"


def test_an_image_is_named_by_registry_tag_or_digest(helm: Helm) -> None:
    def image(values: Mapping[str, Any]) -> str:
        (container,) = containers(
            workload(helm.render("producer", values))["spec"]["template"]["spec"]
        )
        return container["image"]

    assert image({}) == "hourglass/producer:0.1.0"
    assert image({"image": {"registry": "r:5000", "tag": "t"}}) == "r:5000/hourglass/producer:t"
    assert image({"image": {"tag": "t", "digest": "sha256:ab"}}) == "hourglass/producer@sha256:ab"
    assert image({"global": {"imageRegistry": "g"}}) == "g/hourglass/producer:0.1.0"


def test_extras_arrive(helm: Helm) -> None:
    manifests = helm.render("producer", EXTRAS)
    template = workload(manifests)["spec"]["template"]
    (container,) = containers(template["spec"])
    assert {"name": "GREETING", "value": "producer"} in container["env"]
    assert {"secretRef": {"name": "more"}} in container["envFrom"]
    assert {"name": "more", "mountPath": "/more"} in container["volumeMounts"]
    assert template["metadata"]["labels"]["team"] == "weather"
    assert template["metadata"]["annotations"]["note"] == "producer"
    assert template["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert one(manifests, "ConfigMap", "producer-more")
    assert one(manifests, "ConfigMap", "as-text")


def test_certificates_are_files_that_only_the_service_reads(helm: Helm) -> None:
    spec = workload(helm.render("aggregator", TLS))["spec"]["template"]["spec"]
    (volume,) = (each for each in spec["volumes"] if each["name"] == "redis-tls")
    assert volume["secret"]["secretName"] == "certificates"
    assert volume["secret"]["defaultMode"] == 0o440
    assert [each["path"] for each in volume["secret"]["items"]] == ["ca.crt", "tls.crt", "tls.key"]


@pytest.mark.parametrize("chart", SERVICES)
def test_the_network_is_closed_but_for_scrapes_names_redis_and_the_page(
    newest: Helm, chart: str
) -> None:
    ingress, egress = network(newest, chart, {})
    assert ports(ingress) == ["http", *(["page"] if chart == "averages-consumer" else [])]
    assert ports(egress) == [53, 53, 6379, 7000]


def test_the_network_opens_for_what_is_configured(newest: Helm) -> None:
    _, egress = network(newest, "averages-consumer", {"warehouse": {"existingSecret": "w"}})
    assert ports(egress) == [53, 53, 6379, 7000, 5432]
    _, egress = network(newest, "producer", {"tracing": {"endpoint": "https://otel.example"}})
    assert ports(egress)[-1] == 443
    _, egress = network(newest, "producer", {"tracing": {"endpoint": "http://otel:4318/v1"}})
    assert ports(egress)[-1] == 4318
    for broker, port in (
        ("mqtt://broker", 1883), ("mqtts://user@broker", 8883), ("mqtt://broker:1884", 1884),
    ):  # fmt: skip
        _, egress = network(newest, "producer", {"config": {"mqttUrl": broker}})
        assert ports(egress)[-1] == port
    peer = {"namespaceSelector": {}}
    values = {"redisTo": [peer], "metricsFrom": [peer], "redisPorts": [7001]}
    ingress, egress = network(newest, "producer", {"networkPolicy": values})
    assert ingress[0]["from"][:-1] == [peer]
    assert egress[1]["to"] == [peer]
    assert ports(egress)[-1] == 7001
    off = newest.render("producer", {"networkPolicy": {"enabled": False}})
    assert "NetworkPolicy" not in kinds(off)


@pytest.mark.parametrize("chart", ALL)
def test_peers_that_are_named_never_shut_out_the_charts_own_test(newest: Helm, chart: str) -> None:
    key = "clientsFrom" if chart == "redis-cluster-dev" else "metricsFrom"
    made = newest.render(chart, {"networkPolicy": {key: [{"podSelector": {}}]}})
    ingress = one(made, "NetworkPolicy")["spec"]["ingress"]
    admitted = ingress[0]["from"][-1]["podSelector"]["matchLabels"]
    assert admitted.items() <= one(made, "Pod")["metadata"]["labels"].items()
    assert admitted["app.kubernetes.io/name"] == f"{chart}-test"


def test_a_disruption_budget_can_be_nothing_at_all(newest: Helm) -> None:
    def budget(values: Mapping[str, Any]) -> dict[str, Any]:
        made = newest.render("aggregator", {"podDisruptionBudget": values})
        return one(made, "PodDisruptionBudget")["spec"]

    assert budget({})["maxUnavailable"] == 1
    assert budget({"maxUnavailable": "25%"})["maxUnavailable"] == "25%"
    spec = budget({"minAvailable": 0})
    assert spec["minAvailable"] == 0
    assert "maxUnavailable" not in spec


def test_an_autoscaler_goes_by_cpu_and_what_is_added(helm: Helm) -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    metric = {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "Value"}}}
    values = {"maxReplicas": 9, "behavior": behavior, "additionalMetrics": [metric]}
    manifests = helm.render("aggregator", {"autoscaling": {"enabled": True, **values}})
    spec = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": workload(manifests)["metadata"]["name"],
    }
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
    assert spec["metrics"][1] == metric
    assert spec["behavior"] == behavior
    assert spec["maxReplicas"] == 9


def test_keda_goes_by_the_aggregate_lag_and_takes_unknown_for_unknown(helm: Helm) -> None:
    manifests = helm.render("aggregator", KEDA, namespace="weather")
    scaled = one(manifests, "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] == workload(manifests)["metadata"]["name"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"] == {
        "serverAddress": "http://p",
        "query": 'max(hourglass_aggregate_lag{namespace="weather"})',
        "threshold": "20000",
        "ignoreNullValues": "false",
    }
    assert scaled["spec"]["minReplicaCount"] == 1
    assert scaled["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert "HorizontalPodAutoscaler" not in kinds(manifests)


def test_two_autoscalers_never_have_one_name(newest: Helm) -> None:
    by_cpu = one(
        newest.render("aggregator", {"autoscaling": {"enabled": True}}), "HorizontalPodAutoscaler"
    )
    assert by_cpu["metadata"]["name"] != one(newest.render("aggregator", KEDA), "ScaledObject")[
        "metadata"
    ]["name"]  # fmt: skip


def test_nothing_is_monitored_or_scaled_unless_asked_for(newest: Helm) -> None:
    for chart in SERVICES:
        assert kinds(newest.render(chart)) - {"PersistentVolumeClaim"} == {
            workload(newest.render(chart))["kind"],
            "ConfigMap", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Service", "ServiceAccount",
        }  # fmt: skip


def test_there_is_a_claim_by_default_and_none_for_postgresql(newest: Helm) -> None:
    def claimed(**warehouse: Any) -> bool:
        manifests = newest.render("averages-consumer", {"warehouse": warehouse})
        return "PersistentVolumeClaim" in kinds(manifests)

    assert claimed()
    assert not claimed(sqlite={"persistence": {"enabled": False}})
    assert not claimed(existingSecret="dsn")


def test_a_claim_is_kept_unless_it_shall_go(newest: Helm) -> None:
    def claim(**persistence: Any) -> dict[str, Any]:
        values = {"warehouse": {"sqlite": {"persistence": persistence}}}
        return one(newest.render("averages-consumer", values), "PersistentVolumeClaim")

    assert claim()["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in claim(keep=False)["metadata"]
    assert claim(size="5Gi")["spec"]["resources"]["requests"]["storage"] == "5Gi"


def test_a_test_asks_the_service_in_its_own_image_without_a_shell(newest: Helm) -> None:
    for chart in SERVICES:
        manifests = newest.render(chart)
        test = one(manifests, "Pod")
        assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
        (container,) = containers(test["spec"])
        (service,) = containers(workload(manifests)["spec"]["template"]["spec"])
        assert container["image"] == service["image"]
        assert container["command"][0] == "python"
        assert container["command"][3] == f"http://{chart}:8080"


def test_the_cluster_has_a_pod_for_each_master_and_replica(newest: Helm) -> None:
    made = workload(newest.render("redis-cluster-dev", {"shards": 5}))
    assert made["spec"]["replicas"] == 5
    assert made["spec"]["podManagementPolicy"] == "Parallel"
    shards = workloads(newest.render("redis-cluster-dev", {"shards": 3, "replicasPerShard": 2}))
    assert [each["spec"]["replicas"] for each in shards] == [3, 3, 3]
    (peers,) = {environment(each, "keeper")["PEERS"] for each in shards}
    assert peers.split() == [f"redis-cluster-dev-{n}-{rank}" for rank in range(3) for n in range(3)]


def test_a_master_and_its_replica_are_kept_on_two_nodes(newest: Helm) -> None:
    shards = workloads(newest.render("redis-cluster-dev", {"replicasPerShard": 1}))
    for number, made in enumerate(shards):
        template = made["spec"]["template"]
        *_, apart = template["spec"]["topologySpreadConstraints"]
        assert apart["whenUnsatisfiable"] == "DoNotSchedule"
        assert apart["nodeTaintsPolicy"] == "Honor", "or a drained node keeps pods waiting"
        selected = apart["labelSelector"]["matchLabels"]
        assert selected["app.kubernetes.io/component"] == f"shard-{number}"
        assert selected.items() <= template["metadata"]["labels"].items()


def environment(made: Mapping[str, Any], container: str) -> dict[str, Any]:
    (found,) = (
        each for each in made["spec"]["template"]["spec"]["containers"] if each["name"] == container
    )
    return {each["name"]: each.get("value") for each in found["env"]}


def test_the_cluster_announces_an_address_and_a_name_together(newest: Helm) -> None:
    manifests = newest.render("redis-cluster-dev", namespace="weather")
    server = containers(workload(manifests)["spec"]["template"]["spec"])[1]
    assert server["args"] == [
        "--cluster-announce-ip", "$(POD_IP)", "--cluster-announce-hostname",
        "$(POD_NAME).redis-cluster-dev-nodes.weather.svc.cluster.local",
    ]  # fmt: skip
    nodes = one(manifests, "Service", "redis-cluster-dev-nodes")["spec"]
    assert nodes["clusterIP"] == "None"
    assert nodes["publishNotReadyAddresses"] is True
    assert "cluster-preferred-endpoint-type hostname" in one(manifests, "ConfigMap")["data"][
        "redis.conf"
    ]  # fmt: skip


def test_the_clusters_users_can_do_no_more_than_they_need(newest: Helm) -> None:
    files = one(newest.render("redis-cluster-dev"), "ConfigMap")["data"]
    assert files["users.acl"] == (ROOT / "deploy" / "redis" / "users.acl").read_text("utf-8")
    assert "user default off ~* &* +@all" in files["auth.sh"]
    assert "-@all +ping +info +cluster +psync +replconf" in files["auth.sh"]


def test_a_generated_secret_holds_what_the_services_look_for(newest: Helm) -> None:
    secret = one(newest.render("redis-cluster-dev"), "Secret")
    named_users = ("producer", "aggregator", "averages-consumer", "auditor")
    assert secret["data"].keys() == {
        "username", "password", "keeper-password",
        *(f"{user}-{what}" for user in named_users for what in ("username", "password")),
    }  # fmt: skip
    for service in SERVICES:
        environment = ROOT / "deploy" / "environments" / "development" / f"{service}.yaml"
        redis = yaml.safe_load(environment.read_text("utf-8"))["redis"]
        user = b64decode(secret["data"][redis["usernameKey"]]).decode()
        assert user == f"hourglass-{service}"
        assert redis["passwordKey"] in secret["data"]
    named = newest.render("redis-cluster-dev", {"auth": {"existingSecret": "mine"}})
    assert "Secret" not in kinds(named)
    certificates = newest.render("redis-cluster-dev", {"tls": {"enabled": True}})
    data = one(certificates, "Secret", "redis-cluster-dev-tls")["data"]
    assert data.keys() == {"ca.crt", "tls.crt", "tls.key"}


@pytest.mark.parametrize("chart", SERVICES)
def test_a_rollout_spreads_new_pods_without_regard_to_the_old(newest: Helm, chart: str) -> None:
    pod = workload(newest.render(chart))["spec"]["template"]["spec"]
    (constraint,) = pod["topologySpreadConstraints"]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["matchLabelKeys"] == ["pod-template-hash"]
