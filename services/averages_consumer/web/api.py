"""The API: its query parameters, pages of averages of any time range, and the OpenAPI 3.1
description, which is generated from the documents' schemas."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self, cast
from urllib.parse import urlencode

import msgspec

from averages_consumer.warehouse import HourRow, Warehouse
from averages_consumer.warehouse.table import moment
from averages_consumer.web.schemas import Averages, ErrorResponse, Partitions, Status
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
    """Read one page of averages. Raises WarehouseUnreachable."""
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


_REFERENCE = "#/components/schemas/{name}"
_, _SCHEMAS = msgspec.json.schema_components(
    (Averages, Partitions, Status, ErrorResponse), ref_template=_REFERENCE
)


def _content(name: str, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REFERENCE.format(name=name)}}}


def _error_response(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": _content("ErrorResponse", "application/problem+json"),
    }


_ETAG = {"ETag": {"description": "For If-None-Match.", "schema": {"type": "string"}}}
_UNCHANGED = {"description": "Not modified: If-None-Match matches.", "headers": _ETAG}


def _document(name: str, summary: str, **more: Any) -> dict[str, Any]:
    headers: Mapping[str, Any] = {**_ETAG, **more.pop("headers", {})}
    responses = {
        "200": {"description": summary, "headers": headers, "content": _content(name)},
        "304": _UNCHANGED,
        "400": _error_response("A parameter is not valid."),
        **more.pop("responses", {}),
    }
    return {
        "get": {"operationId": name.lower(), "summary": summary, "responses": responses, **more}
    }


def _parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_LINK = {
    "Link": {
        "description": 'The next page, rel="next"; absent on the last page.',
        "schema": {"type": "string"},
    }
}

DESCRIPTION: Mapping[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Hourglass",
        "version": "1",
        "description": "Hourly averages and the state of the pipeline, read-only. Times are UTC, "
        "temperatures are in degrees Fahrenheit; an unknown value is null, not zero.",
    },
    "servers": [{"url": ".."}],
    "paths": {
        "/api/averages": _document(
            "Averages",
            "Hourly averages, in order.",
            description="Without parameters: the last five days, as on the page, including "
            "averages that are not in the warehouse yet. With parameters: any time range, from the "
            "warehouse.",
            parameters=[
                _parameter(
                    "from",
                    "Start of the range, inclusive, in ISO 8601; UTC if it has no offset. Default: "
                    "five days before `to`.",
                    type="string",
                    examples=["2025-01-01T00:00:00Z"],
                ),
                _parameter(
                    "to",
                    "End of the range, exclusive. Default: the end of the hour in progress.",
                    type="string",
                    examples=["2025-01-02T00:00:00Z"],
                ),
                _parameter(
                    "limit",
                    "Maximum hours in one response.",
                    type="integer",
                    minimum=1,
                    maximum=MOST_HOURS,
                    default=DEFAULT_LIMIT,
                ),
            ],
            headers=_LINK,
            responses={"503": _error_response("The warehouse does not answer.")},
        ),
        "/api/partitions": _document("Partitions", "The live partitions."),
        "/api/status": _document("Status", "The state of the pipeline and its current problems."),
        "/api/events": {
            "get": {
                "operationId": "events",
                "summary": "Server-sent events: averages, status, partitions.",
                "description": "The data of each event is a document, as under /api. The stream "
                "starts with all documents and continues with each one that changes. It sends a "
                "status every second.",
                "responses": {
                    "200": {
                        "description": "The stream.",
                        "content": {"text/event-stream": {"schema": {"type": "string"}}},
                    },
                    "503": _error_response("Too many clients are connected."),
                },
            }
        },
    },
    "components": {"schemas": _SCHEMAS},
}
