"""A value may be written as text or as a number: the manifests have the type that they need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import make_url

from charts.tools.redis_cluster import REDIS_CLUSTER_DEV
from charts.tools.services import AGGREGATOR, AVERAGES_CONSUMER, PRODUCER
from charts.tools.values import Group, Value
from tests.charts.helm import ALL, CHARTS, Helm, Manifest, containers, one, workload, workloads
from tests.charts.scenarios import IDS, SCENARIOS
from tests.charts.test_every_scenario import ADDED_KINDS, KUBERNETES
from tests.charts.test_options import written

VALUES: Mapping[str, Group] = {
    "producer": PRODUCER,
    "aggregator": AGGREGATOR,
    "averages-consumer": AVERAGES_CONSUMER,
    "redis-cluster-dev": REDIS_CLUSTER_DEV,
}
REDIS_TLS = {"redis": {"tls": {"enabled": True}}}
#: Every part of a chart that only some values make.
EVERYTHING: Mapping[str, Mapping[str, Any]] = {
    "producer": {
        **REDIS_TLS,
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
    },
    "aggregator": {
        **REDIS_TLS,
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
        "keda": {"enabled": True, "prometheus": {"serverAddress": "http://prometheus"}},
    },
    "averages-consumer": {
        **REDIS_TLS,
        "ingress": {"enabled": True},
        "podMonitor": {"enabled": True},
    },
    "redis-cluster-dev": {"tls": {"enabled": True}, "persistence": {"enabled": True}},
}
#: Texts whose content decides what is rendered, or which Helm itself reads.
LEFT_ALONE = {"global", "enabled", "hourglass-common", "config.noReadingF", "config.until"}


def each_value(values: Group, prefix: str = "") -> Iterator[tuple[str, Value]]:
    for name, member in values.members.items():
        if isinstance(member, Group):
            yield from each_value(member, f"{prefix}{name}.")
        elif prefix + name not in LEFT_ALONE:
            yield prefix + name, member


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their paths, as Helm takes them."""
    values: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, name = path.split(".")
        within = values
        for group in groups:
            within = within.setdefault(group, {})
        within[name] = value
    return values


def kinds(value: Value) -> list[str]:
    return cast(list[str], value.schema.get("type", []))


def numbers(chart: str, *, as_text: bool) -> dict[str, Any]:
    """Every number that a chart takes, at its default."""
    found = {
        path: value.default
        for path, value in each_value(VALUES[chart])
        if {"integer", "number"} & {*kinds(value)} and isinstance(value.default, int | float)
    }
    assert len(found) > 2
    return nested({path: written(each) if as_text else each for path, each in found.items()})


def texts(chart: str, given: str | int) -> dict[str, Any]:
    """Every text that may be a number, and every map of texts."""
    found: dict[str, Any] = {}
    for path, value in each_value(VALUES[chart]):
        if isinstance(value.default, str) and {"integer", "number"} & {*kinds(value)}:
            matches = re.search(value.schema.get("pattern", ""), str(given))
            found[path] = given if matches else value.default
        elif value.schema.get("additionalProperties"):
            found[path] = {"key": given}
    assert len(found) > 3
    return nested(found)


