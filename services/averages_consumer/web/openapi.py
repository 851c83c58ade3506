"""The OpenAPI 3.1 description of the API, generated from the documents' schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from averages_consumer.web.history import DEFAULT_LIMIT, MOST_HOURS
from averages_consumer.web.schemas import Averages, ErrorResponse, Partitions, Status

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
ENCODED = msgspec.json.encode(DESCRIPTION)
