"""When `redis-cluster-dev` calls a pod ready: its script, asked about servers that are no pods."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster import EmbeddedCluster, Node
from tests.support.waiting import wait_until

SCRIPT = Path(__file__).parents[2] / "charts" / "redis-cluster-dev" / "files" / "ready.sh"

pytestmark = pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli on PATH")


def is_ready(node: Node) -> bool:
    flags = {"REDIS_FLAGS": f"-p {node.port}"}
    asked = subprocess.run(["sh", SCRIPT], env={**os.environ, **flags}, check=False)
    return asked.returncode == 0


def test_a_server_is_ready_while_most_masters_are_there_and_each_slot_has_one(
    embedded: EmbeddedCluster,
) -> None:
    first, second, third = embedded.nodes
    assert all(is_ready(node) for node in embedded.nodes)

    first.kill()
    wait_until(lambda: sees(third, "cluster_slots_fail:5461"), message="nobody notices")
    assert not is_ready(first)
    assert is_ready(third)

    said(third, "CLUSTER", "DELSLOTS", "0")
    assert not is_ready(third), "a slot without a master was not missed"
    said(third, "CLUSTER", "ADDSLOTS", "0")
    wait_until(lambda: is_ready(third))

    second.kill()
    wait_until(lambda: not is_ready(third), message="the last one stays ready")


def sees(node: Node, line: str) -> bool:
    return line in said(node, "CLUSTER", "INFO").splitlines()


def said(node: Node, *command: str) -> str:
    asked = ["redis-cli", "-p", str(node.port), *command]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout
