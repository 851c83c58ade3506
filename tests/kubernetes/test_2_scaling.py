"""`kubectl scale` decides how many devices there are, and `helm upgrade` leaves that alone."""

from __future__ import annotations

import pytest

from tests.kubernetes.cluster import ClusterError, helm_major
from tests.kubernetes.installation import Installation, await_on_cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


@pytest.mark.parametrize("replicas", [3, 10, 2])
def test_the_devices_follow_the_replicas(installation: Installation, replicas: int) -> None:
    installation.scale("producer", replicas)
    await_on_cluster(
        lambda: installation.total("producer", "hourglass_producer_devices") == replicas,
        f"the metrics do not show {replicas} devices",
    )
    await_on_cluster(
        lambda: installation.status()["last_average"]["devices"] == str(replicas),
        f"no average is of {replicas} devices",
    )
    assert installation.audit()["differences"] == []


def test_an_upgrade_leaves_alone_what_was_scaled(installation: Installation) -> None:
    before = installation.uids("producer")
    installation.upgrade("producer", **{"config.lingerMs": "60"})
    assert installation.replicas("producer") == 2
    assert not before & installation.uids("producer"), "nothing was rolled out"


def test_an_upgrade_leaves_the_replicas_to_the_autoscaler_that_owns_them(
    installation: Installation,
) -> None:
    owned = {"autoscaling.enabled": "true", "autoscaling.maxReplicas": "2"}
    installation.upgrade("aggregator", **owned)
    # As an autoscaler does it: through the Deployment's scale.
    installation.scale("aggregator", 2)
    before = installation.uids("aggregator")
    installation.upgrade("aggregator", **owned, **{"config.batchEntries": "900"})
    assert installation.replicas("aggregator") == 2
    assert not before & installation.uids("aggregator"), "nothing was rolled out"


def test_an_upgrade_that_gives_a_number_sets_it(installation: Installation) -> None:
    installation.upgrade("producer", replicaCount="1")
    assert installation.replicas("producer") == 1


def test_a_number_wins_over_kubectl_scale_though_helm_4_wants_to_be_told_twice(
    installation: Installation,
) -> None:
    installation.upgrade("aggregator", replicaCount="2")
    installation.scale("aggregator", 3)
    if helm_major() >= 4:
        with pytest.raises(ClusterError, match=r"conflict with .*\.spec\.replicas"):
            installation.upgrade("aggregator", replicaCount="1")
        assert installation.replicas("aggregator") == 3
        installation.upgrade("aggregator", "--force-conflicts", replicaCount="1")
    else:
        installation.upgrade("aggregator", replicaCount="1")
    assert installation.replicas("aggregator") == 1


def test_a_number_can_be_taken_away_again(
    installation: Installation,
) -> None:
    for app in ("producer", "aggregator"):
        installation.upgrade(app)
        assert installation.replicas(app) == 1


def test_nothing_was_lost_and_nothing_doubled(installation: Installation) -> None:
    installation.settle().check()
