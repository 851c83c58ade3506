"""The nodes of the cluster: which pods run where, what a drain moves, what a power loss stops."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

import pytest

from tests.kubernetes.cluster import ClusterError, Namespace, is_ready, kubectl, run
from tests.support.waiting import wait_until

#: A node counts as lost some 40 s after its last heartbeat.
NOTICED_S = 240.0
#: A node may have to fetch its images again.
RESTORED_S = 900.0
#: The charts' value for `helm --set`.
NODE_SELECTOR = "nodeSelector.kubernetes\\.io/hostname"


def nodes() -> Sequence[str]:
    """The nodes that are ready and take pods."""
    listed = json.loads(kubectl("get", "nodes", "--output", "json"))["items"]
    return [
        node["metadata"]["name"]
        for node in listed
        if is_ready(node) and not node["spec"].get("unschedulable")
    ]


def node_of(namespace: Namespace, app: str) -> dict[str, str]:
    """The node of each ready pod of a chart's workload, by the pod's name."""
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in namespace.pods(app)
        if is_ready(pod)
    }


@contextmanager
def drained(node: str) -> Generator[None]:
    """A node without pods of Hourglass, which takes none until the end."""
    try:
        kubectl(
            "drain", node, "--pod-selector=app.kubernetes.io/part-of=hourglass",
            "--delete-emptydir-data", "--force", "--ignore-daemonsets", "--timeout=300s",
        )  # fmt: skip
        yield
    finally:
        kubectl("uncordon", node)


@contextmanager
def without_power(node: str) -> Generator[None]:
    """A node that LOSE_NODE powers off; RESTORE_NODE brings it back in the end. Skips without
    these commands."""
    commands = os.environ.get("LOSE_NODE"), os.environ.get("RESTORE_NODE")
    if not all(commands):
        pytest.skip("no command powers a node off: LOSE_NODE and RESTORE_NODE are not set")
    lose, restore = (shlex.split(command or "") for command in commands)
    try:
        # Whether it worked is seen by the node alone.
        with suppress(ClusterError):
            run(*lose)
        wait_until(lambda: node not in nodes(), NOTICED_S, f"{node} still counts as ready")
        yield
    finally:
        run(*restore, within_s=RESTORED_S)
        wait_until(lambda: node in nodes(), NOTICED_S, f"{node} does not come back")
