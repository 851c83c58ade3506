"""Forms a Redis Cluster that is complete milliseconds after its processes answer.

ADDSLOTS and MEET take two seconds or more: a master whose cluster is down rejects writes for
CLUSTER_WRITABLE_DELAY after its start, and gossip takes additional time. A replica has no such
delay. Each master therefore starts from a prepared nodes.conf as the replica of a *ghost*, a master
without an address that holds its slots. It takes the slots over with CLUSTER FAILOVER TAKEOVER, and
CLUSTER FORGET removes the ghosts. The real replicas start afterwards, from a nodes.conf with the
final state.
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
    """The servers did not form a cluster in time."""


def _new_id() -> str:
    return secrets.token_hex(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One server of the cluster; ids are 40 hexadecimal digits, as in Redis."""

    port: int
    bus_port: int
    master_id: str | None = None
    slots: tuple[int, int] = (0, 0)
    node_id: str = field(default_factory=_new_id)
    ghost_id: str = field(default_factory=_new_id)


def free_ports(size: int) -> list[tuple[int, int]]:
    """`size` pairs of port and bus port on loopback that were free when checked.

    The port of a node that is down stays free for it, however many clients try to reach it.
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
    """The members for pairs of (port, bus port): first the masters, with equal shares of the slots,
    then the replicas, assigned to the masters in turn."""
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
    """The configuration of every server of such a cluster."""
    return {
        "port": str(member.port),
        "cluster-port": str(member.bus_port),
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": str(node_timeout_ms),
        # The other shards serve their slots while one shard is down.
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
    """Promote the replicas of the ghosts to masters. The servers must answer already.

    until: deadline, in time.monotonic()

    Raises ClusterNotFormed.
    """
    held = {(*member.slots, member.port) for member in masters}
    with _clients(masters) as clients:
        for client in clients:
            client.execute_command("CLUSTER FAILOVER", "TAKEOVER")
        # Forgetting a ghost before all nodes know its successor would leave its slots unassigned.
        poll(
            lambda: all(_held(client) == held for client in clients),
            until=until,
            message="the masters do not agree on the assignment of slots",
        )
        for client in clients:
            for member in masters:
                client.execute_command("CLUSTER FORGET", member.ghost_id)


def await_whole(members: Sequence[Member], *, until: float) -> None:
    """Wait until every member sees a complete cluster and every replica is in sync with its master.

    Raises ClusterNotFormed.
    """
    with _clients(members) as clients:
        poll(
            lambda: all(_is_whole(client) for client in clients),
            until=until,
            message="not every node sees a complete cluster",
        )


def poll(check: Callable[[], bool], *, until: float, message: str) -> None:
    """Wait until `check` returns true, testing every 5 ms. Raises ClusterNotFormed with the
    message."""
    while not check():
        if time.monotonic() > until:
            raise ClusterNotFormed(message)
        time.sleep(0.005)


def client(port: int, *, timeout_s: float = 2) -> redis.Redis:
    """A client for one node, without retries."""
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
    # cluster_state is already ok when most masters are present.
    return (
        cluster["cluster_state"] == "ok"
        and int(cluster["cluster_slots_assigned"]) == SLOTS
        and int(cluster["cluster_slots_fail"]) == 0
        and replication.get("master_link_status", "up") == "up"
    )