def leaves(made: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(made, dict):
        for key, value in cast(dict[str, Any], made).items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(made, list):
        for index, value in enumerate(cast(list[Any], made)):
            yield from leaves(value, f"{path}.{index}")
    else:
        yield path, made


def types(manifests: list[Manifest]) -> dict[str, type]:
    """Of everything that is rendered; certificates differ from one rendering to the next."""
    return {path: type(leaf) for path, leaf in leaves(manifests)}


def validate(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] not in ADDED_KINDS:
            for version in KUBERNETES:
                kubernetes_validate.validate(manifest, version, strict=True)


def without_secrets(manifests: list[Manifest]) -> list[Manifest]:
    return [each for each in manifests if each["kind"] != "Secret"]


@pytest.mark.parametrize("chart", ALL)
def test_a_number_given_as_text_renders_as_the_number(helm: Helm, chart: str) -> None:
    more = EVERYTHING[chart]
    plain = helm.render(chart, numbers(chart, as_text=False), more)
    assert without_secrets(helm.render(chart, numbers(chart, as_text=True), more)) == (
        without_secrets(plain)
    )


@pytest.mark.parametrize("chart", ALL)
def test_a_text_given_as_a_number_renders_as_text(helm: Helm, chart: str) -> None:
    more = EVERYTHING[chart]
    as_number = helm.render(chart, texts(chart, 1234567), more)
    assert types(as_number) == types(helm.render(chart, texts(chart, "1234567"), more))
    assert types(as_number) == types(helm.render(chart, texts(chart, "plain"), more))
    validate(as_number)


@pytest.mark.parametrize(("chart", "name", "values"), SCENARIOS, ids=IDS)
def test_names_that_look_like_numbers_stay_text(
    helm: Helm, chart: str, name: str, values: Mapping[str, Any]
) -> None:
    made = helm.render(chart, values, {"nameOverride": "007"}, release="123", namespace="0123")
    validate(made)
    for metadata in (each["metadata"] for each in workloads(made)):
        assert metadata["name"].startswith("hourglass-123-007"), name
        assert metadata["namespace"] == "0123"
        assert metadata["labels"]["app.kubernetes.io/name"] == "007"
        assert metadata["labels"]["app.kubernetes.io/instance"] == "123"


def set_by(helm: Helm, chart: str, *flags: str) -> list[Manifest]:
    """As `--set` writes values on a command line."""
    text = helm.run(
        "template", chart, CHARTS / chart, "--set", "redis.urls={redis:6379}",
        *(part for flag in flags for part in ("--set", flag)),
    )  # fmt: skip
    return [each for each in yaml.safe_load_all(text) if each]


def test_flags_need_no_quotes_of_their_own(helm: Helm) -> None:
    made = set_by(
        helm,
        "averages-consumer",
        "nameOverride=007",
        "ingress.enabled=true",
        "ingress.host=*.example.com",
        "ingress.tlsSecret=123",
        "ingress.annotations.team=123",
        "warehouse.existingSecret=1e3",
        "warehouse.urlKey=123",
        "config.claimIdleMs=2500",
        "podAnnotations.prometheus\\.io/scrape=true",
        "podDisruptionBudget.maxUnavailable=25%",
    )
    validate(made)
    ingress = one(made, "Ingress")
    assert ingress["spec"]["rules"][0]["host"] == "*.example.com"
    assert ingress["spec"]["tls"] == [{"secretName": "123", "hosts": ["*.example.com"]}]
    template = workload(made)["spec"]["template"]
    (container,) = containers(template["spec"])
    assert template["metadata"]["annotations"]["prometheus.io/scrape"] == "true"
    assert {"name": "1e3", "key": "123"} in [
        each["valueFrom"]["secretKeyRef"] for each in container["env"]
        if "secretKeyRef" in each.get("valueFrom", {})
    ]  # fmt: skip


def test_a_fraction_reaches_the_service_from_a_flag(helm: Helm) -> None:
    made = set_by(helm, "producer", "config.periodS=0.5", "config.devices=1000000")
    assert one(made, "ConfigMap")["data"]["HOURGLASS_PERIOD_S"] == "0.5"
    assert one(made, "ConfigMap")["data"]["HOURGLASS_DEVICES"] == "1000000"


def test_a_file_of_any_name_is_the_one_that_is_opened(helm: Helm) -> None:
    made = helm.render("averages-consumer", {"warehouse": {"sqlite": {"fileName": "a #b?%20+.db"}}})
    (container,) = containers(workload(made)["spec"]["template"]["spec"])
    (url,) = (e["value"] for e in container["env"] if e["name"] == "HOURGLASS_WAREHOUSE_URL")
    assert make_url(url).database == "/data/a #b?%20+.db"


@pytest.mark.parametrize("chart", ALL)
def test_pull_secrets_are_names_or_objects_with_a_name(helm: Helm, chart: str) -> None:
    made = helm.render(chart, {"image": {"pullSecrets": ["first", {"name": "second"}, 123]}})
    expected = [{"name": "first"}, {"name": "second"}, {"name": "123"}]
    assert workload(made)["spec"]["template"]["spec"]["imagePullSecrets"] == expected
    assert one(made, "Pod")["spec"]["imagePullSecrets"] == expected
