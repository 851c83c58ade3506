"""The description of the API: OpenAPI 3.1, made from the documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from averages_consumer.web.documents import Averages, Partitions, Problem, Status
from averages_consumer.web.history import DEFAULT_LIMIT, MOST_HOURS

_REFERENCE = "#/components/schemas/{name}"
_, _SCHEMAS = msgspec.json.schema_components(
    (Averages, Partitions, Status, Problem), ref_template=_REFERENCE
)


def _content(name: str, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REFERENCE.format(name=name)}}}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": _content("Problem", "application/problem+json")}


_ETAG = {"ETag": {"description": "For If-None-Match.", "schema": {"type": "string"}}}
_UNCHANGED = {"description": "It is as If-None-Match says.", "headers": _ETAG}


def _document(name: str, summary: str, **more: Any) -> dict[str, Any]:
    headers: Mapping[str, Any] = {**_ETAG, **more.pop("headers", {})}
    responses = {
        "200": {"description": summary, "headers": headers, "content": _content(name)},
        "304": _UNCHANGED,
        "400": _problem("A parameter is wrong."),
        **more.pop("responses", {}),
    }
    return {
        "get": {"operationId": name.lower(), "summary": summary, "responses": responses, **more}
    }


def _parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_LINK = {
    "Link": {
        "description": 'Where the hours go on, rel="next"; none at the end.',
        "schema": {"type": "string"},
    }
}

DESCRIPTION: Mapping[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Hourglass",
        "version": "1",
        "description": "Hourly averages and the state of the pipeline, read-only. Times are UTC, "
        "temperatures degrees Fahrenheit; unknown is null, which is not zero.",
    },
    "servers": [{"url": ".."}],
    "paths": {
        "/api/averages": _document(
            "Averages",
            "Hourly averages, in order.",
            description="Without parameters the last five days, as the page shows them, the "
            "newest before the warehouse has them. With parameters any time, from the warehouse.",
            parameters=[
                _parameter(
                    "from",
                    "The first hour, ISO 8601; UTC unless it says otherwise. Five days before "
                    "`to` if left out.",
                    type="string",
                    examples=["2025-01-01T00:00:00Z"],
                ),
                _parameter(
                    "to",
                    "The hours start before this. The end of the hour in progress if left out.",
                    type="string",
                    examples=["2025-01-02T00:00:00Z"],
                ),
                _parameter(
                    "limit",
                    "Most hours in one answer.",
                    type="integer",
                    minimum=1,
                    maximum=MOST_HOURS,
                    default=DEFAULT_LIMIT,
                ),
            ],
            headers=_LINK,
            responses={"503": _problem("The warehouse does not answer.")},
        ),
        "/api/partitions": _document("Partitions", "The partitions that live."),
        "/api/status": _document("Status", "The pipeline at a glance, and what is wrong now."),
        "/api/events": {
            "get": {
                "operationId": "events",
                "summary": "Server-sent events: averages, status, partitions.",
                "description": "Each event has a document as it is under /api as its data: all of "
                "them at first, then those that change. A status comes every second.",
                "responses": {
                    "200": {
                        "description": "The stream.",
                        "content": {"text/event-stream": {"schema": {"type": "string"}}},
                    },
                    "503": _problem("Too many look on."),
                },
            }
        },
    },
    "components": {"schemas": _SCHEMAS},
}
ENCODED = msgspec.json.encode(DESCRIPTION)
