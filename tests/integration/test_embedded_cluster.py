"""The embedded cluster is a real one, can be hurt, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import redis as redis_py
from redis.cluster import RedisCluster

from hourglassctl.local import bootstrap
from hourglassctl.local.bootstrap import HOST, ClusterNotFormed
from hourglassctl.local.processes import ProcessGroup
from tests.support.cluster import EmbeddedCluster
from tests.support.waiting import PATIENCE_S, wait_until


def connect(cluster: EmbeddedCluster) -> Any:
    return RedisCluster(host=HOST, port=cluster.ports[0], protocol=2)


def answers(port: int) -> bool:
    try:
        with bootstrap.client(port) as client:
            return bool(client.ping())
    except redis_py.RedisError:
        return False


def test_keys_land_on_every_master(embedded: EmbeddedCluster) -> None:
    with connect(embedded) as client:
        for number in range(100):
            client.set(f"key {number}", number)
        sizes = client.dbsize(target_nodes=RedisCluster.PRIMARIES)
        owner = client.get_node_from_key("key 1").port

    assert embedded.url == "redis://" + ",".join(f"127.0.0.1:{port}" for port in embedded.ports)
    assert sizes == 100
    assert embedded.node_at(owner).alive
    for node in embedded.nodes:
        with bootstrap.client(node.port) as shard:
            assert shard.dbsize() > 10


def test_stop_leaves_no_process_and_no_file() -> None:
    cluster = EmbeddedCluster().start()
    nodes = cluster.nodes
    group = os.getpgid(nodes[0].pid)
    nodes[1].pause()

    cluster.stop()
    cluster.stop()

    assert not any(node.alive for node in nodes)
    assert not nodes[0].log.parent.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


OWNER = """
import time
from hourglassctl.local.embedded import EmbeddedCluster
cluster = EmbeddedCluster().start()
print(*cluster.ports, cluster.nodes[0].log, flush=True)
time.sleep(60)
"""


def test_a_killed_owner_takes_servers_and_files_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        *ports, log = owner.stdout.readline().decode().split()
        assert all(answers(int(port)) for port in ports)
        owner.kill()

    wait_until(
        lambda: not any(answers(int(port)) for port in ports), message="a server still answers"
    )
    wait_until(lambda: not Path(log).parent.parent.exists(), message="its files are still there")


def test_a_process_group_that_is_ended_ends_its_members() -> None:
    with ProcessGroup("hourglass-test-") as guard:
        child = subprocess.Popen(["sleep", "1000"], process_group=guard.group)
        (guard.directory / "file").touch()

        os.kill(guard.group, signal.SIGTERM)

        assert child.wait(PATIENCE_S) == -signal.SIGKILL
        wait_until(lambda: not guard.directory.exists(), message="its files are left behind")


def test_a_port_that_another_process_took_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port: int = taken.getsockname()[1]
        draws = iter([[(port, port + 1)], bootstrap.free_ports(1)])

        def draw(_size: int) -> list[tuple[int, int]]:
            return next(draws)

        monkeypatch.setattr(bootstrap, "free_ports", draw)

        with EmbeddedCluster(masters=1) as cluster:
            assert cluster.ports != [port]


def test_an_option_that_redis_refuses_is_reported_with_redis_message() -> None:
    with pytest.raises(ClusterNotFormed, match=r"(?s)port \d+: .*no-such-option"):
        EmbeddedCluster(masters=1, options={"no-such-option": "1"}).start()


@pytest.mark.embedded(masters=1, options={"maxmemory": "32mb", "save": ""})
def test_options_reach_the_server(embedded: EmbeddedCluster) -> None:
    with bootstrap.client(embedded.ports[0]) as client:
        assert cast(Any, client).config_get("maxmemory") == {"maxmemory": str(32 << 20)}


@pytest.mark.embedded(masters=1)
def test_a_paused_node_is_silent_until_it_resumes(embedded: EmbeddedCluster) -> None:
    (node,) = embedded.nodes
    node.pause()
    with bootstrap.client(node.port, timeout_s=0.2) as client:
        with pytest.raises(redis_py.TimeoutError):
            client.ping()
        assert node.alive

        node.resume()
        assert answers(node.port)


@pytest.mark.embedded(masters=1, persistence=True)
def test_a_restarted_node_with_persistence_has_its_keys_again(embedded: EmbeddedCluster) -> None:
    (node,) = embedded.nodes
    with connect(embedded) as client:
        client.set("kept", 1)
    before = node.pid

    node.kill()
    assert not answers(node.port)
    node.restart()

    assert node.pid != before
    with bootstrap.client(node.port) as client:
        wait_until(lambda: state(client) == "ok", message="the node never serves again")
        assert client.get("kept") == b"1"


@pytest.mark.embedded(replicas=1, node_timeout_ms=500)
def test_a_replica_takes_over_from_a_killed_master(embedded: EmbeddedCluster) -> None:
    with connect(embedded) as client:
        client.set("kept", 1)
        assert client.wait(1, 5000, target_nodes=client.get_node_from_key("kept")) == 1
        lost = client.get_node_from_key("kept").port

        embedded.node_at(lost).kill()

        def served() -> bool:
            try:
                return client.get("kept") == b"1"
            except redis_py.RedisError:
                return False

        wait_until(served, message="no replica took over")
        assert client.get_node_from_key("kept").port != lost


@pytest.mark.embedded(replicas=1, persistence=True)
def test_all_nodes_restarted_at_once_have_their_keys_and_replicas_again(
    embedded: EmbeddedCluster,
) -> None:
    with connect(embedded) as client:
        for number in range(100):
            client.set(f"key {number}", number)
        # Whichever of two comes up first may be the master from then on.
        client.execute_command("WAIT", 1, 10_000, target_nodes=RedisCluster.PRIMARIES)
    before = [node.pid for node in embedded.nodes]

    embedded.restart()

    assert not set(before) & {node.pid for node in embedded.nodes}
    with connect(embedded) as client:
        assert [client.get(f"key {number}") for number in range(100)] == [
            str(number).encode() for number in range(100)
        ]
    assert [len(embedded.replicas_of(node)) for node in embedded.nodes] == [1, 1, 1, 0, 0, 0]


@pytest.mark.embedded(replicas=1)
def test_a_slot_moves_while_it_is_in_use(embedded: EmbeddedCluster) -> None:
    with connect(embedded) as client, ThreadPoolExecutor() as threads:
        client.set("moved", 0)
        source = embedded.master_of("moved")
        target = next(node for node in embedded.nodes[:3] if node is not source)
        at_once = threads.submit(lambda: [client.incr("moved") for _ in range(2000)])
        wait_until(lambda: int(client.get("moved")) > 100)

        embedded.move_slot("moved", target)

        assert embedded.master_of("moved") is target
        assert at_once.result()[-1] == 2000
        assert client.get_node_from_key("moved").port == target.port


def test_a_shard_that_fails_leaves_the_others_serving_and_the_cluster_not_whole(
    embedded: EmbeddedCluster,
) -> None:
    failed, *others = embedded.nodes
    failed.kill()
    with bootstrap.client(others[0].port) as client:
        info = cast(Any, client).execute_command
        wait_until(lambda: info("CLUSTER INFO")["cluster_slots_fail"] != "0")
        assert state(client) == "ok"
    with pytest.raises(ClusterNotFormed):
        bootstrap.await_whole([each.member for each in others], until=time.monotonic() + 0.1)


def test_no_port_is_one_that_an_outgoing_connection_may_get() -> None:
    # Linux begins there with them, other systems later.
    assert max(port for pair in bootstrap.free_ports(100) for port in pair) < 32_768


def state(client: redis_py.Redis) -> str:
    return cast(Any, client).execute_command("CLUSTER INFO")["cluster_state"]
