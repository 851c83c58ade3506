"""Connections to one shard, and the errors of the client library as those of the pipeline."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
from redis import exceptions
from redis.connection import Connection

from hourglass.cluster.client_metrics import ClientMetrics
from hourglass.cluster.scripts import Script
from hourglass.errors import (
    ConnectionLost,
    CorruptKey,
    DeliveryLost,
    HourglassError,
    Unreachable,
    UnsupportedServer,
)

#: A refusal that is left to the caller: the one name of the client library that others import.
ResponseError = exceptions.ResponseError

#: What RedisCluster raises when a shard is unreachable or moving: a retry may help.
TRANSIENT = (
    redis.ConnectionError,
    redis.TimeoutError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    exceptions.ReadOnlyError,
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.NoScriptError,  # the scripts were flushed: a new link sends them again
)

#: Refusals that pass: memory is full, replicas are missing, a script runs, a snapshot failed.
_LATER = ("OOM", "NOREPLICAS", "BUSY ", "MISCONF", "LOADING")

#: What a command says of a key of another type, and a script of that or of another content.
_CORRUPT = ("WRONGTYPE ", "REFUSED ")

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
    message = str(error)
    if isinstance(error, exceptions.OutOfMemoryError) or message.startswith(_LATER):
        return Unreachable(f"Redis refuses for now: {error}")
    if message.startswith(_CORRUPT):
        if about:
            return CorruptKey(f"{about} is not what the pipeline put there: rename or delete it")
        return CorruptKey(message.partition(" ")[2].partition(" script: ")[0])
    if isinstance(error, exceptions.NoPermissionError) or message.startswith(_FORBIDDEN):
        return UnsupportedServer(
            f"Redis does not let this user do its work ({message.rstrip('.')}): "
            "give it the rules of deploy/redis/users.acl"
        )
    return None if not key or message.startswith(_ANSWERS) else _unforeseen(message, key)


def _unforeseen(message: str, key: str) -> CorruptKey:
    """An answer that no code expects: the failure of that key, not of the process."""
    if _FULL in message:
        return CorruptKey(
            f"{key} takes no more entries, because it has the greatest id there is: rename or "
            "delete it when its readings are counted"
        )
    return CorruptKey(f"Redis refuses work on {key}: {message.partition(' script: ')[0]}")


@dataclass(slots=True)
class _LinkState:
    """What the users of one connection share.

    scripts: those that the server knows, by their SHA-1
    unanswered: commands whose reply was not received
    is_closed: nothing can be sent or received any more
    """

    scripts: set[str] = field(default_factory=set[str])
    unanswered: int = 0
    is_closed: bool = False


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
        """`key`: the commands concern it, or another key of its partition."""
        self._connection = connection
        self._key = key
        self._traffic = traffic
        self._state = _LinkState()
        self._is_shared = False

    def about(self, key: str) -> Link:
        """The same connection, for work on another key of the shard. A redirection of that key
        raises DeliveryLost, and the connection stays good for the others."""
        link = Link(self._connection, self._traffic, key=key)
        link._state = self._state
        link._is_shared = True
        return link

    def send(self, *command: str | bytes | int) -> None:
        """One command, whose reply `receive` returns in its turn. Raises ConnectionLost."""
        with self._severing():
            self._connection.send_command(*command)
            self._state.unanswered += 1

    def receive(self) -> Any:
        """The next reply as RESP2 delivers it, undecoded. Raises ConnectionLost, ResponseError."""
        with self._severing():
            self._state.unanswered -= 1
            return self._connection.read_response(disable_decoding=True)

    def drain(self) -> None:
        """Receive and drop the replies to everything sent. Raises ConnectionLost."""
        link = self.about(self._key)  # a redirection is dropped like any other reply
        while self._state.unanswered:
            try:
                link.receive()
            except DeliveryLost:
                continue
            except ConnectionLost:
                raise
            except (ResponseError, HourglassError):
                continue

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
            known = script.sha in self._state.scripts
            self._state.scripts.add(script.sha)
            named = (script.evalsha, script.sha) if known else (script.eval, script.source)
            self._connection.send_command(*named, len(keys), *keys, *arguments)
            self._state.unanswered += 1

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
        self._state.is_closed = True
        self._connection.disconnect()

    @contextmanager
    def _severing(self) -> Generator[None]:
        if self._state.is_closed:  # the client library would connect again
            raise ConnectionLost("the connection to a shard is closed")
        try:
            yield
        except TRANSIENT as error:
            if self._traffic:
                self._traffic.unanswered(error)
            if self._is_shared and isinstance(error, ResponseError):
                raise DeliveryLost(f"a shard does not serve {self._key}: {error}") from error
            self.close()
            raise ConnectionLost(f"the connection to a shard broke: {error}") from error
        except ResponseError as error:
            if refusal := _refusal(error, key=self._key):
                raise refusal from error
            raise
        except BaseException:
            self.close()  # the number of unread replies is unknown
            raise


@contextmanager
def reaching(
    about: object = "", traffic: ClientMetrics | None = None, *, key: str = ""
) -> Generator[None]:
    """What the client raises, as what the caller can act on; `about` and `key` as in `_refusal`."""
    try:
        yield
    except exceptions.AuthenticationError as error:
        raise UnsupportedServer(f"Redis refuses the credentials: {error}") from error
    except TRANSIENT as error:
        if traffic:
            traffic.unanswered(error)
        raise Unreachable(f"Redis does not answer: {error}") from error
    except IndexError as error:
        # redis-py's way to say, whatever it was asked, that it then looked for masters and found
        # none: while a cluster is formed, no node holds slots.
        raise Unreachable("the cluster has no master at the moment") from error
    except ResponseError as error:
        if refusal := _refusal(error, about, key=key):
            raise refusal from error
        raise
