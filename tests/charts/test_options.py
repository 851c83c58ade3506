"""A chart sets each option of its service, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from aggregator.config import AggregatorSettings
from averages_consumer.config import AveragesConsumerSettings
from charts.tools.services import DEFAULTS_IN_PODS, NOT_IN_CHARTS, SET_OTHERWISE, camel
from hourglass.service.config import env_name, option_fields
from producer.config import ProducerSettings
from tests.charts.helm import Helm, Manifest, containers, one, workload
from tests.charts.scenarios import TLS

SETTINGS: Mapping[str, type] = {
    "producer": ProducerSettings,
    "aggregator": AggregatorSettings,
    "averages-consumer": AveragesConsumerSettings,
}
UNLIKE_ANY_DEFAULT: Mapping[str, Any] = {
    "pipeline": "weather",
    "packed": "off",
    "source": "mqtt",
    "tally_file": "/var/tally",
    "log_format": "json",
    "log_level": "debug",
    "http_host": "127.0.0.1",
    "no_reading_f": "-127,85",
    "until": "2025-01-02T00:00:00Z",
}


def environment(manifests: list[Manifest]) -> dict[str, str | None]:
    """The variables of the service's container; None where the value is not in the manifest."""
    (container,) = containers(workload(manifests)["spec"]["template"]["spec"])
    variables: dict[str, str | None] = dict(one(manifests, "ConfigMap")["data"])
    assert {"configMapRef": {"name": one(manifests, "ConfigMap")["metadata"]["name"]}} in container[
        "envFrom"
    ]
    return variables | {each["name"]: each.get("value") for each in container["env"]}


def everything(settings: type) -> dict[str, Any]:
    """A value for each option in `config`, unlike its default."""
    chosen: dict[str, Any] = {}
    for field, info in option_fields(settings):
        if field.name in SET_OTHERWISE or field.name in NOT_IN_CHARTS:
            continue
        if field.name in UNLIKE_ANY_DEFAULT:
            chosen[camel(field.name)] = UNLIKE_ANY_DEFAULT[field.name]
        elif isinstance(field.default, bool):
            chosen[camel(field.name)] = not field.default
        elif isinstance(field.default, str):
            chosen[camel(field.name)] = f"other{field.default}"
        else:
            other: float = cast(float, field.default) + 1
            chosen[camel(field.name)] = other if info.maximum is None else min(other, info.maximum)
    return chosen


def written(value: Any) -> str:
    """As YAML has it, whole numbers without their decimals."""
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return str(value).removesuffix(".0")


@pytest.mark.parametrize("chart", SETTINGS)
def test_every_option_can_be_set_and_nothing_else_is(helm: Helm, chart: str) -> None:
    settings = SETTINGS[chart]
    values = {"config": everything(settings), **TLS}
    variables = environment(helm.render(chart, values))
    known = {env_name(field.name) for field, _ in option_fields(settings)}
    kept_out = {env_name(name) for name in NOT_IN_CHARTS}
    assert {name for name in variables if name.startswith("HOURGLASS_")} == known - kept_out
    for name, chosen in values["config"].items():
        option = next(
            field.name for field, _ in option_fields(settings) if camel(field.name) == name
        )
        assert variables[env_name(option)] == written(chosen), name


@pytest.mark.parametrize("chart", SETTINGS)
def test_defaults_are_the_services_but_for_those_that_suit_a_pod(helm: Helm, chart: str) -> None:
    variables = environment(helm.render(chart))
    for field, _ in option_fields(SETTINGS[chart]):
        if field.name in SET_OTHERWISE or field.name in NOT_IN_CHARTS:
            continue
        default = DEFAULTS_IN_PODS.get(field.name, field.default)
        shown = variables.get(env_name(field.name)) or ""
        assert shown.removesuffix(".0") == written(default), field.name


@pytest.mark.parametrize("number", [1_000_000, 1_234_567_890, 0.25])
def test_a_number_reaches_the_service_as_it_was_written(helm: Helm, number: float) -> None:
    name = "bufferReadings" if isinstance(number, int) else "periodS"
    variables = environment(helm.render("producer", {"config": {name: number}}))
    assert str(number) in variables.values()


@pytest.mark.parametrize("chart", SETTINGS)
def test_the_redis_url_has_no_credentials(helm: Helm, chart: str) -> None:
    assert (
        environment(helm.render(chart))["HOURGLASS_REDIS_URL"]
        == "redis://redis-1:6379,redis-2:7000"
    )
    variables = environment(helm.render(chart, TLS))
    assert variables["HOURGLASS_REDIS_URL"] == "rediss://redis-1:6379,redis-2:7000"
    assert variables["HOURGLASS_REDIS_PASSWORD"] is None
    assert variables["HOURGLASS_REDIS_CA_FILE"] == "/etc/hourglass/redis-tls/ca.crt"


@pytest.mark.parametrize("chart", SETTINGS)
def test_a_replica_goes_by_its_pods_name(helm: Helm, chart: str) -> None:
    (container,) = containers(workload(helm.render(chart))["spec"]["template"]["spec"])
    (name,) = (each for each in container["env"] if each["name"] == "HOURGLASS_NAME")
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_the_warehouse_is_a_secret_url_or_a_file_on_a_volume(helm: Helm) -> None:
    def warehouse(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        spec = workload(helm.render("averages-consumer", {"warehouse": values}))["spec"][
            "template"
        ]["spec"]
        (container,) = containers(spec)
        (variable,) = (e for e in container["env"] if e["name"] == "HOURGLASS_WAREHOUSE_URL")
        return variable, {volume["name"]: volume for volume in spec["volumes"]}

    variable, volumes = warehouse({})
    assert variable["value"] == "sqlite:////data/hourglass.db"
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == "averages-consumer"
    variable, volumes = warehouse({"sqlite": {"persistence": {"enabled": False}}})
    assert volumes["data"]["emptyDir"] == {}
    variable, volumes = warehouse({"existingSecret": "dsn", "urlKey": "dsn"})
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "dsn", "key": "dsn"}
    assert "data" not in volumes
