"""The way to the web page: a port, a Service, and an Ingress for who wants one."""

from __future__ import annotations

import pytest

from tests.charts.helm import Helm, Refused, containers, kinds, one, workload

CHART = "averages-consumer"
PAGE = "averages-consumer-page"


def container_ports(helm: Helm, **values: object) -> dict[str, int]:
    (container,) = containers(workload(helm.render(CHART, values))["spec"]["template"]["spec"])
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_the_page_has_a_port_of_its_own(helm: Helm) -> None:
    assert container_ports(helm) == {"http": 8080, "page": 8081}
    assert container_ports(helm, config={"webPort": 9000}) == {"http": 8080, "page": 9000}


def test_a_service_with_an_address_leads_to_the_page_and_to_nothing_else(helm: Helm) -> None:
    spec = one(helm.render(CHART), "Service", PAGE)["spec"]

    assert spec["ports"] == [{"name": "page", "port": 80, "targetPort": "page"}]
    # The page is needed most while its pods are not ready.
    assert spec["publishNotReadyAddresses"] is True
    assert "clusterIP" not in spec


def test_without_a_page_nothing_leads_to_it(helm: Helm) -> None:
    manifests = helm.render(CHART, {"config": {"web": False}})

    assert [each["metadata"]["name"] for each in manifests if each["kind"] == "Service"] == [CHART]
    assert container_ports(helm, config={"web": False}) == {"http": 8080}
    (rule,) = one(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert one(manifests, "ConfigMap")["data"]["HOURGLASS_WEB"] == "false"


def test_peers_of_the_page_and_of_the_metrics_are_set_apart(helm: Helm) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": "weather"}}}
    values = {"networkPolicy": {"pageFrom": [peer]}}

    scrapes, page = one(helm.render(CHART, values), "NetworkPolicy")["spec"]["ingress"]

    assert "from" not in scrapes
    assert page == {"ports": [{"port": "page", "protocol": "TCP"}], "from": [peer]}


def test_an_ingress_is_there_only_for_who_asks(helm: Helm) -> None:
    assert "Ingress" not in kinds(helm.render(CHART))

    values = {"ingress": {"enabled": True, "host": "h.example", "tlsSecret": "certificate"}}
    spec = one(helm.render(CHART, values), "Ingress", PAGE)["spec"]

    assert "ingressClassName" not in spec
    assert spec["tls"] == [{"secretName": "certificate", "hosts": ["h.example"]}]
    (rule,) = spec["rules"]
    assert rule["host"] == "h.example"
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": PAGE, "port": {"name": "page"}}


def test_an_ingress_leads_to_a_page_that_is_served(newest: Helm) -> None:
    with pytest.raises(Refused, match=r"ingress\.enabled is true and config\.web is false"):
        newest.render(CHART, {"ingress": {"enabled": True}, "config": {"web": False}})
