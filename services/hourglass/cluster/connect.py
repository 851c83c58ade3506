"""Checks whether a Redis can serve the pipeline, and connects to it."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

from redis import exceptions
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from hourglass.cluster.client import Cluster
from hourglass.cluster.client_metrics import ClientMetrics
from hourglass.cluster.link import reaching
from hourglass.cluster.seed import RedisUrl, Tls, check_seeds
from hourglass.errors import ConfigurationError
from hourglass.model.keys import Keyspace

#: Retries of a routed call before the caller gets the error.
RETRIES = 2


def connect(
    url: str,
    tls: Tls | None = None,
    *,
    keyspace: Keyspace,
    username: str = "",
    password: str = "",
    credentials_from: str = "HOURGLASS_REDIS_PASSWORD",
    timeout_s: float = 5.0,
    traffic: ClientMetrics | None = None,
) -> Cluster:
    """Connect to a cluster that answers, is in cluster mode and has a supported version.

    username, password: used if the URL has none
    credentials_from: the source of `password`, for error messages
    traffic: counts errors, redirections and connections

    Raises ConfigurationError for a malformed URL or file, Unreachable, or UnsupportedServer with
    the remedy.
    """
    address = RedisUrl.parse(url)
    files = tls or Tls()
    _check_files(files, used=address.tls)
    options: dict[str, Any] = {
        "username": address.username or username or None,
        "password": address.password or password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 2.0),
        "decode_responses": False,
        "protocol": 2,
        "driver_info": None,  # no CLIENT SETINFO: it would require one more permission
    }
    if address.tls:
        options |= {
            "ssl": True,
            "ssl_ca_certs": files.ca_file,
            "ssl_certfile": files.cert_file,
            "ssl_keyfile": files.key_file,
        }
    check_seeds(
        address,
        {**options, "redis_connect_func": _connected},
        credentials_from=credentials_from
        if password and not address.password
        else "HOURGLASS_REDIS_URL",
    )

    def connected(connection: Connection) -> None:
        if traffic:
            traffic.connected(connection)
        _read_first_reply(connection)

    with reaching():
        return Cluster(
            RedisCluster(
                startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
                require_full_coverage=False,
                retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), RETRIES),
                redis_connect_func=connected,
                **options,
            ),
            keyspace,
            address.nodes,
            traffic,
        )


def _connected(connection: Connection) -> None:
    connection.on_connect()
    _read_first_reply(connection)


def _read_first_reply(connection: Connection) -> None:
    """Read a first reply from a new TLS connection, and with it the session tickets that the server
    sends unasked. The client library takes unread bytes on a new connection for an error."""
    has_reply = connection.username or connection.password  # the reply to AUTH
    if has_reply or not isinstance(connection, SSLConnection):
        return
    connection.send_command("PING")
    with suppress(exceptions.ResponseError):  # an error reply serves the purpose as well
        connection.read_response()


def _check_files(tls: Tls, *, used: bool) -> None:
    """Check the contents of the files now: later, an error would look like an unreachable Redis.

    Raises ConfigurationError.
    """
    if not used and any((tls.ca_file, tls.cert_file, tls.key_file)):
        raise ConfigurationError(
            "TLS files are set, but the Redis URL is not for TLS: "
            "use rediss:// in HOURGLASS_REDIS_URL, or unset the files"
        )
    if not used:
        return
    context = ssl.create_default_context()
    try:
        if tls.ca_file:
            context.load_verify_locations(tls.ca_file)
    except OSError as error:
        raise ConfigurationError(
            f"{tls.ca_file} has no CA certificates ({error.strerror}): "
            "check HOURGLASS_REDIS_CA_FILE"
        ) from None
    try:
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except OSError as error:
        raise ConfigurationError(
            f"{tls.cert_file} and {tls.key_file or 'no key file'} are not a certificate and key "
            f"({error.strerror}): check HOURGLASS_REDIS_CERT_FILE and HOURGLASS_REDIS_KEY_FILE"
        ) from None
