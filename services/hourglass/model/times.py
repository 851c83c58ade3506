"""Parses times in ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime

from hourglass.errors import ConfigurationError


def parse_time(text: str, *, option: str) -> int:
    """Parse an ISO 8601 time to milliseconds since the epoch; UTC if it has no offset.

    Raises ConfigurationError, with the name of `option`, also for a time before the epoch.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} is {text!r}: give a time such as 2025-01-11T00:00:00Z"
        ) from None
    at_ms = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if at_ms < 0:
        raise ConfigurationError(f"{option} is {text!r}: give a time of the years 1970 to 9999")
    return at_ms
