"""The way to Redis: routed calls for what is rare, links for the two hot commands.

A `Cluster` routes each call to the shard of its key and follows redirections. A `Link` is one
connection to one shard that never reconnects: whoever must know that a reply and a later command
travelled over the same connection (a delivered batch and its commit) holds a link.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import Connection
from redis.retry import Retry

from hourglass.cluster.client_metrics import ClientMetrics
from hourglass.cluster.scripts import Script
from hourglass.cluster.server_clocks import Offset, ServerClocks
from hourglass.errors import (
    ConnectionLost,
    CorruptKey,
    HourglassError,
    Unreachable,
    UnsupportedServer,
)
from hourglass.model.clock import Expiring
from hourglass.model.keys import Keyspace

#: A refusal that is left to the caller: the one name of the client library that others import.
ResponseError = exceptions.ResponseError

#: What RedisCluster raises when a shard is away or moving: trying again is right.
_TRANSIENT = (
    redis.ConnectionError,
    redis.TimeoutError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    exceptions.ReadOnlyError,
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.NoScriptError,  # somebody flushed the scripts: a new link sends them again
)

#: Refusals that pass: memory is full, replicas are missing, a script runs, a snapshot failed.
_LATER = ("OOM", "NOREPLICAS", "BUSY ", "MISCONF", "LOADING")


#: What a command says of a key of another type, and a script of that or of another content.
_DAMAGE = ("WRONGTYPE ", "REFUSED ")
#: What a script says of a command that its user may not run: newer servers, and 7.0.
_FORBIDDEN = ("ACL failure in script", "The user executing the script can't")
#: Answers that a caller asks for: it handles them itself.
_ANSWERS = ("NOGROUP", "UNBLOCKED", "BUSYGROUP", "WAIT cannot be used with replica")
#: What XADD says of a stream that has the greatest id there is; a script before it has written.
_FULL = "exhausted the last possible ID"


def _refusal(error: ResponseError, about: object = "", *, key: str = "") -> HourglassError | None:
    """A server's refusal as what the caller can act on; None if the caller handles it, or it is
    about no key.

    about: the key, where the message of a wrong type does not name it
    key: the key that the command or the script works on
    """
    said = str(error)
    if isinstance(error, exceptions.OutOfMemoryError) or said.startswith(_LATER):
        return Unreachable(f"Redis refuses for now: {error}")
    if said.startswith(_DAMAGE):
        if about:
            return CorruptKey(f"{about} is not what the pipeline put there: rename or delete it")
        return CorruptKey(said.partition(" ")[2].partition(" script: ")[0])
    if isinstance(error, exceptions.NoPermissionError) or said.startswith(_FORBIDDEN):
        return UnsupportedServer(
            f"Redis does not let this user do its work ({said.rstrip('.')}): "
            "give it the rules of deploy/redis/users.acl"
        )
    return None if not key or said.startswith(_ANSWERS) else _unforeseen(said, key)


def _unforeseen(said: str, key: str) -> CorruptKey:
    """An answer that no code expects: the failure of that key, not of the process."""
    if _FULL in said:
        return CorruptKey(
            f"{key} takes no more entries, because it has the greatest id there is: rename or "
            "delete it when its readings are counted"
        )
    return CorruptKey(f"Redis refuses work on {key}: {said.partition(' script: ')[0]}")


def _shaping(command: Sequence[object]) -> dict[str, bool]:
    """What redis-py's own method for the command tells its parser."""
    return {"parse_detail": True} if command[0] == "XPENDING" and len(command) > 3 else {}


class Link:
    """One connection to the shard that holds a key. Not for several threads.

    What is sent is answered in the order of sending, so a caller may send ahead: the server then
    works while the caller does. Any failure of the connection and any redirection raises
    ConnectionLost, after which the link is useless: make a new one. A refusal that passes raises
    Unreachable, a key that holds something else than it should raises CorruptKey, and the link
    stays good.
    """

    def __init__(
        self, connection: Connection, traffic: ClientMetrics | None = None, *, key: str = ""
    ) -> None:
        """`key`: what is sent is about it, or a companion of it."""
        self._connection = connection
        self._key = key
        self._traffic = traffic
        self._known: set[str] = set()

    def send(self, *command: str | bytes | int) -> None:
        """One command, whose reply `receive` returns in its turn. Raises ConnectionLost."""
        with self._severing():
            self._connection.send_command(*command)

    def receive(self) -> Any:
        """The next reply as RESP2 delivers it, undecoded. Raises ConnectionLost, ResponseError."""
        with self._severing():
            return self._connection.read_response(disable_decoding=True)

    def call(self, *command: str | bytes | int) -> Any:
        """One command and its reply, when nothing else is on its way."""
        self.send(*command)
        return self.receive()

    def begin(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> None:
        """Send a script, whose reply `finish` returns in its turn."""
        with self._severing():
            # The first time over this link the source itself: then no reply can be NOSCRIPT.
            known = script.sha in self._known
            self._known.add(script.sha)
            named = (script.evalsha, script.sha) if known else (script.eval, script.source)
            self._connection.send_command(*named, len(keys), *keys, *arguments)

    def finish(self) -> Any:
        """The reply to the script that was begun first of those not finished; as `receive`."""
        return self.receive()

    def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:
        """One script and its reply, when nothing else is on its way."""
        self.begin(script, keys, arguments)
        return self.finish()

    def close(self) -> None:
        self._connection.disconnect()

    @contextmanager
    def _severing(self) -> Generator[None]:
        try:
            yield
        except _TRANSIENT as error:
            if self._traffic:
                self._traffic.unanswered(error)
            self.close()
            raise ConnectionLost(f"the connection to a shard broke: {error}") from error
        except ResponseError as error:
            if refusal := _refusal(error, key=self._key):
                raise refusal from error
            raise


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
                if isinstance(reply, (*_TRANSIENT, exceptions.NoPermissionError)):
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
                if isinstance(reply, (*_TRANSIENT, exceptions.NoPermissionError)):
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
        """Ask the cluster anew who holds which slots."""
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


@contextmanager
def reaching(
    about: object = "", traffic: ClientMetrics | None = None, *, key: str = ""
) -> Generator[None]:
    """What the client raises, as what the caller can act on; `about` and `key` as in `_refusal`."""
    try:
        yield
    except exceptions.AuthenticationError as error:
        raise UnsupportedServer(f"Redis refuses the credentials: {error}") from error
    except _TRANSIENT as error:
        if traffic:
            traffic.unanswered(error)
        raise Unreachable(f"Redis does not answer: {error}") from error
    except IndexError as error:
        # redis-py's way to say, whatever it was asked, that it then looked for masters and found
        # none: while a cluster forms anew, no node holds slots.
        raise Unreachable("the cluster has no master at the moment") from error
    except ResponseError as error:
        if refusal := _refusal(error, about, key=key):
            raise refusal from error
        raise


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)
