"""An installation that cannot work: `make up` names the cause and the remedy."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest

from tests.kubernetes.cluster import ClusterError
from tests.kubernetes.conftest import Story
from tests.kubernetes.installation import Images, Installation, await_on_cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

PRODUCER = "app.kubernetes.io/name=producer"


@pytest.fixture
def fresh(images: Images, base_namespace: str, story: Story) -> Generator[Installation]:
    with story.namespace(f"{base_namespace}-failing") as namespace:
        yield Installation(namespace, images)


def refusal(installed: Installation, **values: str) -> str:
    """The report of `make up` for a producer that does not become ready."""
    with pytest.raises(ClusterError) as refused:
        installed.upgrade("producer", "--timeout=30s", **values)
    report = str(refused.value)
    assert "producer is not ready" in report
    assert f"kubectl logs --namespace {installed.namespace.name}" in report
    return report


def test_an_image_that_cannot_be_pulled_is_named_and_so_is_the_remedy(
    fresh: Installation,
) -> None:
    fresh.images = replace(fresh.images, registry="127.0.0.1:1/nowhere")
    report = refusal(fresh)
    assert "  producer-" in report
    assert "127.0.0.1:1/nowhere/hourglass/producer" in report
    assert "kubectl delete pods" in report


def test_a_secret_that_is_missing_is_named(fresh: Installation) -> None:
    assert 'secret "absent" not found' in refusal(fresh, **{"redis.existingSecret": "absent"})


def test_a_redis_that_is_no_cluster_is_reported_with_the_remedy(fresh: Installation) -> None:
    namespace = fresh.namespace
    namespace.create()
    container = {
        "name": "redis",
        "image": f"{fresh.images.redis_registry}/redis:8".lstrip("/"),
        "ports": [{"containerPort": 6379}],
    }
    metadata = {"name": "plain", "labels": {"app": "plain"}}
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": [container]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "plain"}, "ports": [{"port": 6379}]},
        },
    )
    namespace.kubectl("wait", "pod/plain", "--for=condition=Ready", "--timeout=180s")
    report = refusal(fresh, **{"redis.urls": "{plain:6379}", "redis.existingSecret": ""})
    logs = await_on_cluster(
        lambda: namespace.kubectl("logs", "--selector", PRODUCER, "--tail=20"), "no log"
    )
    for text in (report, logs):
        assert "cluster-enabled yes" in text
