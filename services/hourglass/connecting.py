"""Finding out whether a Redis can serve the pipeline, and connecting to it."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

from redis import exceptions
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from hourglass.address import Address, Tls
from hourglass.cluster import Cluster, reaching
from hourglass.errors import Misconfigured
from hourglass.keys import Keyspace
from hourglass.seed import check_seeds
from hourglass.traffic import Traffic

#: A routed call is tried this often again before the caller hears of it.
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
    traffic: Traffic | None = None,
) -> Cluster:
    """A cluster that answered, is a cluster, and is new enough.

    `username` and `password`, which stands in `credentials_from`, are used where the URL has none;
    `traffic` counts what happens.

    Raises Misconfigured for a malformed URL or file, Unreachable, or Unsuitable with the remedy.
    """
    address = Address.parse(url)
    files = tls or Tls()
    _check_files(files, used=address.tls)
    options: dict[str, Any] = {
        "username": address.username or username or None,
        "password": address.password or password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 2.0),
        "decode_responses": False,
        "protocol": 2,
        "driver_info": None,  # no CLIENT SETINFO, for which users would need one more permission
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
        _hear(connection)

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
    _hear(connection)


def _hear(connection: Connection) -> None:
    """Read a first reply from a new connection over TLS, and with it the session tickets that a
    server sends unasked: bytes that wait on a new connection are taken for a broken one."""
    has_heard = connection.username or connection.password  # the reply to AUTH
    if has_heard or not isinstance(connection, SSLConnection):
        return
    connection.send_command("PING")
    with suppress(exceptions.ResponseError):  # a refusal is a reply as well
        connection.read_response()


def _check_files(tls: Tls, *, used: bool) -> None:
    """Whether they hold what they should: later it would look as if Redis were away.

    Raises Misconfigured.
    """
    if not used and any((tls.ca_file, tls.cert_file, tls.key_file)):
        raise Misconfigured(
            "there are files for TLS and the Redis URL is not for TLS: "
            "give rediss:// in HOURGLASS_REDIS_URL, or leave them out"
        )
    context = ssl.create_default_context()
    try:
        if tls.ca_file:
            context.load_verify_locations(tls.ca_file)
    except OSError as error:
        raise Misconfigured(
            f"{tls.ca_file} has no certificates to trust ({error.strerror}): "
            "check HOURGLASS_REDIS_CA_FILE"
        ) from None
    try:
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except OSError as error:
        raise Misconfigured(
            f"{tls.cert_file} and {tls.key_file or 'no key file'} are no certificate and its key "
            f"({error.strerror}): check HOURGLASS_REDIS_CERT_FILE and HOURGLASS_REDIS_KEY_FILE"
        ) from None
