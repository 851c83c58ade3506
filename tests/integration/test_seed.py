"""What a node of the cluster says of it is looked at before it is used, and each thing that cannot
work is one line with the remedy."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from hourglass.cluster.client import Cluster
from hourglass.cluster.connect import connect
from hourglass.errors import HourglassError, Unreachable, UnsupportedServer
from hourglass.service.config import RedisSettings
from hourglassctl.local import bootstrap
from tests.support.cluster import EmbeddedCluster
from tests.support.keyspace import KEYS
from tests.support.plain_redis import plain_redis
from tests.support.waiting import wait_until


def reach(address: str) -> Cluster:
    return connect(f"redis://{address}", keyspace=KEYS)


def refusal(address: str, kind: type[HourglassError]) -> str:
    with pytest.raises(kind) as refused:
        reach(address).close()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@contextmanager
def node(address: str) -> Generator[Any]:
    with bootstrap.client(int(address.rpartition(":")[2])) as client:
        yield client


def test_a_cluster_without_slots_or_with_some_says_how_many_and_how_to_give_them(
    tmp_path: Path,
) -> None:
    with plain_redis(tmp_path, "--cluster-enabled", "yes") as address, node(address) as client:
        message = refusal(address, Unreachable)
        assert f"{address} is in a cluster that serves 0 of 16384 slots" in message
        assert f"redis-cli --cluster create {address}" in message
        assert "CLUSTER ADDSLOTSRANGE 0 16383" in message

        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 100)
        message = refusal(address, Unreachable)
        assert "serves 101 of 16384 slots" in message
        assert f"redis-cli --cluster fix {address}" in message

        client.execute_command("CLUSTER ADDSLOTSRANGE", 101, 16383)  # the remedy
        wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        with closing(reach(address)) as cluster:
            cluster.clock()


@pytest.mark.embedded(masters=1)
def test_a_cluster_that_announces_no_usable_address_says_what_to_set(
    embedded: EmbeddedCluster,
) -> None:
    address = f"127.0.0.1:{embedded.ports[0]}"
    with node(address) as client:
        client.config_set("cluster-preferred-endpoint-type", "unknown-endpoint")
        message = refusal(address, UnsupportedServer)
        assert "set cluster-preferred-endpoint-type ip" in message

        client.config_set("cluster-preferred-endpoint-type", "hostname")
        assert "set cluster-announce-hostname" in refusal(address, UnsupportedServer)

        client.config_set("cluster-announce-hostname", "no-host.invalid")
        message = refusal(address, Unreachable)
        assert f"{address} answers, but announces its cluster at no-host.invalid:" in message
        assert "cluster-announce-hostname" in message


@pytest.mark.embedded(masters=2)
def test_several_shards_without_addresses_say_what_to_set(embedded: EmbeddedCluster) -> None:
    addresses = [f"127.0.0.1:{port}" for port in embedded.ports]
    for address in addresses:
        with node(address) as client:
            client.config_set("cluster-preferred-endpoint-type", "unknown-endpoint")

    message = refusal(",".join(addresses), UnsupportedServer)
    assert "set cluster-preferred-endpoint-type ip" in message


@pytest.mark.embedded(masters=1)
def test_an_address_that_is_announced_and_cannot_be_reached_is_named(
    embedded: EmbeddedCluster,
) -> None:
    address = f"127.0.0.1:{embedded.ports[0]}"
    with node(address) as client:
        client.config_set("cluster-announce-ip", "127.0.0.1")
        client.config_set("cluster-announce-port", 1)

        message = refusal(address, Unreachable)
    assert f"{address} answers, but announces its cluster at 127.0.0.1:1" in message
    assert "cluster-announce-ip" in message


@pytest.mark.embedded(masters=1)
def test_a_seed_that_leads_nowhere_gives_way_to_the_next(
    embedded: EmbeddedCluster, tmp_path: Path
) -> None:
    with (
        plain_redis(tmp_path, "--cluster-enabled", "yes") as empty,
        closing(reach(f"{empty},127.0.0.1:{embedded.ports[0]}")) as cluster,
    ):
        cluster.clock()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_cluster_on_an_ipv6_address_is_reached(tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes", "--bind", "127.0.0.1", "::1")
    with plain_redis(tmp_path, *options) as address, node(address) as client:
        client.config_set("cluster-announce-ip", "::1")
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        with closing(reach(f"[::1]:{address.rpartition(':')[2]}")) as cluster:
            cluster.clock()
            with closing(cluster.link("key")) as link:
                assert link.call("PING") == b"PONG"


class OtherProtocol(socketserver.StreamRequestHandler):
    """Says first what a client of it expects, and ends the conversation."""

    first = b""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(self.first)


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        b"SSH-2.0-OpenSSH_10.0\r\n",
        b"+OK POP3 ready\r\n" * 2,
    ],
)
def test_a_port_that_is_not_redis_is_named(first: bytes) -> None:
    handler = type("Handler", (OtherProtocol,), {"first": first})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        assert f"the server at {address} is not Redis" in refusal(address, UnsupportedServer)
        server.shutdown()


def test_a_sentinel_is_named(tmp_path: Path) -> None:
    configuration = tmp_path / "sentinel.conf"
    configuration.touch()
    with plain_redis(tmp_path, str(configuration), "--sentinel") as address:
        assert f"{address} is a Sentinel" in refusal(address, UnsupportedServer)


def test_refused_credentials_are_looked_for_where_they_came_from(tmp_path: Path) -> None:
    given = tmp_path / "password"
    given.write_text("wrong-secret")
    with plain_redis(tmp_path, "--requirepass", "right") as address:
        for settings, source in (
            (RedisSettings(redis_url=f"redis://:wrong-secret@{address}"), "HOURGLASS_REDIS_URL"),
            (
                RedisSettings(redis_url=f"redis://{address}", redis_password="wrong-secret"),
                "HOURGLASS_REDIS_PASSWORD",
            ),
            (
                RedisSettings(redis_url=f"redis://{address}", redis_password_file=str(given)),
                str(given),
            ),
        ):
            with pytest.raises(UnsupportedServer, match=f"user name and password in .*{source}$"):
                settings.connect()
