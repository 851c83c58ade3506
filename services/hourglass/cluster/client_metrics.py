"""Redis client metrics: errors, redirections and connections, counted by kind."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Any

import redis
from prometheus_client import CollectorRegistry
from redis import exceptions
from redis.connection import Connection

from hourglass.metrics import MetricSpec


class Failure(StrEnum):
    """How a command failed. Errors of normal operation (NOGROUP, BUSYGROUP, NOSCRIPT) do not
    count."""

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


ERRORS = MetricSpec(
    name="hourglass_redis_errors_total",
    kind="counter",
    help="Commands that Redis did not answer (connection, timeout; after the client's retries) or "
    "rejected, by kind.",
    unit="errors",
    labels=("kind",),
    values=tuple(Failure),
)
REDIRECTIONS = MetricSpec(
    name="hourglass_redis_redirections_total",
    kind="counter",
    help="Commands redirected to another shard, by kind: moved (the slot has moved, as after a "
    "failover), ask (the slot is being moved).",
    unit="redirections",
    labels=("kind",),
    values=tuple(Redirection),
)
CONNECTIONS = MetricSpec(
    name="hourglass_redis_connections_total",
    kind="counter",
    help="Connections opened to Redis. After start-up each is a reconnect, except those for a new "
    "partition.",
    unit="connections",
)
TRAFFIC_METRICS = (ERRORS, REDIRECTIONS, CONNECTIONS)

#: Failures by exception class; the first match counts.
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
    """The kind of an error reply; None if it is part of normal operation."""
    for kind, found in _CLASSES:
        if isinstance(error, kind):
            return found
    message = str(error)
    return next((found for word, found in _WORDS if message.startswith(word)), None)


class ClientMetrics:
    """The counters of one process. They cost no round trip."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._errors = ERRORS.counter(registry)
        self._redirections = REDIRECTIONS.counter(registry)
        self._connections = CONNECTIONS.counter(registry)

    def connected(self, connection: Connection) -> None:
        """Count a new connection, or a reconnect, and from now on the errors it receives."""
        self._connections.inc()
        if "read_response" not in vars(connection):
            vars(connection)["read_response"] = self._counted(connection.read_response)

    def unanswered(self, error: Exception) -> None:
        """Count a command that got no reply."""
        if isinstance(error, redis.TimeoutError):
            self._errors.labels(Failure.TIMEOUT).inc()
        elif isinstance(error, redis.ConnectionError) and kind_of(error) is None:
            self._errors.labels(Failure.CONNECTION).inc()

    def _counted(self, read: Callable[..., Any]) -> Callable[..., Any]:
        """`read`, with the error replies counted."""

        @wraps(read)
        def counted(*arguments: Any, **options: Any) -> Any:
            try:
                return read(*arguments, **options)
            except exceptions.RedisError as error:
                kind = kind_of(error)
                if isinstance(kind, Redirection):
                    self._redirections.labels(kind).inc()
                elif kind is not None:
                    self._errors.labels(kind).inc()
                raise

        return counted
