"""What Redis says besides answers: errors, redirections and connections, counted by kind."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Any

import redis
from prometheus_client import CollectorRegistry
from redis import exceptions
from redis.connection import Connection

from hourglass.instruments import Instrument


class Failure(StrEnum):
    """How a command failed; what is part of a normal day (NOGROUP, BUSYGROUP, NOSCRIPT) is none."""

    BUSY = "busy"
    CLUSTER_DOWN = "clusterdown"
    CONNECTION = "connection"
    DENIED = "denied"
    LOADING = "loading"
    MISCONFIGURED = "misconf"
    NO_REPLICAS = "noreplicas"
    OUT_OF_MEMORY = "oom"
    READ_ONLY = "readonly"
    TIMEOUT = "timeout"
    TRY_AGAIN = "tryagain"
    WRONG_TYPE = "wrongtype"


class Redirection(StrEnum):
    """Why a command went to another shard."""

    ASK = "ask"
    MOVED = "moved"


ERRORS = Instrument(
    name="hourglass_redis_errors_total",
    kind="counter",
    help="Commands that Redis did not answer (connection, timeout; after the client's own tries) "
    "or refused, by kind.",
    unit="errors",
    labels=("kind",),
    values=tuple(Failure),
)
REDIRECTIONS = Instrument(
    name="hourglass_redis_redirections_total",
    kind="counter",
    help="Commands sent on to another shard, by kind: moved (a slot has a new home, as after a "
    "failover), ask (it is moving).",
    unit="redirections",
    labels=("kind",),
    values=tuple(Redirection),
)
CONNECTIONS = Instrument(
    name="hourglass_redis_connections_total",
    kind="counter",
    help="Connections made to Redis; after the start, and but for a new partition's, each is a "
    "reconnect.",
    unit="connections",
)
TRAFFIC_INSTRUMENTS = (ERRORS, REDIRECTIONS, CONNECTIONS)

#: The first that fits.
_CLASSES: tuple[tuple[type[Exception], Failure | Redirection], ...] = (
    (exceptions.BusyLoadingError, Failure.LOADING),
    (exceptions.MovedError, Redirection.MOVED),
    (exceptions.AskError, Redirection.ASK),
    (exceptions.TryAgainError, Failure.TRY_AGAIN),
    (exceptions.ClusterDownError, Failure.CLUSTER_DOWN),
    (exceptions.ReadOnlyError, Failure.READ_ONLY),
    (exceptions.OutOfMemoryError, Failure.OUT_OF_MEMORY),
    (exceptions.NoPermissionError, Failure.DENIED),
    (exceptions.AuthenticationError, Failure.DENIED),
)
_WORDS = (
    ("OOM", Failure.OUT_OF_MEMORY),
    ("NOREPLICAS", Failure.NO_REPLICAS),
    ("BUSY ", Failure.BUSY),
    ("MISCONF", Failure.MISCONFIGURED),
    ("WRONGTYPE", Failure.WRONG_TYPE),
)


def kind_of(error: Exception) -> Failure | Redirection | None:
    """What an error in a reply is; None if it belongs to a normal day."""
    for kind, found in _CLASSES:
        if isinstance(error, kind):
            return found
    said = str(error)
    return next((found for word, found in _WORDS if said.startswith(word)), None)


class Traffic:
    """Counts for one process; None of it costs a round trip."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._errors = ERRORS.counter(registry)
        self._redirections = REDIRECTIONS.counter(registry)
        self._connections = CONNECTIONS.counter(registry)

    def connected(self, connection: Connection) -> None:
        """A connection has been made, or made again; what it is told from now on is counted."""
        self._connections.inc()
        if "read_response" not in vars(connection):
            vars(connection)["read_response"] = self._heard(connection.read_response)

    def unanswered(self, error: Exception) -> None:
        """A command got no reply at all."""
        if isinstance(error, redis.TimeoutError):
            self._errors.labels(Failure.TIMEOUT).inc()
        elif isinstance(error, redis.ConnectionError) and kind_of(error) is None:
            self._errors.labels(Failure.CONNECTION).inc()

    def _heard(self, read: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(read)
        def heard(*arguments: Any, **options: Any) -> Any:
            try:
                return read(*arguments, **options)
            except exceptions.RedisError as error:
                kind = kind_of(error)
                if isinstance(kind, Redirection):
                    self._redirections.labels(kind).inc()
                elif kind is not None:
                    self._errors.labels(kind).inc()
                raise

        return heard
