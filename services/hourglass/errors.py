"""The errors a caller can act on.

    HourglassError
    ├── ConfigurationError    an option or a value is not valid: report it, exit 2
    ├── UnsupportedServer       this Redis cannot serve the pipeline: report it, exit 1
    ├── Conflict          the request conflicts with the pipeline's data: report it, exit 1
    ├── CorruptKey          a key is corrupt: do not change it, try again later
    │   └── Unforeseen   unexpected error in work on one key: the same
    └── Unreachable      Redis does not answer: try again
        └── ConnectionLost      a connection was lost: drop the entries it delivered, they come
            │               again
            └── DeliveryLost   the same for the entries of one partition: the connection is good

Each message is one line with the cause and the remedy.
"""

from typing import Self


class HourglassError(Exception):
    """Base class of the errors that the pipeline raises."""

    exit_code = 1


class ConfigurationError(HourglassError):
    """An option or a value is not valid."""

    exit_code = 2


class UnsupportedServer(HourglassError):
    """The server answers but cannot be used: no cluster mode, too old, credentials rejected."""


class Conflict(HourglassError):
    """The request would falsify existing data of the pipeline."""


class CorruptKey(HourglassError):
    """A key of the pipeline has a type or content that the pipeline does not write; nothing was
    changed. The error persists until an operator removes the key."""


class Unforeseen(CorruptKey):
    """Work on one key, or of one worker, failed with an unexpected error. Other keys and workers
    are not affected; `__cause__` has the traceback."""

    @classmethod
    def of(cls, error: Exception, *, about: str = "") -> Self:
        what = f"{type(error).__name__}: {error}"
        found = cls(f"{about}: {what}" if about else what)
        found.__cause__ = error
        return found


class Unreachable(HourglassError):
    """Redis does not answer."""


class ConnectionLost(Unreachable):
    """The connection of a link was lost, or its shard moved."""


class DeliveryLost(ConnectionLost):
    """The entries of one partition that a connection delivered cannot be committed over it: the
    partition moved, or another consumer interfered. The connection serves other partitions."""
