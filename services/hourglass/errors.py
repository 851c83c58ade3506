"""The errors a caller can act on.

    HourglassError
    ├── Misconfigured    the user gave something wrong: say so, exit 2
    ├── Unsuitable       this Redis cannot serve the pipeline: say so, exit 1
    ├── Refused          the request contradicts what the pipeline holds: say so, exit 1
    ├── Damaged          a key holds what the pipeline did not put there: leave it, try again later
    │   └── Unforeseen   work on one key failed in a way that no code expects: the same
    └── Unreachable      Redis does not answer now: try again
        └── Severed      a link broke: what it had delivered is dropped, and comes back later

Each message is one line with the cause and the remedy.
"""

from typing import Self


class HourglassError(Exception):
    """Anything the pipeline raises on purpose."""

    exit_code = 1


class Misconfigured(HourglassError):
    """An option or a value is wrong."""

    exit_code = 2


class Unsuitable(HourglassError):
    """The server answers and cannot be used: no cluster mode, too old, credentials refused."""


class Refused(HourglassError):
    """The request would falsify what the pipeline already holds."""


class Damaged(HourglassError):
    """A key of the pipeline is of another type or content than the pipeline gives it; nothing was
    changed. It passes when somebody removes the key."""


class Unforeseen(Damaged):
    """Work on one key or by one worker failed with an error that no code expects. It is the failure
    of that key or worker alone; the cause has the traceback."""

    @classmethod
    def of(cls, error: Exception, *, about: str = "") -> Self:
        what = f"{type(error).__name__}: {error}"
        found = cls(f"{about}: {what}" if about else what)
        found.__cause__ = error
        return found


class Unreachable(HourglassError):
    """Redis does not answer at the moment."""


class Severed(Unreachable):
    """A link's connection broke, or its shard moved."""
