"""`make up` on a namespace that accepts nothing but restricted pods."""

from __future__ import annotations

import pytest

from tests.kubernetes.cluster import is_ready
from tests.kubernetes.installation import SERVICES, WORKLOADS, Installation

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
