"""What holds for whatever the charts make, however they are installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate
import pytest

from tests.charts.helm import SERVICES, Helm, containers, pod_specs, workload, workloads
from tests.charts.scenarios import IDS, SCENARIOS

#: Kinds that Kubernetes itself does not have; other tests check their content.
ADDED_KINDS = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject"}
KUBERNETES = ("1.29", "1.37")

each_scenario = pytest.mark.parametrize(("chart", "name", "values"), SCENARIOS, ids=IDS)


@each_scenario
def test_every_manifest_is_valid(
    helm: Helm, chart: str, name: str, values: Mapping[str, Any]
) -> None:
    manifests = helm.render(chart, values)
    assert manifests, name
    for manifest in manifests:
        if manifest["kind"] not in ADDED_KINDS:
            for version in KUBERNETES:
                kubernetes_validate.validate(manifest, version, strict=True)
        assert manifest["metadata"].get("namespace", "hourglass") == "hourglass"


@each_scenario
def test_no_two_manifests_have_one_name(
    newest: Helm, chart: str, name: str, values: Mapping[str, Any]
) -> None:
    names = [(m["kind"], m["metadata"]["name"]) for m in newest.render(chart, values)]
    assert len(set(names)) == len(names), name


@each_scenario
def test_every_pod_meets_the_restricted_standard(
    newest: Helm, chart: str, name: str, values: Mapping[str, Any]
) -> None:
    manifests = newest.render(chart, values)
    specs = dict(pod_specs(manifests))
    assert len(specs) == len(workloads(manifests)) + 1, f"{name}: the workloads' and the test's"
    for spec in specs.values():
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
        for volume in spec.get("volumes", []):
            assert volume.keys() - {"name"} <= {
                "configMap", "secret", "emptyDir", "persistentVolumeClaim",
            }  # fmt: skip


@each_scenario
def test_every_mount_has_its_volume(
    newest: Helm, chart: str, name: str, values: Mapping[str, Any]
) -> None:
    manifests = newest.render(chart, values)
    for owner, spec in pod_specs(manifests):
        volumes = {each["name"] for each in spec.get("volumes", [])}
        for made in workloads(manifests):
            if owner == made["metadata"]["name"]:
                claims = made["spec"].get("volumeClaimTemplates", [])
                volumes |= {each["metadata"]["name"] for each in claims}
        for container in containers(spec):
            assert {m["name"] for m in container.get("volumeMounts", [])} <= volumes, name


def selectors(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    """Every label selector in a manifest, except those that name peers."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        yield spec["selector"]
    for key in ("selector", "podSelector"):
        if "matchLabels" in spec.get(key, {}):
            yield spec[key]["matchLabels"]
    for each in spec.get("template", {}).get("spec", {}).get("topologySpreadConstraints", []):
        yield each["labelSelector"]["matchLabels"]


@each_scenario
def test_selectors_hold_nothing_that_an_upgrade_changes(
    newest: Helm, chart: str, name: str, values: Mapping[str, Any]
) -> None:
    manifests = newest.render(chart, values, release="night")
    found = [selector for manifest in manifests for selector in selectors(manifest)]
    assert len(found) >= 4, name
    for selector in found:
        # The shard, where each has a StatefulSet.
        assert {key: selector[key] for key in selector if not key.endswith("/component")} == {
            "app.kubernetes.io/name": chart,
            "app.kubernetes.io/instance": "night",
        }
    for made in workloads(manifests):
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
    tests = [each for each in manifests if each["kind"] == "Pod"]
    assert all(not found[0].items() <= pod["metadata"]["labels"].items() for pod in tests)


@pytest.mark.parametrize("chart", SERVICES)
def test_a_pod_lives_longer_than_its_drain_and_liveness_does_not_wait(
    newest: Helm, chart: str
) -> None:
    pod = workload(newest.render(chart))["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 2
    (container,) = containers(pod)
    paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}


@pytest.mark.parametrize("chart", SERVICES)
def test_a_changed_option_replaces_the_pods(newest: Helm, chart: str) -> None:
    def checksum(values: Mapping[str, Any]) -> str:
        template = workload(newest.render(chart, values))["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/config"]

    assert checksum({}) == checksum({"podDisruptionBudget": {"enabled": False}})
    assert checksum({}) != checksum({"config": {"logLevel": "debug"}})
