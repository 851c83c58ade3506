"""The way to Redis: routed calls for what is rare, links for the two hot commands.

A `Cluster` routes each call to the shard of its key and follows redirections. A `Link` is one
connection to one shard that never reconnects: whoever must know that a reply and a later command
travelled over the same connection (a delivered batch and its commit) holds a link.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
from redis import exceptions
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection
from redis.retry import Retry

from hourglass.errors import Misconfigured, Severed, Unreachable, Unsuitable
from hourglass.keys import CLOCK
from hourglass.scripts import Script

OLDEST_REDIS = (7, 0)
DEFAULT_PORT = 6379

#: A routed call is tried this often again before the caller hears of it; with the time-out of five
#: seconds that stays far below the time after which a worker counts as stuck.
RETRIES = 2

#: What RedisCluster raises when a shard is away or moving: trying again is right.
_TRANSIENT = (
    redis.ConnectionError,
    redis.TimeoutError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    exceptions.ReadOnlyError,
    exceptions.AskError,
    exceptions.TryAgainError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a cluster is, from `redis://[user[:password]@]host[:port][,host[:port]…]`."""

    nodes: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = None
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises Misconfigured."""
        remedy = "give redis://[user:password@]host:port[,host:port…], or rediss:// for TLS"
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in ("redis", "rediss"):
            raise Misconfigured(f"the Redis URL has no redis:// or rediss:// scheme: {remedy}")
        credentials, _, hosts = rest.rpartition("@")
        hosts, _, path = hosts.partition("/")
        if path not in ("", "0"):
            raise Misconfigured(f"a Redis Cluster has database 0 only, not {path!r}: {remedy}")
        username, _, password = credentials.partition(":")
        try:
            nodes = tuple(_host_and_port(host) for host in hosts.split(","))
        except ValueError as error:
            raise Misconfigured(
                f"the Redis URL has a bad host or port ({error}): {remedy}"
            ) from None
        return cls(
            nodes=nodes,
            username=unquote(username) or None,
            password=unquote(password) or None,
            tls=scheme == "rediss",
        )

    @property
    def shown(self) -> str:
        """The nodes without the credentials."""
        return ",".join(f"{host}:{port}" for host, port in self.nodes)


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname:
        raise ValueError(f"{text!r} names no host")
    return parts.hostname, DEFAULT_PORT if parts.port is None else parts.port


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files in PEM format; None where not used."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


#: Refusals that pass: memory is full, replicas are missing, a script runs, a snapshot failed.
_LATER = ("OOM", "NOREPLICAS", "BUSY ", "MISCONF", "LOADING")


def _passes(error: exceptions.ResponseError) -> bool:
    return isinstance(error, exceptions.OutOfMemoryError) or str(error).startswith(_LATER)


class Link:
    """One connection to the shard that holds a key. Not for several threads.

    Any failure of the connection and any redirection raises Severed, after which the link is
    useless: make a new one. A refusal that passes raises Unreachable, and the link stays good.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def call(self, *command: str | bytes | int) -> Any:
        """One command; its reply as RESP2 delivers it, undecoded. Raises Severed, ResponseError."""
        with self._severing():
            self._connection.send_command(*command)
            return self._connection.read_response(disable_decoding=True)

    def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:
        """One script; as `call`."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except exceptions.NoScriptError:
            return self.call("EVAL", script.source, len(keys), *keys, *arguments)

    def close(self) -> None:
        self._connection.disconnect()

    @contextmanager
    def _severing(self) -> Generator[None]:
        try:
            yield
        except _TRANSIENT as error:
            self.close()
            raise Severed(f"the connection to a shard broke: {error}") from error
        except exceptions.ResponseError as error:
            if _passes(error):
                raise Unreachable(f"Redis refuses for now: {error}") from error
            raise


class Cluster:
    """A Redis Cluster; safe to share between threads."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client

    def call(self, *command: str | bytes | float, **shaping: Any) -> Any:
        """One command, routed by its key; the reply as redis-py shapes it, values undecoded.

        shaping: what redis-py's own method for the command would tell its parser
        """
        with _reaching():
            return cast(Any, self._client).execute_command(*command, **shaping)

    def pipeline(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        """Independent commands, one round trip to each shard; a command that the server refuses
        has its ResponseError as reply."""
        with _reaching(), cast(Any, self._client.pipeline()) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies = pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, _TRANSIENT):
                    raise reply
            return replies

    def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:
        """One script whose keys share a slot."""
        with _reaching():
            execute = cast(Any, self._client.execute_command)
            try:
                return execute("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except exceptions.NoScriptError:
                return execute("EVAL", script.source, len(keys), *keys, *arguments)

    def link(self, key: str) -> Link:
        """A new connection to the master that holds `key` by the freshest known topology."""
        with _reaching():
            client = cast(Any, self._client)
            node = client.get_node_from_key(key)
            pool = client.get_redis_connection(node).connection_pool
            settings = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
            connection = cast(Connection, pool.connection_class(**settings))
            connection.connect()
            return Link(connection)

    def refresh_topology(self) -> None:
        """Ask the cluster anew who holds which slots."""
        with _reaching():
            cast(Any, self._client).nodes_manager.initialize()

    def shard_of(self, key: str) -> str:
        """`host:port` of the master that holds `key`."""
        node = cast(Any, self._client).get_node_from_key(key)
        return str(node.name)

    def keys(self, pattern: str) -> list[bytes]:
        """Every key that matches `pattern`, by SCAN on every master."""
        with _reaching():
            return list(cast(Any, self._client).scan_iter(match=pattern, count=1000))

    def clock(self) -> tuple[Mapping[bytes, bytes], int]:
        """The clock's hash and its shard's TIME in ms."""
        with _reaching():
            client = cast(Any, self._client)
            fields = client.hgetall(CLOCK)
            seconds, micros = client.time(target_nodes=client.get_node_from_key(CLOCK))
            return fields, seconds * 1000 + micros // 1000

    def set_clock(self, fields: Mapping[str, str]) -> None:
        if not fields:
            self.call("DEL", CLOCK)
            return
        self.call("HSET", CLOCK, *(part for pair in fields.items() for part in pair))

    def close(self) -> None:
        self._client.close()


@contextmanager
def _reaching() -> Generator[None]:
    try:
        yield
    except exceptions.AuthenticationError as error:
        raise Unsuitable(f"Redis refuses the credentials: {error}") from error
    except _TRANSIENT as error:
        raise Unreachable(f"Redis does not answer: {error}") from error
    except exceptions.ResponseError as error:
        if _passes(error):
            raise Unreachable(f"Redis refuses for now: {error}") from error
        raise


def connect(
    url: str,
    tls: Tls | None = None,
    *,
    username: str = "",
    password: str = "",
    timeout_s: float = 5.0,
) -> Cluster:
    """A cluster that answered, is a cluster, and is new enough.

    `username` and `password` are used where the URL has none.

    Raises Misconfigured for a malformed URL, Unreachable, or Unsuitable with the remedy.
    """
    address = Address.parse(url)
    options: dict[str, Any] = {
        "username": address.username or username or None,
        "password": address.password or password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 2.0),
        "decode_responses": False,
        "protocol": 2,
    }
    if address.tls:
        files = tls or Tls()
        options |= {
            "ssl": True,
            "ssl_ca_certs": files.ca_file,
            "ssl_certfile": files.cert_file,
            "ssl_keyfile": files.key_file,
        }
    _check_server(address, options)
    with _reaching():
        return Cluster(
            RedisCluster(
                startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
                require_full_coverage=False,
                retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), RETRIES),
                **options,
            )
        )


