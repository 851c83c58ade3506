"""Two nodes: pods are spread over them; a drain and a power loss move the work to the other."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.kubernetes.conftest import Story
from tests.kubernetes.installation import (
    SERVICES,
    START,
    WORKLOADS,
    Images,
    Installation,
    await_on_cluster,
    each_hour,
)
from tests.kubernetes.nodes import NODE_SELECTOR, drained, node_of, nodes, without_power

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]

REPLICATED = ("producer", "aggregator")
#: A pod leaves a lost node after this many seconds, in place of Kubernetes' five minutes.
LEAVES_AFTER_S = 5


@pytest.fixture(scope="module")
def pair(images: Images) -> tuple[str, str]:  # noqa: ARG001 - nothing runs without images
    """The node that stays and the one that goes."""
    found = sorted(nodes())
    if len(found) < 2:
        pytest.skip(f"the cluster has one node: {found[0]}")
    return found[0], found[-1]


@pytest.fixture(scope="module")
def spread(
    images: Images, base_namespace: str, story: Story, pair: tuple[str, str]
) -> Generator[Installation]:
    """Redis on the node that stays, two producers and two aggregators on both."""
    moves = {
        f"tolerations[{index}].{key}": value
        for index, condition in enumerate(("not-ready", "unreachable"))
        for key, value in {
            "key": f"node.kubernetes.io/{condition}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": str(LEAVES_AFTER_S),
        }.items()
    }
    with story.namespace(f"{base_namespace}-nodes") as namespace:
        workloads = WORKLOADS | {"producer": "deployment/producer"}
        installed = Installation(namespace, images, workloads=workloads)
        installed.upgrade("redis-cluster-dev", **{NODE_SELECTOR: pair[0]})
        installed.install_operator(on=pair[0])
        installed.run_clock()
        for chart in SERVICES:
            own = {"kind": "Deployment"} if chart == "producer" else {}
            if chart in REPLICATED:
                own["replicaCount"] = "2"
            installed.upgrade(chart, **moves, **own)
        installed.await_averages(1)
        yield installed


def check(installed: Installation) -> None:
    """Every reading that Redis took is counted once and in time, and no hour is missing."""
    await_on_cluster(installed.is_counted, "not everything is counted")
    found = installed.audit()
    assert (found["differences"], found["late"], found["quarantined"]) == ([], 0, 0)
    hours = installed.hours(START)
    assert hours == each_hour(hours[0], hours[-1])


@pytest.mark.parametrize("app", REPLICATED)
def test_replicas_are_spread_over_the_nodes(
    spread: Installation, pair: tuple[str, str], app: str
) -> None:
    assert sorted(node_of(spread.namespace, app).values()) == sorted(pair)


def test_a_drained_node_leaves_its_work_to_the_other(
    spread: Installation, pair: tuple[str, str], story: Story
) -> None:
    stays, goes = pair
    with drained(goes), story.measured_as("everything ready after a drained node"):
        for app in SERVICES:
            spread.namespace.rolled_out(spread.workloads[app])
            assert {*node_of(spread.namespace, app).values()} == {stays}
        spread.await_averages(1)
    check(spread)


@pytest.mark.parametrize("app", REPLICATED)
def test_a_rollout_spreads_the_replicas_again(
    spread: Installation, pair: tuple[str, str], app: str
) -> None:
    """Pods that are replaced do not count."""
    spread.namespace.kubectl("rollout", "restart", spread.workloads[app])
    spread.namespace.rolled_out(spread.workloads[app])
    assert sorted(node_of(spread.namespace, app).values()) == sorted(pair)


def test_averages_go_on_after_a_node_loses_power(
    spread: Installation, pair: tuple[str, str], story: Story
) -> None:
    stays, goes = pair
    with without_power(goes), story.measured_as("everything ready after a lost node is noticed"):
        spread.await_averages(1)

        def moved() -> bool:
            return all(
                [*node_of(spread.namespace, app).values()] == [stays] * 2 for app in REPLICATED
            )

        await_on_cluster(moved, f"the pods of {goes} have no replacement on {stays}")
    spread.await_averages(1)
    check(spread)
