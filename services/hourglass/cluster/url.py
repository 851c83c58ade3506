"""Parses the URL of a cluster and its TLS files. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from hourglass.errors import ConfigurationError

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
