"""`make up` on a namespace that accepts nothing but restricted pods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kubernetes.cluster import ClusterError, is_ready
from tests.kubernetes.conftest import Story
from tests.kubernetes.installation import SERVICES, WORKLOADS, Images, Installation

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


def test_the_namespace_enforces_the_restricted_pod_security(installation: Installation) -> None:
    labels = installation.namespace.get("namespace", installation.namespace.name)["metadata"]
    assert labels["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_three_shards_and_a_pod_of_each_service_are_ready(installation: Installation) -> None:
    namespace = installation.namespace
    ready = {name: [is_ready(pod) for pod in namespace.pods(name)] for name in WORKLOADS}
    assert ready == {"redis-cluster-dev": [True] * 3, **{name: [True] for name in SERVICES}}


def test_the_first_average_is_of_one_device_and_adds_up(installation: Installation) -> None:
    assert installation.averages()[0]["devices"] == "1"
    found = installation.audit()
    assert found["differences"] == []
    assert found["published"] >= 1
    assert found["late"] == found["quarantined"] == 0


def test_an_image_that_cannot_be_pulled_is_named_and_so_is_the_remedy(
    images: Images, story: Story, base_namespace: str
) -> None:
    unreachable = replace(images, registry="127.0.0.1:1/nowhere")
    with story.namespace(f"{base_namespace}-unpulled") as namespace:
        installed = Installation(namespace, unreachable)
        with pytest.raises(ClusterError) as refusal:
            installed.make("up", CHARTS="producer", HELM_FLAGS="--timeout=30s")
        report = str(refusal.value)
        assert "producer is not ready" in report
        assert "  producer-" in report
        assert "127.0.0.1:1/nowhere/hourglass/producer" in report
        assert "kubectl delete pods" in report
