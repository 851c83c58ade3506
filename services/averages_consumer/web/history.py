"""Averages of any time range, from the warehouse, with pagination."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Self, cast
from urllib.parse import urlencode

from averages_consumer.table import HourRow, moment
from averages_consumer.warehouse import Warehouse
from averages_consumer.web.schemas import Averages
from averages_consumer.web.view import WINDOW_MS, hour_of_row
from hourglass.errors import ConfigurationError, HourglassError
from hourglass.model.keys import HOUR_MS, iso, parse_time

DEFAULT_LIMIT = 120
MOST_HOURS = 1000
#: Enough for every valid limit; int() rejects texts of thousands of digits with another error.
_MOST_DIGITS = 9
#: The last hour that a datetime can represent.
_LATEST_MS = 253_402_297_200_000


class BadRequest(HourglassError):
    """A parameter is not valid; the message has its name and the valid values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The hours that start in [`from_ms`, `to_ms`), at most `limit` of them."""

    from_ms: int
    to_ms: int
    limit: int

    @classmethod
    def of(cls, parameters: Mapping[str, str], now_ms: int) -> Self:
        """Parse the query parameters.

        `to` defaults to the end of the hour in progress, `from` to five days before `to`. Raises
        BadRequest.
        """
        unknown = parameters.keys() - {"from", "to", "limit"}
        if unknown:
            raise BadRequest(f"{min(unknown)!r} is not a parameter: use from, to and limit")
        to_ms = _time(parameters, "to", now_ms - now_ms % HOUR_MS + HOUR_MS)
        from_ms = _time(parameters, "from", max(0, to_ms - WINDOW_MS))
        if from_ms > to_ms:
            raise BadRequest(f"from is after to: {iso(from_ms)} is later than {iso(to_ms)}")
        return cls(from_ms=from_ms, to_ms=to_ms, limit=_limit(parameters))

    def after(self, hour_ms: int) -> str:
        """The relative reference to the page that starts after this hour."""
        rest = {"from": iso(hour_ms + HOUR_MS), "to": iso(self.to_ms), "limit": str(self.limit)}
        return f"?{urlencode(rest, safe=':')}"


def read(warehouse: Warehouse, query: Query, period_s: float) -> Averages:
    """Read one page of averages. Raises WarehouseAway."""
    rows = cast(Generator[HourRow], warehouse.rows(query.from_ms, query.to_ms))
    with closing(rows):
        found = list(islice(rows, query.limit + 1))
    shown = found[: query.limit]
    return Averages(
        start=moment(query.from_ms),
        end=moment(query.to_ms),
        hours=[hour_of_row(row, period_s) for row in shown],
        next=query.after(shown[-1].start_ms) if len(found) > query.limit else None,
    )


def _time(parameters: Mapping[str, str], name: str, default_ms: int) -> int:
    if name not in parameters:
        return default_ms
    try:
        at_ms = parse_time(parameters[name], option=name)
    except ConfigurationError as error:
        raise BadRequest(str(error)) from None
    if at_ms > _LATEST_MS:
        raise BadRequest(f"{name} is {parameters[name]!r}: give a time of the years 1970 to 9999")
    return at_ms


def _limit(parameters: Mapping[str, str]) -> int:
    text = parameters.get("limit", str(DEFAULT_LIMIT))
    is_short = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    if not (is_short and 1 <= int(text) <= MOST_HOURS):
        raise BadRequest(f"limit is {text[:40]!r}: give a whole number from 1 to {MOST_HOURS}")
    return int(text)
