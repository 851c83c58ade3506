"""A Redis Cluster that is whole milliseconds after its processes answer.

The usual way (ADDSLOTS, MEET) takes two seconds and more: a master whose cluster is down stays
unwritable for CLUSTER_WRITABLE_DELAY after its start, and gossip comes on top. A replica knows no
such wait. So each master starts from a written nodes.conf as the replica of a *ghost*, a master
without address that holds its slots; it takes the slots over with CLUSTER FAILOVER TAKEOVER, and
the ghosts are forgotten. True replicas start afterwards, from a nodes.conf that is simply true.
"""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HOST = "127.0.0.1"
SLOTS = 16384
#: Below those that systems give to outgoing connections.
PORTS: Sequence[int] = range(10_240, 32_768)


class ClusterNotFormed(RuntimeError):
    """The servers ran and did not become one cluster in time."""


def _new_id() -> str:
    return secrets.token_hex(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One server's place in the cluster; ids are 40 hexadecimal digits, as Redis makes them."""

    port: int
    bus_port: int
    master_id: str | None = None
    slots: tuple[int, int] = (0, 0)
    node_id: str = field(default_factory=_new_id)
    ghost_id: str = field(default_factory=_new_id)


def free_ports(size: int) -> list[tuple[int, int]]:
    """`size` pairs of port and bus port on loopback, each free a moment ago.

    The port of a node that is down stays free for it, however many clients try to reach it
    meanwhile.
    """
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < 2 * size:
            port = random.choice(PORTS)
            with suppress(OSError):
                stack.enter_context(socket.socket()).bind((HOST, port))
                ports.append(port)
    return list(zip(ports[:size], ports[size:], strict=True))


def plan(ports: Sequence[tuple[int, int]], *, masters: int) -> tuple[Member, ...]:
    """Members for pairs of (port, bus port): the masters, slots shared out evenly, then the
    replicas, which go round the masters."""
    bounds = [SLOTS * index // masters for index in range(masters + 1)]
    leading = tuple(
        Member(port=port, bus_port=bus_port, slots=(bounds[index], bounds[index + 1] - 1))
        for index, (port, bus_port) in enumerate(ports[:masters])
    )
    following = tuple(
        Member(port=port, bus_port=bus_port, master_id=leading[index % masters].node_id)
        for index, (port, bus_port) in enumerate(ports[masters:])
    )
    return leading + following


def server_options(member: Member, *, node_timeout_ms: int) -> dict[str, str]:
    """What every server of such a cluster is configured with."""
    return {
        "port": str(member.port),
        "cluster-port": str(member.bus_port),
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": str(node_timeout_ms),
        # A shard that is away takes its own slots with it and not everybody's.
        "cluster-require-full-coverage": "no",
        "daemonize": "no",
        "repl-diskless-sync-delay": "0",
        "save": "",
        "appendonly": "no",
    }


def redis_conf(options: dict[str, str]) -> str:
    """The text of a redis.conf."""
    quoted = {name: value or '""' for name, value in options.items()}
    return "".join(f"{name} {value}\n" for name, value in quoted.items())


def nodes_conf(members: Sequence[Member], myself: Member) -> str:
    """The text of the nodes.conf that `myself` starts from."""
    haunted = myself.master_id is None
    lines: list[str] = []
    for member in members:
        first, last = member.slots
        own = "myself," if member is myself else ""
        address = f"{member.node_id} {HOST}:{member.port}@{member.bus_port} {own}"
        if member.master_id is not None:
            lines.append(f"{address}slave {member.master_id} 0 0 0 connected")
        elif haunted:
            lines.append(f"{address}slave {member.ghost_id} 0 0 0 connected")
            ghost = f"{member.ghost_id} :0@0 master,noaddr"
            lines.append(f"{ghost} - 0 0 0 disconnected {first}-{last}")
        else:
            lines.append(f"{address}master - 0 0 0 connected {first}-{last}")
    lines.append("vars currentEpoch 0 lastVoteEpoch 0")
    return "\n".join(lines) + "\n"


def take_slots(masters: Sequence[Member], *, until: float) -> None:
    """Turn the ghosts' replicas, which answer already, into the masters; `until` is monotonic.

    Raises ClusterNotFormed.
    """
    held = {(*member.slots, member.port) for member in masters}
    with _clients(masters) as clients:
        for client in clients:
            client.execute_command("CLUSTER FAILOVER", "TAKEOVER")
        # A ghost forgotten before its heir is known would leave its slots to nobody.
        poll(
            lambda: all(_held(client) == held for client in clients),
            until=until,
            message="the masters do not agree on who holds which slots",
        )
        for client in clients:
            for member in masters:
                client.execute_command("CLUSTER FORGET", member.ghost_id)


def await_whole(members: Sequence[Member], *, until: float) -> None:
    """Every member sees the cluster whole and every replica is in step with its master.

    Raises ClusterNotFormed.
    """
    with _clients(members) as clients:
        poll(
            lambda: all(_is_whole(client) for client in clients),
            until=until,
            message="not every node sees the cluster whole",
        )


def poll(check: Callable[[], bool], *, until: float, message: str) -> None:
    """Ask every 5 ms. Raises ClusterNotFormed with the message."""
    while not check():
        if time.monotonic() > until:
            raise ClusterNotFormed(message)
        time.sleep(0.005)


def client(port: int, *, timeout_s: float = 2) -> redis.Redis:
    """A client for one node, which asks once."""
    return redis.Redis(
        host=HOST, port=port, protocol=2, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )


@contextmanager
def _clients(members: Sequence[Member]) -> Generator[list[Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(cast(Any, client(member.port))) for member in members]


def _held(client: Any) -> set[tuple[int, int, int]]:
    ranges = client.execute_command("CLUSTER SLOTS")
    return {(first, last, holders[0][1]) for first, last, *holders in ranges}


def _is_whole(client: Any) -> bool:
    try:
        cluster = client.execute_command("CLUSTER INFO")
        replication = client.info("replication")
    except redis.BusyLoadingError:
        return False
    # State alone is well with most masters there.
    return (
        cluster["cluster_state"] == "ok"
        and int(cluster["cluster_slots_assigned"]) == SLOTS
        and int(cluster["cluster_slots_fail"]) == 0
        and replication.get("master_link_status", "up") == "up"
    )