def _check_server(address: Address, options: Mapping[str, Any]) -> None:
    """Ask the first node that answers whether it can serve; the cluster client's own errors do
    not tell a server without cluster mode from one that is away."""
    reason = ""
    for host, port in address.nodes:
        with redis.Redis(host=host, port=port, retry=Retry(NoBackoff(), 0), **options) as node:
            try:
                info = node.info("server")
                enabled = node.info("cluster").get("cluster_enabled")
            except (
                exceptions.AuthenticationError,
                exceptions.NoPermissionError,
            ) as error:
                raise Unsuitable(
                    f"Redis at {host}:{port} refuses the credentials ({error}): "
                    "check user name and password in HOURGLASS_REDIS_URL"
                ) from None
            except exceptions.ResponseError as error:
                if "NOAUTH" not in str(error):
                    raise Unsuitable(f"Redis at {host}:{port} answers an error: {error}") from None
                raise Unsuitable(
                    f"Redis at {host}:{port} asks for a password: "
                    "put user name and password into HOURGLASS_REDIS_URL"
                ) from None
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                reason = str(error)
                continue
        version = str(info.get("redis_version", "0"))
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
            raise Unsuitable(
                f"Redis at {host}:{port} is {version}: Hourglass needs 7.0 or newer, upgrade it"
            )
        if not enabled:
            raise Unsuitable(
                f"Redis at {host}:{port} is not in cluster mode: start it with "
                "cluster-enabled yes (a cluster of one shard will do)"
            )
        return
    raise Unreachable(
        f"no Redis answers at {address.shown}: check HOURGLASS_REDIS_URL and that it is running "
        f"({reason})"
    )
