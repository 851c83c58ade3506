"""Redis is unreachable and recovers; the pods of the services are not touched.

What may be lost? A deleted pod gets SIGTERM, and Redis on SIGTERM writes its
append-only file out and syncs it: nothing. Nor is anything by a kill: what was answered has been
written. (`redis-cluster-dev` appends with `appendfsync everysec`, so that a node that loses power
takes the last second or two with it: of a whole shard, so of readings and of what counted them
alike.) What is given meanwhile waits in the producers'
buffers. It comes late for an hour that was due by then, and is recorded as late; an hour that got
nothing else is not published.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.kubernetes.cluster import Refused
from tests.kubernetes.installation import (
    SERVICES,
    Installation,
    await_on_cluster,
    each_hour,
)

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

REDIS = "redis-cluster-dev"


@pytest.fixture(scope="module", autouse=True)
def first_hour(installation: Installation) -> Generator[str]:
    """The first hour after what happened before; from then on three devices give readings."""
    installation.scale("producer", 3)
    installation.scale("aggregator", 2)
    installation.await_averages(1)
    yield installation.hours()[-1]
    installation.scale("aggregator", 1)
    installation.scale("producer", 1)


@pytest.fixture
def untouched(installation: Installation) -> Generator[None]:
    """The services' pods are the same afterwards, and none of their containers was restarted."""
    before = installation.uids(*SERVICES)
    yield
    assert installation.uids(*SERVICES) == before


@pytest.mark.usefixtures("untouched")
def test_a_drain_takes_the_shard_of_today_and_no_second_one(installation: Installation) -> None:
    namespace = installation.namespace
    first = installation.pod_of_today()
    before = installation.uids(REDIS)
    second, third = set(namespace.ready_pods(REDIS)) - {first}
    with namespace.held(first, second):
        namespace.evict(first)
        with pytest.raises(Refused, match="disruption budget"):
            namespace.evict(second)
        # A drain tries again, and by then the shard that is away is known to be.
        await_on_cluster(
            lambda: "cluster_slots_fail:0" not in sees(installation, third), "no server detects it"
        )
        assert "cluster_state:ok" in sees(installation, third), "what is there does not go on"
        with pytest.raises(Refused, match="disruption budget"):
            namespace.evict(second)
        # Without a majority the last one is no longer ready, and is not let go for that.
        namespace.kubectl("delete", "pod", second, "--wait=false")
        await_on_cluster(lambda: not namespace.ready_pods(REDIS), "the last one stays ready")
        with pytest.raises(Refused, match="disruption budget"):
            namespace.evict(third)
    come_back(installation)
    assert len(before - installation.uids(REDIS)) == 2


@pytest.mark.usefixtures("untouched")
def test_the_shard_of_today_is_deleted_by_force(installation: Installation) -> None:
    before = installation.uids(REDIS)
    first = installation.pod_of_today()
    installation.namespace.delete_pods(first, at_once=True)
    come_back(installation)
    assert len(before - installation.uids(REDIS)) == 1


@pytest.mark.usefixtures("untouched")
def test_all_shards_are_deleted_at_once(installation: Installation) -> None:
    before = installation.uids(REDIS)
    selector = f"app.kubernetes.io/name={REDIS}"
    installation.namespace.delete_pods("--selector", selector)
    come_back(installation)
    assert not before & installation.uids(REDIS)


def test_hours_that_were_not_published_came_late(
    installation: Installation, first_hour: str
) -> None:
    hours = installation.hours(since=first_hour)
    audit = installation.audit()
    missing = set(each_hour(first_hour, hours[-1])) - set(hours)
    assert audit["differences"] == []
    assert missing <= audit["late_by_hour"].keys()
    assert installation.total("aggregator", "hourglass_averages_revised_total") == 0


def test_nothing_was_lost_and_nothing_doubled(installation: Installation) -> None:
    installation.settle().check()


def sees(installation: Installation, pod: str) -> str:
    """A server's view of the cluster."""
    return installation.namespace.exec(pod, "sh", "-c", "redis-cli $REDIS_FLAGS CLUSTER INFO")


def come_back(installation: Installation) -> None:
    """Until averages are published again, of every device, and each service is ready."""
    installation.namespace.rolled_out(f"statefulset/{REDIS}")
    installation.await_averages(1)
    await_on_cluster(
        lambda: installation.status()["last_average"]["devices"] == "3", "devices stay away"
    )
    for app in SERVICES:
        replicas = installation.replicas(app)
        await_on_cluster(
            lambda app=app, replicas=replicas: (
                len(installation.namespace.ready_pods(app)) == replicas
            ),
            f"{app} does not get ready again",
        )
