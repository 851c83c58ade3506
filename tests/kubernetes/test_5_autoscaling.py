"""More aggregators while a backlog grows, and one when it is gone: by the lag in Prometheus, across
midnight, and by CPU.

One aggregator is held back, by small batches and a tenth of a processor, so that a modest load is
too much for it and not for four.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import datetime, timedelta

import pytest

from tests.kubernetes.cluster import has_kind, serves
from tests.kubernetes.conftest import Story
from tests.kubernetes.installation import SPEED, Installation, await_on_cluster
from tests.kubernetes.prometheus import Prometheus

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1500)]

#: An hour each half minute, so that no partition expires before its backlog is worked off.
SLOW = 120
#: So many devices give 9,600 or 4,800 readings a second then, each an entry of its own, since
#: entries are what the lag counts; an aggregator that is held back takes some 1,000 to 1,500.
HEAVY = {"config.devices": "80", "config.packed": "off"}
LIGHTER = {"config.devices": "40", "config.packed": "off"}
#: As long as it takes aggregators that are held back to work off a backlog, on whatever machine.
PATIENTLY_S = 600.0
HELD_BACK = {
    "config.batchEntries": "5",
    # An idle one takes less than half of what an autoscaler by CPU aims at.
    "resources.requests.cpu": "100m",
    "resources.limits.cpu": "100m",
}
LAG_PER_REPLICA = 5000
BY_LAG = {
    "keda.enabled": "true",
    "keda.maxReplicas": "4",
    "keda.pollingIntervalSeconds": "5",
    "keda.prometheus.lagPerReplica": str(LAG_PER_REPLICA),
    "keda.behavior.scaleDown.stabilizationWindowSeconds": "10",
}
BY_CPU = {
    "autoscaling.enabled": "true",
    "autoscaling.maxReplicas": "4",
    "autoscaling.behavior.scaleDown.stabilizationWindowSeconds": "0",
}
MORE = 3
#: Producers, and entries that take them seconds.
TOO_MANY, BACKLOG = 3, 100_000
LAG = 'max(hourglass_aggregate_lag{namespace="NAMESPACE"})'


@pytest.fixture(scope="module", autouse=True)
def _load(monitored: Installation) -> Generator[None]:
    """Producers with many devices each, none of which runs yet."""
    monitored.scale("producer", 0)
    monitored.upgrade("producer", **HEAVY)
    yield
    monitored.scale("producer", 0)
    monitored.upgrade("aggregator")
    monitored.upgrade("producer")
    monitored.run_clock("", SPEED)
    monitored.scale("producer", 1)


@pytest.fixture(scope="module")
def by_lag(prometheus: Prometheus) -> dict[str, str]:
    if not (has_kind("scaledobjects.keda.sh") and serves("external.metrics.k8s.io")):
        pytest.skip("the cluster has no KEDA that runs")
    return {**HELD_BACK, **BY_LAG, "keda.prometheus.serverAddress": prometheus.address}


def test_a_backlog_brings_more_aggregators(
    monitored: Installation, prometheus: Prometheus, by_lag: dict[str, str], story: Story
) -> None:
    monitored.upgrade("aggregator", **by_lag)
    await_on_cluster(lambda: lag(monitored, prometheus) == 0, "Prometheus does not know the lag")
    begin_before_midnight(monitored)
    began = time.monotonic()
    await_aggregators(monitored, MORE)
    story.measure("three aggregators, by lag", time.monotonic() - began)
    await_on_cluster(lambda: len(around_midnight(monitored)) == 2, "the day does not change")


def test_an_upgrade_meanwhile_leaves_them_alone(
    monitored: Installation, by_lag: dict[str, str]
) -> None:
    before = monitored.replicas("aggregator")
    monitored.upgrade("aggregator", **by_lag, revisionHistoryLimit="2")
    deployment = monitored.namespace.get("deployment", "aggregator")["spec"]
    assert deployment["revisionHistoryLimit"] == 2
    assert deployment["replicas"] >= before >= MORE


def test_a_lag_that_nobody_knows_is_not_taken_for_none(
    monitored: Installation, prometheus: Prometheus, by_lag: dict[str, str]
) -> None:
    """An entry that is deleted before it was delivered: from then on, Redis does not know the lag
    until the group has caught up."""
    assert by_lag
    # More than all aggregators can count, so that they do not catch up before the autoscaler polls.
    monitored.scale("producer", TOO_MANY)
    await_on_cluster(lambda: (lag(monitored, prometheus) or 0) > BACKLOG, "no backlog grows")
    _, today = around_midnight(monitored)
    entry = monitored.redis("XADD", today, "*", "temp_f", "73")
    assert monitored.redis("XDEL", today, entry) == 1
    await_on_cluster(lambda: lag(monitored, prometheus) is None, "the lag stays known")
    await_on_cluster(lambda: gives_up(monitored), "the autoscaler takes no notice")
    assert monitored.replicas("aggregator") >= MORE
    monitored.scale("producer", 1)


def test_when_the_backlog_is_gone_one_aggregator_is_left(
    monitored: Installation, prometheus: Prometheus, by_lag: dict[str, str], story: Story
) -> None:
    assert by_lag
    monitored.scale("producer", 0)
    began = time.monotonic()
    await_on_cluster(lambda: lag(monitored, prometheus) == 0, "the backlog stays", PATIENTLY_S)
    assert len(around_midnight(monitored)) == 2, "the older day has expired"
    story.measure("backlog worked off", time.monotonic() - began)
    await_aggregators(monitored, 1)
    story.measure("one aggregator, by lag", time.monotonic() - began)


def test_by_cpu_it_is_the_same(monitored: Installation, story: Story) -> None:
    if not serves("metrics.k8s.io"):
        pytest.skip("the cluster has no metrics-server that runs")
    monitored.upgrade("producer", **LIGHTER)
    monitored.upgrade("aggregator", **HELD_BACK, **BY_CPU)
    began = time.monotonic()
    begin_before_midnight(monitored)
    await_aggregators(monitored, MORE)
    story.measure("three aggregators, by CPU", time.monotonic() - began)
    monitored.scale("producer", 0)
    began = time.monotonic()
    await_aggregators(monitored, 1)
    story.measure("one aggregator, by CPU", time.monotonic() - began)


def test_nothing_was_doubled_and_only_the_deleted_entry_was_lost(monitored: Installation) -> None:
    settled = monitored.settle()
    settled.check(differences=1)
    (lost,) = settled.audit["differences"]
    assert lost["what"].endswith(" 1 entries that had not been counted")


def begin_before_midnight(installation: Installation) -> None:
    """Let the clock leap past a day without readings while there are no producers, and call one."""
    now = datetime.fromisoformat(installation.status()["clock"]["now"])
    installation.run_clock(f"{now + timedelta(days=2):%Y-%m-%d}T23:20:00Z", SLOW)
    installation.scale("producer", 1)


def around_midnight(installation: Installation) -> list[str]:
    """The partitions of yesterday and today that hold readings."""
    status = installation.status()
    now = datetime.fromisoformat(status["clock"]["now"])
    days = {f"temps:{day:%Y%m%d}" for day in (now - timedelta(days=1), now)}
    return sorted(days & {each["stream"] for each in status["partitions"] if each["length"]})


def await_aggregators(installation: Installation, count: int) -> None:
    """Until there are `count` of them, or more where `count` is more than one; all ready."""

    def there() -> bool:
        replicas = installation.replicas("aggregator")
        wanted = replicas >= count if count > 1 else replicas == 1
        return wanted and len(installation.namespace.ready_pods("aggregator")) == replicas

    await_on_cluster(there, f"not {count} aggregators", PATIENTLY_S)


def lag(installation: Installation, prometheus: Prometheus) -> float | None:
    """None while Prometheus does not know it."""
    series = prometheus.query(LAG.replace("NAMESPACE", installation.namespace.name))
    return series[0].value if series else None


def gives_up(installation: Installation) -> bool:
    """Whether the autoscaler reports that it has no metric."""
    hpa = installation.namespace.get("hpa", "keda-hpa-aggregator-lag")
    scaled = installation.namespace.get("scaledobjects.keda.sh", "aggregator-lag")
    conditions = {
        (each["type"], each["status"])
        for manifest in (hpa, scaled)
        for each in manifest["status"].get("conditions", [])
    }
    return bool(conditions & {("ScalingActive", "False"), ("Fallback", "True")})
