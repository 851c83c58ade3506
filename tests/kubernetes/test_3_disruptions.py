"""Pods come and go under load, and every hour is published once, of every reading."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress

import pytest

from tests.kubernetes.cluster import Refused
from tests.kubernetes.installation import SERVICES, Installation, await_on_cluster, each_hour

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

#: So that what a killed pod held is claimed, and what is left of it removed, within seconds.
QUICK = {"config.claimIdleMs": "3000"}
AGGREGATORS = 3


@pytest.fixture(scope="module", autouse=True)
def first_hour(installation: Installation) -> Generator[str]:
    """The first hour after what happened before; from then on two devices give readings."""
    installation.scale("producer", 2)
    installation.await_averages(1)
    yield installation.hours()[-1]
    installation.scale("aggregator", 1)
    installation.scale("producer", 1)


def test_each_service_is_upgraded_pod_by_pod(installation: Installation) -> None:
    installation.scale("aggregator", AGGREGATORS)
    before = installation.uids(*SERVICES)
    installation.upgrade("producer", **{"config.lingerMs": "40"})
    installation.upgrade("aggregator", **QUICK)
    installation.upgrade("averages-consumer", **QUICK)
    assert not before & installation.uids(*SERVICES), "not everything was rolled out"
    assert len(installation.namespace.ready_pods("aggregator")) == AGGREGATORS
    installation.await_averages(1)


@pytest.mark.parametrize("at_once", [False, True], ids=["grace", "no-grace"])
def test_an_aggregator_is_deleted(installation: Installation, *, at_once: bool) -> None:
    victim = installation.namespace.ready_pods("aggregator")[0]
    installation.namespace.delete_pods(victim, at_once=at_once)
    installation.namespace.rolled_out("deployment/aggregator")
    installation.await_averages(1)


def test_all_aggregators_are_deleted_at_once(installation: Installation) -> None:
    selector = "app.kubernetes.io/name=aggregator"
    installation.namespace.delete_pods("--selector", selector, at_once=True)
    installation.namespace.rolled_out("deployment/aggregator")
    installation.await_averages(1)


def test_a_drain_evicts_no_more_than_the_budget_allows(installation: Installation) -> None:
    namespace = installation.namespace
    first, second, third = namespace.ready_pods("aggregator")
    namespace.evict(first)
    with pytest.raises(Refused, match="disruption budget"):
        namespace.evict(second)
    # A drain tries again until it may.
    for each in (second, third):
        await_on_cluster(lambda each=each: evicted(installation, each), f"{each} is never evicted")
    namespace.rolled_out("deployment/aggregator")
    assert not {first, second, third} & set(namespace.ready_pods("aggregator"))


def test_consumers_of_pods_that_left_are_removed(installation: Installation) -> None:
    def strangers() -> list[str]:
        here = tuple(
            f"{pod}-" for app in ("aggregator", "averages-consumer")
            for pod in installation.namespace.ready_pods(app)
        )  # fmt: skip
        return [
            name
            for names in installation.consumers().values()
            for name in names
            if not name.startswith(here)
        ]

    await_on_cluster(lambda: not strangers(), "a consumer without a pod stays")


def test_every_hour_was_published_once_and_loaded_once(
    installation: Installation, first_hour: str
) -> None:
    installation.await_averages(1)
    hours = installation.hours(since=first_hour)
    assert hours == each_hour(first_hour, hours[-1])
    published = {
        each["hour_start"]: [int(each["num_observations"]), round(float(each["sum_temp_f"]) * 1000)]
        for each in installation.averages()
    }
    await_on_cluster(
        lambda: published.items() <= installation.rows().items(), "the warehouse has other rows"
    )


def test_nothing_was_lost_and_nothing_doubled(installation: Installation) -> None:
    installation.settle().check()


def evicted(installation: Installation, pod: str) -> bool:
    with suppress(Refused):
        installation.namespace.evict(pod)
        return True
    return False
