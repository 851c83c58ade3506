"""Checks a node of the cluster before the client library uses it. If the node cannot serve the
pipeline, the error has the cause and the remedy, which the library's own errors lack."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from hourglass.errors import ConfigurationError, Unreachable, UnsupportedServer

DEFAULT_PORT = 6379


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """The nodes and credentials in `redis://[user[:password]@]host[:port][,host[:port]…]`."""

    nodes: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = None
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """Parse a URL. Raises ConfigurationError."""
        remedy = "give redis://[user:password@]host:port[,host:port…], or rediss:// for TLS"
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in ("redis", "rediss"):
            raise ConfigurationError(f"the Redis URL has no redis:// or rediss:// scheme: {remedy}")
        credentials, _, hosts = rest.rpartition("@")
        hosts, _, query = hosts.partition("?")
        hosts, _, path = hosts.partition("/")
        if query:
            raise ConfigurationError(f"the Redis URL takes no parameters after a ?: {remedy}")
        if path not in ("", "0"):
            raise ConfigurationError(f"a Redis Cluster has database 0 only: {remedy}")
        username, _, password = credentials.partition(":")
        try:
            nodes = tuple(_host_and_port(host) for host in hosts.split(","))
        except ValueError:  # its message may contain a misplaced password
            raise ConfigurationError(f"the Redis URL has a bad host or port: {remedy}") from None
        return cls(
            nodes=nodes,
            username=unquote(username) or None,
            password=unquote(password) or None,
            tls=scheme == "rediss",
        )

    @property
    def shown(self) -> str:
        """The nodes without the credentials."""
        return ",".join(shown_node(host, port) for host, port in self.nodes)


def shown_node(host: str, port: int) -> str:
    """Host and port as in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname:
        raise ValueError(f"{text!r} names no host")
    return parts.hostname, DEFAULT_PORT if parts.port is None else parts.port


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Paths of files in PEM format; None if not used."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


OLDEST_REDIS = (7, 0)
SLOTS = 16384


def check_seeds(address: RedisUrl, options: Mapping[str, Any], *, credentials_from: str) -> None:
    """Check that one node of `address` belongs to a complete cluster.

    options: those of the Redis client

    Raises UnsupportedServer if Redis or the options must be changed, Unreachable if a retry may
    help.
    """
    once: dict[str, Any] = {**options, "retry": Retry(NoBackoff(), 0)}
    reason = ""
    incomplete: Unreachable | None = None
    for host, port in address.nodes:
        name = f"Redis at {shown_node(host, port)}"
        with redis.Redis(host=host, port=port, **once) as node:
            try:
                _check(cast(Any, node), host, port, options["socket_connect_timeout"])
            except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
                raise UnsupportedServer(
                    f"{name} rejects the credentials ({error}): "
                    f"check user name and password in {credentials_from}"
                ) from None
            except exceptions.InvalidResponse:
                raise _no_redis(host, port) from None
            except exceptions.ResponseError as error:
                raise UnsupportedServer(f"{name} answers with an error: {error}") from None
            except Unreachable as error:
                incomplete = error
                continue
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                if objection := _objection(error.__context__):
                    raise UnsupportedServer(f"{name} {objection}") from None
                reason = str(error)
                continue
        return
    if incomplete:
        raise incomplete
    raise Unreachable(
        f"no Redis answers at {address.shown}: check HOURGLASS_REDIS_URL (rediss:// is for TLS) "
        f"and that it is running{' and accepts the client certificate' if address.tls else ''} "
        f"({reason})"
    )


def _check(node: Any, host: str, port: int, timeout_s: float) -> None:
    """Check one node. Raises UnsupportedServer, Unreachable, RedisError, OSError."""
    name = f"Redis at {shown_node(host, port)}"
    info: Mapping[str, Any] = node.info("server")
    version = str(info.get("redis_version", ""))
    if not version:
        raise _no_redis(host, port)
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):  # Redis, Valkey
        raise UnsupportedServer(f"{name} is a Sentinel: give a node of a Redis Cluster")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise UnsupportedServer(f"{name} has version {version}: upgrade it to 7.0 or newer")
    if not node.info("cluster").get("cluster_enabled"):
        raise UnsupportedServer(
            f"{name} is not in cluster mode: start it with "
            "cluster-enabled yes (a cluster of one shard will do)"
        )
    ranges: Sequence[Any] = node.execute_command("CLUSTER SLOTS")
    served = sum(int(last) - int(first) + 1 for first, last, *_ in ranges)
    if served < SLOTS:
        raise Unreachable(
            f"{name} is in a cluster that serves {served} of {SLOTS} slots: "
            f"{_remedy(shown_node(host, port), served)}"
        )
    masters = {(_announced(name, master[0]) or host, int(master[1])) for _, _, master, *_ in ranges}
    _reach_one(name, sorted(masters - {(host, port)}), len(masters), timeout_s)


def _remedy(node: str, served: int) -> str:
    if served:
        return f"give the others to its masters with redis-cli --cluster fix {node}"
    return (
        f"form one with redis-cli --cluster create {node} and its other masters, or, of this node "
        f"alone, with CLUSTER ADDSLOTSRANGE 0 {SLOTS - 1}"
    )


def _announced(name: str, host: bytes | None) -> str:
    """The master's host in CLUSTER SLOTS; empty for the queried node itself."""
    if host is None:
        raise UnsupportedServer(
            f"{name} announces its cluster without addresses: set "
            "cluster-preferred-endpoint-type ip (or hostname) on each node"
        )
    if host == b"?":
        raise UnsupportedServer(
            f"{name} announces a node whose host name is unknown: set cluster-announce-hostname "
            "on each node, or cluster-preferred-endpoint-type ip"
        )
    return host.decode()


def _reach_one(
    name: str, others: Sequence[tuple[str, int]], masters: int, timeout_s: float
) -> None:
    """Check that at least one of the announced masters is reachable; the others may be down for
    now. Raises Unreachable."""
    if len(others) < masters:  # the queried node is one of them
        return
    reason = ""
    for other in others:
        try:
            socket.create_connection(other, timeout=timeout_s).close()
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return
    shown = ", ".join(shown_node(*other) for other in others)
    raise Unreachable(
        f"{name} answers, but announces its cluster at {shown}, which cannot be reached from here "
        f"({reason}): check the network, and cluster-announce-ip, cluster-announce-hostname and "
        "cluster-announce-port of each node"
    )


def _no_redis(host: str, port: int) -> UnsupportedServer:
    return UnsupportedServer(
        f"the server at {shown_node(host, port)} is not Redis: check host and port in "
        "HOURGLASS_REDIS_URL"
    )


def _objection(error: BaseException | None) -> str:
    """Which side of the TLS handshake rejected the other's certificate, and the remedy; empty if
    neither did. The reason may be missing if the server closed the connection at once."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not trusted ({error.verify_message}): renew it, or give "
            "the authority that signed it in HOURGLASS_REDIS_CA_FILE"
        )
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return (
            f"does not accept the client certificate ({error.reason}): check "
            "HOURGLASS_REDIS_CERT_FILE and HOURGLASS_REDIS_KEY_FILE"
        )
    return ""
