"""While a cluster forms anew, its nodes answer and none of them holds slots."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from hourglass.cluster.client import Cluster
from hourglass.cluster.connect import connect
from hourglass.cluster.scripts import Script
from hourglass.errors import Unreachable
from hourglassctl.local import bootstrap
from tests.support.cluster import EmbeddedCluster
from tests.support.keyspace import KEYS

SCRIPT = Script.load("aggregator", "open")
ASKED: list[Callable[[Cluster], object]] = [
    lambda cluster: cluster.call("GET", "key"),
    lambda cluster: cluster.pipeline([("GET", "key"), ("GET", "other")]),
    lambda cluster: cluster.run(SCRIPT, ["key"], []),
    lambda cluster: cluster.clock(),
    lambda cluster: cluster.refresh_topology(),
    lambda cluster: cluster.link("key"),
    lambda cluster: cluster.keys("*"),
]


@pytest.mark.embedded(masters=1)
@pytest.mark.parametrize(
    "ask", ASKED, ids=["call", "pipeline", "run", "clock", "topology", "link", "keys"]
)
def test_a_cluster_without_masters_is_unreachable_for_every_command(
    embedded: EmbeddedCluster, ask: Callable[[Cluster], object]
) -> None:
    with closing(connect(embedded.url, keyspace=KEYS)) as cluster:
        with bootstrap.client(embedded.ports[0]) as node:
            node.execute_command("CLUSTER FLUSHSLOTS")
        for _ in range(2):  # the second time nothing is known of any master any more
            try:
                ask(cluster)
            except Unreachable:
                continue
        with pytest.raises(Unreachable):
            cluster.call("GET", "key")
