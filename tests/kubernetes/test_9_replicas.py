"""A replica for each master, nothing on disks, certificates that the chart makes; installed by the
oldest Helm there is. A master that is killed is succeeded, and nothing is lost."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.charts.helm import helms
from tests.kubernetes.conftest import Story
from tests.kubernetes.installation import (
    OPERATOR,
    SERVICES,
    WORKLOADS,
    Images,
    Installation,
    await_on_cluster,
)
from tests.kubernetes.nodes import nodes

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

REDIS = "redis-cluster-dev"
PODS = 6
REPLICATED = {
    "replicasPerShard": "1",
    "persistence.enabled": "false",
    "tls.enabled": "true",
}
TLS = f"{REDIS}-tls"
SERVICE = {"redis.tls.enabled": "true", "redis.tls.existingSecret": TLS}


@pytest.fixture(scope="module")
def replicated(images: Images, base_namespace: str, story: Story) -> Generator[Installation]:
    found = helms()
    oldest = str(found[-1].binary) if found else "helm"
    with story.namespace(f"{base_namespace}-replicated", oldest) as namespace:
        installed = Installation(namespace, images)
        installed.upgrade(REDIS, **REPLICATED)
        for chart in SERVICES[1:]:
            installed.upgrade(chart, **SERVICE)
        installed.install_operator(like="aggregator")
        installed.run_clock()
        installed.upgrade("producer", **SERVICE)
        yield installed


def test_averages_are_published(replicated: Installation) -> None:
    assert len(replicated.namespace.ready_pods(REDIS)) == PODS
    replicated.await_averages(1)


def test_a_master_and_its_replica_are_on_two_nodes(replicated: Installation) -> None:
    check_apart(replicated)


@pytest.mark.parametrize("release", WORKLOADS)
def test_each_release_is_upgraded_and_passes_its_own_test(
    replicated: Installation, release: str
) -> None:
    def made_up() -> list[str]:
        """The passwords and the certificates, which an upgrade must keep."""
        return [replicated.namespace.get("secret", name)["data"] for name in (REDIS, TLS)]

    before = made_up()
    replicated.upgrade(release, **(REPLICATED if release == REDIS else SERVICE))
    assert made_up() == before
    assert "Succeeded" in replicated.namespace.helm("test", release, "--timeout", "3m")


def test_a_replica_succeeds_a_master_that_is_killed(replicated: Installation) -> None:
    namespace = replicated.namespace
    replicated.scale("producer", 0)
    await_on_cluster(replicated.is_counted, "not everything is counted")
    counted = replicated.audit()["counted"]
    killed = replicated.pod_of_today()
    namespace.delete_pods(killed, at_once=True)
    replication = ("sh", "-c", "redis-cli $REDIS_FLAGS INFO replication")
    await_on_cluster(
        lambda: "role:slave" in namespace.exec(killed, *replication),
        "it does not come back as a replica",
    )
    await_on_cluster(lambda: len(namespace.ready_pods(REDIS)) == PODS, "it is not in step")
    found = replicated.audit()
    assert (found["differences"], found["counted"]) == ([], counted)
    replicated.scale("producer", 1)
    replicated.await_averages(1)


def test_all_pods_at_once_take_the_data_with_them_and_form_the_cluster_anew(
    replicated: Installation,
) -> None:
    namespace = replicated.namespace
    replicated.scale("producer", 0)
    before = replicated.uids(REDIS)
    namespace.delete_pods("--selector", f"app.kubernetes.io/name={REDIS}")
    await_on_cluster(lambda: len(namespace.ready_pods(REDIS)) == PODS, "they do not come back")
    assert not before & replicated.uids(REDIS)
    check_apart(replicated)
    assert "Succeeded" in namespace.helm("test", REDIS, "--timeout", "3m")
    replicated.run_clock()
    replicated.scale("producer", 1)
    replicated.await_averages(1)


def check_apart(replicated: Installation) -> None:
    """Where two nodes take pods, each shard has a pod on each of them."""
    shards: dict[str, set[str]] = {}
    for pod in replicated.namespace.pods(REDIS):
        shard = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        shards.setdefault(shard, set()).add(pod["spec"]["nodeName"])
    assert len(shards) == 3
    assert {len(found) for found in shards.values()} == {min(2, len(nodes()))}


def test_nothing_is_left_when_it_is_uninstalled(replicated: Installation) -> None:
    replicated.namespace.kubectl("delete", "pod", OPERATOR)
    replicated.make("down")
    assert not replicated.namespace.exists
