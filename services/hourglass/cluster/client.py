"""The Redis client: routed calls, and links for the two hot commands.

A `Cluster` routes each call to the shard of its key and follows redirections. A `Link` is one
connection to one shard that never reconnects: a caller that must send a command over the
connection that delivered a reply (the commit of a batch) uses a link.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import Connection
from redis.retry import Retry

from hourglass.cluster.client_metrics import ClientMetrics
from hourglass.cluster.link import TRANSIENT, Link, ResponseError, reaching
from hourglass.cluster.scripts import Script
from hourglass.cluster.server_clocks import Offset, ServerClocks
from hourglass.errors import (
    Unreachable,
    UnsupportedServer,
)
from hourglass.model.clock import Expiring
from hourglass.model.keys import Keyspace


def _shaping(command: Sequence[object]) -> dict[str, bool]:
    """What redis-py's own method for the command tells its parser."""
    return {"parse_detail": True} if command[0] == "XPENDING" and len(command) > 3 else {}


class Cluster:
    """A Redis Cluster, and which keys of it are the pipeline's; safe to share between threads."""

    def __init__(
        self,
        client: RedisCluster,
        keyspace: Keyspace,
        seeds: Sequence[tuple[str, int]] = (),
        traffic: ClientMetrics | None = None,
    ) -> None:
        """`seeds`: host and port of nodes to ask for the topology besides those it named last."""
        self.keyspace = keyspace
        self._client = client
        self._seeds = list(seeds)
        self._traffic = traffic
        self.clocks = ServerClocks()

    def call(self, *command: str | bytes | float, **shaping: Any) -> Any:
        """One command, routed by its key; the reply as redis-py shapes it, values undecoded.

        shaping: what redis-py's own method for the command would tell its parser
        """
        key = command[1] if len(command) > 1 else ""
        with self._reaching(key, key=str(key)):
            return cast(Any, self._client).execute_command(*command, **shaping)

    def pipeline(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        """Independent commands, one round trip to each shard; a command that the server refuses
        has its ResponseError as reply, unless the user may not give it: UnsupportedServer."""
        with self._reaching(), cast(Any, self._client.pipeline()) as pipeline:
            for command in commands:
                pipeline.execute_command(*command, **_shaping(command))
            replies = pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, (*TRANSIENT, exceptions.NoPermissionError)):
                    raise reply
            return replies

    def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:
        """One script whose keys share a slot."""
        with self._reaching(key=keys[0]):
            execute = cast(Any, self._client.execute_command)
            try:
                return execute(script.evalsha, script.sha, len(keys), *keys, *arguments)
            except exceptions.NoScriptError:
                return execute(script.eval, script.source, len(keys), *keys, *arguments)

    def read_each(
        self, script: Script, calls: Iterable[tuple[Sequence[str], Sequence[str | bytes | int]]]
    ) -> list[Any]:
        """The replies of a script that only reads, to each call's keys and arguments; one round
        trip to each shard. A call that the server refuses has its ResponseError as reply."""
        with self._reaching():
            client = cast(Any, self._client)
            # RedisCluster's own pipeline asks a server which of the arguments of EVAL_RO are keys.
            pipelines: dict[str, Any] = {}
            shards: list[str] = []
            for keys, arguments in calls:
                node = client.get_node_from_key(keys[0])
                shards.append(node.name)
                named = (script.evalsha, script.sha)
                if node.name not in pipelines:
                    connection = client.get_redis_connection(node)
                    pipelines[node.name] = connection.pipeline(transaction=False)
                    named = (script.eval, script.source)  # so that the server knows it
                pipelines[node.name].execute_command(*named, len(keys), *keys, *arguments)
            replies = {
                name: iter(each.execute(raise_on_error=False)) for name, each in pipelines.items()
            }
            found = [next(replies[shard]) for shard in shards]
            for reply in found:
                if isinstance(reply, (*TRANSIENT, exceptions.NoPermissionError)):
                    raise reply
            return found

    def link(self, key: str) -> Link:
        """A new connection to the master that holds `key` by the freshest known topology."""
        with self._reaching():
            client = cast(Any, self._client)
            node = client.get_node_from_key(key)
            pool = client.get_redis_connection(node).connection_pool
            settings = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
            connection = cast(Connection, pool.connection_class(**settings))
            connection.connect()
            return Link(connection, self._traffic, key=key)

    def refresh_topology(self) -> None:
        """Ask the cluster which node holds which slots."""
        with self._reaching():
            # RedisCluster forgets the nodes it was given for those it found, which may all be gone.
            nodes = cast(Any, self._client).nodes_manager
            nodes.initialize(additional_startup_nodes_info=self._seeds)

    def shard_of(self, key: str) -> str:
        """`host:port` of the master that holds `key`."""
        with reaching():
            node = cast(Any, self._client).get_node_from_key(key)
            return str(node.name)

    def shards(self) -> frozenset[str]:
        """`host:port` of every master that holds slots."""
        slots: Mapping[int, Sequence[Any]] = cast(Any, self._client).nodes_manager.slots_cache
        return frozenset(str(nodes[0].name) for nodes in slots.values())

    def masters(self) -> list[str]:
        """`host:port` of every master by the freshest known topology."""
        return sorted(str(node.name) for node in cast(Any, self._client).get_primaries())

    def ask(self, master: str, *command: str) -> Any:
        """One command to that master, sent once; the reply as redis-py shapes it."""
        client = cast(Any, self._client)
        node = client.get_node(node_name=master)
        if node is None:  # the topology has changed meanwhile
            raise Unreachable(f"the cluster has no node {master} any more")
        with self._reaching():
            return client.get_redis_connection(node).execute_command(*command)

    def answers(self, master: str) -> bool:
        """Whether it does, asked once; its clock is compared with the others'."""
        offset = self._offset(master)
        self.clocks.see({master: offset}, now_ms=_monotonic_ms())
        return offset is not None

    def look_at_clocks(self) -> None:
        """Compare the clocks of all masters."""
        masters = self.masters()
        self.clocks.keep(masters)
        offsets = {master: self._offset(master) for master in masters}
        self.clocks.see(offsets, now_ms=_monotonic_ms())

    def _offset(self, master: str) -> Offset | None:
        """Its clock against the monotonic one; None if it does not answer."""
        asked_ms = _monotonic_ms()
        try:
            seconds, micros = self.ask(master, "TIME")
        except (Unreachable, UnsupportedServer):
            return None
        time_ms = seconds * 1000 + micros // 1000
        return Offset.of(time_ms, asked_ms=asked_ms, answered_ms=_monotonic_ms())

    def check_clock(self, key: str) -> None:
        """Raises Unreachable if the clock of the master that holds `key` is not believed."""
        master = self.shard_of(key)
        if doubt := self.clocks.doubts().get(master):
            raise Unreachable(f"Redis at {master} {doubt}")

    def real_ms(self) -> int:
        """Real time, by the masters' clocks as they were last seen and the monotonic clock."""
        if not self.clocks.known:
            raise Unreachable("no Redis server tells the time at the moment")
        return self.clocks.real_ms(_monotonic_ms())

    def config(self, master: str, name: str) -> str | None:
        """A setting of that master; None where CONFIG is not available.

        A named user does not ask: those of deploy/redis may not read the configuration, which
        holds passwords, and the server keeps each refusal in its ACL LOG.
        """
        if cast(Any, self._client).get_connection_kwargs().get("username"):
            return None
        try:
            return self.ask(master, "CONFIG GET", name).get(name)
        except (UnsupportedServer, ResponseError):  # managed servers have no CONFIG
            return None

    def keys(self, pattern: str) -> list[bytes]:
        """Every key that matches `pattern`, by SCAN on every master."""
        with self._reaching():
            return list(cast(Any, self._client).scan_iter(match=pattern, count=1000))

    def clock(self) -> tuple[Mapping[bytes, bytes], int]:
        """The clock's hash, and real time in ms."""
        fields = self.call("HGETALL", self.keyspace.clock)
        if not self.clocks.known:
            self.look_at_clocks()
        return fields, self.real_ms()

    def set_clock(self, fields: Mapping[str, str]) -> None:
        if not fields:
            self.call("DEL", self.keyspace.clock)
            return
        self.call("HSET", self.keyspace.clock, *(part for pair in fields.items() for part in pair))

    def expiries(self) -> dict[Expiring, int]:
        """When each key of the pipeline expires that does, and when the index drops each stream."""
        index = self.keyspace.partitions
        found = {name for pattern in self.keyspace.patterns for name in self.keys(pattern)}
        keys = sorted(
            key
            for key in (each.decode(errors="replace") for each in found)
            if self.keyspace.owns(key)
        )
        expire = self.pipeline([("PEXPIRETIME", key) for key in keys])
        listed: list[Any] = []
        if index in keys:
            listed = self.call("ZRANGE", index, 0, -1, "WITHSCORES")
        return {
            Expiring(key, is_stream=key == index or self.keyspace.named(key) is not None): at_ms
            for key, at_ms in zip(keys, expire, strict=True)
            if at_ms > 0
        } | {
            Expiring(index, stream.decode(errors="replace"), is_stream=True): int(at_ms)
            for stream, at_ms in zip(listed[::2], listed[1::2], strict=True)
        }

    def extend(self, expiries: Mapping[Expiring, int]) -> None:
        """Put these off; none is shortened."""
        self.pipeline(
            [
                ("ZADD", each.key, "GT", "XX", at_ms, each.stream)
                if each.stream
                else ("PEXPIREAT", each.key, at_ms, "GT")
                for each, at_ms in expiries.items()
            ]
        )

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _reaching(self, about: object = "", *, key: str = "") -> Generator[None]:
        with reaching(about, self._traffic, key=key):
            yield


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)
