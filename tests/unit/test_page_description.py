"""The description of the API is valid OpenAPI, and true."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from averages_consumer.web import view
from averages_consumer.web.api import DESCRIPTION as GENERATED
from averages_consumer.web.document_store import NAMES
from tests.support.snapshots import PERIOD_S, polled, snapshot, state

DESCRIPTION: dict[str, Any] = json.loads(msgspec.json.encode(GENERATED))


def test_it_is_valid() -> None:
    validate(DESCRIPTION)


def test_every_document_is_described() -> None:
    assert set(DESCRIPTION["paths"]) == {
        "/api/events",
        *(f"/api/{name}" for name in NAMES),
    }


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DESCRIPTION["components"]},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


@pytest.mark.parametrize(
    "seen",
    [
        snapshot(),
        snapshot(pipeline=None, averages=[], rows=[]),
        snapshot(pipeline=polled(partition=state(lag=None, expires_ms=None), records=[])),
    ],
)
def test_documents_are_as_they_are_described(seen: Any) -> None:
    for name, document in (
        ("Averages", view.averages(seen, PERIOD_S)),
        ("Averages", view.averages(seen, 0.0)),
        ("Partitions", view.partitions(seen)),
        ("Status", view.status(seen, PERIOD_S, "me")),
    ):
        schema(name).validate(json.loads(msgspec.json.encode(document)))


def test_what_is_not_as_described_is_found() -> None:
    document = json.loads(msgspec.json.encode(view.partitions(snapshot())))
    document["partitions"][0]["lag"] = -1

    assert not schema("Partitions").is_valid(document)


@pytest.mark.parametrize("name", ["Hour", "Partition", "OpenHour", "Status", "Averages"])
def test_whatever_needs_words_has_them(name: str) -> None:
    described = DESCRIPTION["components"]["schemas"][name]

    assert described["description"]
    assert any("description" in each for each in described["properties"].values())
